"""A picture of slices in space, with a coarse volume around them as haze: rays through every pixel.

No graphics card and no window is needed (docs/decisions/0053): the same picture in a window, a file, a web page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import SliceGeometry
from tango_jit.view.camera import Camera
from tango_jit.view.placing import at

Array = NDArray[np.float64]
Colours = NDArray[np.uint8]

FAR = 1e30
THIN = 20
EDGE_PIXELS = 1.3  # half the width of a slice's border in the picture


@dataclass(frozen=True)
class Plane:
    """A slice to be shown: `colours` (rows, cols, 3), of any size, are stretched over it; `edge` is its border's."""

    place: SliceGeometry
    colours: Colours
    edge: tuple[int, int, int]


@dataclass(frozen=True)
class Haze:
    """A volume as light that it sends: `brightness` (slices, rows, cols), 0 to 255, on the grid of `twelve` numbers
    in mm, the attribute preview_geometry: corner of its first slice, edges along columns and rows, step to the next.
    `opacity` is how much a twentieth of its longest side of the brightest voxels hides, 0 to 1."""

    brightness: Colours
    twelve: Array
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if self.brightness.ndim != 3 or self.brightness.dtype != np.uint8:
            raise ValueError(
                f"brightness: expected uint8 (slices, rows, cols), got {self.brightness.dtype} {self.brightness.shape}"
            )
        if np.shape(self.twelve) != (12,):
            raise ValueError(f"twelve: expected 12 numbers in mm, got shape {np.shape(self.twelve)}")

    @classmethod
    def of(cls, volume: ArrayLike, twelve: ArrayLike, levels: tuple[float, float], opacity: float) -> Self:
        """Of a volume (slices, rows, cols) in 1/mm: dark at the lower level, brightest at the upper. What is dense is
        seen, not what is around it: brightness grows with the square."""
        low, high = levels
        part = np.clip((np.asarray(volume) - low) / max(high - low, 1e-30), 0, 1)
        return cls((255 * part**2).astype(np.uint8), np.asarray(twelve, np.float64), opacity)

    @property
    def corners_mm(self) -> Array:
        """(8, 3); bits of the index: along columns, along rows, along slices."""
        origin, u, v, step = np.asarray(self.twelve, np.float64).reshape(4, 3)
        start = origin - step / 2  # a slice is a plane in the middle of its layer
        whole = step * self.brightness.shape[0]
        return np.array([start + (i & 1) * u + (i >> 1 & 1) * v + (i >> 2) * whole for i in range(8)])


@dataclass(frozen=True)
class Hit:
    """What is under a place of a picture: the index of the slice and the point, in mm."""

    index: int
    point_mm: Array


def hit(
    places: Sequence[SliceGeometry], camera: Camera, column: float, row: float, size: tuple[int, int]
) -> Hit | None:
    """The nearest slice under a place of a picture of `size` (width, height) pixels; None: there is none."""
    direction = camera.ray(column, row, *size)
    best, found = FAR, None
    for index, place in enumerate(places):
        depth, across, down = _solve(_inverse(place), camera.eye_mm, direction)
        if 0 < depth < best and 0 <= across <= 1 and 0 <= down <= 1:
            best, found = depth, Hit(index, camera.eye_mm + depth * direction)
    return found


def render(planes: Sequence[Plane], haze: Haze | None, camera: Camera, size: tuple[int, int]) -> Colours:
    """The picture (height, width, 4): colours times opacity, and opacity; 0 to 255. `size` is (width, height).

    Planes hide what is behind them, haze hides in part. None: no haze.
    """
    width, height = size
    out = np.zeros((height, width, 4), np.uint8)
    inverses = np.array([_inverse(p.place) for p in planes]).reshape(-1, 3, 4)
    shapes = np.array([p.colours.shape[:2] for p in planes], np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]).astype(np.int64)
    flat = [np.ascontiguousarray(p.colours).reshape(-1, 3) for p in planes]
    texels = np.concatenate([*flat, np.zeros((1, 3), np.uint8)])
    edges = np.array([p.edge for p in planes], np.float64).reshape(-1, 3)
    sizes = np.array([[np.linalg.norm(p.place.u_mm), np.linalg.norm(p.place.v_mm)] for p in planes]).reshape(-1, 2)
    if haze is None:
        volume, voxels, density = np.zeros((1, 1, 1), np.uint8), np.zeros((3, 4)), 0.0
    else:
        volume, voxels = haze.brightness, _voxels(haze)
        density = -THIN * np.log(max(1 - haze.opacity, 1e-3)) / 255
    _trace(
        camera.eye_mm,
        camera.directions(height),
        (inverses, sizes, texels, starts, shapes, edges),
        EDGE_PIXELS * camera.mm_per_pixel(height) / camera.distance_mm,
        volume,
        voxels,
        density,
        out,
    )
    return out


def whole(camera: Camera, haze: Haze | None, places: Sequence[SliceGeometry], size: tuple[int, int]) -> Camera | None:
    """From the same side, so far away that all of the haze, or else every slice, is in a picture of `size`.

    None: there is neither.
    """
    if haze is not None:
        corners = haze.corners_mm
    elif places:
        corners = np.array([at(place, i & 1, i >> 1) for place in places for i in range(4)])
    else:
        return None
    center = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = float(np.linalg.norm(corners - center, axis=1).max())
    width, height = size
    fresh = Camera.around(center, max(1.0, height / max(width, 1)) * radius)
    return replace(camera, target_mm=fresh.target_mm, distance_mm=fresh.distance_mm)


def reduced(image: ArrayLike, longest: int) -> NDArray[np.float32]:
    """Means over blocks of pixels, of an image (rows, cols) with a side longer than `longest`, which it then has not.

    A small picture of a noisy slice is then as quiet as its pixels are large. NaN does not count; NaN alone stays.
    """
    values = np.asarray(image, np.float32)
    block = max(1, -(-max(values.shape) // longest))
    if block == 1:
        return values
    rows, cols = (max(n // block, 1) for n in values.shape)
    cut = values[: rows * block, : cols * block]
    blocks = cut.reshape(rows, min(block, cut.shape[0]), cols, min(block, cut.shape[1]))
    known = np.isfinite(blocks)
    if known.all():
        return blocks.mean(axis=(1, 3))
    counts = known.sum(axis=(1, 3))
    sums = np.where(known, blocks, 0).sum(axis=(1, 3))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def textured(image: ArrayLike, levels: tuple[float, float], table: Colours, longest: int = 384) -> Colours:
    """Colours (rows, cols, 3) of an image (rows, cols) by a `table` (n, 3) from the lower to the upper level.

    It is `reduced` to `longest` first. No number (NaN) has the colour of the lower level.
    """
    low, high = levels
    part = (reduced(image, longest) - low) / max(high - low, 1e-30)
    return table[(np.nan_to_num(np.clip(part, 0, 1)) * (len(table) - 1) + 0.5).astype(np.int64)]


def _inverse(place: SliceGeometry) -> Array:
    """(3, 4) that gives (fraction of u, fraction of v, mm across) of a point (x, y, z, 1)."""
    u, v = np.array(place.u_mm), np.array(place.v_mm)
    across = np.cross(u, v)
    matrix = np.linalg.inv(np.stack([u, v, across / np.linalg.norm(across)], axis=1))
    return np.asarray(np.column_stack([matrix, -matrix @ np.array(place.origin_mm)]), np.float64)


def _voxels(haze: Haze) -> Array:
    """(3, 4) that gives (column, row, slice) of a point; voxel i reaches from i to i + 1."""
    origin, u, v, step = np.asarray(haze.twelve, np.float64).reshape(4, 3)
    _, rows, cols = haze.brightness.shape
    matrix = np.linalg.inv(np.stack([u / cols, v / rows, step], axis=1))
    return np.asarray(np.column_stack([matrix, -matrix @ (origin - step / 2)]), np.float64)


@njit(error_model="numpy", nogil=True, cache=True)
def _solve(inverse, eye, direction):
    """Where a ray meets a plane: depth, fraction of u, fraction of v; a depth below 0 where it does not."""
    start = inverse[2, 0] * eye[0] + inverse[2, 1] * eye[1] + inverse[2, 2] * eye[2] + inverse[2, 3]
    slope = inverse[2, 0] * direction[0] + inverse[2, 1] * direction[1] + inverse[2, 2] * direction[2]
    if abs(slope) < 1e-12:
        return -1.0, 0.0, 0.0
    depth = -start / slope
    x, y, z = eye[0] + depth * direction[0], eye[1] + depth * direction[1], eye[2] + depth * direction[2]
    across = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z + inverse[0, 3]
    down = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z + inverse[1, 3]
    return depth, across, down


@njit(error_model="numpy", nogil=True, cache=True)
def _nearest(eye, direction, inverses):
    """The plane that a ray meets first: its index (-1: none), depth and fractions of its edges."""
    best, index, across, down = FAR, -1, 0.0, 0.0
    for i in range(len(inverses)):
        depth, u, v = _solve(inverses[i], eye, direction)
        if 0 < depth < best and 0 <= u <= 1 and 0 <= v <= 1:
            best, index, across, down = depth, i, u, v
    return index, best, across, down


@njit(error_model="numpy", nogil=True, cache=True)
def _texel(texels, start, shape, across, down, colour):
    """The colour between four texels into `colour` (3,)."""
    rows, cols = shape
    x = min(max(across * cols - 0.5, 0.0), cols - 1.0)
    y = min(max(down * rows - 0.5, 0.0), rows - 1.0)
    j, i = min(int(x), max(cols - 2, 0)), min(int(y), max(rows - 2, 0))
    fx, fy = x - j, y - i
    right, below = min(j + 1, cols - 1) - j, (min(i + 1, rows - 1) - i) * cols
    at = start + i * cols + j
    for c in range(3):
        upper = (1 - fx) * texels[at, c] + fx * texels[at + right, c]
        lower = (1 - fx) * texels[at + below, c] + fx * texels[at + below + right, c]
        colour[c] = (1 - fy) * upper + fy * lower


@njit(error_model="numpy", nogil=True, cache=True)
def _through_haze(eye, direction, depth, volume, voxels, density):
    """Light and opacity (0 to 1) of the haze along a ray up to `depth`; voxels are passed in steps of one."""
    first, last = 0.0, depth
    at, step = np.empty(3), np.empty(3)
    longest = 0.0
    for k in range(3):
        at[k] = voxels[k, 0] * eye[0] + voxels[k, 1] * eye[1] + voxels[k, 2] * eye[2] + voxels[k, 3]
        step[k] = voxels[k, 0] * direction[0] + voxels[k, 1] * direction[1] + voxels[k, 2] * direction[2]
        longest = max(longest, abs(step[k]))
        size = volume.shape[2 - k]
        if abs(step[k]) < 1e-12:
            if at[k] < 0 or at[k] >= size:
                return 0.0, 0.0
            continue
        near, far = -at[k] / step[k], (size - at[k]) / step[k]
        first, last = max(first, min(near, far)), min(last, max(near, far))
    if first >= last:
        return 0.0, 0.0
    t = 1 / longest
    seen, light = 1.0, 0.0
    side = 1.0 / max(volume.shape[0], volume.shape[1], volume.shape[2])
    depth = first + 0.5 * t
    while depth < last and seen > 0.02:
        k = min(max(int(at[2] + depth * step[2]), 0), volume.shape[0] - 1)
        i = min(max(int(at[1] + depth * step[1]), 0), volume.shape[1] - 1)
        j = min(max(int(at[0] + depth * step[0]), 0), volume.shape[2] - 1)
        value = volume[k, i, j]
        if value:
            stopped = seen * (1 - np.exp(-density * value * side))
            light += stopped * value
            seen -= stopped
        depth += t
    return light, 1 - seen


@njit(error_model="numpy", nogil=True, cache=True)
def _trace(eye, steps, planes, edge_width, volume, voxels, density, out):
    """Fill the picture. `edge_width` is half the width of a border per depth."""
    inverses, sizes, texels, starts, shapes, edges = planes
    height, width = out.shape[:2]
    direction, colour = np.empty(3), np.zeros(3)
    for row in range(height):
        for column in range(width):
            for k in range(3):
                across, down = (column + 0.5 - width / 2) * steps[0, k], (row + 0.5 - height / 2) * steps[1, k]
                direction[k] = steps[2, k] + across + down
            index, depth, u, v = _nearest(eye, direction, inverses)
            solid = 0.0
            if index >= 0:
                solid = 1.0
                border = edge_width * depth
                inside = min(min(u, 1 - u) * sizes[index, 0], min(v, 1 - v) * sizes[index, 1])
                if inside < border:
                    colour[:] = edges[index]
                else:
                    _texel(texels, starts[index], shapes[index], u, v, colour)
            light, hidden = 0.0, 0.0
            if density > 0:
                light, hidden = _through_haze(eye, direction, depth, volume, voxels, density)
            for c in range(3):
                out[row, column, c] = np.uint8(min(255.0, light + (1 - hidden) * solid * colour[c]))
            out[row, column, 3] = np.uint8(255 * (1 - (1 - hidden) * (1 - solid)))
