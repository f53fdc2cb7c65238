"""Minutes of frames through all four servers: does memory grow?

As in the suite `live`: 12 ms a frame, three slices of 512 x 512, training on. Memory is that of each server, without
pages of files that the kernel may drop. It is flat if the last third of the time needs no more than the middle third.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from sim.bench.observe import Observation, observe
from sim.bench.rows import Row, Series
from sim.bench.station import station
from sim.bench.suites.live import SETUP
from sim.bench.timing import Effort

CEILING = 2.0  # % from the middle third to the last one


def measure(effort: Effort) -> Iterator[Row | Series]:
    with station(SETUP) as servers:
        seen = observe(servers, 60 * effort.minutes, memory=True)
    yield Row(
        "frames lost on the way to the reconstructor", "frames", seen.grown("reconstructor.frames_lost"), target=0.0
    )
    yield from growth(seen, effort.minutes)


def growth(seen: Observation, minutes: float) -> Iterator[Row | Series]:
    """What each server holds, by how much that grew, and the curve."""
    began = seen.samples[0].at_s
    for server in sorted(seen.samples[-1].memory_mb):
        held = [(s.at_s - began, s.memory_mb[server]) for s in seen.samples if server in s.memory_mb]
        values = [mb for _, mb in held]
        third = max(len(values) // 3, 1)
        middle, last = (
            statistics.mean(values[third : 2 * third] or values),
            statistics.mean(values[2 * third :] or values),
        )
        yield Row(
            f"{server}: memory after {minutes:g} minutes",
            "MB",
            values[-1],
            (min(values), max(values)),
            note="spread: all",
        )
        name = f"{server}: growth from the middle to the last third of {minutes:g} minutes"
        yield Row(name, "%", 100 * (last / middle - 1), target=CEILING, note=f"{middle:.0f} to {last:.0f} MB")
        times = tuple(t / 60 for t, _ in held)
        yield Series("memory", server, times, tuple(values), "time (min)", "memory (MB)")
