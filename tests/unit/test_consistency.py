"""Samples that cannot be are refused: what overlaps, what leaves its liquid, what is at the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import consistency
from sim.experiment import Experiment
from sim.sample import Sample
from sim.scenario import Scenario, ScenarioError, load, parse

BALLS = load("balls").to_toml()
SOAP = (Path(__file__).parents[2] / "sim/scenarios/tablet-soap.toml").read_text()
EXTRA = """
[[solid]]
shape = "{shape}"
name = "extra"
material = "stone"
inside = {inside}
center_mm = {center}
{size}
"""


def with_extra(
    center: str, size: str = "semi_axes_mm = [2.0, 2.0, 2.0]", inside: str = '"water"', shape: str = "ellipsoid"
) -> Scenario:
    text = (Path(__file__).parents[2] / "sim/scenarios/balls.toml").read_text()
    return parse(text + EXTRA.format(shape=shape, inside=inside, center=center, size=size))


@pytest.mark.parametrize("name", Scenario.BUILT_IN)
@pytest.mark.parametrize("start_s", [0.0, 1500.0])
def test_built_in_experiments_are_possible(name: str, start_s: float) -> None:
    consistency.check(Sample(load(name).with_(start_s=start_s)))


def test_what_has_room_is_accepted() -> None:
    Experiment(with_extra("[-18.0, 9.0, 0.0]"))
    swinging = "semi_axes_mm = [1.0, 1.0, 1.0]\nswing_mm = [0.0, 0.0, 3.0]\nperiod_s = 28.8"  # with the ball
    Experiment(with_extra("[0.0, 0.0, 0.0]", size=swinging, inside='"ball 1"'))


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (with_extra("[0.0, 0.0, 5.0]"), "solids 'ball 1' and 'extra' overlap"),
        (with_extra("[23.5, 0.0, 0.0]"), "solid 'extra' leaves 'water', which it stands in"),
        (with_extra("[0.0, 0.0, 23.0]"), "solid 'extra' leaves 'water'"),
        (with_extra("[-18.0, 9.0, 0.0]", inside='"glass"'), "solids 'extra' and 'water' overlap"),
        (
            with_extra("[-18.0, 9.0, 0.0]", shape="cylinder", size="radius_mm = 1.0\nheight_mm = 60.0"),
            "solid 'extra' leaves 'water'",
        ),
        (parse(BALLS.replace("source_axis_mm = 250.0", "source_axis_mm = 30.0")), "further out"),
        (parse(SOAP.replace("surface_mm = -3.0\n", "surface_mm = 2.0\n", 1)), "bubbles 1 leave 'soap'"),
        (
            parse(SOAP.replace('clear_of = ["tablet"]', "").replace("top_mm = -31.0", "top_mm = -25.0")),
            "granules 1 overlap",
        ),
        (parse(SOAP.replace("from_s = 900.0", "from_s = 100.0")), "bubbles 2 overlap bubbles 1"),
    ],
)
def test_what_cannot_be_is_named(scenario: Scenario, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        Experiment(scenario)


def test_a_circle_of_solids_is_refused() -> None:
    text = (Path(__file__).parents[2] / "sim/scenarios/balls.toml").read_text()
    with pytest.raises(ScenarioError, match=r"solid 'glass'\.inside: expected no circle"):
        parse(text.replace('material = "glass"\n', 'material = "glass"\ninside = "water"\n', 1))
