"""A script against real servers: things happen when they are due, what is refused is kept, and the counters agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.record import record
from sim.replay import recording_index
from sim.scenario import load
from sim.script import parse
from sim.script_run import ScriptRun, moved, tilted
from tests.events import wait_until

pytestmark = pytest.mark.timeout(300)

CHANGES = """
[[event]]
at_frame = 20
do = "move_slice"
slice = "xy"
by_mm = [0, 0, 5]

[[event]]
at_frame = 20
do = "tilt_slice"
slice = "xz"
about = "z"
degrees = 30

[[event]]
at_frame = 30
do = "zoom_slice"
slice = "gone"
factor = 2

[[event]]
at_turn = 0.4
do = "seek"
position = 10

[[event]]
at_s = 1.0
do = "write"
device = "denoiser"
attribute = "mode"
value = "FULL"

[[event]]
at_frame = 120
do = "dose"
fraction = 0.5

[[event]]
at_frame = 140
do = "write"
device = "detector"
attribute = "fault_drop"
value = 0.2

[[event]]
at_frame = 200
do = "write"
device = "detector"
attribute = "fault_drop"
value = 0.0

[[event]]
at_frame = 100_000
do = "command"
device = "trainer"
command = "ResetNetwork"
"""
OTHER = """
[[event]]
at_frame = 10
do = "recording"
path = "other.nxs"

[[event]]
at_frame = 30
do = "command"
device = "detector"
command = "Restart"

[[event]]
at_frame = 35
do = "command"
device = "detector"
command = "Stall"
argument = 0.2

[[event]]
at_frame = 40
do = "seek"
part = 0.9
"""


@pytest.fixture(scope="module")
def running(system, recording):
    """The system with a replay in a loop."""
    system.replay(recording)
    system.await_picture("reconstructor", beyond=1)
    return system


def follow(run: ScriptRun, events: int) -> list[dict]:
    """Step until so many events were applied."""

    def applied() -> list[dict]:
        run.step()
        done = [event for event in run.events if event["frame"] is not None]
        return done if len(done) >= events else []

    return wait_until(applied, 90, f"{events} events")


def test_things_happen_when_they_are_due(running):
    detector, reconstructor = running.detector, running.reconstructor
    xy, xz = reconstructor.geometry_xy, reconstructor.geometry_xz
    run = ScriptRun(parse(CHANGES, "changes.toml", Path()), running.devices)
    *done, mended = follow(run, 8)
    for event, frame in zip((*done, mended), (20, 20, 30, 0, 42, 120, 140, 200)):  # 1 s is 41.7 frames of 24 ms
        assert event["frame"] >= frame
        assert event["t_s"] >= 0
    assert done[3]["turn"] >= 0.4
    np.testing.assert_allclose(reconstructor.geometry_xy, moved(xy, [0, 0, 5]))
    np.testing.assert_allclose(reconstructor.geometry_xz, tilted(xz, "z", 30))
    assert done[2]["error"] is not None
    assert "gone" in done[2]["error"]
    assert [event["error"] for event in (*done[:2], *done[3:], mended)] == [None] * 7
    assert running.denoiser.mode.name == "FULL"
    assert detector.dose == 0.5
    passes = detector.passes
    jump = next(row for row in passes.tolist() if row[1] == 10)
    assert recording_index(passes, jump[0] + 1) == 11
    assert run.events[-1]["frame"] is None  # not due

    def counted() -> bool:
        lost = reconstructor.frames_lost
        return lost > 0 and lost == detector.injected_drop

    wait_until(counted, 30, "as many frames lost as were dropped")
    running.await_more_pictures("reconstructor")


def test_another_recording_and_a_restart_begin_new_series(running, tmp_path):
    record(load("balls").with_(seed=9), tmp_path / "other.nxs", frames=150)
    series = {running.detector.series}
    run = ScriptRun(parse(OTHER, "other.toml", tmp_path), running.devices)
    follow(run, 1)
    assert running.detector.recording == str(tmp_path / "other.nxs")
    wait_until(lambda: running.detector.series not in series, what="the series of the other recording")
    series.add(running.detector.series)
    last = follow(run, 4)[-1]
    assert [event["error"] for event in run.events] == [None] * 4
    assert last["frame"] >= 40  # frames go on over series
    assert running.detector.recording_frames == 150
    wait_until(lambda: running.reconstructor.series not in series, what="the series after the restart")
    wait_until(lambda: any(index == 135 for _, index in running.detector.passes.tolist()), what="the jump")
    running.await_picture("reconstructor", beyond=1)
    # Counters follow a new series within a second or so.
    wait_until(lambda: running.reconstructor.frames_lost == 0, what="a series without losses")


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devices.cli", "demo", "--no-gui", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_the_demo_runs_a_script_and_reports_it(tmp_path, recording):
    (tmp_path / "own.toml").write_text('[[event]]\nat_frame = 1\ndo = "dose"\nfraction = 0.5\n')
    report = tmp_path / "report.json"
    options = ["--recording", str(recording), "--script", str(tmp_path / "own.toml"), "--report", str(report)]
    result = demo(*options, "--frame-period", "12", "--duration", "5")
    assert result.returncode == 0, result.stdout + result.stderr
    (event,) = json.loads(report.read_text())["events"]
    assert event["error"] is None
    assert event["frame"] >= 1
    assert "dose fraction 0.5" in result.stdout


def test_a_wrong_script_is_refused_before_anything_starts(tmp_path, recording):
    (tmp_path / "own.toml").write_text('[[event]]\nat_frame = 1\ndo = "dose"\nfraction = 5\n')
    for name, words in ((str(tmp_path / "own.toml"), "event 1 (dose): fraction: expected"), ("nope", "got 'nope'")):
        result = demo("--recording", str(recording), "--script", name)
        assert result.returncode == 1
        assert words in " ".join(result.stdout.split())
        assert "Traceback" not in result.stdout + result.stderr
        assert "TANGO_HOST" not in result.stdout
