"""The sample of a scenario: what is where, at any time."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from sim import packing, solids
from sim.bubbles import GAP_MM, Plume
from sim.scenario import Cylinder, Ellipsoid, Granules, Scenario, ScenarioError, Tablet
from sim.solids import Array, Ellipsoids, Objects, Solid, directions

LEVEL_MM = 0.05  # steps in which a growing cylinder rises
_GRANULES, _BUBBLES = 1000, 2000  # random streams


class Sample:
    """`at(time_s)` gives the objects at a moment; what takes long to find (packings) is found once."""

    def __init__(self, scenario: Scenario) -> None:
        """Raises ScenarioError for solids, granules or bubbles that cannot be where they are said to be."""
        self.scenario = scenario
        self._energies = len(scenario.beam.weights)
        self._granules = [self._packed(spec, i) for i, spec in enumerate(scenario.granules)]
        try:
            self._plumes = [
                Plume(
                    spec,
                    scenario.excess(spec.material, spec.inside),
                    scenario.seed,
                    _BUBBLES + i,
                    obstacle=self._obstacle(spec.above),
                    loop_s=scenario.loop_s,
                )
                for i, spec in enumerate(scenario.bubbles)
            ]
        except ValueError as error:
            raise ScenarioError(f"{scenario.name}: {error}") from error

    def at(self, time_s: float) -> Objects:
        """The objects `time_s` after the first frame began."""
        ellipsoids = Ellipsoids.joined([group for _, _, group in self.groups(time_s)], self._energies)
        return Objects(ellipsoids, tuple(self.named(time_s).values()))

    def groups(self, time_s: float) -> list[tuple[str, str, Ellipsoids]]:
        """Granules and bubbles at a moment: label, name of the solid that they are in, and themselves."""
        now, slow, scenario = time_s + self.scenario.start_s, self._slow(time_s), self.scenario
        still = [
            (f"granules {i}", spec.inside, group)
            for i, (spec, group) in enumerate(zip(scenario.granules, self._granules, strict=True), 1)
        ]
        moving = [
            (f"bubbles {i}", spec.inside, plume.at(now, slow))
            for i, (spec, plume) in enumerate(zip(scenario.bubbles, self._plumes, strict=True), 1)
        ]
        return still + moving

    def named(self, time_s: float) -> dict[str, Solid]:
        """The solids at a moment, by their names; those that are dissolved are left out."""
        found = {spec.name: self._solid(spec, time_s) for spec in self.scenario.solid}
        return {name: solid for name, solid in found.items() if solid is not None}

    def around(self, name: str) -> list[str]:
        """Names of the solids that the one of this name stands in, from the nearest on."""
        inside = {spec.name: spec.inside for spec in self.scenario.solid}
        found = list[str]()
        while (outer := inside[found[-1] if found else name]) is not None and outer not in found:
            found.append(outer)
        return found

    def _slow(self, time_s: float) -> float:
        """The time that growth and erosion go by: in a loop they stand still."""
        return self.scenario.start_s + (0.0 if self.scenario.loop_s else time_s)

    def _solid(self, spec: Cylinder | Tablet | Ellipsoid, time_s: float) -> Solid | None:
        """None when it is dissolved."""
        now, slow = time_s + self.scenario.start_s, self._slow(time_s)
        period, loop = spec.period_s, self.scenario.loop_s
        if loop is not None:
            period = loop / max(round(loop / period), 1)
        center = np.array(spec.center_mm) + np.array(spec.swing_mm) * np.sin(2 * np.pi * (now / period + spec.phase))
        excess, along = self.scenario.excess(spec.material, spec.inside), np.array(spec.axis)
        match spec:
            case Cylinder():
                growth = np.round(spec.growth_mm_s * slow / LEVEL_MM) * LEVEL_MM
                center = center + along / np.linalg.norm(along) * growth / 2
                return solids.cylinder(center, along, spec.radius_mm, spec.height_mm + growth, excess)
            case Tablet():
                lost = spec.erosion_mm_s * slow
                if 2 * lost >= min(2 * spec.radius_mm, spec.height_mm):
                    return None
                center = center - along / np.linalg.norm(along) * lost  # its foot stays where it is
                return solids.tablet(center, along, spec.radius_mm - lost, spec.height_mm - 2 * lost, spec.rim, excess)
            case Ellipsoid():
                return solids.ellipsoid(center, along, spec.semi_axes_mm, excess)
            case _:
                assert_never(spec)

    def _packed(self, spec: Granules, number: int) -> Ellipsoids:
        random = np.random.Generator(
            np.random.Philox(key=np.array([self.scenario.seed, _GRANULES + number], np.uint64))
        )
        in_the_way = [solid for name in spec.clear_of if (solid := self.named(0.0).get(name)) is not None]

        def free(point: Array, radius: float) -> bool:
            return all(not _near(solid, point, radius + GAP_MM) for solid in in_the_way)

        found = packing.balls(random, spec.radius_mm, spec.region_radius_mm, spec.bottom_mm, spec.top_mm, GAP_MM, free)
        if len(found) == 0:
            raise ScenarioError(
                f"{self.scenario.name}: granules {number + 1}: expected balls of {spec.radius_mm} mm to fit between "
                f"{spec.bottom_mm:g} and {spec.top_mm:g} mm"
            )
        return Ellipsoids.balls(found[:, :3], found[:, 3], self.scenario.excess(spec.material, spec.inside))

    def _obstacle(self, name: str | None) -> tuple[float, float, float, float] | None:
        """x, y, radius and top of what stands on the ground."""
        solid = None if name is None else self.named(0.0).get(name)
        if solid is None:
            return None
        x, y, _ = solid.middle_mm
        reach = [1 / np.sqrt(np.linalg.eigvalsh(form)) for form in solid.forms + 1e-12 * np.eye(3)]
        up = min(float(np.sqrt(np.linalg.inv(form + 1e-12 * np.eye(3))[2, 2])) for form in solid.forms)
        across = min(float(max(r[r < 1e5], default=solid.reach_mm)) for r in reach)
        return float(x), float(y), min(across, solid.reach_mm), float(solid.middle_mm[2]) + up


def _near(solid: Solid, point: Array, distance: float) -> bool:
    """Whether a ball of radius `distance` around `point` touches the solid, told by its surface (or it is inside)."""
    if np.linalg.norm(point - solid.middle_mm) > solid.reach_mm + distance:
        return False
    return bool(solid.contains(point + distance * _DIRECTIONS).any() or solid.contains(point))


_DIRECTIONS = directions(200)
