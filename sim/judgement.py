"""The pictures of a run beside the ground truth, once the run is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.replay import recording_index
from sim.truth import References, Truth, compared, in_view
from tango_jit.recon.pipeline import Options
from tango_jit.recordings import open_recording
from tango_jit.streams import Denoised


class Checkpoint(NamedTuple):
    """A picture of a run: `t_s` after its beginning; `passes` and `recording` as the detector said then; `options` of
    the reconstruction, with the shift of the detector's frames in its centre."""

    t_s: float
    picture: Denoised
    passes: NDArray[np.int64]
    recording: str
    options: Options = Options()


class Judged(NamedTuple):
    """`curve`: for each picture t_s, slice, first_frame, last_frame and what `truth.compared` gives, or an `error` that
    says why not; `last`: the references of the last one (None: it has none)."""

    curve: list[dict[str, Any]]
    last: References | None


def has_truth(path: str) -> bool:
    """Whether a recording was simulated and says how."""
    with open_recording(path) as recording:
        return recording.scenario is not None


def judge(
    checkpoints: Sequence[Checkpoint],
    *,
    progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Judged:
    """Compare pictures with their references; those of recordings without a truth are left out.

    `progress(done, total)` is called after each picture; when `stopped()` becomes true the rest is left out.
    """
    truths: dict[str, Truth | None] = {}
    curve, last = list[dict[str, Any]](), None
    for number, checkpoint in enumerate(checkpoints, start=1):
        if stopped():
            break
        path = checkpoint.recording
        if path not in truths:
            truths[path] = Truth(path) if has_truth(path) else None
        truth, last = truths[path], None
        indices = [] if truth is None else _indices(checkpoint, truth.numbers)
        picture = checkpoint.picture
        if truth is not None and indices:
            try:
                last = truth.references(indices, [picture.geometry], options=checkpoint.options)[0]
            except ValueError as error:  # a picture that cannot be compared must not cost the others
                label = {"t_s": checkpoint.t_s, "slice": picture.slice, "error": str(error)}
                curve.append(label)
        if truth is not None and last is not None:
            middle = picture.data.shape[1] // 2
            denoised, raw = picture.data[0, middle], picture.data[1, middle]
            inside = in_view(truth.experiment.geometry, picture.geometry)
            label = {name: getattr(picture, name) for name in ("slice", "first_frame", "last_frame")}
            curve.append({"t_s": checkpoint.t_s, **label, **compared(raw, denoised, last, inside)})
        if progress is not None:
            progress(number, len(checkpoints))
    return Judged(curve, last)


def _indices(checkpoint: Checkpoint, recorded: Sequence[int]) -> list[int]:
    """Where the frames of a picture stand in the recording; empty: that is not known (any more)."""
    first, last = checkpoint.picture.first_frame, checkpoint.picture.last_frame
    if recording_index(checkpoint.passes, first) is None:
        return []
    found = [recording_index(checkpoint.passes, frame, recorded) for frame in range(first, last + 1)]
    return [index for index in found if index is not None]
