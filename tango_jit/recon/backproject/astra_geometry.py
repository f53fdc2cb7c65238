"""From projection matrices to the geometries of the ASTRA toolbox; pure NumPy, nothing of ASTRA is needed here.

ASTRA's volumes have unit voxels around the origin. So the scanner is put into the coordinates of the slice instead,
whatever its place, pitch and orientation. Columns count along +X; rows along -Y in ASTRA's images, +Y in its volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.recon.backproject.arguments import MIN_DEPTH

Array = NDArray[Any]

FLAT = 0.02  # detector rows; a slice whose points fall on rows no further apart than this is a two-dimensional problem
FINER = 4  # bins per detector pixel, see `Flat.bins`


class NotFlatError(ValueError):
    """A slice that two dimensions do not describe."""


@dataclass(frozen=True)
class Flat:
    """One view of one slice as a two-dimensional problem, in pixels of the slice (X, Y) from its middle.

    `plane` (2, 3): (w*column, w) = plane @ (X, Y, 1). `row`: the detector row that the slice falls on.
    """

    plane: Array
    row: float

    @property
    def parallel(self) -> bool:
        return not self.plane[1, :2].any()

    @property
    def source(self) -> Array:
        """Where the rays of a fan begin, (2,)."""
        return np.linalg.solve(self.plane[:, :2], -self.plane[:, 2])

    def parallel_vec(self, columns: int) -> Array:
        """ASTRA's (6,) `parallel_vec` for FINER bins a column; the ray is put at right angles to the detector."""
        slope = self.plane[0, :2]  # columns per pixel
        step = slope / (slope @ slope)
        middle = step * ((columns - 1) / 2 - self.plane[0, 2])
        return np.concatenate([(-slope[1], slope[0]), middle, step / FINER])

    def bins(self, line: Array, positions: Array) -> NDArray[np.float32]:
        """A detector row at `positions`, in columns: between pixels as straight lines, 0 outside [-0.5, N - 0.5].

        ASTRA takes every bin as constant over its width; with bins finer than the pixels that comes near to straight
        lines, which are what our kernels draw.
        """
        inside = (positions >= -0.5) & (positions <= len(line) - 0.5)
        return np.where(inside, np.interp(positions, np.arange(len(line)), line), 0).astype(np.float32)


@dataclass(frozen=True)
class Fan:
    """A `Flat` view of a fan as ASTRA's `fanflat`: the origin at the foot of the perpendicular from the source to the
    detector, which is put to where w = 1."""

    angle_rad: float
    distance: float  # from the source to the foot, in pixels of the slice
    foot: Array  # (2,), from the middle of the slice
    pitch: float  # of a bin, in pixels of the slice
    columns: Array  # the detector column of every bin, ascending along ASTRA's detector
    cosines: Array  # of the angle between the ray of every bin and the perpendicular

    @classmethod
    def of(cls, view: Flat, columns: int) -> Fan:
        normal = view.plane[1, :2]
        distance = 1 / float(np.hypot(*normal))
        foot = view.source + normal * distance**2
        angle = float(np.arctan2(-normal[0], normal[1]))
        slope = float(view.plane[0, :2] @ (np.cos(angle), np.sin(angle)))  # columns per pixel along the detector
        middle = float(view.plane[0] @ (*foot, 1.0))
        pitch = 1 / (FINER * abs(slope))
        reach = max(abs((edge - middle) / slope) for edge in (-0.5, columns - 0.5))
        half = int(np.ceil(reach / pitch))
        along = (np.arange(2 * half) + 0.5 - half) * pitch
        return cls(angle, distance, foot, pitch, middle + slope * along, distance / np.hypot(distance, along))


def centred(matrices: Array, pose: Array, shape: tuple[int, int]) -> Array:
    """(n, 3, 3): (w*column, w*row, w) = result @ (X, Y, 1), with X, Y in pixels from the middle of a slice."""
    start, column, row = pose
    middle = start + (shape[1] - 1) / 2 * column + (shape[0] - 1) / 2 * row
    return _compose(matrices, np.stack([column, -row, middle], axis=1))


def centred_volume(matrices: Array, poses: Array, shape: tuple[int, int]) -> Array:
    """(n, 3, 4): (w*column, w*row, w) = result @ (X, Y, Z, 1), with X, Y, Z in columns, rows and slices from the middle
    of a stack of slices, poses (k, 3, 3) one step apart."""
    start, column, row = poses[0]
    depth = poses[1, 0] - start if len(poses) > 1 else np.cross(column, row) / np.linalg.norm(column)
    middle = start + (shape[1] - 1) / 2 * column + (shape[0] - 1) / 2 * row + (len(poses) - 1) / 2 * depth
    return _compose(matrices, np.stack([column, row, depth, middle], axis=1))


def _compose(matrices: Array, place: Array) -> Array:
    """Matrices (n, 3, 4) after a map into mm, (3, k), whose last column is a point and the others are directions."""
    composed = matrices[:, :, :3] @ place
    composed[:, :, -1] += matrices[:, :, 3]
    return composed


def flattened(homographies: Array, rows: int, shape: tuple[int, int]) -> list[Flat | None]:
    """Every view as a two-dimensional problem; None: the slice is not in front of its source.

    Raises NotFlatError if a slice falls on several rows of a detector of `rows` rows.
    """
    tall, wide = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    corners = np.array([(x, y, 1.0) for x in (-wide, wide) for y in (-tall, tall)])
    _, v, w = np.moveaxis(homographies @ corners.T, 1, 0)  # (n, 4) each
    views: list[Flat | None] = []
    for homography, height, depth in zip(homographies, v, w, strict=True):
        seen = depth > MIN_DEPTH
        if not seen.any():
            views.append(None)
            continue
        on = height[seen] / depth[seen] if rows > 1 else np.zeros(1)
        flat = homography[[0, 2]]
        if np.ptp(on) > FLAT or np.linalg.norm(flat[0, :2]) < 1e-9:
            raise NotFlatError(f"its points fall on detector rows {on.min():.2f} to {on.max():.2f} of one view")
        views.append(Flat(flat, float(on.mean())))
    return views


def lines(projection: NDArray[np.floating], row: float) -> Array:
    """A view (rows, cols) read along one row, between rows as a straight line; 0 outside [-0.5, rows - 0.5]."""
    rows = len(projection)
    if not -0.5 <= row <= rows - 0.5:
        return np.zeros(projection.shape[1])
    low = int(min(max(row, 0), max(rows - 2, 0)))
    part = min(max(row, 0), rows - 1) - low
    line = projection[low].astype(np.float64)
    return line if part == 0 else (1 - part) * line + part * projection[low + 1]


def vectors(matrices: Array, rows: int, cols: int) -> tuple[str, Array]:
    """ASTRA's name of the geometry (`cone_vec`, `parallel3d_vec`) and its rows (n, 12), from matrices (n, 3, 4).

    The detector of a cone is put to where w = 1; of a parallel beam, at right angles to the ray.
    """
    middle = np.array([(cols - 1) / 2, (rows - 1) / 2])
    if matrices[:, 2, :3].any():
        inverse = np.linalg.inv(matrices[:, :, :3])
        source = -(inverse @ matrices[:, :, 3:])[:, :, 0]
        u, v = inverse[:, :, 0], inverse[:, :, 1]
        detector = source + inverse @ (*middle, 1.0)
        return "cone_vec", np.concatenate([source, detector, u, v], axis=1)
    inverse = np.linalg.pinv(matrices[:, :2, :3])  # (n, 3, 2)
    ray = np.cross(matrices[:, 0, :3], matrices[:, 1, :3])
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    detector = (inverse @ (middle - matrices[:, :2, 3])[:, :, None])[:, :, 0]
    return "parallel3d_vec", np.concatenate([ray, detector, inverse[:, :, 0], inverse[:, :, 1]], axis=1)
