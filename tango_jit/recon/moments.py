"""Windows of some moments ago, for networks that see one place at several points in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango_jit.recon.weights import split_weights
from tango_jit.recon.window import END, SAME, Window


def moment(before: Window, now: Window, last_frame: int, span_rad: float) -> Window | None:
    """The window as it was when `last_frame` was the newest, from that of `now` and the one of the span `before` it.

    Views are in the same half in every window, so that the halves of different moments share none. None where no view
    had come by then, or the two do not reach so far back.
    """
    frames = np.concatenate([before.frames, now.frames])
    angles_rad = np.concatenate([before.angles_rad, now.angles_rad])
    end = int(np.searchsorted(frames, last_frame, "right"))
    if end < 2:
        return None
    step_rad = float(np.median(np.abs(np.diff(angles_rad))))
    behind = np.abs(angles_rad[end - 1] - angles_rad[:end])
    inside = behind < span_rad - SAME * step_rad
    first = end - int(inside[::-1].argmin() or end)  # of the views that follow each other up to the end
    if first == 0 and behind[0] + END * step_rad < span_rad:
        return None
    part = slice(first, end)
    weights, complete, equal = split_weights(frames[part], angles_rad[part], span_rad)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(before, name), getattr(now, name)])[part]

    return replace(
        now,
        slots=joined("slots"),
        serials=joined("serials"),
        frames=frames[part],
        angles_rad=angles_rad[part],
        matrices=joined("matrices"),
        weights=weights,
        complete=complete,
        equal=equal,
    )


def moments_until(now: Window, before: Window | None, count: int, interval: int, span_rad: float) -> list[Window]:
    """The windows of `count` moments, each `interval` frames after the one before, the last one `now`. Raises
    ValueError where the earliest reaches further back than the span before."""
    earlier: list[Window] = []
    for ago in range((count - 1) * interval, 0, -interval):
        window = None if before is None else moment(before, now, now.last_frame - ago, span_rad)
        if window is None:
            had = 0 if before is None else len(before.frames)
            raise ValueError(
                f"frames, frame_interval: expected views of {ago} frames before the last turn, for {count} moments "
                f"{interval} frames apart, got {had}: they are still to come, or that is more than a turn"
            )
        if not window.nearly_complete:
            raise ValueError(f"frames: expected views without large gaps, got some {ago} frames ago: they will pass")
        earlier.append(window)
    return [*earlier, now]
