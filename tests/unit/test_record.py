"""Simulated recordings on disk: what was simulated is in them, and an interrupted run goes on."""

from pathlib import Path

import numpy as np
import pytest

from sim.experiment import Experiment
from sim.record import part_of, record
from sim.scenario import Scenario, load, parse
from tango_jit.recordings import RecordingError, open_recording


def tiny() -> Scenario:
    scenario = load("balls")
    return scenario.with_(scanner=scenario.scanner.binned(8), seed=5)


class StopError(Exception):
    """What interrupts."""


@pytest.mark.parametrize("name", ["scan.nxs", "scan"])
def test_recordings_carry_frames_and_scenario(name: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record(tiny(), tmp_path / name, frames=7, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k + 1, 7) for k in range(7)]
    with open_recording(tmp_path / name) as scan:
        assert scan.scenario is not None
        assert parse(scan.scenario) == tiny()
        experiment = Experiment(parse(scan.scenario))
        assert len(scan) == 7
        assert scan.header.geometry == experiment.geometry
        assert scan.header.name == experiment.header.name
        for index in (0, 6):
            image, made = scan.frame(index), experiment.frame(index)
            np.testing.assert_array_equal(image.data, made.data)
            assert (image.frame, image.angle_rad, image.timestamp_s) == (made.frame, made.angle_rad, made.timestamp_s)
        assert scan.dark is not None
        assert scan.flat is not None
        np.testing.assert_array_equal(scan.dark.mean, experiment.dark().mean)
        np.testing.assert_array_equal(scan.flat.mean, experiment.flat().mean)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["scan.nxs", "scan"])
def test_an_interrupted_recording_goes_on(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / f"whole-{name}", tmp_path / name
    record(tiny(), whole, frames=9)

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise StopError

    with pytest.raises(StopError):
        record(tiny(), broken, frames=9, progress=stop)
    assert not broken.exists()
    assert Path(part_of(str(broken))).exists()
    first: list[int] = []
    record(tiny(), broken, frames=9, progress=lambda done, total: first.append(done))
    assert first[0] in (4, 5)  # the last frame may have been half written
    assert not Path(part_of(str(broken))).exists()
    with open_recording(whole) as one, open_recording(broken) as two:
        for index in range(9):
            np.testing.assert_array_equal(one.frame(index).data, two.frame(index).data)


def test_what_another_run_left_is_not_touched(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise StopError

    path = tmp_path / "scan.nxs"
    with pytest.raises(StopError):
        record(tiny(), path, frames=9, progress=stop)
    before = Path(part_of(str(path))).read_bytes()
    for other, frames in ((tiny().with_(seed=6), 9), (tiny(), 10), (tiny().with_(photons=900.0), 9)):
        with pytest.raises(RecordingError, match="left by another run that was interrupted; remove it"):
            record(other, path, frames=frames)
    assert Path(part_of(str(path))).read_bytes() == before


def test_recordings_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="expected a new recording"):
        record(tiny(), path, frames=3)
    assert path.read_text() == "mine"
    with pytest.raises(ValueError, match="frames: expected 1"):
        record(tiny(), tmp_path / "other.nxs", frames=0)
    with pytest.raises(ValueError, match="expected the format"):
        record(tiny(), tmp_path / "scan.tiff", frames=3)


def test_a_disk_that_is_too_small_is_seen_before(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="free space"):
        record(load("balls"), tmp_path / "scan.nxs", frames=1_000_000)
    assert list(tmp_path.iterdir()) == []
