"""`tango-jit simulate` as a user runs it: to the end, interrupted, killed, and given nonsense."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sim.experiment import Experiment
from sim.record import part_of
from sim.scenario import load, parse
from tango_jit.recordings import open_recording
from tests.events import wait_until

PROGRAM = [sys.executable, "-m", "devices.cli", "simulate"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=100, check=False)


def on_disk(path: Path) -> int:
    """Bytes that a file or folder takes: a planned recording is a file with holes."""
    total = 0
    for file in list(path.iterdir()) if path.is_dir() else [path]:
        with suppress(FileNotFoundError):  # not there yet, or renamed just now
            total += file.stat().st_blocks * 512
    return total


def frames_of(path: Path) -> int:
    """How many a recording has; 0: it is none yet."""
    try:
        with open_recording(path) as recording:
            return len(recording)
    except (ValueError, OSError):
        return 0


@pytest.mark.parametrize(("name", "number"), [("scan.nxs", signal.SIGKILL), ("scan", signal.SIGINT)])
def test_an_interrupted_simulation_goes_on(tmp_path: Path, name: str, number: signal.Signals) -> None:
    path = tmp_path / name
    arguments = ["balls", "--out", str(path), "--turns", "12", "--seed", "3", "--dose", "2000"]
    with open(tmp_path / "out.txt", "w") as out:
        process = subprocess.Popen([*PROGRAM, *arguments], stdout=out, stderr=out)
        try:
            part = Path(part_of(str(path)))
            wait_until(lambda: on_disk(part) > 60 * 256 * 256 * 2 or process.poll() is not None, 60, "60 frames")
            process.send_signal(number)
            code = process.wait(30)
        finally:
            process.kill()
            process.wait()
    assert code in ((130,) if number == signal.SIGINT else (-signal.SIGKILL,)), (tmp_path / "out.txt").read_text()
    assert not path.exists()
    done = frames_of(part)
    assert 20 < done < 1800
    result = run(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not part.exists()
    with open_recording(path) as recording:
        assert len(recording) == 1800
        assert recording.scenario is not None
        scenario = parse(recording.scenario)
        assert (scenario.seed, scenario.beam.photons, scenario.scanner.cols) == (3, 2000.0, 256)
        experiment = Experiment(scenario)
        for index in (0, done - 1, done, 1799):
            np.testing.assert_array_equal(recording.frame(index).data, experiment.frame(index).data)
    shutil.rmtree(tmp_path)  # pytest would keep 240 MB


def test_what_was_recorded_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    assert run("balls", "--out", str(path), "--turns", "1", "--binning", "8", "--fast").returncode == 0
    info = subprocess.run(
        [sys.executable, "-m", "devices.cli", "info", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert info.returncode == 0
    assert "150" in info.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tablet-sope", "--out", "scan.nxs"], "expected one of tablet-soap, tablet-gel, balls"),
        (["balls", "--out", "scan.tiff", "--turns", "1"], "expected the format"),
        (["balls", "--out", "there.nxs", "--turns", "1"], "expected a new recording"),
        (["balls", "--out", "scan.nxs", "--minutes", "0"], "--minutes: expected at least one frame"),
        (["balls", "--out", "scan.nxs", "--dose", "1000000"], "more than 65535 cannot be stored"),
        (["balls", "--out", "scan.nxs", "--binning", "300"], "binning: expected 1 to 256"),
        (["balls", "--out", "no/such/folder/scan.nxs", "--turns", "1"], "no/such/folder"),
        (["balls", "--out", "scan.nxs", "--minutes", "400"], "free space"),
        (["bad.toml", "--out", "scan.nxs"], "bad.toml: Object missing required field"),
    ],
)
def test_nonsense_is_refused_in_words(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "there.nxs").write_text("mine")
    (tmp_path / "bad.toml").write_text("name = 'bad'")
    result = subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
    )
    said = " ".join((result.stdout + result.stderr).split())
    assert result.returncode == 1, said
    assert words in said
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "there.nxs"]


def test_a_scenario_of_ones_own_is_recorded(tmp_path: Path) -> None:
    scenario = load("balls")
    (tmp_path / "mine.toml").write_text(scenario.with_(scanner=scenario.scanner.binned(8), name="mine").to_toml())
    result = run(str(tmp_path / "mine.toml"), "--out", str(tmp_path / "scan"), "--turns", "1", "--format", "flexray")
    assert result.returncode == 0, result.stdout + result.stderr
    with open_recording(tmp_path / "scan") as recording:
        assert recording.format == "flexray"
        assert len(recording) == 150
