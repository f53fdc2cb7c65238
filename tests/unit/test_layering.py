"""The layering is a test: imports go one way, and the linter that says so is awake."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("tango_jit", "devices", "sim")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages in `folder` (the current directory comes first on the linter's path)."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree that a test may spoil."""
    for name in PACKAGES:
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_go_one_way() -> None:
    result = lint_imports(CHECKOUT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "planted", "contract"),
    [
        ("tango_jit/planted.py", "import tango", "tango_jit imports no control system"),
        ("tango_jit/services/planted.py", "import p4p.client.thread", "tango_jit imports no control system"),
        ("tango_jit/services/planted.py", "import devices", "production never imports sim"),
        ("devices/planted.py", "import sim", "production never imports sim"),
        ("tango_jit/streams/planted.py", "from sim import planted", "production never imports sim"),
        ("tango_jit/recon/planted.py", "import zmq", "the science opens no sockets"),
        ("tango_jit/recon/planted.py", "from tango_jit import learn", "inside tango_jit imports go one way"),
        ("tango_jit/streams/planted.py", "import tango_jit.recon", "inside tango_jit imports go one way"),
        ("tango_jit/geometry.py", "import tango_jit.services", "inside tango_jit imports go one way"),
        ("tango_jit/planted.py", "", "inside tango_jit imports go one way"),  # a module that belongs to no layer
    ],
)
def test_planted_import_is_reported(tree: Path, module: str, planted: str, contract: str) -> None:
    (tree / "sim" / "planted.py").touch()
    with (tree / module).open("a") as file:
        file.write(f"\n{planted}\n")
    result = lint_imports(tree)
    broken = [line for line in result.stdout.splitlines() if line.endswith("BROKEN")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(contract in line for line in broken), result.stdout


def test_copied_tree_is_clean(tree: Path) -> None:
    """The reports above come from what was planted, not from the copying."""
    result = lint_imports(tree)
    assert result.returncode == 0, result.stdout + result.stderr
