"""Build the distribution, install its wheel into an empty environment and run its scripts from an empty directory.

Usage: python tools/check_wheel.py, with the package `build` installed. Everything is made in a temporary folder of
its own, so that several may run at once. Exit status 0: the wheel is what it should be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = {"tango_jit", "devices", "sim"}
GROUPS = ("tango_jit.commands", "tango_jit.servers")
LOAD = """
from importlib.metadata import entry_points
for group in {groups!r}:
    for entry in entry_points(group=group):
        assert callable(entry.load()), entry
import tango_jit, devices, sim
for package in (tango_jit, devices, sim):
    assert package.__file__.startswith({prefix!r}), package.__file__
print(tango_jit.__version__)
"""


def run(*command: str | Path, cwd: Path, timeout_s: float = 1200) -> str:
    """Run to the end and return what was printed. Raises SystemExit with all of it when the command fails."""
    print("$", *command, flush=True)
    try:
        result = subprocess.run(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"{command[0]}: expected an end within {timeout_s:g} s, got\n{late.output}") from None
    if result.returncode:
        raise SystemExit(f"{command[0]}: expected exit status 0, got {result.returncode}\n{result.stdout}")
    return result.stdout


def check_contents(wheel: Path) -> ConfigParser:
    """Return the entry points of the wheel. Raises SystemExit unless it holds our packages, typed, and no other."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info"))
        entries = ConfigParser(delimiters="=")
        entries.optionxform = str  # type: ignore[assignment]  # names keep their capitals
        entries.read_string(archive.read(f"{info}/entry_points.txt").decode())
    top = {name.split("/")[0] for name in names}
    if top != PACKAGES | {info}:
        raise SystemExit(f"wheel: expected the top-level names {sorted(PACKAGES | {info})}, got {sorted(top)}")
    sources = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "tango_jit").rglob("*.cu"))
    for name in [f"{package}/py.typed" for package in sorted(PACKAGES)] + [f"{info}/licenses/LICENSE", *sources]:
        if name not in names:
            raise SystemExit(f"wheel: expected the file {name}, got none")
    return entries


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tango-jit-wheel-") as name:
        folder = Path(name).resolve()
        empty, environment = folder / "empty", folder / "venv"
        empty.mkdir()
        run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT, cwd=empty)
        (wheel,) = folder.glob("*.whl")
        entries = check_contents(wheel)
        venv.create(environment, with_pip=True)
        binaries = environment / "bin"
        run(binaries / "pip", "install", "--quiet", "-c", CHECKOUT / "constraints.txt", wheel, cwd=empty)
        for script in entries["console_scripts"]:
            if not run(binaries / script, "--help", cwd=empty, timeout_s=120).strip():
                raise SystemExit(f"{script} --help: expected some help, got nothing")
        check = LOAD.format(groups=GROUPS, prefix=str(environment))
        version = run(binaries / "python", "-c", check, cwd=empty, timeout_s=120).splitlines()[-1]
        print(f"wheel of tango-jit {version}: contents, {len(entries['console_scripts'])} scripts, entry points: right")


if __name__ == "__main__":
    main()
