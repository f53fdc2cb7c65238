"""A simulated shift: half an hour of experiment (A) with an operator, jumps, crashes, wrong values and a full disk.

    python -m benchmarks.soak --minutes 30 --log benchmarks/results/soak.log --json benchmarks/results/soak.json

Crashes, hangs and full disks are in the first 60 % of the time, so that the memory of processes that live on is seen
for the rest. Exit status 1 if anything was wrong: a frame or picture lost, a thing that did not come, nonsense that was
taken, memory in use that grows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.soak.operator import Operator
from benchmarks.soak.shift import Memory, Samples, Shift, on_shift
from sim.bench.machine import describe
from sim.demo import fit_slices
from sim.prepared import prepared
from sim.scenario import load

ROUGH_PART = 0.6
PAUSE_S = (2.0, 8.0)
GROWTH = 0.05  # of memory, from the second to the last third of a life, that is still flat
SMALL_GROWTH_MB = 25.0
LONG_LIFE_S = 420.0
KINDS = Memory._fields[1:]
DISK_MB = 80


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    recording = prepared(load("tablet-soap"), Console())
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        open(given.log, "w") as out,
        small_disk(Path(folder) / "disk") as disk,
        on_shift(Path(folder) / "shift", Path(folder) / "heaps", out) as shift,
    ):
        samples = Samples(shift, Path(folder) / "heaps")
        with samples:
            work(shift, recording, disk, given.minutes * 60, given.seed)
        found = judge(shift, samples)
    if given.json is not None:
        found |= {"machine": describe(), "minutes": given.minutes, "seed": given.seed}
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["wrong"] else 0


def work(shift: Shift, recording: Path, disk: Path | None, seconds: float, seed: int) -> None:
    """The shift itself: every act once in each round, in an order by chance."""
    detector, random = shift.proxy("detector"), Random(seed)
    for name, value in (("recording", str(recording)), ("loop", True), ("frame_period_s", 0.024)):
        detector.write_attribute(name, value)
    detector.command_inout("Start")
    shift.say(f"replay of {recording.name}")
    shift.expect("a scan", lambda: fit_slices(shift.proxy("reconstructor"), 384))
    shift.expect("the first picture", shift.new_picture(), 120)
    operator = Operator(shift, random, disk, int(shift.read("detector", "recording_frames")))
    while shift.seconds() < seconds:
        acts = [*operator.calm(), *(operator.rough() if shift.seconds() < ROUGH_PART * seconds else ())]
        random.shuffle(acts)
        for act in acts:
            if shift.seconds() > seconds:
                break
            try:
                act()
            except Exception as error:
                shift.fail(f"{act.__name__}: {type(error).__name__}: {str(error)[:300]}")
            time.sleep(random.uniform(*PAUSE_S))
    detector.command_inout("Stop")
    shift.say("the end of the shift")


def judge(shift: Shift, samples: Samples) -> dict[str, Any]:
    """What is left: memory of the processes that lived long, what went wrong."""
    memory = []
    for member, lives in samples.memory.items():
        for pid, points in lives.items():
            life_s = round(points[-1].seconds - points[0].seconds)
            if life_s < LONG_LIFE_S:
                continue
            found = {name: in_thirds([getattr(one, name) for one in points]) for name in KINDS}
            memory.append({"member": member, "life_s": life_s} | found)
            shift.say(f"memory of the {member} for {life_s} s: " + ", ".join(told(*one) for one in found.items()))
            middle, last = found["in_use"]
            if last - middle > max(GROWTH * middle, SMALL_GROWTH_MB):
                shift.fail(f"memory of the {member} (pid {pid}) grows: {middle:.0f} to {last:.0f} MB")
    if not memory:
        shift.fail(f"no process lived for {LONG_LIFE_S:.0f} s: memory says nothing")
    shift.say(f"{len(shift.events)} lines, {len(shift.wrong)} wrong")
    return {"lines": len(shift.events), "wrong": shift.wrong, "memory_mb": memory}


def in_thirds(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the second and of the last third of a life."""
    third = len(values) // 3
    return round(median(values[third : 2 * third]), 1), round(median(values[2 * third :]), 1)


def told(kind: str, thirds: tuple[float, float]) -> str:
    return f"{kind.replace('_', ' ')} {thirds[0]} MB, then {thirds[1]} MB"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own; None where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
