"""What a simulated sample is made of at one moment: convex solids, each the intersection of a few quadrics.

A quadric is the set |M (x - c)| <= 1, given by its centre c and the form Q = M^T M: an ellipsoid where Q has rank 3, an
endless cylinder where it has rank 2, the space between two planes where it has rank 1. So one formula gives where a
ray is inside, whatever the shape, and the attenuation of a solid is `excess_per_mm` on top of what it stands in: line
integrals add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
MOST_QUADRICS = 3


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """n ellipsoids: `centers_mm` (n, 3), `forms` (n, 3, 3) in 1/mm^2, `excess_per_mm` (n, energies)."""

    centers_mm: Array
    forms: Array
    excess_per_mm: Array

    @classmethod
    def none(cls, energies: int) -> Self:
        return cls(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, energies)))

    @classmethod
    def balls(cls, centers_mm: ArrayLike, radii_mm: ArrayLike, excess_per_mm: ArrayLike) -> Self:
        """Balls at (n, 3) with radii (n,), all of the same excess (energies,)."""
        centers, radii = np.asarray(centers_mm, np.float64).reshape(-1, 3), np.asarray(radii_mm, np.float64)
        forms = np.eye(3) / (radii**2)[:, None, None]
        return cls(centers, forms, np.tile(np.asarray(excess_per_mm, np.float64), (len(centers), 1)))

    @classmethod
    def spheroids(cls, centers_mm: Array, radii_mm: Array, flatness: Array, axes: Array, excess: ArrayLike) -> Self:
        """Flattened balls: `flatness` (n,) times the radius along the unit vectors `axes` (n, 3)."""
        along = axes[:, :, None] * axes[:, None, :]
        forms = (np.eye(3) + along * (1 / flatness**2 - 1)[:, None, None]) / (radii_mm**2)[:, None, None]
        return cls(centers_mm, forms, np.tile(np.asarray(excess, np.float64), (len(centers_mm), 1)))

    @classmethod
    def joined(cls, groups: Sequence[Ellipsoids], energies: int) -> Self:
        """All of them in one; `energies` counts where there are none."""
        if not groups:
            return cls.none(energies)
        return cls(
            np.concatenate([group.centers_mm for group in groups]),
            np.concatenate([group.forms for group in groups]),
            np.concatenate([group.excess_per_mm for group in groups]),
        )

    def __len__(self) -> int:
        return len(self.centers_mm)

    @property
    def reach_mm(self) -> Array:
        """(n,): the largest semi-axis of each."""
        if len(self) == 0:
            return np.empty(0)
        return 1 / np.sqrt(np.linalg.eigvalsh(self.forms)[:, 0])


@dataclass(frozen=True, eq=False)
class Solid:
    """The intersection of up to MOST_QUADRICS quadrics: `centers_mm` (q, 3), `forms` (q, 3, 3).

    `middle_mm` (3,) and `reach_mm` are a ball around it; `excess_per_mm` (energies,).
    """

    centers_mm: Array
    forms: Array
    excess_per_mm: Array
    middle_mm: Array
    reach_mm: float

    @property
    def on_axis(self) -> bool:
        """Whether it looks the same from every side of the rotation axis."""
        forms, scale = self.forms, np.abs(self.forms).max()
        skew = np.abs(forms[:, [0, 0, 1], [1, 2, 2]]).max() + np.abs(forms[:, 0, 0] - forms[:, 1, 1]).max()
        return bool(np.abs(self.centers_mm[:, :2]).max() < 1e-9 and skew < 1e-12 * scale)

    @property
    def key(self) -> bytes:
        """The same for equal solids."""
        return b"".join(x.tobytes() for x in (self.centers_mm, self.forms, self.excess_per_mm))

    def contains(self, points_mm: ArrayLike, slack: float = 0.0) -> NDArray[np.bool_]:
        """Whether points (..., 3) are inside; `slack` widens every quadric by that part of its size."""
        points = np.asarray(points_mm, np.float64)[..., None, :] - self.centers_mm
        return (np.einsum("...qi,qij,...qj->...q", points, self.forms, points) <= (1 + slack) ** 2).all(axis=-1)


@dataclass(frozen=True, eq=False)
class Objects:
    """A sample at one moment."""

    ellipsoids: Ellipsoids
    solids: tuple[Solid, ...]

    @property
    def energies(self) -> int:
        return self.ellipsoids.excess_per_mm.shape[1]


def cylinder(center_mm: ArrayLike, axis: ArrayLike, radius_mm: float, height_mm: float, excess: ArrayLike) -> Solid:
    """A cylinder of `height_mm` along `axis` around `center_mm`."""
    center, along = np.asarray(center_mm, np.float64), _across(axis)
    forms = np.stack([(np.eye(3) - along) / radius_mm**2, along / (height_mm / 2) ** 2])
    reach = float(np.hypot(radius_mm, height_mm / 2))
    return Solid(np.stack([center, center]), forms, np.asarray(excess, np.float64), center, reach)


def tablet(
    center_mm: ArrayLike, axis: ArrayLike, radius_mm: float, height_mm: float, rim: float, excess: ArrayLike
) -> Solid:
    """A pill with two domed faces: `height_mm` in the middle, `rim` (0 to 1) times that at its edge."""
    center, along = np.asarray(center_mm, np.float64), _across(axis)
    dome = (np.eye(3) - along) * (1 - rim**2) / radius_mm**2 + along / (height_mm / 2) ** 2
    forms = np.stack([(np.eye(3) - along) / radius_mm**2, dome])
    reach = float(np.hypot(radius_mm, height_mm / 2))
    return Solid(np.stack([center, center]), forms, np.asarray(excess, np.float64), center, reach)


def ellipsoid(center_mm: ArrayLike, axis: ArrayLike, semi_axes_mm: ArrayLike, excess: ArrayLike) -> Solid:
    """Semi-axes (3,): two across `axis`, the third along it. (Across, the first is the one nearer to +x.)"""
    center, semi = np.asarray(center_mm, np.float64), np.asarray(semi_axes_mm, np.float64)
    third = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    first = np.array([1.0, 0.0, 0.0]) - third[0] * third
    if np.linalg.norm(first) < 1e-6:
        first = np.array([0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    rotation = np.stack([first, np.cross(third, first), third])
    form = rotation.T @ np.diag(1 / semi**2) @ rotation
    return Solid(center[None], form[None], np.asarray(excess, np.float64), center, float(semi.max()))


def directions(count: int) -> Array:
    """(count, 3) unit vectors, evenly spread (golden spiral)."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def _across(axis: ArrayLike) -> Array:
    """Projection (3, 3) onto the direction `axis`."""
    unit = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    return np.outer(unit, unit)
