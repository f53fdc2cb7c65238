"""Where figures were measured: the computer, the versions, and what else kept it busy meanwhile."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sim.report import machine

PACKAGES = (
    "tango-jit",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "pytango",
    "pyzmq",
    "astra-toolbox",
    "astra-kernelkit",
    "itk-rtk",
    "scikit-image",
)
SAME = ("cpu", "cores", "memory_gb")  # what makes it the same computer
STEAL, FIELDS = 7, 8  # of the line "cpu" of /proc/stat: user nice system idle iowait irq softirq steal


def describe() -> dict[str, Any]:
    """The computer and the versions; `revision` is that of the checkout, None where there is none."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return machine() | {"governor": _governor(), "versions": versions, "revision": revision()}


def revision() -> str | None:
    """The commit of the checkout that this module stands in, with "+changes" if files differ from it."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "describe", "--always", "--abbrev=12", "--exclude=*")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.exists() else None


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError for another computer: figures of two do not belong in one table."""
    for field in SAME:
        if earlier.get(field) != now.get(field):
            raise ValueError(
                f"--json: expected figures of this computer ({field} {now.get(field)}), got a file of one with "
                f"{earlier.get(field)}: write another file"
            )


class Watch:
    """What the computer did from the construction until `seen`."""

    def __init__(self) -> None:
        self._began, self._load, self._ticks = time.time(), os.getloadavg()[0], _ticks()

    def seen(self) -> dict[str, Any]:
        """When it began, how long it took, the load average (1 min) before and after, and the part of its time that
        the host took away from this virtual machine (None: it does not tell)."""
        return {
            "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            "took_s": round(time.time() - self._began, 1),
            "load_average": [round(self._load, 2), round(os.getloadavg()[0], 2)],
            "steal_percent": stolen(self._ticks, _ticks()),
        }


def stolen(before: list[int] | None, after: list[int] | None) -> float | None:
    """Percent of the ticks between two lines "cpu" of /proc/stat that were stolen; None: not known."""
    if before is None or after is None or sum(after[:FIELDS]) == sum(before[:FIELDS]):
        return None
    passed = sum(after[:FIELDS]) - sum(before[:FIELDS])
    return round(100 * (after[STEAL] - before[STEAL]) / passed, 2)


def _ticks() -> list[int] | None:
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    numbers = [int(x) for x in stat.read_text().splitlines()[0].split()[1:]]
    return numbers if len(numbers) >= FIELDS else None
