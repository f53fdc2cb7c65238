"""Runs of a real system: recorded live, made again, and what a killed recorder leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tango

from tango_jit.runs import Run
from tests.events import Events, ordered, wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def running(system, recording, folder):
    system.replay(recording)
    wait_until(lambda: system.denoiser.weights_version > 0 and system.denoiser.frame_number_xy > 0, 90, "a network")
    system.recorder.folder = str(folder)
    system.recorder.reserve_mb = 50
    return system


def finished(running) -> Path:
    ordered(running.recorder.Finish)
    wait_until(lambda: not running.recorder.recording, 60, "the end of the run")
    return Path(running.recorder.file)


def remade(run: Path, *options: str) -> str:
    script = str(Path(sys.executable).with_name("tango-jit"))
    done = subprocess.run([script, "remake", str(run), *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_is_recorded_and_its_pictures_are_made_again(running):
    recorder = running.recorder
    recorder.keep_projections = True
    with Events(recorder, "recording") as events:
        ordered(recorder.Record)
        events.wait(lambda value: value)
    ordered(recorder.Mark, "it dissolves")
    first = wait_until(lambda: recorder.frames_recorded and running.detector.frame_number, 60, "projections")
    running.await_picture("denoiser", beyond=first + 320)  # two turns that are all in the file
    running.trainer.buffer_size = 300

    def noted() -> bool:
        with Run(recorder.file) as run:
            return any(line.get("name") == "buffer_size" for line in run.journal())

    wait_until(noted, 60, "the setting in the journal")
    running.await_more_pictures("denoiser")
    wait_until(lambda: recorder.State() == tango.DevState.RUNNING, 60, "RUNNING")
    path = finished(running)
    assert recorder.pictures_lost == 0
    with Run(path) as run:
        assert run.ended
        assert set(run.slices) == {"xy", "xz", "yz"}
        last = run.picture("xy", -1)
        assert last.denoised is not None
        assert last.weights_version > 0
        kinds = [(line["kind"], line.get("name")) for line in run.journal()]
        assert ("mark", None) in kinds
        assert ("setting", "buffer_size") in kinds
        facts = run.facts()
        assert facts["reconstructor"]["settings"]["filter"] == "RAM_LAK"
        assert facts["detector"]["settings"]["recording"] == running.detector.recording
        assert facts["trainer"]["version"]
    for name in ("xy", "xz"):
        told = remade(path, "--slice", name)
        apart = [float(number) for number in re.findall(r"differs by (\S+) of", told)]
        assert len(apart) == 2, told
        assert max(apart) < 1e-4, told


def test_a_killed_recorder_leaves_what_it_wrote_and_stops_no_picture(running):
    recorder = running.recorder
    ordered(recorder.Record)
    wait_until(lambda: recorder.pictures_recorded > 3, 60, "pictures in the file")
    path, recorded = Path(recorder.file), recorder.pictures_recorded
    running.kill("recorder")
    running.await_more_pictures("denoiser")
    wait_until(lambda: "recorder: " in running.supervisor.Status(), 30, "what the supervisor says")
    with Run(path) as run:
        assert sum(run.count(name) for name in run.slices) >= recorded
        assert run.picture("xy", 0).raw is not None
        assert not run.ended
    running.restart("recorder")
    wait_until(lambda: recorder.pictures_waiting > 0, 60, "pictures in the new process")
    assert recorder.folder == str(path.parent)
    ordered(recorder.Record)
    wait_until(lambda: recorder.pictures_recorded > 0, 60, "pictures in the next file")
    assert finished(running) != path


def test_a_slice_that_changes_its_shape_goes_on_in_another_part(running):
    recorder = running.recorder
    ordered(recorder.Record)
    wait_until(lambda: recorder.parts == 1, 60, "the first part")
    running.reconstructor.shape_xy = [120, 140]
    wait_until(lambda: recorder.parts == 2, 60, "the second part")
    path = finished(running)
    with Run(path.with_name(f"{path.stem}_2.nxs")) as run:
        found = run.picture("xy", -1)
        assert found.denoised is not None
        assert found.denoised.shape == found.geometry.shape == (120, 140)


def test_nonsense_is_refused_and_changes_nothing(running, folder):
    recorder = running.recorder
    for order, words in (
        (recorder.Finish, "Finish: expected a run"),
        (lambda: recorder.Mark("x"), "Mark: expected a run"),
    ):
        with pytest.raises(tango.DevFailed, match=words) as caught:
            ordered(order)
        assert caught.value.args[0].reason == "JIT_NotNow"
    recorder.folder = str(folder / "nowhere")
    with pytest.raises(
        tango.DevFailed, match="folder: expected a path from the root, of a folder that exists"
    ) as caught:
        ordered(recorder.Record)
    assert caught.value.args[0].reason == "JIT_InvalidValue"
    recorder.folder = str(folder)
    with pytest.raises(tango.DevFailed):
        recorder.every_s = -1
    assert not recorder.recording
    shutil.rmtree(folder)
    folder.mkdir()
    ordered(recorder.Record)
    wait_until(lambda: recorder.pictures_recorded > 0, 60, "pictures all the same")
    finished(running)
