"""Uniform balls with closed-form projections: what a reconstruction must give back is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.rotations import about_z


def turn(views: int, turns: float = 1.0, first_rad: float = 0.0) -> NDArray[np.float64]:
    """Equal steps over so many turns, without the end point."""
    return first_rad + 2 * math.pi * turns * np.arange(views) / views


def pixels_mm(geometry: ScanGeometry, angle_rad: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each pixel is, and the unit vector of its ray: (rows, cols, 3) each."""
    source, centre, u, v = geometry.vectors(angle_rad).reshape(4, 3)
    column = np.arange(geometry.cols) - (geometry.cols - 1) / 2
    row = np.arange(geometry.rows) - (geometry.rows - 1) / 2
    points = centre + column[:, None] * u + row[:, None, None] * v
    ray = points - source if geometry.beam == "cone" else np.broadcast_to(source, points.shape)
    return points, ray / np.linalg.norm(ray, axis=-1, keepdims=True)


def ball(
    geometry: ScanGeometry, angles_rad: ArrayLike, center_mm: Sequence[float], radius_mm: float, mu_per_mm: float
) -> NDArray[np.float32]:
    """Line integrals (views, rows, cols) through one ball: the attenuation times the length of the chord."""
    points, ray = pixels_mm(geometry, 0.0)
    before, far = (points * ray).sum(-1), (points**2).sum(-1)
    # The scanner stands still and the ball turns the other way, which is the same.
    centers = about_z([center_mm], -np.atleast_1d(np.asarray(angles_rad, np.float64)))[:, 0]
    views = np.empty((len(centers), geometry.rows, geometry.cols), np.float32)
    for view, center in zip(views, centers, strict=True):
        along = ray @ center - before  # from the pixel to the point of the ray that is nearest to the centre
        miss_squared = far - 2 * points @ center + center @ center - along**2
        view[:] = 2 * mu_per_mm * np.sqrt(np.maximum(radius_mm**2 - miss_squared, 0))
    return views
