"""The plain backprojection in float64: slow, readable, and what every other backend is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango_jit.recon.backproject.arguments import MIN_DEPTH, check
from tango_jit.recon.backproject.ring import HostRing, Ring

Array = NDArray[np.float64]


def sample(projection: Array, column: Array, row: Array) -> Array:
    """Bilinear samples of `projection` (rows, cols) at pixel coordinates; 0 outside [-0.5, N - 0.5]."""
    rows, cols = projection.shape
    inside = (column >= -0.5) & (column <= cols - 0.5) & (row >= -0.5) & (row <= rows - 0.5)
    column, row = np.clip(column, 0, cols - 1), np.clip(row, 0, rows - 1)
    left, low = np.floor(column).astype(int), np.floor(row).astype(int)
    right, high = np.minimum(left + 1, cols - 1), np.minimum(low + 1, rows - 1)
    a, b = column - left, row - low
    lower = (1 - a) * projection[low, left] + a * projection[low, right]
    upper = (1 - a) * projection[high, left] + a * projection[high, right]
    return np.where(inside, (1 - b) * lower + b * upper, 0.0)


def make_ring(capacity: int, rows: int, cols: int) -> HostRing:
    """See `Backend`."""
    return HostRing.empty(capacity, rows, cols)


def backproject(
    projections: Ring | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: Array,
    weights: NDArray[np.float32],
    poses: Array,
    shape: tuple[int, int],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `Backend`."""
    ring = HostRing(projections) if isinstance(projections, np.ndarray) else projections  # of any backend
    out = check(projections, slots, matrices, weights, poses, shape, out)
    i, j = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    fan = ring.shape[1] == 1
    for k, (start, step_column, step_row) in enumerate(poses):
        points = start + j[..., None] * step_column + i[..., None] * step_row  # (rows, cols, 3)
        total = np.zeros(out.shape[1:], np.float64)
        for view in np.flatnonzero(weights.any(axis=0)):
            matrix = matrices[view]
            u, v, w = np.moveaxis(points @ matrix[:, :3].T + matrix[:, 3], -1, 0)
            seen = w > MIN_DEPTH
            w = np.where(seen, w, 1.0)
            value = sample(ring.read(slots[view]).astype(np.float64), u / w, 0 * v if fan else v / w)
            total += weights[:, view, None, None].astype(np.float64) * np.where(seen, value / w**2, 0.0)
        out[k] = total
    return out


def warm_up() -> None:
    """See `Backend`: there is nothing to compile."""
