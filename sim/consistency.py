"""Is a sample possible? Attenuations add up only if nothing overlaps but what stands in something else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from sim.sample import Sample
from sim.scenario import ScenarioError
from sim.solids import Array, Ellipsoids, Solid, directions

MOMENTS = 7
SLACK, TOUCH = 1e-6, 1e-3  # of the size of a solid: what touches its surface is neither out of it nor in it
NEAR = 0.9  # of the way from the axis to the source: nothing may be further out


def check(sample: Sample, seconds: float = 300.0) -> None:
    """Raises ScenarioError that names what overlaps what, what leaves what it stands in, or what is at the source.

    Looked at are points in and on every solid at a few moments: of the loop, or of the first `seconds`.
    """
    scenario = sample.scenario
    reach = np.inf if scenario.scanner.source_axis_mm is None else NEAR * scenario.scanner.source_axis_mm
    for time in np.linspace(0, scenario.loop_s or seconds, MOMENTS).tolist():
        when = f"{scenario.name}: {time:.0f} s after the first frame"
        solids = sample.named(time)
        for name, solid in solids.items():
            if np.hypot(*solid.middle_mm[:2]) + solid.reach_mm > reach:
                raise ScenarioError(f"{when}: {name}: expected it within {reach:g} mm of the axis, it is further out")
        _check_solids(sample, solids, when)
        groups = sample.groups(time)
        for label, inside, group in groups:
            _check_group(sample, solids, label, inside, group, when)
        for i, (label, _, group) in enumerate(groups):
            for other, _, more in groups[:i]:
                if _touch(group, more):
                    raise ScenarioError(f"{when}: {label} overlap {other}: expected room between them")


def _check_solids(sample: Sample, solids: dict[str, Solid], when: str) -> None:
    for name, solid in solids.items():
        points, outer = _points(solid), sample.around(name)
        for other in outer:
            if other in solids and not solids[other].contains(points, slack=SLACK).all():
                raise ScenarioError(f"{when}: solid {name!r} leaves {other!r}, which it stands in")
        for other in set(solids) - {name, *outer}:
            if name not in sample.around(other) and solids[other].contains(points, slack=-TOUCH).any():
                one, two = sorted((name, other))
                raise ScenarioError(
                    f"{when}: solids {one!r} and {two!r} overlap: expected one inside the other, or room between"
                )


def _check_group(
    sample: Sample, solids: dict[str, Solid], label: str, inside: str, group: Ellipsoids, when: str
) -> None:
    if len(group) == 0:
        return
    points = (group.centers_mm[:, None] + group.reach_mm[:, None, None] * directions(30)).reshape(-1, 3)
    for name, solid in solids.items():
        within = solid.contains(points, slack=SLACK)
        if name == inside or name in sample.around(inside):
            if not within.all():
                raise ScenarioError(f"{when}: {label} leave {name!r}, which they are in")
        elif solid.contains(points, slack=-TOUCH).any():
            raise ScenarioError(f"{when}: {label} overlap {name!r}: expected room between them")


def _touch(one: Ellipsoids, other: Ellipsoids) -> bool:
    """Whether any two of them overlap, taken as balls."""
    if len(one) == 0 or len(other) == 0:
        return False
    tree = KDTree(other.centers_mm)
    near: list[list[int]] = tree.query_ball_point(one.centers_mm, one.reach_mm + other.reach_mm.max()).tolist()
    return any(
        (np.linalg.norm(other.centers_mm[found] - center, axis=1) < radius + other.reach_mm[found]).any()
        for center, radius, found in zip(one.centers_mm, one.reach_mm, near, strict=True)
        if found
    )


def _points(solid: Solid) -> Array:
    """Points (n, 3) in a solid and on its surface, more of them towards its far ends."""
    size, axes = np.linalg.eigh(solid.forms.sum(axis=0))
    rays = directions(150) @ (axes / np.sqrt(np.maximum(size, 1e-12))).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    # How far along each direction the surface is: the nearest of its quadrics, which have the middle in them.
    lengths = np.full(len(rays), solid.reach_mm)
    for center, form in zip(solid.centers_mm, solid.forms, strict=True):
        moved = solid.middle_mm - center
        a = np.einsum("ni,ij,nj->n", rays, form, rays)
        b, c = rays @ form @ moved, float(moved @ form @ moved) - 1
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        lengths = np.minimum(lengths, np.where(a > 1e-15, (-b + root) / np.maximum(a, 1e-15), solid.reach_mm))
    parts: NDArray[np.float64] = np.array([0.0, 0.4, 0.8, 1.0])
    return (solid.middle_mm + parts[:, None, None] * lengths[:, None] * rays).reshape(-1, 3)
