"""From frames to slices in one call, for tests that look at the result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window
from tango_jit.recordings import open_recording


def window_of(
    geometry: ScanGeometry,
    frames: Iterable[int],
    angles_rad: Iterable[float],
    line_integrals: NDArray[np.float32],
    *,
    span_rad: float | None = None,
    filter: str = "ram-lak",
) -> Window:
    """The window after these views (n, rows, cols); asserts that it is full."""
    ring = ProjectionWindow(geometry, span_rad)
    views = Preprocessor(geometry, filter=filter, linear=True)(line_integrals)
    for frame, angle, view in zip(frames, angles_rad, views, strict=True):
        ring.add(int(frame), float(angle), view)
    window = ring.window()
    assert window is not None, f"the window is filled to {ring.fill}"
    return window


def whole_window(path: Path, *, filter: str = "ram-lak", edge_extend: bool = False) -> tuple[ScanGeometry, Window]:
    """All frames of a recording through preprocessing and the window."""
    with open_recording(path) as scan:
        geometry = scan.header.geometry
        preprocess = Preprocessor(
            geometry,
            filter=filter,
            linear=scan.header.linear,
            dark=None if scan.dark is None else scan.dark.mean,
            flat=None if scan.flat is None else scan.flat.mean,
            edge_extend=edge_extend,
        )
        ring = ProjectionWindow(geometry)
        for index in range(len(scan)):
            frame = scan.frame(index)
            ring.add(frame.frame, frame.angle_rad, preprocess(frame.data[None])[0], frame.pose)
    window = ring.window()
    assert window is not None, f"{path.name} fills the window to {ring.fill}"
    return geometry, window


def full_slice(geometry: ScanGeometry, window: Window, place: SliceGeometry) -> NDArray[np.float32]:
    """(rows, cols) in mm^-1."""
    planes = Reconstructor(geometry).reconstruct(window, place)[:, 0]
    return planes.mean(axis=0) if window.equal else planes[2]
