"""From a full window to slices and to pairs of training patches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon import backproject
from tango_jit.recon.backproject.arguments import MIN_DEPTH
from tango_jit.recon.window import Window

Array = NDArray[np.float64]
Image = NDArray[np.float32]
GRID, VIEWS = 17, 64  # points a side and views that are looked at for the coverage


class Views(NamedTuple):
    """Which views a slice is made of, and with what weights."""

    slots: NDArray[np.int64]  # (n,) in the ring of the window
    matrices: Array  # (n, 3, 4)
    weights: Image  # (planes, n)


class Reconstructor:
    """Slices of one scanner by one backend. Stateless between calls; raises ValueError for an unknown backend."""

    def __init__(self, geometry: ScanGeometry, backend: str = "cpu") -> None:
        self.geometry, self.backend = geometry, backend
        self._backproject = backproject.get(backend).backproject

    def views(self, window: Window) -> Views:
        """All views of a window, for its even and odd half, and the full slice with weights of its own where the mean
        of the halves is not the same (`window.equal`)."""
        weights = window.weights[:2] if window.equal else window.weights
        return Views(window.slots, window.matrices, np.ascontiguousarray(weights))

    def reconstruct(self, window: Window, geometry: SliceGeometry) -> Image:
        """The slice in mm^-1, (planes, 1, rows, cols): its even and odd half, and the full slice, see `views`."""
        return self.backproject(window, self.views(window), geometry)[:, None]

    def backproject(self, window: Window, views: Views, geometry: SliceGeometry) -> Image:
        """Some views of a window onto a slice: (planes, rows, cols). Raises ValueError, see `refuse_off_plane`."""
        self.refuse_off_plane(geometry.pose[None], geometry.shape)
        return self._backproject(window.projections, *views, geometry.pose[None], geometry.shape)[0]

    def coverage(self, window: Window, geometry: SliceGeometry) -> float:
        """The part of the views, 0 to 1, that see the best-seen point of a slice, by some of its points and views."""
        i, j = (np.linspace(0, size - 1, min(size, GRID)) for size in geometry.shape)
        start, along, down = geometry.pose
        points = (start + j[:, None] * along + i[:, None, None] * down).reshape(-1, 3)
        matrices = window.matrices[:: -(-len(window.matrices) // VIEWS)]
        u, v, w = (points @ matrices[:, axis, :3].T + matrices[:, axis, 3] for axis in range(3))  # (points, views)
        seen = (w > MIN_DEPTH) & (u >= -0.5 * w) & (u <= (self.geometry.cols - 0.5) * w)
        if self.geometry.rows > 1:
            seen &= (v >= -0.5 * w) & (v <= (self.geometry.rows - 0.5) * w)
        return float(seen.mean(axis=1).max())

    def reconstruct_pairs(self, window: Window, poses: Array, shape: tuple[int, int], out: Any = None) -> Any:
        """Even and odd half of `k` patches in one call: poses (k, 3, 3) -> (k, 2, rows, cols) in mm^-1.

        `out` as in `Backend.backproject`: with a CUDA backend a tensor, which may be a slot of a pair buffer.
        """
        self.refuse_off_plane(poses, shape)
        return self._backproject(
            window.projections,
            window.slots,
            window.matrices,
            np.ascontiguousarray(window.weights[:2]),
            poses,
            shape,
            out,
        )

    def reconstruct_turns(self, window: Window, before: Window, poses: Array, shape: tuple[int, int]) -> Any:
        """The same patches, each from all views of two windows of one ring: (k, 2, rows, cols), the newer first."""
        self.refuse_off_plane(poses, shape)
        windows = (window, before)
        weights = np.zeros((2, sum(len(each.slots) for each in windows)), np.float32)
        weights[0, : len(window.slots)], weights[1, len(window.slots) :] = window.weights[2], before.weights[2]
        slots, matrices = (np.concatenate([getattr(each, name) for each in windows]) for name in ("slots", "matrices"))
        return self._backproject(window.projections, slots, matrices, weights, poses, shape)

    def refuse_off_plane(self, poses: Array, shape: tuple[int, int]) -> None:
        """Raises ValueError if the detector has one row and a rectangle does not lie in the plane of the fan."""
        if self.geometry.rows > 1:
            return
        height = fan_plane_z_mm(self.geometry)
        tolerance = 1e-3 * self.geometry.voxel_mm
        off = np.abs(poses[:, :, 2] - (height, 0, 0)) * (1, shape[1], shape[0])
        if off.max(initial=0) > tolerance:
            raise ValueError(
                f"slice: expected the plane z = {height:g} mm, the only one that a detector of one row "
                f"sees, got one {off.max():.3g} mm off it"
            )


def fan_plane_z_mm(geometry: ScanGeometry) -> float:
    """Height of the plane that a single-row detector sees at the axis."""
    source, detector = np.array(geometry.source_mm), np.array(geometry.detector_mm)
    if geometry.beam == "parallel":
        return float(detector[2])
    part = -source[:2] @ (detector - source)[:2] / ((detector - source)[:2] @ (detector - source)[:2])
    return float(source[2] + part * (detector - source)[2])
