"""Where patches are taken: a box in the container, one kind of orientation, one zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tango_jit.geometry import SliceGeometry

Array = NDArray[np.float64]
Orientation = Literal["any", "horizontal", "vertical"]
SIDE_MM = 18.0  # half the box in x and y, as in the paper's software: inside the glass
LOW_MM, MIDDLE_MM, HIGH_MM = -38.0, -10.0, 20.0  # what both experiments fill, and all views see
VOXEL_MM = 0.25


@dataclass(frozen=True)
class Box:
    """Patches spread evenly over a box; such as are larger than it have their centre in its middle."""

    low_mm: float = LOW_MM
    high_mm: float = HIGH_MM
    orientation: Orientation = "any"
    pixel_mm: float = VOXEL_MM

    def draw(self, random: np.random.Generator, n: int, size: int) -> Array:
        """`n` poses (n, 3, 3) in mm of patches of `size` x `size` pixels: start, step to the next column, row."""
        axes = self._axes(random, n) * self.pixel_mm  # (n, 2, 3)
        reach = np.abs(axes).sum(1) * (size - 1) / 2
        high = np.array([SIDE_MM, SIDE_MM, self.high_mm]) - reach
        low = np.array([-SIDE_MM, -SIDE_MM, self.low_mm]) + reach
        center = (low + high) / 2 + (random.random((n, 3)) - 0.5) * np.maximum(high - low, 0)
        start = center - (size - 1) / 2 * axes.sum(1)
        return np.concatenate([start[:, None], axes], 1)

    def holds(self, place: SliceGeometry) -> NDArray[np.bool_]:
        """The pixels (rows, cols) of a slice that lie in the box: where a network learned what it shows."""
        start, along, down = place.pose
        at = start + np.arange(place.cols)[:, None] * along + np.arange(place.rows)[:, None, None] * down
        x, y, z = np.moveaxis(at, 2, 0)
        beside = np.maximum(np.abs(x), np.abs(y))
        return (beside <= SIDE_MM) & (z >= self.low_mm) & (z <= self.high_mm)

    def _axes(self, random: np.random.Generator, n: int) -> Array:
        """Orthonormal axes (n, 2, 3) of the planes."""
        if self.orientation == "any":
            return Rotation.random(n, random).as_matrix()[:, :2]
        angle = random.uniform(0, 2 * math.pi, n)
        zero, one = np.zeros(n), np.ones(n)
        along = np.stack([np.cos(angle), np.sin(angle), zero], 1)
        down = np.stack([-np.sin(angle), np.cos(angle), zero], 1)
        return np.stack([along, down if self.orientation == "horizontal" else np.stack([zero, zero, -one], 1)], 1)


WHOLE = Box()
TOP, BOTTOM = Box(low_mm=MIDDLE_MM), Box(high_mm=MIDDLE_MM)
