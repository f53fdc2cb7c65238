"""All four servers as `tango-jit demo` runs them: 24 ms a frame, three slices of 384 x 384, training on."""

from __future__ import annotations

from collections.abc import Iterator

from sim.bench.observe import observe
from sim.bench.rows import Row, Series
from sim.bench.station import Setup, station
from sim.bench.suites.live import figures, latency_curves
from sim.bench.timing import Effort

SETUP = Setup(period_s=0.024, side=384)


def measure(effort: Effort) -> Iterator[Row | Series]:
    with station(SETUP) as servers:
        seen = observe(servers, effort.live_s)
    yield from figures(seen, SETUP, targets=False)
    accuracy = seen.values("denoiser.accuracy")[-1]
    if accuracy == accuracy:
        yield Row("accuracy of the slices at the end (1: no denoising, 0.5: perfect)", "of noise", accuracy)
    yield from latency_curves(seen)
