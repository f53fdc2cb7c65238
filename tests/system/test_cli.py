"""The commands as a user types them: up, status, down, register, serve, demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tango
from PIL import Image

from devices.registration import SERVERS
from tests.events import wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together
PROGRAM = [sys.executable, "-m", "devices.cli"]
RUN_FOLDER = re.compile(r"tango-jit-demo-\w+")


def run(*arguments: str, timeout_s: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout_s, env=settings, check=False
    )


def descendants(marker: str) -> list[psutil.Process]:
    """Processes whose working directory names `marker`."""
    found = []
    for process in psutil.process_iter():
        try:
            if marker in process.cwd():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_up_status_down(tmp_path):
    folder = tmp_path / "run"
    assert run("status", "--dir", str(folder)).returncode == 1
    try:
        up = run("up", "--dir", str(folder))
        assert up.returncode == 0, up.stdout + up.stderr
        host = re.search(r"export TANGO_HOST=(\S+)", up.stdout)
        assert host
        assert "STANDBY" in tango.DeviceProxy(f"tango://{host[1]}/jit/reconstructor/1").State().name
        status = run("status", "--dir", str(folder))
        assert status.returncode == 0, status.stdout
        assert status.stdout.count("STANDBY") == len(SERVERS)
        again = run("up", "--dir", str(folder))  # what runs already is left alone
        assert again.returncode == 0
        assert host[1] in again.stdout
        for process in descendants(str(folder)):
            if "denoiser" in " ".join(process.cmdline()):
                process.kill()
        wait_until(lambda: run("status", "--dir", str(folder)).returncode == 1, 30, "the missing denoiser noticed")
    finally:
        down = run("down", "--dir", str(folder))
    assert "reconstructor" in down.stdout
    assert not descendants(str(folder))
    assert "nothing was running" in run("down", "--dir", str(folder)).stdout
    try:
        up = run("up", "--dir", str(folder))
        assert f"TANGO_HOST={host[1]}\n" in up.stdout  # windows and pages that still run find it again
    finally:
        run("down", "--dir", str(folder))


def test_register_and_serve_on_any_database(tmp_path, programs_on_path, pytango_db):
    """A database that is not ours: register writes the devices, and a server runs from it."""
    registered = run("register", "--instance", "7", "--prefix", "hall")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    database = tango.Database(*pytango_db.split(":"))
    endpoint = database.get_device_property("hall/trainer/7", "WeightsEndpoint")["WeightsEndpoint"][0]
    assert endpoint.startswith("tcp://127.0.0.1:")
    run("register", "--instance", "7", "--prefix", "hall")  # again: what is set stays
    assert database.get_device_property("hall/trainer/7", "WeightsEndpoint")["WeightsEndpoint"][0] == endpoint
    server = subprocess.Popen([*PROGRAM, "serve", "detector", "7"], cwd=tmp_path)
    try:
        detector = tango.DeviceProxy(f"tango://{pytango_db}/hall/detector/7")  # not that of a test before
        wait_until(lambda: detector.command_inout("State") == tango.DevState.STANDBY, 60, "the detector")
        assert run("register", "--instance", "7", "--prefix", "hall").returncode == 0
        assert detector.command_inout("State") == tango.DevState.STANDBY  # a running server is not cut off
    finally:
        server.terminate()
        assert server.wait(20) == 0


def test_register_without_a_database_says_what_is_missing():
    result = run("register", TANGO_HOST="127.0.0.1:1")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr


def test_demo_writes_its_report_and_leaves_nothing(tmp_path, recording):
    report = tmp_path / "report.json"
    arguments = ["--recording", str(recording), "--duration", "20", "--loop", "--no-gui", "--report", str(report)]
    result = run("demo", *arguments, timeout_s=180)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "TANGO_HOST" in result.stdout
    assert "jit/denoiser/1" in result.stdout
    content = json.loads(report.read_text())
    assert set(content) >= {"machine", "settings", "frames", "slices", "rates", "latency_ms", "accuracy", "images"}
    frames = content["frames"]
    assert frames["lost"] == 0
    assert frames["sent"] == frames["received"] > 300
    assert content["slices"]["denoised"] > 0
    assert content["latency_ms"]["p50"] <= content["latency_ms"]["p95"] <= content["latency_ms"]["p99"]
    assert content["patch_accuracy"]
    assert set(content["rates"]) >= {"slices_hz", "pairs_per_s", "steps_per_s"}
    for name in ("raw", "denoised", "difference", "noise_free", "object"):
        with Image.open(content["images"][name]) as picture:
            assert picture.size == (256, 256)
    last = content["truth"][-1]
    assert last["slice"] == "xy"
    assert last["last_frame"] - last["first_frame"] == 149
    for reference in ("noise_free", "object"):
        assert last[reference]["denoised"]["psnr_db"] > last[reference]["raw"]["psnr_db"] + 2
        assert last[reference]["denoised"]["ssim"] > last[reference]["raw"]["ssim"]


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], 3 * [signal.SIGINT]],
    ids=["Ctrl-C", "SIGTERM", "closed terminal", "three times Ctrl-C"],
)
def test_the_demo_ends_cleanly_when_told_to(tmp_path, recording, numbers):
    command = [*PROGRAM, "demo", "--recording", str(recording), "--loop", "--no-gui"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with open(tmp_path / "out.txt", "w") as out:
        demo = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        try:
            wait_until(lambda: len(descendants(str(tmp_path / "tango-jit-demo"))) >= 5, 60, "database and four servers")
            wait_until(lambda: "replaying" in (tmp_path / "out.txt").read_text(), 60, "the replay")
            for number in numbers:
                demo.send_signal(number)
            assert demo.wait(60) == 0
        finally:
            demo.kill()
    assert "everything is stopped" in (tmp_path / "out.txt").read_text()
    assert not descendants(str(tmp_path / "tango-jit-demo"))
    assert not list(tmp_path.glob("tango-jit-demo-*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--recording", "/no/such/file"], "expected a file"),
        (["serve", "toaster", "1"], "expected one of detector"),
        (["demo", "--frame-period", "-3"], "frame-period"),
    ],
)
def test_wrong_words_are_refused_in_words(arguments, words):
    result = run(*arguments)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert words in output
    assert "Traceback" not in output
    assert "TANGO_HOST" not in output  # before anything was started


@pytest.mark.parametrize("report", [".", "missing/report.json"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(tmp_path, recording, report):
    result = run("demo", "--recording", str(recording), "--no-gui", "--report", str(tmp_path / report))
    assert result.returncode == 1
    assert "--report: expected a file in a folder that exists" in " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout + result.stderr
    assert "TANGO_HOST" not in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_recording_without_geometry_is_refused_before_anything_starts(shared_data: Path):
    result = run("demo", "--recording", str(shared_data / "tomopy_tooth" / "tooth.h5"), "--no-gui")
    assert result.returncode == 1
    assert "geometry" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert "TANGO_HOST" not in result.stdout
