"""Uniform balls with closed-form projections: what a reconstruction must give back is known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry


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
    geometry: ScanGeometry, angles_rad: ArrayLike, center_mm: ArrayLike, radius_mm: float, mu_per_mm: float
) -> NDArray[np.float32]:
    """Line integrals (views, rows, cols) through one ball: the attenuation times the length of the chord."""
    angles = np.atleast_1d(np.asarray(angles_rad, np.float64))
    views = np.empty((len(angles), geometry.rows, geometry.cols), np.float32)
    for view, angle in zip(views, angles, strict=True):
        points, ray = pixels_mm(geometry, angle)
        to_centre = np.asarray(center_mm) - points
        along = (to_centre * ray).sum(-1)
        miss_squared = (to_centre**2).sum(-1) - along**2
        view[:] = 2 * mu_per_mm * np.sqrt(np.maximum(radius_mm**2 - miss_squared, 0))
    return views
