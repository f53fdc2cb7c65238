"""The doctor, called by a person in real trouble: no database, dead and frozen servers, ports that others have."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import tango

from devices.registration import free_port, register
from tango_jit.streams.probe import address
from tests.events import wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together
LIMIT_S = 170  # more than all of its own limits together


class Report:
    """What the doctor said as JSON, by check."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "devices.cli", "doctor", "--json", "--seconds", "2", *arguments]
        settings = {n: v for n, v in os.environ.items() if n != "TANGO_HOST"} | environment
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=settings,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        self.code = done.returncode
        self.content: dict[str, Any] = json.loads(done.stdout)
        self.findings = {one["check"]: one for one in self.content["findings"]}
        levels = {one["level"] for one in self.findings.values()}
        assert self.code == int("problem" in levels)
        assert self.content["ok"] is ("problem" not in levels)

    def says(self, check: str, level: str, *words: str) -> None:
        one = self.findings[check]
        assert one["level"] == level, one
        assert all(word in f"{one['found']} → {one['advice']}" for word in words), one

    @property
    def problems(self) -> set[str]:
        """Of all but the supervisor, which says the same of the others, a moment later."""
        found = {check for check, one in self.findings.items() if one["level"] == "problem"}
        return found - {"jit/supervisor/1"}


def report(system: Any, *arguments: str) -> Report:
    return Report("--dir", str(system.deployment.folder), *arguments)


@pytest.fixture(scope="module")
def running(system, recording) -> Any:
    system.replay(recording)
    system.await_picture("denoiser")
    wait_until(lambda: system.trainer.weights_version > 0, 60, "weights")
    return system


def test_what_works_is_ok_and_looking_costs_no_frame(running):
    lost = running.reconstructor.frames_lost
    seen = report(running)
    assert seen.problems == set(), seen.findings
    assert seen.code == 0
    seen.says("Tango database", "ok", running.host)
    for member in running.devices:
        assert running.deployment.devices[member] in seen.findings
    seen.says("jit/detector/1: raw stream", "ok", "not listened to")
    seen.says("jit/detector/1: monitor stream", "ok", "data, ", "messages/s")
    seen.says("jit/reconstructor/1: filtered stream", "ok", "data, ", "messages/s")
    seen.says("slices", "ok", "xy, xz, yz")
    seen.says("versions", "ok")
    seen.says("threads of numba", "ok")
    assert running.reconstructor.frames_lost == lost
    running.await_more_pictures("denoiser")


def test_a_table_for_people(running):
    command = [sys.executable, "-m", "devices.cli", "doctor", "--seconds", "0.5", "--dir"]
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [*command, str(running.deployment.folder)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "jit/reconstructor/1: filtered stream" in done.stdout
    assert " 0 problems" in done.stdout


def test_no_data_is_not_no_connection(running, recording):
    running.detector.Stop()
    wait_until(lambda: running.detector.State() == tango.DevState.STANDBY, what="the detector's rest")
    wait_until(lambda: running.reconstructor.State() == tango.DevState.STANDBY, what="the reconstructor's rest")
    seen = report(running)
    for stream in ("detector/1: monitor", "reconstructor/1: filtered", "reconstructor/1: slices"):
        seen.says(f"jit/{stream} stream", "ok", "connected, no data", "STANDBY")
    running.replay(recording)
    running.await_more_pictures("denoiser")


def test_a_server_that_stands_still(running):
    with running.stopped("trainer"):
        seen = report(running)
    assert seen.problems == {"jit/trainer/1", "jit/trainer/1: weights stream"}
    pid = running.deployment.processes()["trainer"].pid
    seen.says("jit/trainer/1", "problem", "stands still", f"kill -CONT {pid}")
    seen.says("jit/trainer/1: weights stream", "problem", "cannot connect", "nobody speaks")


def test_a_killed_server_and_somebody_who_takes_its_port(running):
    place = address(running.denoiser.denoised_endpoint)
    assert place
    running.kill("denoiser")
    seen = report(running)
    assert "jit/denoiser/1" in seen.problems
    seen.says("jit/denoiser/1", "problem", "is gone without an end", "start tango-jit-denoiser 1")
    with socket.create_server(place) as server:
        stranger = f"process {os.getpid()}"
        report(running).says("jit/denoiser/1: denoised stream", "problem", "cannot connect", stranger)
        running.restart("denoiser")
        wait_until(lambda: running.denoiser.State() == tango.DevState.FAULT, what="no port")
        seen = report(running)
        seen.says("jit/denoiser/1", "problem", "FAULT: ", "expected a free one")
        seen.says("jit/denoiser/1: denoised stream", "problem", stranger, "DenoisedEndpoint")
        server.close()
    running.denoiser.Init()
    running.await_more_pictures("denoiser")
    assert report(running).problems == set()


def test_devices_that_are_registered_and_do_not_run_and_others_that_do(running):
    seen = report(running, "--prefix", "hall", "--instance", "7")
    assert seen.problems == {"registered"}
    seen.says("registered", "problem", "none of", "hall/trainer/7", "tango-jit register", "jit/…/1")
    host, port = running.host.split(":")
    register(tango.Database(host, int(port)), prefix="hall", instance="7")
    seen = report(running, "--prefix", "hall", "--instance", "7")
    assert seen.problems == {f"hall/{member}/7" for member in ("reconstructor", "trainer", "denoiser")}
    seen.says("hall/trainer/7", "problem", "not running", "start tango-jit-trainer 7")
    seen.says("hall/recorder/7", "warning", "left off on purpose")


def test_a_recorder_whose_folder_cannot_be_written(running):
    running.recorder.folder = "/proc"
    report(running).says("jit/recorder/1: folder", "problem", "/proc")
    running.recorder.folder = ""
    assert "jit/recorder/1: folder" not in report(running).findings


def test_no_database(tmp_path):
    nobody = f"127.0.0.1:{free_port()}"
    Report(TANGO_HOST=nobody).says("Tango database", "problem", f"nobody listens at {nobody}")
    Report(TANGO_HOST="nonsense").says("Tango database", "problem", "expected one HOST:PORT")
    Report("--dir", str(tmp_path)).says("Tango database", "problem", "TANGO_HOST is not set")
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, says nothing
        host = f"127.0.0.1:{server.getsockname()[1]}"
        Report(TANGO_HOST=host).says("Tango database", "problem", "no Tango database answers")


def test_a_database_that_stands_still(running):
    with running.stopped("database"):
        seen = report(running)
    seen.says("Tango database", "problem", "can be connected to, but no Tango database answers")
    assert seen.problems == {"Tango database"}
