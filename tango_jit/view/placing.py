"""Slices moved, turned, zoomed and put through points: one `SliceGeometry` makes another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import SliceGeometry, Vector
from tango_jit.rotations import about_axis

Array = NDArray[np.float64]
Box = tuple[float, float, float, float, float, float]  # x, y, z from, x, y, z to; mm


def normal(place: SliceGeometry) -> Array:
    """Unit vector (3,) across the slice: along columns x along rows."""
    across = np.cross(place.u_mm, place.v_mm)
    return across / np.linalg.norm(across)


def shifted(place: SliceGeometry, shift_mm: ArrayLike) -> SliceGeometry:
    """Moved by (x, y, z)."""
    return replace(place, origin_mm=_vector(np.array(place.origin_mm) + np.asarray(shift_mm, np.float64)))


def through(place: SliceGeometry, point_mm: ArrayLike) -> SliceGeometry:
    """Moved along its normal until its plane holds the point."""
    across = normal(place)
    return shifted(place, across * (across @ (np.asarray(point_mm, np.float64) - np.array(place.origin_mm))))


def turned(place: SliceGeometry, axis: ArrayLike, angle_rad: float) -> SliceGeometry:
    """Turned about its own centre, right-handed about `axis` (3,) of any length.

    Raises ValueError for an axis without direction.
    """
    return _carried(place, about_axis(axis, angle_rad), place.center_mm)


def zoomed(place: SliceGeometry, factor: float, about_mm: ArrayLike | None = None) -> SliceGeometry:
    """The same pixels on edges `factor` times as long; the point `about_mm` (None: the centre) stays in its pixel."""
    if not factor > 0:
        raise ValueError(f"factor: expected a positive number, got {factor}")
    center = place.center_mm if about_mm is None else np.asarray(about_mm, np.float64)
    return _carried(place, factor * np.eye(3), center)


def cut_out(place: SliceGeometry, left: float, top: float, right: float, bottom: float) -> SliceGeometry:
    """The smallest slice of as many pixels of the same aspect that shows a part of it, given as fractions of its edges.

    Raises ValueError for a part without area.
    """
    width, height = right - left, bottom - top
    if not (width > 0 and height > 0):
        raise ValueError(f"part: expected right of left and bottom below top, got {left, top, right, bottom}")
    size = max(width, height)
    corner = ((left + right - size) / 2, (top + bottom - size) / 2)
    u, v = np.array(place.u_mm), np.array(place.v_mm)
    origin = np.array(place.origin_mm) + corner[0] * u + corner[1] * v
    return replace(place, origin_mm=_vector(origin), u_mm=_vector(size * u), v_mm=_vector(size * v))


def at(place: SliceGeometry, column: float, row: float) -> Array:
    """The point (3,) in mm at fractions of the edges: (0, 0) is the corner, (1, 1) the one across."""
    return np.array(place.origin_mm) + column * np.array(place.u_mm) + row * np.array(place.v_mm)


def fractions(place: SliceGeometry, point_mm: ArrayLike) -> Array:
    """(2,) what `at` takes, of the point's foot on the plane."""
    edges = np.stack([place.u_mm, place.v_mm], axis=1)
    offset = np.asarray(point_mm, np.float64) - np.array(place.origin_mm)
    return np.asarray(np.linalg.lstsq(edges, offset, rcond=None)[0], np.float64)


def crossing(place: SliceGeometry, other: SliceGeometry) -> Array | None:
    """Where `other` cuts `place`: two ends (2, 2) as fractions of the edges of `place`; None: it does not."""
    across = normal(other)
    along = np.array([across @ place.u_mm, across @ place.v_mm])
    if np.linalg.norm(along) < 1e-9 * np.linalg.norm(place.u_mm):
        return None  # parallel
    level = across @ (np.array(other.origin_mm) - np.array(place.origin_mm))  # along @ (column, row) = level
    foot = along * level / (along @ along)
    direction = np.array([-along[1], along[0]])
    ends = _clipped(foot, direction, (0.0, 0.0), (1.0, 1.0))
    if ends is None:
        return None
    points = np.array([at(place, *(foot + t * direction)) for t in ends])
    inside = _clipped(
        fractions(other, points[0]), fractions(other, points[1]) - fractions(other, points[0]), (0, 0), (1, 1)
    )
    if inside is None:
        return None
    low, high = max(inside[0], 0.0), min(inside[1], 1.0)
    if low >= high:
        return None
    return np.array([foot + (ends[0] + s * (ends[1] - ends[0])) * direction for s in (low, high)])


def region_of(place: SliceGeometry, left: float, top: float, right: float, bottom: float, around: Box) -> Box:
    """The upright box whose cut by the slice is the part drawn in it: along axes that the slice does not see (it
    covers less than a tenth of them there) the box is that of `around`.

    Edges stay within `around`. Raises ValueError for a part without area, or outside of `around`.
    """
    if not (right > left and bottom > top):
        raise ValueError(f"part: expected right of left and bottom below top, got {left, top, right, bottom}")
    corners = np.array([at(place, c, r) for c in (left, right) for r in (top, bottom)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    least, most = np.array(around[:3]), np.array(around[3:])
    unseen = (high - low) < 0.1 * np.linalg.norm(high - low)
    low, high = np.where(unseen, least, np.maximum(low, least)), np.where(unseen, most, np.minimum(high, most))
    if not (high > low).all():
        raise ValueError(f"part: expected one inside of the box {around} (mm), got one from {low} to {high}")
    return cast(Box, tuple(float(x) for x in (*low, *high)))


def cut_of_box(place: SliceGeometry, box: Box) -> Array | None:
    """Where the plane of the slice cuts an upright box: corners (n, 2) as fractions of its edges, the last one the
    first again; None: it does not."""
    corners = np.array([[box[3 * (i >> k & 1) + k] for k in range(3)] for i in range(8)])
    across = normal(place)
    above = (corners - np.array(place.origin_mm)) @ across
    found = [corners[i] for i in range(8) if abs(above[i]) < 1e-9]
    edges = [(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if i < i ^ bit]
    cut = [(i, j) for i, j in edges if above[i] * above[j] < 0 and min(abs(above[i]), abs(above[j])) >= 1e-9]
    found += [corners[i] + (corners[j] - corners[i]) * above[i] / (above[i] - above[j]) for i, j in cut]
    if len(found) < 3:
        return None
    points = np.array([fractions(place, point) for point in found])
    offsets = points - points.mean(axis=0)
    order = np.argsort(np.arctan2(offsets[:, 1], offsets[:, 0]))
    return points[[*order, order[0]]]


@dataclass(frozen=True)
class Placement:
    """A slice in numbers that people write.

    `azimuth_deg` (from x towards y) and `elevation_deg` (above the horizon) say where the normal points; `roll_deg` is
    how far the columns' direction is turned about it, from the horizontal.
    """

    x_mm: float
    y_mm: float
    z_mm: float
    azimuth_deg: float
    elevation_deg: float
    roll_deg: float
    width_mm: float
    height_mm: float

    @classmethod
    def of(cls, place: SliceGeometry) -> Self:
        across = normal(place)
        level = math.hypot(across[0], across[1])
        azimuth = math.atan2(across[1], across[0]) if level > 1e-9 else 0.0
        elevation = math.atan2(across[2], level)
        first, second, _ = _frame(azimuth, elevation)
        u = np.array(place.u_mm) / np.linalg.norm(place.u_mm)
        angles = (math.degrees(a) for a in (azimuth, elevation, math.atan2(second @ u, first @ u)))
        sizes = (float(np.linalg.norm(edge)) for edge in (place.u_mm, place.v_mm))
        return cls(*(float(x) for x in place.center_mm), *angles, *sizes)

    def place(self, before: SliceGeometry) -> SliceGeometry:
        """`before`, brought there; the angle between its edges stays. Raises ValueError for a size that is none."""
        for name in ("width_mm", "height_mm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        old = Placement.of(before)
        turn = self._axes() @ old._axes().T
        u = turn @ np.array(before.u_mm) * (self.width_mm / old.width_mm)
        v = turn @ np.array(before.v_mm) * (self.height_mm / old.height_mm)
        origin = np.array([self.x_mm, self.y_mm, self.z_mm]) - (u + v) / 2
        return replace(before, origin_mm=_vector(origin), u_mm=_vector(u), v_mm=_vector(v))

    def _axes(self) -> Array:
        """(3, 3) columns: the columns' direction, the one across it in the slice, the normal."""
        first, second, across = _frame(math.radians(self.azimuth_deg), math.radians(self.elevation_deg))
        roll = math.radians(self.roll_deg)
        u = math.cos(roll) * first + math.sin(roll) * second
        return np.stack([u, np.cross(across, u), across], axis=1)


def _frame(azimuth: float, elevation: float) -> tuple[Array, Array, Array]:
    """The horizontal direction across a normal, the one across both, the normal."""
    across = np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    first = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    return first, np.cross(across, first), across


def _carried(place: SliceGeometry, matrix: Array, center: Array) -> SliceGeometry:
    origin = center + matrix @ (np.array(place.origin_mm) - center)
    u, v = matrix @ np.array(place.u_mm), matrix @ np.array(place.v_mm)
    return replace(place, origin_mm=_vector(origin), u_mm=_vector(u), v_mm=_vector(v))


def _clipped(
    start: ArrayLike, direction: ArrayLike, low: tuple[float, float], high: tuple[float, float]
) -> tuple[float, float] | None:
    """The part of the line start + t * direction in a rectangle, as t from and to; None: it misses."""
    first, last = -math.inf, math.inf
    for s, d, a, b in zip(np.asarray(start), np.asarray(direction), low, high, strict=True):
        if abs(d) < 1e-12:
            if not a <= s <= b:
                return None
            continue
        near, far = sorted(((a - s) / d, (b - s) / d))
        first, last = max(first, near), min(last, far)
    return (first, last) if first < last else None


def _vector(values: Array) -> Vector:
    return cast(Vector, tuple(float(x) for x in values))
