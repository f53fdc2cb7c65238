"""Scenario files: what they say is what is simulated, and what is wrong with one is said by file and key."""

from pathlib import Path

import pytest

from sim.sample import Sample
from sim.scenario import Scenario, ScenarioError, load, parse

BALLS = load("balls").to_toml()


@pytest.mark.parametrize("name", Scenario.BUILT_IN)
def test_built_in_scenarios_survive_a_recording(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert parse(scenario.to_toml()) == scenario
    assert len(Sample(scenario).at(0.0).solids) >= 2


@pytest.mark.parametrize("name", ["tablet-soap", "tablet-gel"])
def test_experiments_have_the_scanner_of_the_paper(name: str) -> None:
    scanner = load(name).scanner
    assert (scanner.rows, scanner.cols, scanner.views_a_turn) == (647, 768, 150)
    assert scanner.frame_period_s * scanner.views_a_turn == pytest.approx(1.8)
    assert 2 * scanner.geometry.voxel_mm == pytest.approx(0.25, rel=1e-5)
    assert scanner.geometry.radius_mm > 36.0  # the glass is in view


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(BALLS.replace("balls", "mine").replace("3500", "1000"))
    scenario = load(str(path))
    assert scenario.name == "mine"
    assert scenario.beam.photons == 1000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("photons = 3500.0", "photons = -1", r"\$\.beam\.photons"),
        ("photons = 3500.0", 'photons = "many"', r"Expected `float`, got `str`.*\$\.beam\.photons"),
        ("photons = 3500.0", "photons = 1e5", "counts, more than 65535"),
        ("photons = 3500.0\n", "", r"missing required field `photons`.*\$\.beam"),
        ("photons = 3500.0", "photons = 3500.0\nfotons = 1", r"unknown field `fotons`.*\$\.beam"),
        ('inside = "glass"', 'inside = "gals"', "solid 'water': expected the name of a solid .*got 'gals'"),
        ('material = "wax"', 'material = "wachs"', "material: expected one of .*got 'wachs'"),
        ('name = "ball 2"', 'name = "ball 1"', "different names, got 'ball 1' twice"),
        ("source_axis_mm = 250.0\n", "", "expected source_axis_mm and source_detector_mm for a cone"),
        ("source_axis_mm = 250.0", "source_axis_mm = 700.0", "source_detector_mm: expected at least"),
        ("wax = [\n    0.035,\n]", "wax = [0.035, 0.02]", "materials.wax: expected 1 values"),
        ('shape = "ellipsoid"', 'shape = "cube"', r"Invalid value 'cube' - at `\$\.solid"),
        ("[beam]", "[beam", "scenario: "),
        ("photons = 3500.0", "photons = nan", "photons"),
        ("loop_s = 28.8", "loop_s = inf", "loop_s: expected a finite number, got inf"),
        ("dead = 0", "dead = 60000", "camera: expected at most 6553 dead and hot pixels"),
        ("yaw_rad = 0.0", "yaw_rad = 1.57", r"\$\.scanner\.yaw_rad"),
        ("pixel_mm = 0.5", "pixel_mm = 0.5\naxis_column = -50.0", "axis_column: expected a column of the detector"),
        ("seed = 0", "seed = 0.5", r"Expected `int`.*\$\.seed"),
        ('name = "balls"', 'name = "my/balls"', r"\$\.name"),
        ("loop_s = 28.8", "loop_s = 28.0", "loop_s: expected a whole number of turns, got 7.7"),
        ("start_s = 0.0", "start_s = -3.0", r"\$\.start_s"),
        ("center_mm = [\n    13.0,", "center_mm = [\n    inf,", "center_mm 1: expected a finite number, got inf"),
        ("center_mm = [\n    13.0,", "center_mm = [\n    nan,", "center_mm 1: expected a finite number, got nan"),
        (
            "axis = [\n    0.0,\n    0.0,\n    1.0,\n]",
            "axis = [0, 0, 0]",
            r"axis: expected a direction, got \(0\.0, 0\.0, 0\.0\)",
        ),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, words: str) -> None:
    assert old in BALLS
    with pytest.raises(ScenarioError, match=words):
        parse(BALLS.replace(old, new, 1))


def test_unknown_names_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected one of tablet-soap, tablet-gel, balls or a TOML file"):
        load("tablet-sope")
    foreign = tmp_path / "picture.png"
    foreign.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ScenarioError, match=r"picture\.png: expected a TOML file"):
        load(str(foreign))


def test_changed_copies_are_checked() -> None:
    scenario = load("balls")
    assert scenario.with_(photons=500.0, seed=7).beam.photons == 500
    with pytest.raises(ScenarioError, match=r"\$\.seed"):
        scenario.with_(seed=-1)


def test_larger_pixels_see_the_same_field() -> None:
    scanner = load("tablet-soap").scanner
    binned = scanner.binned(4)
    assert (binned.rows, binned.cols) == (161, 192)
    assert binned.geometry.radius_mm == pytest.approx(scanner.geometry.radius_mm, rel=1e-3)
    with pytest.raises(ValueError, match="binning"):
        scanner.binned(0)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("radius_mm = [0.9, 2.4]", "radius_mm = [6.0, 7.0]", "granules 1: expected balls of"),
        ("radius_mm = [1.5, 4.0]", "radius_mm = [40.0, 50.0]", "bubbles: expected lanes of"),
        ("surface_mm = -3.0", "surface_mm = -30.0", "bubbles: expected a surface above"),
    ],
)
def test_samples_that_cannot_be_are_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "sim/scenarios/tablet-soap.toml").read_text()
    assert old in text
    with pytest.raises(ScenarioError, match=words):
        Sample(parse(text.replace(old, new, 1)))
