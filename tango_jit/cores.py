"""How the processes share the cores: the live path first, training takes what is left."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Budget:
    """Threads for each kind of work; see `budget`."""

    frames: int
    """Filtering a frame: one every few ms, too little for many."""
    slices: int
    """Backprojection: scales with the cores."""
    denoising: int
    training: int
    """Small batches: more than some threads only wait for each other."""


def budget(cores: int) -> Budget:
    """The threads on a computer of so many cores that all processes share. Raises ValueError for none.

    Their sum may exceed the cores: slices and pictures are made in bursts, one after the other, and the trainer steps
    aside for both (`step_aside`). Up to four cores every burst may have them all.
    """
    if cores < 1:
        raise ValueError(f"cores: expected at least 1, got {cores}")
    few = min(cores, 4)
    return Budget(
        frames=max(1, min(cores // 4, 8)),
        slices=max(few, cores // 2),
        denoising=max(few, min(cores // 4, 16)),
        training=max(1, min(cores // 2, 8)),
    )


def slice_pixels(cores: int) -> float:
    """So many pixels, neighbours included, may the slices on display have together for about one update a second, while
    frames are filtered and a network is trained. Measured on two cores, see docs/decisions/0049."""
    return 0.7e6 * cores


def usable_cores() -> int:
    """The cores that this process may run on: those of its affinity, fewer where a control group allows less time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(CGROUPS, OWN_CGROUP))))


def _quota(root: Path, own: Path) -> float:
    """The least that the control groups (version 2) of this process, and those above them, allow, in cores."""
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return math.inf
    group = root / line.removeprefix("0::").strip("/")
    allowed = [math.inf]
    for folder in (group, *group.parents):
        if folder.is_relative_to(root) and (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
            allowed += [] if quota == "max" else [int(quota) / int(period)]
    return min(allowed)


def step_aside(nice: int) -> str:
    """Give this thread, and those that it makes, a niceness; returns what was refused (empty: nothing).

    Linux weighs sessions against each other before it looks at niceness within one (autogroups, where they are
    enabled): a process that leads its session gives it the same niceness, else it would count for nothing.
    """
    refused = []
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    except PermissionError:
        refused.append(f"niceness {nice}: not allowed to take it")
    if AUTOGROUP.exists() and os.getsid(0) == os.getpid():
        try:
            AUTOGROUP.write_text(str(nice))
        except OSError as error:
            refused.append(f"niceness {nice} of the session: {error.strerror}")
    return "; ".join(refused)
