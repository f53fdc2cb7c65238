"""Recordings that the demo makes once and keeps."""

import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from sim import prepared as module
from sim.prepared import frames_of, looped, prepared
from sim.sample import Sample
from sim.scenario import load, parse
from tango_jit.recordings import open_recording


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    scenario = load("balls")
    path = tmp_path / "tiny.toml"
    path.write_text(scenario.with_(scanner=scenario.scanner.binned(16), name="tiny", loop_s=3.6).to_toml())
    return path


def test_a_recording_is_made_once(scenario_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    with open(os.devnull, "w") as quiet:
        console = Console(file=quiet)
        path = prepared(load(str(scenario_file)), console, folder=folder)
        made = path.stat().st_ino
        assert prepared(load(str(scenario_file)), console, folder=folder) == path
        assert path.stat().st_ino == made
        with open_recording(path) as recording:
            assert len(recording) == 150
        scenario_file.write_text(scenario_file.read_text().replace("seed = 0", "seed = 1"))
        other = prepared(load(str(scenario_file)), console, folder=folder)
        assert other != path
        assert sorted(folder.iterdir()) == sorted([path, other])  # somebody may replay it yet
        long_ago = time.time() - 8 * 24 * 3600
        os.utime(path, (long_ago, long_ago))
        other.unlink()
        prepared(load(str(scenario_file)), console, folder=folder)
    assert list(folder.iterdir()) == [other]  # nobody has used that for a week
    with open_recording(other) as recording:
        assert recording.scenario is not None
        assert parse(recording.scenario).seed == 1


def test_experiments_are_looped_over_whole_turns() -> None:
    for name in ("tablet-soap", "tablet-gel"):
        scenario = looped(load(name))
        assert scenario.loop_s == pytest.approx(10.8)
        assert frames_of(scenario) == module.TURNS * 150
        assert scenario.fast
        assert len(Sample(scenario).at(0.0).ellipsoids) > 1000
    assert looped(load("balls")) == load("balls")
    assert frames_of(load("balls")) == 1200


def test_experiments_at_another_time_are_kept_beside(scenario_file: Path, tmp_path: Path) -> None:
    scenario = load(str(scenario_file))
    with open(os.devnull, "w") as quiet:
        paths = [prepared(s, Console(file=quiet), folder=tmp_path) for s in (scenario, scenario.with_(start_s=60.0))]
    assert all(path.exists() for path in paths)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("unfinished")] == []
