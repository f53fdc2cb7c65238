"""Backprojection on the processor (numba), for slices and for batches of small patches alike.

A compact tile of the slice falls on a compact piece of every projection, whatever the orientation of the slice. It is
worked on view by view, sixteen pixels at a time (`samples`), while the processor already fetches the piece of the
next view. Where the tile falls in each view is computed for all views at once, before.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from tango_jit.recon.backproject.arguments import MIN_DEPTH, check
from tango_jit.recon.backproject.fixed import FixedRing
from tango_jit.recon.backproject.lanes import LANES
from tango_jit.recon.backproject.prefetch import prefetch
from tango_jit.recon.backproject.ring import Ring, host_array
from tango_jit.recon.backproject.samples import LARGEST, add_samples_anywhere, add_samples_inside

TILE = 64  # pixels; at most, along both sides
TILES_A_THREAD = 4  # at least, so that none waits long for the others
BAND = 16  # rows of a tile, whose pixels are tabled: in any width they fill all lanes

_OUTSIDE, _EDGE, _INSIDE = 0, 1, 2


@njit(error_model="numpy", nogil=True, cache=True)
def _place(matrices, pose, i0, j0, c):
    """Coefficients c (9, views) of (w*column, w*row, w): at pixel (i0, j0), per column of the slice, per row."""
    x, y, z = (
        pose[0, 0] + j0 * pose[1, 0] + i0 * pose[2, 0],
        pose[0, 1] + j0 * pose[1, 1] + i0 * pose[2, 1],
        pose[0, 2] + j0 * pose[1, 2] + i0 * pose[2, 2],
    )
    for r in range(3):
        for view in range(matrices.shape[1]):
            mx, my, mz = matrices[4 * r, view], matrices[4 * r + 1, view], matrices[4 * r + 2, view]
            c[3 * r, view] = mx * x + my * y + mz * z + matrices[4 * r + 3, view]
            c[3 * r + 1, view] = mx * pose[1, 0] + my * pose[1, 1] + mz * pose[1, 2]
            c[3 * r + 2, view] = mx * pose[2, 0] + my * pose[2, 1] + mz * pose[2, 2]


@njit(error_model="numpy", nogil=True, cache=True)
def _footprints(c, tall, wide, rows, cols, kinds, boxes):
    """How a tile falls in each view: kinds (views,), and boxes (4, views) of left, right, low and high pixel.

    Its corners tell, because a projection keeps convex things convex; unless one of them is behind the source: then
    the box is empty.
    """
    lines = max(rows, 2)
    margin = 1e-4 + 2e-6 * max(lines, cols)  # the lanes work in float32: their rounding must stay on the detector
    base = margin if rows > 1 else 0.0
    for view in range(c.shape[1]):
        left, right, low, high, near, far = 1e9, -1e9, 1e9, -1e9, 1e9, -1e9
        for corner in range(4):
            i, j = (corner // 2) * (tall - 1), (corner % 2) * (wide - 1)
            w = c[6, view] + j * c[7, view] + i * c[8, view]
            depth = 1 / max(w, MIN_DEPTH)
            u = (c[0, view] + j * c[1, view] + i * c[2, view]) * depth
            v = (c[3, view] + j * c[4, view] + i * c[5, view]) * depth
            left, right, low, high = min(left, u), max(right, u), min(low, v), max(high, v)
            near, far = min(near, w), max(far, w)
        ahead = near > MIN_DEPTH
        off = (right < -0.5) | (left > cols - 0.5) | (high < -0.5) | (low > lines - 0.5)
        inside = (left >= margin) & (right < cols - 1 - margin) & (low >= base) & (high < lines - 1 - margin)
        kinds[view] = np.int64(far > MIN_DEPTH) * np.int64(~(ahead & off)) * (1 + np.int64(ahead & inside))
        boxes[0, view], boxes[1, view] = np.int64(max(left, 0.0)), np.int64(min(right + 1, cols - 1.0))
        boxes[2, view], boxes[3, view] = np.int64(max(low, 0.0)), np.int64(min(high + 1, rows - 1.0) if ahead else -1)


@njit(error_model="numpy", nogil=True, cache=True)
def _fetch(flat, start, stride, boxes, view, limit):
    """Have the cache lines of a footprint loaded, unless they are more than `limit`: then the hint costs too much."""
    left, right, low, high = boxes[0, view], boxes[1, view], boxes[2, view], boxes[3, view]
    step = 64 // flat.itemsize
    if (high - low + 1) * ((right - left) // step + 2) <= limit:
        for row in range(low, high + 1):
            first, last = start + row * stride + left, start + row * stride + right
            prefetch(flat, first)
            prefetch(flat, last)
            for at in range(first + step, last, step):
                prefetch(flat, at)


@njit(error_model="numpy", nogil=True, cache=True)
def _add_view(flat, start, stride, ends, c, view, kind, weight, right, down, tall, wide, sums, to):
    """All of a tile, one view, onto the plane of `sums` (n,) that begins at `to`."""
    for band in range(0, tall, BAND):
        place = (
            np.float32(c[0, view] + band * c[2, view]),
            np.float32(c[1, view]),
            np.float32(c[2, view]),
            np.float32(c[3, view] + band * c[5, view]),
            np.float32(c[4, view]),
            np.float32(c[5, view]),
            np.float32(c[6, view] + band * c[8, view]),
            np.float32(c[7, view]),
            np.float32(c[8, view]),
        )
        first, count = to + band * wide, min(BAND, tall - band) * wide
        if kind == _INSIDE:
            for at in range(0, count, LANES):
                add_samples_inside(flat, start, stride, right, down, at, place, ends, weight, sums, first + at)
        else:
            for at in range(0, count, LANES):
                add_samples_anywhere(flat, start, stride, right, down, at, place, ends, weight, sums, first + at)


@njit(error_model="numpy", nogil=True, cache=True)
def _tile(views, scales, slots, matrices, weights, pose, i0, i1, j0, j1, out):
    """All views onto rows i0:i1 and columns j0:j1 of `out` (planes, rows, cols)."""
    _, rows, cols = views.shape
    flat, pixels = views.reshape(-1), rows * cols
    stride = cols if rows > 1 else 0  # the row of a fan is its own neighbour
    ends = np.float32(cols - 1), np.float32(max(rows, 2) - 1)
    planes, count = weights.shape
    tall, wide = i1 - i0, j1 - j0
    size = -(-tall * wide // LANES) * LANES  # with those lanes that the tile does not fill: its rows go on there
    right, down = np.empty(BAND * wide, np.float32), np.empty(BAND * wide, np.float32)
    for t in range(BAND * wide):
        right[t], down[t] = t % wide, t // wide
    sums = np.zeros((planes + 1) * size, np.float32)  # one plane after the other; the last is scratch
    scratch = planes * size

    c, kinds, boxes = np.empty((9, count)), np.empty(count, np.int64), np.empty((4, count), np.int64)
    _place(matrices, pose, i0, j0, c)
    _footprints(c, -(-size // wide), wide, rows, cols, kinds, boxes)
    order = np.flatnonzero(kinds != _OUTSIDE)
    for n in range(order.size):
        view, ahead = order[n], order[min(n + 1, order.size - 1)]
        _fetch(flat, slots[ahead] * pixels, stride, boxes, ahead, size // 2)
        wanted, plane = 0, 0
        for k in range(planes):
            if weights[k, view] != 0:
                wanted, plane = wanted + 1, k
        weight, to = scales[slots[view]], scratch
        if wanted == 1:
            weight, to = weight * weights[plane, view], plane * size
        start, kind = slots[view] * pixels, kinds[view]
        _add_view(flat, start, stride, ends, c, view, kind, weight, right, down, tall, wide, sums, to)
        if wanted > 1:
            for k in range(planes):
                if weights[k, view] != 0:
                    for t in range(size):
                        sums[k * size + t] += weights[k, view] * sums[scratch + t]
            sums[scratch:] = 0

    for plane in range(planes):
        for i in range(tall):
            for j in range(wide):
                out[plane, i0 + i, j0 + j] = sums[plane * size + i * wide + j]


@njit(parallel=True, nogil=True, cache=True)
def _backproject(views, scales, slots, matrices, weights, poses, tall, wide, out):
    patches, _, rows, cols = out.shape
    along, across = (rows + tall - 1) // tall, (cols + wide - 1) // wide
    for tile in prange(patches * along * across):
        patch, place = tile // (along * across), tile % (along * across)
        i, j = place // across * tall, place % across * wide
        i1, j1 = min(i + tall, rows), min(j + wide, cols)
        _tile(views, scales, slots, matrices, weights, poses[patch], i, i1, j, j1, out[patch])


def _sides(patches: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the tiles: nearly equal pieces of `TILE` at most, or of half where there are few of them."""
    for tile in (TILE, TILE // 2):
        along, across = (-(-size // tile) for size in shape)
        if patches * along * across >= TILES_A_THREAD * get_num_threads():
            break
    return -(-shape[0] // along), -(-shape[1] // across)


def make_ring(capacity: int, rows: int, cols: int) -> FixedRing:
    """See `Backend`."""
    return FixedRing.empty(capacity, rows, cols)


def _memory(projections: Ring | NDArray[np.float32]) -> tuple[NDArray, NDArray[np.float32]]:
    """Views (capacity, rows, cols) and what each is to be multiplied by (capacity,)."""
    if isinstance(projections, FixedRing):
        return projections.array, projections.peaks * np.float32(LARGEST**-2)
    array = host_array(projections)
    return array, np.ones(len(array), np.float32)


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
    out = check(projections, slots, matrices, weights, poses, shape, out)
    views, scales = _memory(projections)
    used = np.flatnonzero(weights.any(axis=0))
    flat = np.ascontiguousarray(matrices[used].reshape(-1, 12).T)
    if views.shape[1] == 1:
        flat[4:8] = 0  # a fan knows no height
    _backproject(
        views,
        scales,
        slots[used].astype(np.int64),
        flat,
        np.ascontiguousarray(weights[:, used]),
        poses.copy(),  # a read-only array would be another type, and compile everything again
        *_sides(len(poses), shape),
        out,
    )
    return out


def warm_up() -> None:
    """Compile, or load from numba's cache, all there is; later calls take no extra time."""
    view, ring = np.zeros((1, 2, 2), np.float32), make_ring(1, 2, 2)
    ring.put(0, view[0])
    ring.put(0, view[0].astype(np.float16))
    for projections in (ring, view):
        weights, poses = np.ones((1, 1), np.float32), np.zeros((1, 3, 3))
        backproject(projections, np.zeros(1, np.int64), np.eye(3, 4)[None], weights, poses, (1, 1))
