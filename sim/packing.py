"""Discs and balls packed at random without touching: where bubbles rise, and what lies on the ground."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIZES = 24  # steps from the largest to the smallest
TRIES = 3000  # places tried at each size


def discs(
    random: np.random.Generator, radius_mm: tuple[float, float], region_mm: float, gap_mm: float, most: int
) -> Array:
    """(n, 3): x, y, radius of discs within a circle of radius `region_mm`, at least `gap_mm` apart; `most` at most.

    Random sequential addition from the largest size to the smallest, so that small ones fill the gaps.
    """
    placed = np.empty((0, 3))
    for radius in np.geomspace(radius_mm[1], radius_mm[0], SIZES):
        if region_mm > radius + gap_mm:
            placed = _added(placed, _in_disc(random, region_mm - radius - gap_mm), radius, gap_mm)
    return placed[:most]


def balls(
    random: np.random.Generator,
    radius_mm: tuple[float, float],
    region_mm: float,
    bottom_mm: float,
    top_mm: float,
    gap_mm: float,
    free: Callable[[Array, float], bool],
) -> Array:
    """(n, 4): x, y, z, radius of balls in a cylinder between two heights, at least `gap_mm` apart.

    `free(point, radius)` says whether nothing else is in the way there.
    """
    placed = np.empty((0, 4))
    for radius in np.geomspace(radius_mm[1], radius_mm[0], SIZES):
        low, high = bottom_mm + radius + gap_mm, top_mm - radius
        if region_mm > radius + gap_mm and high > low:
            flat = _in_disc(random, region_mm - radius - gap_mm)
            points = np.column_stack([flat, random.uniform(low, high, TRIES)])
            placed = _added(placed, points, radius, gap_mm, free)
    return placed


def _added(
    placed: Array, points: Array, radius: float, gap: float, free: Callable[[Array, float], bool] | None = None
) -> Array:
    """`placed` (n, axes + 1) and, of `points` (TRIES, axes), those where there is room, one after the other."""
    axes = points.shape[1]
    apart = np.linalg.norm(points[:, None, :] - placed[None, :, :axes], axis=2)
    points = points[(apart >= placed[:, axes] + radius + gap).all(axis=1)]
    while len(points):
        point, points = points[0], points[1:]
        if free is None or free(point, radius):
            placed = np.vstack([placed, (*point, radius)])
            points = points[np.linalg.norm(points - point, axis=1) >= 2 * radius + gap]
    return placed


def _in_disc(random: np.random.Generator, radius: float) -> Array:
    """(TRIES, 2) points, evenly spread."""
    angle, distance = random.uniform(0, 2 * np.pi, TRIES), radius * np.sqrt(random.uniform(size=TRIES))
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
