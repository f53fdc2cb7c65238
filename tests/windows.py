"""Windows that are fed with projections which say their number."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.window import (
    ProjectionWindow,
    Window,
)

CONE = ScanGeometry.cone(rows=1, cols=2, pixel_mm=1.0, source_axis_mm=10.0, source_detector_mm=20.0)
PARALLEL = ScanGeometry.parallel(rows=1, cols=2, pixel_mm=1.0)
VIEWS = 30
STEP = 2 * math.pi / VIEWS


def feed(window: ProjectionWindow, frames: Iterable[int], step: float = STEP, first: float = 0.0) -> list[str]:
    """Frame k at the angle first + k * step; its projection says k."""
    return [window.add(k, first + k * step, np.full((1, 2), k, np.float32)) for k in frames]


def filled(frames: Iterable[int] = range(VIEWS), geometry: ScanGeometry = CONE) -> Window:
    window = ProjectionWindow(geometry)
    feed(window, frames)
    got = window.window()
    assert got is not None
    return got


def kept(window: Window) -> list[float]:
    """What the projections of a window say, in order of their frames."""
    return [float(window.projections.read(slot)[0, 0]) for slot in window.slots]


def both(window: ProjectionWindow) -> tuple[Window, Window]:
    """The window before and the present one, which share no view."""
    before, now = window.before(), window.window()
    assert before is not None
    assert now is not None
    for name in ("frames", "slots", "serials"):
        assert not np.intersect1d(getattr(before, name), getattr(now, name)).size
    assert before.last_frame < now.first_frame
    return before, now
