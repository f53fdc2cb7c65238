"""Where things are: the scanner (`ScanGeometry`) and the slices through the object (`SliceGeometry`).

World frame: right-handed, mm, the rotation axis is z through the origin. The object is fixed; scanner
vectors turn counter-clockwise about +z by the view's angle (rad, unwrapped: many turns are welcome).
At angle 0 the beam travels along +y and detector columns run along +x:

            source (0, -R, 0)
                  |
                  v  +y          u = +x (columns), v = +z (rows; row 0 is the lowest)
        ------ detector ------   (0, D - R, 0)

Per view the truth are the four ASTRA vectors (`cone_vec`: source, detector centre, u, v; `parallel3d_vec`:
ray, detector centre, u, v); the 3x4 matrices that kernels use are derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.rotations import about_axis, about_z

Vector = tuple[float, float, float]
Beam = Literal["cone", "parallel"]
Array = NDArray[np.float64]


def _vector(name: str, value: Sequence[float]) -> Vector:
    numbers = tuple(float(x) for x in value)
    if len(numbers) != 3 or not all(math.isfinite(x) for x in numbers):
        raise ValueError(f"{name}: expected 3 finite numbers, got {value!r}")
    return cast(Vector, numbers)


def _count(name: str, value: object, limit: int = 65536) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= int(value) <= limit:
        raise ValueError(f"{name}: expected a whole number from 1 to {limit}, got {value!r}")
    return int(value)


def _length(name: str, value: float) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a length above 0 mm, got {value!r}")
    return number


def _exactly(name: str, fields: Mapping[str, Any], expected: Sequence[str]) -> None:
    if set(fields) != set(expected):
        raise ValueError(f"{name}: expected the fields {sorted(expected)}, got {sorted(fields)}")


def projection_matrices(beam: Beam, vectors: ArrayLike, rows: int, cols: int) -> Array:
    """3x4 matrices that map mm to detector pixels, from ASTRA vectors.

    Parameters
    ----------
    vectors : (n, 12) in mm, ASTRA order (source or ray, detector centre, u, v).

    Returns (n, 3, 4): `(w*column, w*row, w) = M @ (x, y, z, 1)`; pixel centres at integers, and for cone
    beams `w` is the depth along the detector normal relative to that of the axis (1 at the origin), so
    that 1/w**2 is the distance weight of FDK. Parallel beams have w = 1.
    """
    vectors = np.asarray(vectors, np.float64).reshape(-1, 4, 3)
    source, detector, u, v = (vectors[:, i] for i in range(4))
    cone = beam == "cone"
    frame = np.stack([u, v, detector - source if cone else source], axis=-1)  # columns
    inverse = cast(Array, np.linalg.inv(frame))  # (n, 3, 3)
    start = source if cone else detector
    matrices = np.concatenate([inverse, -(inverse @ start[:, :, None])], axis=2)  # (n, 3, 4)
    if cone:
        matrices /= matrices[:, 2:, 3:]
    else:
        matrices[:, 2] = (0, 0, 0, 1)
    matrices[:, 0] += (cols - 1) / 2 * matrices[:, 2]
    matrices[:, 1] += (rows - 1) / 2 * matrices[:, 2]
    return matrices


@dataclass(frozen=True)
class ScanGeometry:
    """A scanner: beam, detector size and the four ASTRA vectors at angle 0.

    `source_mm` is the source position (cone) or the ray direction (parallel; any length); `detector_mm` the
    centre of the detector; `u_mm` and `v_mm` lead from one pixel to the next along columns and rows. A
    detector of one row is a fan beam: `v` is then ignored by reconstruction, and only the plane of the fan is.

    Raises ValueError for vectors that are no scanner (parallel u and v, axis behind the source, ...).
    """

    beam: Beam
    rows: int
    cols: int
    source_mm: Vector
    detector_mm: Vector
    u_mm: Vector
    v_mm: Vector

    def __post_init__(self) -> None:
        if self.beam not in ("cone", "parallel"):
            raise ValueError(f"beam: expected 'cone' or 'parallel', got {self.beam!r}")
        for name in ("rows", "cols"):
            object.__setattr__(self, name, _count(name, getattr(self, name)))
        for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
            object.__setattr__(self, name, _vector(name, getattr(self, name)))
        u, v = np.array(self.u_mm), np.array(self.v_mm)
        normal = np.cross(u, v)
        if np.linalg.norm(normal) < 1e-6 * np.linalg.norm(u) * np.linalg.norm(v) or not normal.any():
            raise ValueError(f"u_mm and v_mm: expected two different directions, got {self.u_mm} and {self.v_mm}")
        source, detector = np.array(self.source_mm), np.array(self.detector_mm)
        if self.beam == "parallel":
            if abs(normal @ source) < 1e-6 * np.linalg.norm(normal) * np.linalg.norm(source) or not source.any():
                raise ValueError(f"source_mm: expected a ray that meets the detector, got {self.source_mm}")
        elif not 0 < -(normal @ source) / (normal @ (detector - source) or math.nan) <= 1 + 1e-9:
            raise ValueError(
                "source_mm: expected source, axis and detector in this order along the beam, got "
                f"source {self.source_mm} and detector {self.detector_mm}"
            )

    @classmethod
    def cone(
        cls,
        *,
        rows: int,
        cols: int,
        pixel_mm: float | tuple[float, float],
        source_axis_mm: float,
        source_detector_mm: float,
        axis_column: float | None = None,
        mid_row: float | None = None,
        source_offset_mm: tuple[float, float] = (0.0, 0.0),
        roll_rad: float = 0.0,
        pitch_rad: float = 0.0,
        yaw_rad: float = 0.0,
    ) -> Self:
        """A circular cone beam (a fan beam for rows = 1).

        `pixel_mm` is one number or (along columns, along rows). `axis_column` and `mid_row` say where the origin is
        projected: the pixel column of the axis (the centre of rotation; 0-based, centres at integers) and the row
        of the plane z = 0; None: the middle, (N-1)/2. `source_offset_mm` moves the source along (+x, +z).
        `roll_rad` turns the detector about the beam, then `yaw_rad` about v, then `pitch_rad` about u, all
        through the point where the origin is projected.
        """
        distance = _length("source_axis_mm", source_axis_mm)
        if _length("source_detector_mm", source_detector_mm) < distance:
            raise ValueError(
                f"source_detector_mm: expected at least source_axis_mm = {distance}, got {source_detector_mm}"
            )
        along, up = source_offset_mm
        return cls._built(
            "cone",
            rows,
            cols,
            pixel_mm,
            (along, -distance, up),
            source_detector_mm - distance,
            axis_column,
            mid_row,
            (roll_rad, yaw_rad, pitch_rad),
        )

    @classmethod
    def parallel(
        cls,
        *,
        rows: int,
        cols: int,
        pixel_mm: float | tuple[float, float],
        axis_column: float | None = None,
        mid_row: float | None = None,
        roll_rad: float = 0.0,
        pitch_rad: float = 0.0,
        yaw_rad: float = 0.0,
    ) -> Self:
        """A parallel beam; parameters as for `cone`. The detector centre is put beside the axis (distance 0)."""
        return cls._built(
            "parallel", rows, cols, pixel_mm, (0.0, 1.0, 0.0), 0.0, axis_column, mid_row, (roll_rad, yaw_rad, pitch_rad)
        )

    @classmethod
    def _built(
        cls,
        beam: Beam,
        rows: int,
        cols: int,
        pixel_mm: float | tuple[float, float],
        source: Vector,
        axis_detector_mm: float,
        axis_column: float | None,
        mid_row: float | None,
        tilts_rad: tuple[float, float, float],
    ) -> Self:
        rows, cols = _count("rows", rows), _count("cols", cols)
        du, dv = pixel_mm if isinstance(pixel_mm, tuple) else (pixel_mm, pixel_mm)
        u, v = np.array([_length("pixel_mm", du), 0.0, 0.0]), np.array([0.0, 0.0, _length("pixel_mm", dv)])
        roll, yaw, pitch = tilts_rad
        turn = about_axis(np.array([0.0, 1.0, 0.0]), roll)
        u, v = turn @ u, turn @ v
        u = about_axis(v, yaw) @ u
        v = about_axis(u, pitch) @ v
        centre = np.array(source) * (axis_detector_mm / source[1])  # where the origin is projected
        centre += u * ((cols - 1) / 2 - ((cols - 1) / 2 if axis_column is None else axis_column))
        centre += v * ((rows - 1) / 2 - ((rows - 1) / 2 if mid_row is None else mid_row))
        return cls(
            beam, rows, cols, source, cast(Vector, tuple(centre)), cast(Vector, tuple(u)), cast(Vector, tuple(v))
        )

    @classmethod
    def from_astra(cls, beam: Beam, vector: ArrayLike, *, rows: int, cols: int, angle_rad: float = 0.0) -> Self:
        """The scanner of one ASTRA row (12,) that was recorded at `angle_rad`."""
        turned = about_z(np.asarray(vector, np.float64).reshape(4, 3), [-angle_rad])[0]
        source, detector, u, v = (cast(Vector, tuple(x)) for x in turned)
        return cls(beam, rows, cols, source, detector, u, v)

    def vectors(self, angles_rad: ArrayLike) -> Array:
        """ASTRA rows (n, 12) in mm for angles (n,) in rad: `cone_vec` or `parallel3d_vec`."""
        base = [self.source_mm, self.detector_mm, self.u_mm, self.v_mm]
        return about_z(base, np.atleast_1d(np.asarray(angles_rad, np.float64))).reshape(-1, 12)

    def matrices(self, angles_rad: ArrayLike) -> Array:
        """Projection matrices (n, 3, 4) for angles (n,); see `projection_matrices`."""
        return projection_matrices(self.beam, self.vectors(angles_rad), self.rows, self.cols)

    def shifted(self, center_offset_px: float) -> Self:
        """The same scanner with the centre of rotation `center_offset_px` columns further on."""
        centre = np.array(self.detector_mm) - center_offset_px * np.array(self.u_mm)
        return replace(self, detector_mm=cast(Vector, tuple(centre)))

    @property
    def axis_column(self) -> float:
        """Centre of rotation: the detector column of the origin, in pixels."""
        return float(self.matrices(0.0)[0, 0, 3])

    @property
    def voxel_mm(self) -> float:
        """Pixel pitch along columns, projected back to the axis, in mm."""
        return float(1 / np.linalg.norm(self.matrices(0.0)[0, 0, :3] - self.axis_column * self.matrices(0.0)[0, 2, :3]))

    @property
    def radius_mm(self) -> float:
        """Radius of the field of view at the axis: what the nearer detector edge still sees in every view."""
        nearer = min(self.axis_column + 0.5, self.cols - 0.5 - self.axis_column)
        reach = max(nearer, 0.0) * self.voxel_mm
        if self.beam == "parallel":
            return reach
        distance = math.hypot(self.source_mm[0], self.source_mm[1])
        return distance * reach / math.hypot(distance, reach)

    @property
    def full_turn_rad(self) -> float:
        """Angle span that a window needs: 2 pi for cone beams, pi for parallel ones."""
        return 2 * math.pi if self.beam == "cone" else math.pi

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the same geometry back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises ValueError that names the field that is missing, unknown or wrong."""
        _exactly("scan geometry", fields, list(cls.__dataclass_fields__))
        return cls(**fields)


@dataclass(frozen=True)
class SliceGeometry:
    """A rectangle in space: `origin_mm` is its corner, `u_mm` its edge along columns, `v_mm` its edge along rows.

    Pixel (i, j) has its centre at origin + (j + 1/2)/cols * u + (i + 1/2)/rows * v. Any place, orientation,
    aspect and zoom; a training patch is a small slice. Raises ValueError if u and v do not span a plane.
    """

    origin_mm: Vector
    u_mm: Vector
    v_mm: Vector
    rows: int
    cols: int

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            object.__setattr__(self, name, _count(name, getattr(self, name), 16384))
        for name in ("origin_mm", "u_mm", "v_mm"):
            object.__setattr__(self, name, _vector(name, getattr(self, name)))
        u, v = np.array(self.u_mm), np.array(self.v_mm)
        area = np.linalg.norm(np.cross(u, v))
        if not area > 1e-6 * np.linalg.norm(u) * np.linalg.norm(v):
            raise ValueError(f"u_mm and v_mm: expected two edges that span a plane, got {self.u_mm} and {self.v_mm}")

    @classmethod
    def centered(
        cls,
        center_mm: Sequence[float],
        u: Sequence[float],
        v: Sequence[float],
        *,
        pixel_mm: float,
        shape: tuple[int, int],
    ) -> Self:
        """A slice of (rows, cols) square pixels around `center_mm`; `u` and `v` are directions of any length."""
        rows, cols = shape
        edge_u = np.array(u, np.float64) / np.linalg.norm(u) * _length("pixel_mm", pixel_mm) * cols
        edge_v = np.array(v, np.float64) / np.linalg.norm(v) * pixel_mm * rows
        origin = np.array(center_mm, np.float64) - edge_u / 2 - edge_v / 2
        corner, along_u, along_v = (cast(Vector, tuple(x)) for x in (origin, edge_u, edge_v))
        return cls(corner, along_u, along_v, rows, cols)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def center_mm(self) -> Array:
        return np.array(self.origin_mm) + (np.array(self.u_mm) + np.array(self.v_mm)) / 2

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Pitch (along columns, along rows) in mm."""
        return float(np.linalg.norm(self.u_mm)) / self.cols, float(np.linalg.norm(self.v_mm)) / self.rows

    @property
    def normal(self) -> Array:
        """Unit vector across the slice, to the side where its largest component (of equals the last) is positive."""
        across = np.cross(self.u_mm, self.v_mm)
        across /= np.linalg.norm(across)
        largest = 2 - np.argmax(np.abs(across).round(6)[::-1])
        return across * np.sign(across[largest]) + 0.0  # no -0

    @property
    def offset_mm(self) -> float:
        """Where the plane of the slice stands along its normal, from the origin: z of a level slice, x of yz."""
        return float(self.normal @ self.origin_mm)

    def moved_to(self, offset_mm: float) -> Self:
        """The same slice with its plane at `offset_mm` along its normal."""
        origin = np.array(self.origin_mm) + (offset_mm - self.offset_mm) * self.normal
        return replace(self, origin_mm=tuple(origin))

    @property
    def pose(self) -> Array:
        """(3, 3) rows: centre of pixel (0, 0), step to the next column, step to the next row; mm."""
        u, v = np.array(self.u_mm) / self.cols, np.array(self.v_mm) / self.rows
        return np.stack([np.array(self.origin_mm) + u / 2 + v / 2, u, v])

    def points(self) -> Array:
        """Pixel centres (rows, cols, 3) in mm."""
        start, u, v = self.pose
        return start + np.arange(self.cols)[None, :, None] * u + np.arange(self.rows)[:, None, None] * v

    @property
    def nine(self) -> Array:
        """origin, u, v as 9 numbers in mm: the form of the `geometry_<n>` attributes."""
        return np.concatenate([self.origin_mm, self.u_mm, self.v_mm])

    def with_nine(self, numbers: ArrayLike) -> Self:
        """The same shape at the place given by 9 numbers in mm (origin, u, v)."""
        values = np.asarray(numbers, np.float64)
        if values.shape != (9,):
            raise ValueError(f"slice geometry: expected 9 numbers (origin, u, v in mm), got shape {values.shape}")
        return replace(self, origin_mm=tuple(values[:3]), u_mm=tuple(values[3:6]), v_mm=tuple(values[6:]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the same geometry back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises ValueError that names the field that is missing, unknown or wrong."""
        _exactly("slice geometry", fields, list(cls.__dataclass_fields__))
        return cls(**fields)


def default_slices(scan: ScanGeometry, shape: tuple[int, int] | None = None) -> dict[str, SliceGeometry]:
    """The three slices of a new device: xy, xz and yz through the origin, over the whole field of view.

    `shape` is (rows, cols); None: the number of detector columns, 4096 at most. Row 0 of xy has the largest
    y, row 0 of xz and yz the largest z. A detector of one row has the xy slice alone.
    """
    side = min(scan.cols, 4096)
    shape = shape or (side, side)
    pixel = 2 * scan.radius_mm / min(shape)
    axes = {"xy": ((1, 0, 0), (0, -1, 0)), "xz": ((1, 0, 0), (0, 0, -1)), "yz": ((0, 1, 0), (0, 0, -1))}
    names = ["xy"] if scan.rows == 1 else list(axes)
    return {name: SliceGeometry.centered((0, 0, 0), *axes[name], pixel_mm=pixel, shape=shape) for name in names}
