"""The unit in the documentation is one that systemd takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-database.md"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    (unit,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    program = "/opt/tango-jit/bin/tango-jit"
    assert f"ExecStart={program} serve %i 1" in unit
    file = tmp_path / "tango-jit@.service"
    file.write_text(unit.replace(program, str(shutil.which("true"))))  # it has to exist
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
