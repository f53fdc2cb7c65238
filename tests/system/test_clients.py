"""The devices in the programs that beamlines have: nothing is configured for any of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = """
trainer = JitTrainer(names["trainer"])
trainer.buffer_size = 300
assert trainer.buffer_size == 300
trainer.Pause()
trainer.Start()
assert Denoiser(names["denoiser"]).denoised_xy.ndim == 2
print("itango: all right")
"""
CLIENTS = Path(__file__).parent / "clients"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def running(system, recording):
    system.replay(recording)
    system.await_picture("denoiser")
    return system


def output(running, folder: Path, *command: str) -> str:
    """What a client prints, in a home of its own and with warnings of what it leaves open as errors."""
    environment = os.environ | {"TANGO_HOST": running.host, "HOME": str(folder), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(running) -> list[str]:
    return [f"{member}={name}" for member, name in running.deployment.devices.items()]


def test_taurus(running, tmp_path):
    script = str(CLIENTS / "in_taurus.py")
    given = [name.replace("=", "=tango:") for name in names(running)]
    assert "taurus: all right" in output(running, tmp_path, sys.executable, script, *given)


def test_ophyd_async_and_bluesky(running, tmp_path):
    script = str(CLIENTS / "in_bluesky.py")
    assert "bluesky: all right" in output(running, tmp_path, sys.executable, script, *names(running))


def test_itango(running, tmp_path):
    """Classes by name, attributes and commands as Python has them. Errors do not end a session: its last line tells."""
    session = f"names = {running.deployment.devices!r}" + SESSION
    itango = str(Path(sys.executable).with_name("itango"))
    assert "itango: all right" in output(running, tmp_path, itango, "-c", session)
