"""Backprojection on the processor (numba), for slices and for batches of small patches alike.

A compact tile of the slice falls on a compact piece of every projection, whatever the orientation of the slice.
It is worked on view by view, in three passes over scratch arrays that stay in the nearest cache:

    locate   where each pixel of the tile falls on the detector         vectorises
    gather   four loads and the blend                                   as fast as loads go
    sum      weight * value into the planes that want this view         vectorises

while the processor already fetches the piece of the next view. What the inner loops look like is for the
compiler: coefficients are scalars and every scratch array an allocation of its own (else it fears that they
overlap), indices are unsigned (else numba wraps negative ones) and products of int32 are cut back to int32.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from tango_jit.recon.backproject.arguments import MIN_DEPTH, check
from tango_jit.recon.backproject.prefetch import prefetch
from tango_jit.recon.backproject.ring import HostRing, Ring, host_array

TILE = 32  # pixels; at most, along both sides

# Everything but "nnan" and "ninf": projections are finite, but what lies behind the source is not yet masked.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_ZERO, _HALF, _ONE, _NEAR = np.float32(0), np.float32(0.5), np.float32(1), np.float32(MIN_DEPTH)
_OUTSIDE, _EDGE, _INSIDE = 0, 1, 2


@njit(error_model="numpy", nogil=True, cache=True)
def _place(matrix, pose, i0, j0, fan, c):
    """Coefficients c (9,) of (w*column, w*row, w): at pixel (i0, j0), per column of the slice, per row."""
    for r in range(3):
        start, along, down = matrix[r, 3], 0.0, 0.0
        for x in range(3):
            start += matrix[r, x] * (pose[0, x] + j0 * pose[1, x] + i0 * pose[2, x])
            along += matrix[r, x] * pose[1, x]
            down += matrix[r, x] * pose[2, x]
        if r == 1 and fan:
            start, along, down = 0.0, 0.0, 0.0
        c[3 * r], c[3 * r + 1], c[3 * r + 2] = start, along, down


@njit(error_model="numpy", nogil=True, cache=True)
def _footprint(c, tall, wide, rows, cols):
    """Where a tile falls on a detector of rows x cols: (_OUTSIDE | _EDGE | _INSIDE, left, right, low, high).

    Its corners tell, because a projection keeps convex things convex; unless one of them is behind the source.
    """
    left, right, low, high, near = np.inf, -np.inf, np.inf, -np.inf, 0
    for i in (0, tall - 1):
        for j in (0, wide - 1):
            w = c[6] + j * c[7] + i * c[8]
            if w <= MIN_DEPTH:
                near += 1
                continue
            u, v = (c[0] + j * c[1] + i * c[2]) / w, (c[3] + j * c[4] + i * c[5]) / w
            left, right, low, high = min(left, u), max(right, u), min(low, v), max(high, v)
    if near:
        return _OUTSIDE if near == 4 else _EDGE, 0, -1, 0, -1
    if right < -0.5 or left > cols - 0.5 or high < -0.5 or low > rows - 0.5:
        return _OUTSIDE, 0, -1, 0, -1
    margin = 2e-6 * max(rows, cols)  # the passes work in float32: their rounding must stay on the detector
    inside = left >= 0 and right < cols - 1 - margin and low >= 0 and high < rows - 1 - margin
    box = (
        np.int64(max(left, 0)),
        np.int64(min(right, cols - 2)) + 1,
        np.int64(max(low, 0)),
        np.int64(min(high, rows - 2)) + 1,
    )
    return _INSIDE if inside else _EDGE, *box


@njit(error_model="numpy", nogil=True, cache=True)
def _fetch(flat, offset, cols, box, limit):
    """Have the cache lines of a footprint loaded, unless they are more than `limit`: then the hint costs too much."""
    _, left, right, low, high = box
    if (high - low + 1) * ((right - left) // 16 + 2) <= limit:
        for row in range(low, high + 1):
            for column in range(left, right + 16, 16):
                prefetch(flat, offset + row * cols + column)


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _locate(down, right, c, cols, index, a, b, depth):
    """First pass, tiles that fall wholly inside: detector index, fractions a (columns) and b (rows), and 1/w**2."""
    u0, u1, u2, v0, v1, v2, w0, w1, w2 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]
    width = np.int32(cols)
    for t in range(down.size):
        near = _ONE / (w0 + right[t] * w1 + down[t] * w2)
        u = (u0 + right[t] * u1 + down[t] * u2) * near
        v = (v0 + right[t] * v1 + down[t] * v2) * near
        left, low = np.int32(u), np.int32(v)
        index[t] = np.int32(low * width) + left
        a[t] = u - np.float32(left)
        b[t] = v - np.float32(low)
        depth[t] = near * near


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _locate_edge(down, right, c, rows, cols, index, a, b, depth):
    """`_locate` for any tile: clamped to the detector, depth 0 for what is more than half a pixel off it."""
    u0, u1, u2, v0, v1, v2, w0, w1, w2 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]
    width, last, top = np.int32(cols), np.float32(cols - 1), np.float32(rows - 1)
    last_left, last_low = np.int32(cols - 2), np.int32(rows - 2)
    for t in range(down.size):
        w = w0 + right[t] * w1 + down[t] * w2
        near = _ONE / max(w, _NEAR)
        u = (u0 + right[t] * u1 + down[t] * u2) * near
        v = (v0 + right[t] * v1 + down[t] * v2) * near
        x, y = min(max(u, _ZERO), last), min(max(v, _ZERO), top)
        left, low = min(np.int32(x), last_left), min(np.int32(y), last_low)
        index[t] = np.int32(low * width) + left
        a[t] = x - np.float32(left)
        b[t] = y - np.float32(low)
        seen = (w > _NEAR) & (abs(u - x) <= _HALF) & (abs(v - y) <= _HALF)
        depth[t] = near * near if seen else _ZERO


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _gather(projection, cols, index, a, b, value):
    """Second pass: bilinear samples of one projection, flat."""
    right, up, both = np.uint64(1), np.uint64(cols), np.uint64(cols + 1)
    for t in range(index.size):
        q = np.uint64(index[t])
        p00, p01, p10, p11 = projection[q], projection[q + right], projection[q + up], projection[q + both]
        low = p00 + b[t] * (p10 - p00)
        high = p01 + b[t] * (p11 - p01)
        value[t] = low + a[t] * (high - low)


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _gather_fan(projection, index, a, value):
    """`_gather` for a detector of one row: linear samples."""
    for t in range(index.size):
        q = np.uint64(index[t])
        p0, p1 = projection[q], projection[q + np.uint64(1)]
        value[t] = p0 + a[t] * (p1 - p0)


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _sum(weight, depth, value, total):
    """Third pass."""
    for t in range(total.size):
        total[t] += weight * depth[t] * value[t]


@njit(error_model="numpy", nogil=True, cache=True)
def _tile(projections, slots, matrices, weights, pose, i0, i1, j0, j1, out):
    """All views onto rows i0:i1 and columns j0:j1 of `out` (planes, rows, cols)."""
    _, rows, cols = projections.shape
    fan, lines = rows == 1, max(rows, 2)
    flat, pixels = projections.reshape(-1), rows * cols
    planes, views = weights.shape
    tall, wide = i1 - i0, j1 - j0
    size = tall * wide
    down, right = np.empty(size, np.float32), np.empty(size, np.float32)
    a, b = np.empty(size, np.float32), np.empty(size, np.float32)
    depth, value = np.empty(size, np.float32), np.empty(size, np.float32)
    index = np.empty(size, np.int32)
    sums = np.zeros((planes, size), np.float32)
    for t in range(size):
        down[t], right[t] = t // wide, t % wide

    # Which views see the tile, and where.
    seen, order = 0, np.empty(views, np.int64)
    coefficients, boxes = np.empty((views, 9), np.float32), np.empty((views, 5), np.int64)
    for view in range(views):
        _place(matrices[view], pose, i0, j0, fan, coefficients[seen])
        box = _footprint(coefficients[seen], tall, wide, lines, cols)
        if box[0] != _OUTSIDE:
            for k in range(5):
                boxes[seen, k] = box[k]
            order[seen] = view
            seen += 1

    for n in range(seen):
        if n + 1 < seen:
            _fetch(flat, slots[order[n + 1]] * pixels, cols, boxes[n + 1], size // 4)
        c, start = coefficients[n], slots[order[n]] * pixels
        projection = flat[start : start + pixels]
        if boxes[n, 0] == _INSIDE:
            _locate(down, right, c, cols, index, a, b, depth)
        else:
            _locate_edge(down, right, c, lines, cols, index, a, b, depth)
        if fan:
            _gather_fan(projection, index, a, value)
        else:
            _gather(projection, cols, index, a, b, value)
        for plane in range(planes):
            if weights[plane, order[n]] != 0:
                _sum(weights[plane, order[n]], depth, value, sums[plane])

    for plane in range(planes):
        for i in range(tall):
            for j in range(wide):
                out[plane, i0 + i, j0 + j] = sums[plane, i * wide + j]


@njit(parallel=True, nogil=True, cache=True)
def _backproject(projections, slots, matrices, weights, poses, tall, wide, out):
    patches, _, rows, cols = out.shape
    along, across = (rows + tall - 1) // tall, (cols + wide - 1) // wide
    for tile in prange(patches * along * across):
        patch, place = tile // (along * across), tile % (along * across)
        i, j = place // across * tall, place % across * wide
        _tile(
            projections,
            slots,
            matrices,
            weights,
            poses[patch],
            i,
            min(i + tall, rows),
            j,
            min(j + wide, cols),
            out[patch],
        )


def _even(size: int) -> int:
    """Side of the tiles that cut `size` pixels into pieces of nearly the same size, `TILE` at most."""
    return -(-size // -(-size // TILE))


def make_ring(capacity: int, rows: int, cols: int) -> HostRing:
    """See `Backend`."""
    return HostRing.empty(capacity, rows, cols)


def backproject(
    projections: Ring | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `Backend`."""
    projections = host_array(projections)
    out = check(projections, slots, matrices, weights, poses, shape, out)
    used = np.flatnonzero(weights.any(axis=0))
    _backproject(
        projections,
        slots[used].astype(np.int64),
        matrices[used],
        np.ascontiguousarray(weights[:, used]),
        poses.copy(),  # a read-only array would be another type, and compile everything again
        _even(shape[0]),
        _even(shape[1]),
        out,
    )
    return out


def warm_up() -> None:
    """Compile, or load from numba's cache, all there is; later calls take no extra time."""
    backproject(
        np.zeros((1, 2, 2), np.float32),
        np.zeros(1, np.int64),
        np.eye(3, 4)[None],
        np.ones((1, 1), np.float32),
        np.zeros((1, 3, 3)),
        (1, 1),
    )
