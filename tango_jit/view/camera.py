"""From where a scene is looked at: a pinhole camera that circles about a point."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

HALF_ANGLE = math.tan(math.radians(14))  # half the height of the picture, at distance 1: hardly any perspective
STEEPEST_RAD = math.radians(89)


@dataclass(frozen=True)
class Camera:
    """Looks at `target_mm` from `distance_mm` away; z is up. `azimuth_rad` 0 looks along +y, as the beam goes; growing
    it carries the camera counter-clockwise, seen from above. `elevation_rad` is how far above the horizon it is."""

    target_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    azimuth_rad: float = math.radians(-35)
    elevation_rad: float = math.radians(28)
    distance_mm: float = 100.0

    @classmethod
    def around(cls, center_mm: ArrayLike, radius_mm: float) -> Self:
        """One that sees a ball of that radius whole."""
        x, y, z = np.asarray(center_mm, np.float64)
        return cls((float(x), float(y), float(z)), distance_mm=1.12 * radius_mm / math.sin(math.atan(HALF_ANGLE)))

    @property
    def axes(self) -> Array:
        """(3, 3) rows: unit vectors to the right, up and forward."""
        across, along = math.cos(self.azimuth_rad), math.sin(self.azimuth_rad)
        low, high = math.cos(self.elevation_rad), math.sin(self.elevation_rad)
        forward = np.array([-along * low, across * low, -high])
        right = np.array([across, along, 0.0])
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def eye_mm(self) -> Array:
        return np.array(self.target_mm) - self.distance_mm * self.axes[2]

    def orbited(self, azimuth_rad: float, elevation_rad: float) -> Self:
        """Carried on by these angles; never over the top."""
        elevation = min(max(self.elevation_rad + elevation_rad, -STEEPEST_RAD), STEEPEST_RAD)
        return replace(self, azimuth_rad=self.azimuth_rad + azimuth_rad, elevation_rad=elevation)

    def nearer(self, factor: float) -> Self:
        """At the distance divided by `factor`. Raises ValueError for a factor that is not positive."""
        if not factor > 0:
            raise ValueError(f"factor: expected a positive number, got {factor}")
        return replace(self, distance_mm=self.distance_mm / factor)

    def mm_per_pixel(self, height: int) -> float:
        """Size of a pixel at the target, of a picture so many pixels high."""
        return 2 * HALF_ANGLE * self.distance_mm / height

    def directions(self, height: int) -> Array:
        """(3, 3) rows: step of a ray's direction from column to column, from row to row, and the middle's direction;
        all for a depth of 1."""
        right, up, forward = self.axes
        step = 2 * HALF_ANGLE / height
        return np.stack([right * step, -up * step, forward])

    def ray(self, column: float, row: float, width: int, height: int) -> Array:
        """Direction (3,) through a place of a picture; whole numbers are the corners of its pixels."""
        across, down, forward = self.directions(height)
        return forward + (column - width / 2) * across + (row - height / 2) * down

    def project(self, points_mm: ArrayLike, width: int, height: int) -> Array:
        """Where points (n, 3) fall in a picture: (n, 3) column, row, depth in mm (negative: behind the camera)."""
        offsets = np.atleast_2d(np.asarray(points_mm, np.float64)) - self.eye_mm
        right, up, depth = self.axes @ offsets.T
        scale = height / (2 * HALF_ANGLE * np.where(depth == 0, 1e-12, depth))
        return np.stack([width / 2 + right * scale, height / 2 - up * scale, depth], axis=1)
