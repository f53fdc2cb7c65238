"""The scan that suites without a detector work on: the paper's, with white noise for frames.

150 views of 647 x 768 pixels, cone beam. What is in the views does not matter, where they are read does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon.window import ProjectionWindow, Window

VIEWS, ROWS, COLS, SIDE = 150, 647, 768, 512
SCAN = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.15, source_axis_mm=200, source_detector_mm=300)
PIXEL_MM = default_slices(SCAN, (SIDE, SIDE))["xy"].pixel_mm[0]
PLACES = {
    "horizontal": ((1, 0, 0), (0, -1, 0)),
    "vertical": ((1, 0, 0), (0, 0, -1)),
    "vertical, rows along z": ((0, 0, 1), (1, 0, 0)),
    "oblique": ((1, 0.5, 1), (-1, 1, 0.5)),
}


def full_window(backend: str = "cpu") -> Window:
    """A turn of filtered views in the memory of a backend."""
    ring = ProjectionWindow(SCAN, backend=backend)
    view = np.random.default_rng(0).standard_normal((ROWS, COLS)).astype(np.float32)
    for k in range(VIEWS):
        ring.add(k, 2 * np.pi * k / VIEWS, np.roll(view, k, axis=1))
    window = ring.window()
    if window is None:
        raise RuntimeError(f"window: expected a full turn of {VIEWS} views, got {ring.fill:.2f} of it")
    return window


def place(name: str, side: int = SIDE, pixel_mm: float = PIXEL_MM) -> SliceGeometry:
    """A square slice through the origin in one of the orientations of `PLACES`."""
    u, v = PLACES[name]
    return SliceGeometry.centered((0, 0, 0), u, v, pixel_mm=pixel_mm, shape=(side, side))


def slab(side: int, depth: int) -> NDArray[np.float64]:
    """Poses (depth, 3, 3) of parallel horizontal slices, one pixel apart, over the whole field of view."""
    middle = default_slices(SCAN, (side, side))["xy"].pose
    pitch = np.linalg.norm(middle[1])
    poses = np.repeat(middle[None], depth, axis=0)
    poses[:, 0, 2] += (np.arange(depth) - (depth - 1) / 2) * pitch
    return poses
