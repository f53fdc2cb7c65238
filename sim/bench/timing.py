"""How long calls take: warmed up, repeated, one variant beside the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.bench.rows import Figure

FEWEST = 3  # repeats, however long they take


@dataclass(frozen=True)
class Effort:
    """How much is measured: `repeats` of a call, `live_s` of a live run, `minutes` of the memory run."""

    quick: bool = False
    repeats: int = 20
    live_s: float = 60.0
    minutes: float = 10.0
    longest_s: float = 6.0
    """No figure is repeated for longer than that (but at least three times)."""

    @classmethod
    def chosen(cls, *, quick: bool, minutes: float | None = None) -> Effort:
        """As the command line says; `minutes` None: 10, or half a minute of `quick`."""
        if quick:
            return cls(True, repeats=5, live_s=12.0, minutes=minutes or 0.5, longest_s=1.0)
        return cls(minutes=minutes or 10.0)


def timed(
    work: Callable[[], Any], effort: Effort, *, warm_up: int = 2, before: Callable[[], Any] | None = None
) -> Figure:
    """Milliseconds a call; the first `warm_up` calls do not count, nor what is done `before` each."""
    return Figure.of(times({"": clocked(work, before)}, effort, warm_up=warm_up)[""])


def side_by_side(works: Mapping[str, Callable[[], Any]], effort: Effort, *, warm_up: int = 2) -> dict[str, Figure]:
    """Milliseconds a call of each, called in turn, so that what disturbs one disturbs the others as much."""
    return alternating({name: clocked(work) for name, work in works.items()}, effort, warm_up=warm_up)


def alternating(clocks: Mapping[str, Callable[[], float]], effort: Effort, *, warm_up: int = 2) -> dict[str, Figure]:
    """As `side_by_side`, of calls that say themselves how long they took, in ms."""
    return {name: Figure.of(taken) for name, taken in times(clocks, effort, warm_up=warm_up).items()}


def times(clocks: Mapping[str, Callable[[], float]], effort: Effort, *, warm_up: int = 2) -> dict[str, list[float]]:
    """What these calls say, called in turn, each as often as `effort` wants."""
    for clock in clocks.values():
        for _ in range(warm_up):
            clock()
    taken: dict[str, list[float]] = {name: [] for name in clocks}
    began = time.perf_counter()
    for repeat in range(effort.repeats):
        if repeat >= FEWEST and time.perf_counter() - began > effort.longest_s * len(clocks):
            break
        for name, clock in clocks.items():
            taken[name].append(clock())
    return taken


def clocked(work: Callable[[], Any], before: Callable[[], Any] | None = None) -> Callable[[], float]:
    """`work` as a call that does it and says how long that took, in ms, without what is done `before`."""

    def clock() -> float:
        if before is not None:
            before()
        began = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - began)

    return clock
