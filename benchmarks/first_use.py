"""From an empty folder to a moved slice, with what the README says and nothing else; each step is timed.

    python -m benchmarks.first_use --json benchmarks/results/first_use.json

Clones this checkout as it is committed, takes the commands and the script out of the clone's README, and gives the
demo a home and caches of its own, so that the experiment is simulated and everything is compiled as for a newcomer.
pip keeps its cache: downloads are no part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tango
from rich.console import Console
from rich.table import Table

from sim.bench.machine import describe

CHECKOUT = Path(__file__).resolve().parents[1]
LIMIT_S = 1800.0  # of a step
PROMISED_S = 300.0
SCRIPT = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
HOST = re.compile(r"TANGO_HOST=(\S+)")


class Steps:
    """What was done, and how long it took since the one before."""

    def __init__(self) -> None:
        self.taken_s: dict[str, float] = {}
        self._at = time.monotonic()

    def begin(self) -> None:
        """What was since the last step belongs to none."""
        self._at = time.monotonic()

    def done(self, name: str) -> None:
        now = time.monotonic()
        self.taken_s[name], self._at = now - self._at, now
        print(f"{self.taken_s[name]:7.1f} s  {name}", flush=True)


def await_(condition: Callable[[], Any], demo: subprocess.Popen[bytes], log: Path) -> Any:
    """The first answer that is true. Raises RuntimeError with the demo's words when it has ended, or time is up."""
    deadline = time.monotonic() + LIMIT_S
    while demo.poll() is None and time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except tango.DevFailed:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the demo does not come on: {log.read_text(errors='replace')[-2000:]}")


def run(folder: Path) -> dict[str, float]:
    """Seconds by step."""
    steps = Steps()
    clone, log = folder / "tango-jit", folder / "demo.log"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
    readme = (clone / "README.md").read_text()
    (script,) = SCRIPT.findall(readme)
    if not re.search(r"^make demo\b", readme, flags=re.MULTILINE):
        raise RuntimeError("README.md: expected the command make demo, it is not there")
    steps.done("clone")
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "TANGO_HOST")}
    environment |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    environment |= {"PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))}
    with open(log, "wb") as out:
        demo = subprocess.Popen(
            ["make", "demo"], cwd=clone, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        follow(steps, demo, clone, log, script)
    except BaseException:
        end(demo)
        raise
    steps.begin()
    if not end(demo):
        raise RuntimeError("Ctrl-C: expected the demo to end within a minute, it was killed")
    steps.done("Ctrl-C: everything ended")
    return steps.taken_s


def end(demo: subprocess.Popen[bytes]) -> bool:
    """Ctrl-C for the demo and all that belongs to it; False: it had to be killed."""
    with suppress(ProcessLookupError):
        os.killpg(demo.pid, signal.SIGINT)
    try:
        demo.wait(60)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()
        return False
    return True


def follow(steps: Steps, demo: subprocess.Popen[bytes], clone: Path, log: Path, script: str) -> None:
    """From the installation to the moved slice."""
    await_((clone / ".venv" / "installed").exists, demo, log)
    steps.done("make demo: environment and installation")
    host = await_(lambda: HOST.search(log.read_text(errors="replace")), demo, log)[1]
    steps.done("experiment simulated, servers started")
    denoiser: Any = tango.DeviceProxy(f"tango://{host}/jit/denoiser/1")
    reconstructor: Any = tango.DeviceProxy(f"tango://{host}/jit/reconstructor/1")
    await_(lambda: denoiser.read_attribute("frame_number_xy").value >= 0, demo, log)
    before = denoiser.read_attribute("geometry_xy").value
    steps.done("first slice denoised")
    subprocess.run(
        [clone / ".venv/bin/python", "-c", script], env=os.environ | {"TANGO_HOST": host}, check=True, timeout=60
    )
    steps.done("the first script of the README")
    wanted = reconstructor.read_attribute("geometry_xy").value
    if np.allclose(wanted, before):
        raise RuntimeError(f"the script of the README: expected a moved slice, it is at {wanted} as before")
    await_(lambda: np.allclose(denoiser.read_attribute("geometry_xy").value, wanted), demo, log)
    steps.done("picture of the new place")


def main() -> int:
    """Print the steps; status 1 where it took longer than the README may take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write figures and machine")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tango-jit-first-use-") as folder:
        taken = run(Path(folder))
    total = sum(seconds for name, seconds in taken.items() if not name.startswith("Ctrl-C"))
    table = Table("step", "s")
    for name, seconds in (taken | {"from nothing to a moved slice": total}).items():
        table.add_row(name, f"{seconds:.1f}")
    Console().print(table)
    if arguments.json:
        found = {"machine": describe(), "steps_s": taken, "total_s": total, "promised_s": PROMISED_S}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(total > PROMISED_S)


if __name__ == "__main__":
    sys.exit(main())
