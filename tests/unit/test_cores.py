"""How the processes share the cores."""

import math
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tango_jit.cores import Budget, _quota, budget, usable_cores

BUSY = """
import os, sys
from tango_jit.cores import step_aside
os.sched_setaffinity(0, {core})
print(step_aside({nice}), flush=True)
while True:
    pass
"""


def test_two_cores_are_for_everybody_in_turn() -> None:
    assert budget(1) == Budget(frames=1, slices=1, denoising=1, training=1)
    assert budget(2) == Budget(frames=1, slices=2, denoising=2, training=1)


def test_many_cores_are_divided() -> None:
    """Together they leave some for the detector and the system, and none has more than its work can use."""
    for cores in (16, 32, 64, 128):
        share = budget(cores)
        assert share.slices == cores // 2
        assert share.frames + share.slices + share.denoising <= cores
        assert share.training <= 8
    with pytest.raises(ValueError, match="cores: expected at least 1, got 0"):
        budget(0)


def test_only_the_cores_of_this_process_count() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tango_jit.cores import usable_cores"
    )
    shown = subprocess.check_output([sys.executable, "-c", f"{code}; print(usable_cores())"], text=True)
    assert int(shown) == 1
    assert usable_cores() >= 1


def test_a_quota_of_time_is_as_good_as_fewer_cores(tmp_path: Path) -> None:
    """Control groups as the kernel shows them: of the process itself, and of those above it."""
    own, group = tmp_path / "own", tmp_path / "root" / "pod" / "container"
    group.mkdir(parents=True)
    own.write_text("1:cpu:/old\n0::/pod/container\n")
    assert _quota(tmp_path / "root", own) == math.inf
    (group / "cpu.max").write_text("max 100000\n")
    assert _quota(tmp_path / "root", own) == math.inf
    (group.parent / "cpu.max").write_text("250000 100000\n")
    assert _quota(tmp_path / "root", own) == 2.5
    (group / "cpu.max").write_text("150000 100000\n")
    assert _quota(tmp_path / "root", own) == 1.5
    assert _quota(tmp_path / "root", tmp_path / "none") == math.inf


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a session is a matter of Linux")
@pytest.mark.parametrize("own_session", [True, False], ids=["server", "child of a shell"])
def test_who_steps_aside_leaves_the_core_to_others(own_session: bool) -> None:
    """Also between sessions, where niceness alone counts for nothing on kernels with autogroups."""
    core = "{min(os.sched_getaffinity(0))}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY.format(core=core, nice=nice)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=own_session,
        )
        for nice in (0, 10)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n"  # nothing was refused
        seen = [psutil.Process(process.pid) for process in processes]
        before = [process.cpu_times().user for process in seen]
        deadline = time.monotonic() + 60
        while (live := seen[0].cpu_times().user - before[0]) < 1.0 and time.monotonic() < deadline:
            time.sleep(0.1)
        aside = seen[1].cpu_times().user - before[1]
        assert live >= 1.0
        assert aside < live / 3  # by weight a ninth
    finally:
        for process in processes:
            process.kill()
            process.communicate()
