"""Backprojection on the processor (numba), for slices and for batches of small patches alike.

A tile of the slice is worked on view by view, in three passes over scratch arrays that stay in the nearest
cache: where each pixel falls on the detector (vectorises), four loads and the blend, sum (vectorises).
A compact tile falls on a compact piece of the detector, whatever the orientation of the slice.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int32, njit, prange
from numpy.typing import NDArray

from tango_jit.recon.backproject.arguments import MIN_DEPTH, check

TILE_ROWS, TILE_COLS = 16, 32

# No "ninf" and "nnan" here: a pixel behind the source divides by a small number before it is masked.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_HALF, _ZERO, _NEAR = float32(0.5), float32(0.0), float32(MIN_DEPTH)


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _locate(down, right, c, rows, cols, index, a, b, depth):
    """First pass: pixel (down, right) of the tile to detector index, fractions (a, b) and 1/w**2 (0 outside)."""
    for t in range(down.size):
        w = c[6] + right[t] * c[7] + down[t] * c[8]
        near = float32(1.0) / max(w, _NEAR)
        u = (c[0] + right[t] * c[1] + down[t] * c[2]) * near
        v = (c[3] + right[t] * c[4] + down[t] * c[5]) * near
        inside = (w > _NEAR) & (u >= -_HALF) & (u <= cols - _HALF) & (v >= -_HALF) & (v <= rows - _HALF)
        u = min(max(u, _ZERO), cols - float32(1.0))
        v = min(max(v, _ZERO), rows - float32(1.0))
        left = min(int32(u), int32(cols) - int32(2))
        low = min(int32(v), int32(rows) - int32(2))
        index[t] = low * int32(cols) + left
        a[t] = u - float32(left)
        b[t] = v - float32(low)
        depth[t] = near * near if inside else _ZERO


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _locate_fan(down, right, c, cols, index, a, depth):
    """`_locate` for a detector of one row."""
    for t in range(down.size):
        w = c[6] + right[t] * c[7] + down[t] * c[8]
        near = float32(1.0) / max(w, _NEAR)
        u = (c[0] + right[t] * c[1] + down[t] * c[2]) * near
        inside = (w > _NEAR) & (u >= -_HALF) & (u <= cols - _HALF)
        u = min(max(u, _ZERO), cols - float32(1.0))
        left = min(int32(u), int32(cols) - int32(2))
        index[t] = left
        a[t] = u - float32(left)
        depth[t] = near * near if inside else _ZERO


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _gather(flat, offset, cols, index, a, b, value):
    """Second pass: bilinear samples. `flat` holds all projections, `offset` is where this one starts."""
    for t in range(index.size):
        q = offset + index[t]
        p00, p01, p10, p11 = flat[q], flat[q + 1], flat[q + cols], flat[q + cols + 1]
        low = p00 + b[t] * (p10 - p00)
        high = p01 + b[t] * (p11 - p01)
        value[t] = low + a[t] * (high - low)


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _gather_fan(flat, offset, index, a, value):
    """`_gather` for a detector of one row: linear samples."""
    for t in range(index.size):
        q = offset + index[t]
        value[t] = flat[q] + a[t] * (flat[q + 1] - flat[q])


@njit(error_model="numpy", nogil=True, cache=True)
def _place(matrix, pose, i0, j0, c):
    """Coefficients of (u*w, v*w, w): at pixel (i0, j0), per column, per row; c (9,) float32."""
    for r in range(3):
        start = matrix[r, 3]
        along = 0.0
        down = 0.0
        for x in range(3):
            start += matrix[r, x] * (pose[0, x] + j0 * pose[1, x] + i0 * pose[2, x])
            along += matrix[r, x] * pose[1, x]
            down += matrix[r, x] * pose[2, x]
        c[3 * r], c[3 * r + 1], c[3 * r + 2] = start, along, down


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _tile(projections, slots, matrices, weights, pose, i0, i1, j0, j1, out):
    """All views onto rows i0:i1 and columns j0:j1 of `out` (planes, rows, cols)."""
    _, rows, cols = projections.shape
    flat = projections.reshape(-1)
    planes, views = weights.shape
    wide = j1 - j0
    size = (i1 - i0) * wide
    down, right, a, b, depth, value = np.empty((6, size), np.float32)
    index = np.empty(size, np.int32)
    sums = np.zeros((planes, size), np.float32)
    c = np.empty(9, np.float32)
    for t in range(size):
        down[t], right[t] = t // wide, t % wide
    for view in range(views):
        _place(matrices[view], pose, i0, j0, c)
        offset = np.int64(slots[view]) * rows * cols
        if rows == 1:
            _locate_fan(down, right, c, float32(cols), index, a, depth)
            _gather_fan(flat, offset, index, a, value)
        else:
            _locate(down, right, c, float32(rows), float32(cols), index, a, b, depth)
            _gather(flat, offset, cols, index, a, b, value)
        for plane in range(planes):
            weight = weights[plane, view]
            if weight != 0:
                total = sums[plane]
                for t in range(size):
                    total[t] += weight * depth[t] * value[t]
    for plane in range(planes):
        for i in range(i0, i1):
            for j in range(j0, j1):
                out[plane, i, j] = sums[plane, (i - i0) * wide + j - j0]


@njit(parallel=True, nogil=True, cache=True)
def _backproject(projections, slots, matrices, weights, poses, tile_rows, tile_cols, out):
    patches, _, rows, cols = out.shape
    tall, wide = (rows + tile_rows - 1) // tile_rows, (cols + tile_cols - 1) // tile_cols
    for tile in prange(patches * tall * wide):
        patch, rest = tile // (tall * wide), tile % (tall * wide)
        i, j = rest // wide * tile_rows, rest % wide * tile_cols
        _tile(
            projections,
            slots,
            matrices,
            weights,
            poses[patch],
            i,
            min(i + tile_rows, rows),
            j,
            min(j + tile_cols, cols),
            out[patch],
        )


def backproject(
    projections: NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `Backprojector`."""
    out = check(projections, slots, matrices, weights, poses, shape, out)
    _backproject(
        projections,
        np.ascontiguousarray(slots, np.int64),
        np.ascontiguousarray(matrices),
        np.ascontiguousarray(weights),
        np.ascontiguousarray(poses),
        TILE_ROWS,
        TILE_COLS,
        out,
    )
    return out


def warm_up() -> None:
    """Compile (or load from the cache) everything; afterwards calls take no extra time."""
    matrices = np.eye(3, 4)[None]
    for rows in (1, 2):
        backproject(
            np.zeros((1, rows, 2), np.float32),
            np.zeros(1, np.int64),
            matrices,
            np.ones((1, 1), np.float32),
            np.zeros((1, 3, 3)),
            (1, 1),
        )
