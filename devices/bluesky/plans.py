"""Plans: wait until the pictures are good, and look through a sample."""

from __future__ import annotations

import time
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from devices.bluesky.live_slices import LiveSlices, SlicePosition

LOOK_S = 0.5  # between two looks at the accuracy


def wait_for_accuracy(slices: LiveSlices, accuracy: float = 0.7, timeout_s: float = 300.0) -> MsgGenerator[float]:
    """Wait until the denoiser is at least this accurate (1 is no denoising, 0.5 perfect); returns what it has reached.

    Raises ValueError for an accuracy that cannot be, and TimeoutError in words when it does not come.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy: expected more than 0 and less than 1, got {accuracy:g}")
    deadline, signal = time.monotonic() + timeout_s, getattr(slices.denoiser, "accuracy")  # noqa: B009 (filled)
    while True:
        now: Any = yield from bps.rd(signal)
        if now and now <= accuracy:  # without a value it is 0 or None
            return float(now)
        if time.monotonic() > deadline:
            wanted = f"expected an accuracy of {accuracy:g} or less within {timeout_s:g} s"
            raise TimeoutError(f"{wanted}, got {now or 'none yet'}")
        yield from bps.sleep(LOOK_S)


def look_through(
    slices: LiveSlices,
    position: SlicePosition,
    start_mm: float,
    stop_mm: float,
    pictures: int,
    *,
    accuracy: float | None = None,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[Any]:
    """Move a slice through the sample and take a picture at each of `pictures` equal steps.

    `accuracy`: wait for it first; None: begin at once. The slice is put back where it was, whatever happens.
    """
    locating: Any = bps.locate(position)
    before = yield from locating
    if accuracy is not None:
        yield from wait_for_accuracy(slices, accuracy)

    def back() -> Any:
        yield from bps.mv(position, before["setpoint"])

    scan: Any = bp.scan([slices], position, start_mm, stop_mm, pictures, md=md)
    whole: Any = bpp.finalize_wrapper(scan, back)
    return (yield from whole)
