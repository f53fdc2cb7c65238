"""Rotations, right-handed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def about_z(vectors: ArrayLike, angles_rad: ArrayLike) -> Array:
    """Turn row vectors counter-clockwise about +z.

    Parameters: `vectors` (k, 3) in mm, `angles_rad` (n,). Returns (n, k, 3).
    """
    vectors = np.asarray(vectors, np.float64)
    c, s = np.cos(angles_rad), np.sin(angles_rad)
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    turned = np.empty((np.size(c), len(vectors), 3))
    turned[..., 0] = np.multiply.outer(c, x) - np.multiply.outer(s, y)
    turned[..., 1] = np.multiply.outer(s, x) + np.multiply.outer(c, y)
    turned[..., 2] = z
    return turned


def about_axis(axis: ArrayLike, angle_rad: float) -> Array:
    """Matrix (3, 3) about `axis` (3,) of any length (Rodrigues). Raises ValueError for an axis without direction."""
    direction = np.asarray(axis, np.float64)
    length = float(np.linalg.norm(direction))
    if not (math.isfinite(length) and length > 0):
        raise ValueError(f"axis: expected a direction, got {axis}")
    x, y, z = direction / length
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle_rad) * k + (1 - math.cos(angle_rad)) * (k @ k)
