"""Bubbles in closed form: they never overlap, never leave their liquid, move as they should, and a loop closes."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from scipy.spatial import KDTree

from sim.bubbles import GAP_MM, Plume
from sim.sample import Sample
from sim.scenario import Bubbles, load
from sim.solids import Array, Ellipsoids

SPEC = Bubbles(
    inside="soap",
    radius_mm=(1.0, 5.0),
    region_radius_mm=30.0,
    bottom_mm=-20.0,
    surface_mm=10.0,
    rise_mm_s=(100.0, 200.0),
    rate_hz=1.0,
    narrow=0.5,
    flatness=0.7,
    wobble_hz=5.0,
    foam_mm=15.0,
    foam_growth_mm_s=0.05,
)
SLOW = Bubbles(
    inside="gel", radius_mm=(0.6, 1.5), region_radius_mm=25.0, bottom_mm=-30.0, surface_mm=20.0, rise_mm_s=(0.5, 5.0),
    rate_hz=0.2, growth_s=4.0,
)  # fmt: skip


def closest(group: Ellipsoids) -> float:
    """The smallest distance between the surfaces of the balls around any two, in mm."""
    centers, radii = group.centers_mm, group.reach_mm
    pairs = KDTree(centers).query_pairs(2 * radii.max() + 1, output_type="ndarray")
    apart = np.linalg.norm(centers[pairs[:, 0]] - centers[pairs[:, 1]], axis=1)
    return float((apart - radii[pairs[:, 0]] - radii[pairs[:, 1]]).min())


@pytest.mark.parametrize("spec", [SPEC, SLOW, msgspec.structs.replace(SPEC, narrow=1.0, rate_hz=20.0)])
@pytest.mark.parametrize("loop_s", [None, 14.4])
def test_bubbles_never_touch_and_stay_in_their_liquid(spec: Bubbles, loop_s: float | None) -> None:
    plume = Plume(spec, [-0.02], 3, 0, loop_s=loop_s)
    for time in np.random.default_rng(1).uniform(0, 300, 60).tolist():
        group = plume.at(time, time)
        assert len(group) > 20
        assert closest(group) > 0.9 * GAP_MM / 2
        reach = np.hypot(group.centers_mm[:, 0], group.centers_mm[:, 1]) + group.reach_mm
        assert reach.max() < spec.region_radius_mm
        height, top = group.centers_mm[:, 2], spec.surface_mm + spec.foam_mm + spec.foam_growth_mm_s * time
        assert (height - group.reach_mm).min() > spec.bottom_mm
        assert (height + group.reach_mm).max() < top
        assert np.linalg.eigvalsh(group.forms).min() > 0


def followed(plume: Plume, times: Array, start: Array) -> Array:
    """The path (n, 3) of the bubble that is nearest to `start` at first, from moment to moment."""
    path = [start]
    for time in times:
        centers = plume.at(time, 0.0).centers_mm
        path.append(centers[np.argmin(np.linalg.norm(centers - path[-1], axis=1))])
    return np.array(path[1:])


def test_bubbles_rise_at_the_speed_that_was_asked_for() -> None:
    spec = msgspec.structs.replace(SPEC, wobble_hz=0.0, narrow=1.0)
    plume, speeds = Plume(spec, [-0.02], 3, 0), []
    for time in np.arange(0, 20, 1.0):
        group = plume.at(time, 0.0)
        rising = group.centers_mm[(group.centers_mm[:, 2] > -12) & (group.centers_mm[:, 2] < -2)]
        for start in rising:
            path = followed(plume, time + np.arange(1, 6) * 0.004, start)
            speeds.append((path[-1, 2] - start[2]) / 0.02)
    assert len(speeds) > 20
    assert 80 < np.median(speeds) < 220  # within the lane's change of pace
    assert min(speeds) > 0


def test_nothing_jumps_but_what_is_born_merges_or_bursts() -> None:
    """From one millisecond to the next a bubble moves by less than its fastest rise, sway included."""
    plume, times = Plume(SPEC, [-0.02], 3, 0), np.arange(0, 0.4, 0.001)
    groups = [plume.at(time, time) for time in times.tolist()]
    jumps = [(KDTree(before.centers_mm).query(after.centers_mm)[0] > 0.4).sum() for before, after in pairwise(groups)]
    # Two bubbles that merge go on from a new centre, and a bubble is born, at most 1.4 times a second in each lane.
    assert sum(jumps) <= 0.4 * 1.4 * len(plume.places_mm)


def test_a_loop_closes() -> None:
    plume = Plume(SPEC, [-0.02], 3, 0, loop_s=10.8)
    for time in (0.0, 3.3, 7.0):
        one, two = plume.at(time, 0.0), plume.at(time + 10.8, 0.0)
        assert len(one) == len(two)
        order = [np.lexsort(group.centers_mm.round(6).T) for group in (one, two)]
        np.testing.assert_allclose(one.centers_mm[order[0]], two.centers_mm[order[1]], atol=1e-6)
        np.testing.assert_allclose(one.forms[order[0]], two.forms[order[1]], rtol=1e-6)


def test_a_loop_may_be_too_short() -> None:
    with pytest.raises(ValueError, match=r"loop_s: expected at least \d+\.\d s"):
        Plume(SLOW, [-0.02], 3, 0, loop_s=3.6)


def test_any_moment_by_itself_and_the_same_from_the_same_seed() -> None:
    one, two = Plume(SPEC, [-0.02], 3, 0), Plume(SPEC, [-0.02], 3, 0)
    one.at(17.0, 0.0)
    np.testing.assert_array_equal(one.at(5.0, 5.0).centers_mm, two.at(5.0, 5.0).centers_mm)
    assert len(Plume(SPEC, [-0.02], 4, 0).at(5.0, 5.0)) != 0
    assert not np.array_equal(Plume(SPEC, [-0.02], 4, 0).at(5.0, 5.0).centers_mm[:5], one.at(5.0, 5.0).centers_mm[:5])


def test_a_population_has_its_time() -> None:
    plume = Plume(msgspec.structs.replace(SPEC, from_s=5.0, until_s=6.0), [-0.02], 3, 0)
    assert [len(plume.at(time, 0.0)) > 0 for time in (4.9, 5.0, 5.9, 6.0)] == [False, True, True, False]


@pytest.mark.parametrize("name", ["tablet-soap", "tablet-gel"])
@pytest.mark.parametrize("start_s", [0.0, 1500.0])
def test_nothing_overlaps_in_the_experiments(name: str, start_s: float) -> None:
    """Line integrals add up only if nothing does: bubbles, granules and tablet keep apart, inside the liquid."""
    scenario = load(name).with_(start_s=start_s)
    sample = Sample(scenario)
    for time in (0.0, 1.7, 123.4, 299.9):
        objects = sample.at(time)
        balls, (glass, bore, liquid, pill) = objects.ellipsoids, objects.solids
        assert closest(balls) > 0.9 * GAP_MM / 2
        directions = np.random.default_rng(0).normal(size=(60, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        surface = balls.centers_mm[:, None] + balls.reach_mm[:, None, None] * directions
        assert liquid.contains(surface).all()
        assert not pill.contains(surface, slack=-0.002).any()
        corners = pill.middle_mm + np.array([[0, 0, pill.reach_mm], [0, 0, -4.2], [pill.reach_mm, 0, 0]])
        assert liquid.contains(corners).all()
        assert bore.contains([[0, 0, 57.9], [33.4, 0, 0]]).all()
        assert glass.contains([[35.9, 0, 59.9]]).all()
