"""The commands of the window where there is nothing to see, or nowhere to show it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devices.gui.command import missing_library


def test_a_snapshot_of_nothing_says_what_is_missing(system: Any, tmp_path: Path) -> None:
    if missing := missing_library():
        pytest.skip(missing)
    out = tmp_path / "nothing.png"
    command = [sys.executable, "-m", "devices.cli", "snapshot", str(out), "--prefix", "nobody", "--patience", "2"]
    run = subprocess.run(
        command, env=os.environ | {"TANGO_HOST": system.host}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert "does not answer" in run.stdout
    assert "no slices" in run.stdout
    assert out.exists()


def test_without_a_display_it_says_so(system: Any) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    command = [sys.executable, "-m", "devices.cli", "gui"]
    run = subprocess.run(
        command, env=environment | {"TANGO_HOST": system.host}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "no display" in run.stdout
