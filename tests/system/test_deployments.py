"""One folder, one deployment: two starts at once, folders given by a relative path, names that do not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PROGRAM = [sys.executable, "-m", "devices.cli"]
ROOT = Path(__file__).parents[2]
MEMBERS = ("detector", "reconstructor", "trainer", "denoiser", "recorder", "supervisor")

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together


def begin(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    settings = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env=settings
    )


def run(*arguments: str, cwd: Path, timeout_s: float = 200) -> tuple[int, str]:
    with begin(*arguments, cwd=cwd) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
    assert "Traceback" not in output
    return process.returncode, output


def inhabitants(folder: Path) -> dict[int, str]:
    """Processes that work in a folder: pid -> command line."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found[process.pid] = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture(scope="module")
def two_ups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[tuple[int, str]]]]:
    """Two `up` at the same time in a folder given by a relative path, of devices hall/..., and how they ended."""
    here = tmp_path_factory.mktemp("deployments")
    arguments = ("up", "--dir", "run", "--prefix", "hall", "--instance", "3")
    ups = [begin(*arguments, cwd=here) for _ in range(2)]
    try:
        outputs = [up.communicate(timeout=200)[0] for up in ups]
        yield here, [(up.returncode, output) for up, output in zip(ups, outputs)]
    finally:
        for up in ups:
            up.kill()
            up.wait()
        run("down", "--dir", "run", cwd=here)
        left = inhabitants(here / "run")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left


def test_two_at_once_end_with_one_database_and_its_servers(two_ups):
    here, ups = two_ups
    assert [code for code, _ in ups] == [0, 0], ups
    hosts = {line for _, output in ups for line in output.splitlines() if line.startswith("export TANGO_HOST=")}
    assert len(hosts) == 1
    running = inhabitants(here / "run")
    recorded = json.loads((here / "run" / "run.json").read_text())["processes"]
    assert set(running) == {pid for pid, _ in recorded.values()}, running
    assert set(recorded) == {"database", *MEMBERS}


def test_status_finds_the_names_that_run_there(two_ups):
    here, _ = two_ups
    code, output = run("status", "--dir", "run", cwd=here)
    assert code == 0, output
    for member in MEMBERS:
        assert f"hall/{member}/3" in output
    assert output.count("STANDBY") == len(MEMBERS)
    assert run("status", "--dir", str(here / "run"), cwd=ROOT)[0] == 0  # the same folder, from elsewhere


@pytest.mark.parametrize(
    "names", [["--prefix", "foo"], ["--prefix", "hall", "--instance", "1"]], ids=["prefix", "instance"]
)
def test_other_names_are_refused_in_words_and_nothing_changes(two_ups, names):
    here, _ = two_ups
    before = inhabitants(here / "run")
    code, output = run("up", "--dir", "run", *names, cwd=here)
    assert code == 1
    words = " ".join(output.split())  # the console breaks lines
    assert "prefix and instance: expected hall and 3, which run from" in words
    assert "tango-jit down" in words
    assert inhabitants(here / "run") == before
    assert run("status", "--dir", "run", cwd=here)[0] == 0


def test_after_the_end_the_database_still_knows_whose_it_is(two_ups):
    here, _ = two_ups
    code, output = run("down", "--dir", "run", cwd=here)
    assert code == 0
    assert all(member in output for member in ("database", *MEMBERS))
    assert not inhabitants(here / "run")
    code, output = run("up", "--dir", "run", "--prefix", "foo", "--instance", "3", cwd=here)
    assert code == 1
    assert "prefix foo: expected that of the devices in" in " ".join(output.split())
    assert not inhabitants(here / "run")  # also its database has ended
