"""What real servers say, and where: terminal, files, Tango's streams; and that no log holds a server up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tango

from devices.registration import register
from tests.events import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("programs_on_path")]
DEVICE = "logs/detector/1"


@pytest.fixture
def database(programs_on_path, pytango_db) -> Any:
    host, port = pytango_db.split(":")
    database = tango.Database(host, int(port))
    register(database, prefix="logs")
    return database


@contextmanager
def detector(out: Any, *arguments: str, state: Any = tango.DevState.STANDBY, **environment: str) -> Iterator[Any]:
    """A detector's server that writes to `out`; ended in order afterwards, and it has to leave."""
    command = [sys.executable, "-m", "sim.detector_device", "1", *arguments]
    server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        proxy = tango.DeviceProxy(f"tango://{os.environ['TANGO_HOST']}/{DEVICE}")  # the database of this test
        wait_until(lambda: server.poll() is None and proxy.command_inout("State") == state, 60, "the detector")
        yield proxy
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait(10)
        if server.stdout:
            server.stdout.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def refused(order: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(tango.DevFailed) as failed:
        order(*arguments)
    return failed.value.args[0].desc


def test_orders_settings_states_and_refusals_are_in_the_file_as_json(database, tmp_path, recording):
    variables = {"TANGO_JIT_LOG_DIR": str(tmp_path / "new" / "logs"), "TANGO_JIT_LOG_FORMAT": "json"}
    path = tmp_path / "new" / "logs" / "tango-jit-detector_1.log"
    with open(tmp_path / "out.txt", "w") as out, detector(out, **variables) as device:
        device.loop = True
        device.frame_period_s = 0.5
        text = refused(device.write_attribute, "recording", "/no/such 100% file\nfake line")
        device.recording = str(recording)
        device.Start()
        device.Stop()
        reason = refused(device.Seek, -5)
    found = lines_of(path)
    said = [one["message"] for one in found if one["device"] == DEVICE]
    assert any(line.startswith("frame_period_s: to set 0.5, was ") and line.endswith(", done") for line in said)
    assert any(line.startswith("recording: to set '/no/such 100% file\\nfake line'") and text in line for line in said)
    for order in ("Start() done", "Stop() done"):
        assert order in said
    assert any(line.startswith("Seek(-5) refused: ") and reason in line for line in said)
    assert any(line.startswith("state STANDBY, was INIT: ") for line in said)
    levels = {one["message"]: one["level"] for one in found}
    assert levels["Start() done"] == "INFO"
    assert {one["level"] for one in found if "refused" in one["message"]} == {"WARNING"}
    assert found[0]["message"].startswith("tango-jit-detector 1 starts, process ")
    assert found[-1]["message"] == "tango-jit-detector 1 ends"
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
    terminal = (tmp_path / "out.txt").read_text().splitlines()
    assert found[0] in [json.loads(line) for line in terminal if line.startswith("{")]


def test_why_a_device_cannot_be_built_is_an_error_in_the_log(database, tmp_path):
    database.put_device_property(DEVICE, {"RawEndpoint": ["nonsense"]})
    variables = {"TANGO_JIT_LOG_DIR": str(tmp_path), "TANGO_JIT_LOG_FORMAT": "json"}
    with open(tmp_path / "out.txt", "w") as out, detector(out, state=tango.DevState.FAULT, **variables):
        pass
    error = next(one for one in lines_of(tmp_path / "tango-jit-detector_1.log") if one["level"] == "ERROR")
    assert "expected tcp://address:port, got 'nonsense'" in error["message"]
    assert error["message"].startswith("state FAULT, was INIT: ")
    assert error["device"] == DEVICE


def test_tango_streams_show_it_where_and_as_far_as_they_are_told_to(database, tmp_path):
    path = tmp_path / "tango.log"
    with open(tmp_path / "out.txt", "w") as out, detector(out) as device:
        admin = tango.DeviceProxy(device.adm_name())
        admin.AddLoggingTarget([DEVICE, f"file::{path}"])
        admin.SetLoggingLevel([[int(tango.LogLevel.LOG_INFO)], [DEVICE]])
        device.Stop()
        refused(device.Seek, -5)
        wait_until(lambda: path.exists() and "Seek(-5) refused" in path.read_text(), what="the refusal")
        admin.SetLoggingLevel([[int(tango.LogLevel.LOG_ERROR)], [DEVICE]])
        device.Stop()
        refused(device.Seek, -6)
        device.loop = True
    text = path.read_text()
    assert "Stop() done" in text
    assert 'level="INFO"' in text
    assert 'level="WARN"' in text
    assert "Seek(-6)" not in text
    assert f"WARNING {DEVICE}: Seek(-6) refused" in (tmp_path / "out.txt").read_text()


def test_v4_shows_it_on_the_terminal_once(database, tmp_path):
    with open(tmp_path / "out.txt", "w") as out, detector(out, "-v4") as device:
        device.Stop()
    # Not before its end: into a file Tango writes by blocks.
    assert (tmp_path / "out.txt").read_text().count("Stop() done") == 1


def test_a_full_disk_costs_messages_and_nothing_else(database, tmp_path):
    """/dev/full is a disk without room: every write to it fails."""
    path = tmp_path / "tango-jit-detector_1.log"
    path.symlink_to("/dev/full")
    with open(tmp_path / "out.txt", "w") as out, detector(out, TANGO_JIT_LOG_DIR=str(tmp_path)) as device:
        device.Stop()
        complaint = f"log file {path}: messages are lost: [Errno 28]"
        wait_until(lambda: complaint in (tmp_path / "out.txt").read_text(), what="the complaint")
        for _ in range(50):
            device.Stop()
        path.unlink()  # room again
        device.loop = True
        wait_until(lambda: path.exists() and "loop: to set True" in path.read_text(), what="the file again")
    text = (tmp_path / "out.txt").read_text()
    assert text.count("messages are lost") == 1
    assert "Traceback" not in text


def test_a_terminal_that_takes_nothing_holds_up_neither_orders_nor_the_end(database):
    with detector(subprocess.PIPE) as device:  # nobody reads: the pipe is full after some 64 KB
        for _ in range(2000):
            device.Stop()
        assert device.State() == tango.DevState.STANDBY


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("TANGO_JIT_LOG_LEVEL", "LOUD", "expected one of INFO, DEBUG, WARNING, ERROR, got 'LOUD'"),
        ("TANGO_JIT_LOG_FORMAT", "xml", "expected one of text, json, got 'xml'"),
        ("TANGO_JIT_LOG_MB", "0", "expected a whole number from 1 to 10000, got '0'"),
        ("TANGO_JIT_LOG_KEPT", "many", "expected a whole number from 1 to 10000, got 'many'"),
    ],
)
def test_variables_that_are_not_understood_are_refused_in_words(variable, value, words):
    command = [sys.executable, "-m", "sim.detector_device", "1"]
    environment = os.environ | {variable: value}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 2
    assert f"{variable}: {words}" in done.stderr
    assert "Traceback" not in done.stderr
