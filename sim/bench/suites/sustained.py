"""The highest frame rate that is kept up without a loss, with three slices of 512 x 512 and training.

Shorter and shorter frame periods are tried for some seconds each; the shortest that holds has to hold for the whole
time, else the next longer one. A period holds if no frame is lost, at least 99 % of the frames that are due are sent
and as many of those received, but for those of half a second: then nothing piles up anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sim.bench.observe import Observation, observe
from sim.bench.rows import Row, Series
from sim.bench.station import Setup, Station, station
from sim.bench.timing import Effort

PERIODS_MS = (24.0, 18.0, 12.0, 9.0, 7.0, 5.5, 4.5, 3.5, 2.5)
SETTLE_S = 3.0
KEPT = 0.99
WAITING_S = 0.5  # frames wait while slices are made: so many more or fewer at the end than at the beginning


def measure(effort: Effort) -> Iterator[Row | Series]:
    trial_s = effort.live_s / 6
    with station(Setup(period_s=PERIODS_MS[0] / 1e3, side=512)) as servers:
        tried: list[tuple[float, Observation]] = []
        for period_ms in PERIODS_MS:
            tried.append((period_ms, _at(servers, period_ms, trial_s)))
            if not holds(period_ms, tried[-1][1]):
                break
        good = [period_ms for period_ms, seen in tried if holds(period_ms, seen)]
        held: tuple[float, Observation] | None = None
        while good and held is None:
            period_ms = good.pop()
            seen = _at(servers, period_ms, effort.live_s)
            held = (period_ms, seen) if holds(period_ms, seen) else None
    yield from _rows(held, effort.live_s)
    rates = tuple(1e3 / period_ms for period_ms, _ in tried)
    got = tuple(seen.rate("reconstructor.frames_received").value for _, seen in tried)
    for curve, frames in (("received", got), ("all of them", rates)):
        yield Series("sustained", curve, rates, frames, "frames due (Hz)", "frames received (Hz)")


def holds(period_ms: float, seen: Observation) -> bool:
    """Did nothing get lost, nor pile up?"""
    due, sent = seen.seconds * 1e3 / period_ms, seen.grown("detector.frames_sent")
    received, waiting = seen.grown("reconstructor.frames_received"), WAITING_S * 1e3 / period_ms
    kept_up = sent >= KEPT * due - waiting and received >= KEPT * sent - waiting
    return seen.grown("reconstructor.frames_lost") == 0 and kept_up


def _at(servers: Station, period_ms: float, seconds: float) -> Observation:
    servers.devices["detector"].frame_period_s = period_ms / 1e3
    time.sleep(SETTLE_S)
    return observe(servers, seconds)


def _rows(held: tuple[float, Observation] | None, seconds: float) -> Iterator[Row]:
    name = f"frames of 647 x 768 without a loss for {seconds:.0f} s, three 512² slices, training on"
    if held is None:
        yield Row(name, "Hz", 0.0, note=f"not even {1e3 / PERIODS_MS[0]:.0f} Hz hold")
        return
    period_ms, seen = held
    yield Row.of(name, "Hz", seen.rate("reconstructor.frames_received"), note=f"a frame every {period_ms:g} ms")
    slices = min((figure.value for figure in seen.slices_hz().values()), default=0.0)
    yield Row("denoised pictures of each slice meanwhile", "Hz", slices)
    yield Row.of("training steps meanwhile", "/s", seen.rate("trainer.steps"))
