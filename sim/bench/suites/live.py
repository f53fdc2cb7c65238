"""All four servers at once: 647 x 768 pixels every 12 ms, three slices of 512 x 512, training on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from sim.bench.observe import Observation, observe
from sim.bench.rows import Row, Series
from sim.bench.station import Setup, station
from sim.bench.timing import Effort

SETUP = Setup(period_s=0.012, side=512)
PERCENTILES = (50, 95, 99)
CLIENTS = {"a ZeroMQ client": Observation.latency_ms, "a Tango client's read": Observation.tango_latency_ms}
KEPT = 0.99  # of the frames that are due must have been sent, or they did not come at this pace


def measure(effort: Effort) -> Iterator[Row | Series]:
    with station(SETUP) as servers:
        seen = observe(servers, effort.live_s)
    rows = list(figures(seen, SETUP, targets=True))
    yield from rows
    yield together(rows, effort)
    yield from latency_curves(seen)


def together(rows: Iterable[Row], effort: Effort) -> Row:
    """How many of the floors hold at once; its name is that of every run of this length."""
    floors = [row for row in rows if row.target is not None]
    met = sum(row.met is True for row in floors)
    missed = "; ".join(f"{row.name}: {row.missed_by or row.note}" for row in floors if not row.met)
    return Row(
        f"live, one run of {effort.live_s:g} s, all of it together: floors that are met",
        "floors",
        float(met),
        target=float(len(floors)),
        note=missed,
    )


def figures(seen: Observation, setup: Setup, *, targets: bool) -> Iterator[Row]:
    """What a run was; with the targets of the live row, or without."""

    def floor(value: float) -> float | None:
        return value if targets else None

    due = 1 / setup.period_s
    yield Row.of("frames sent", "Hz", seen.rate("detector.frames_sent"), target=floor(round(KEPT * due, 1)))
    lost = seen.grown("reconstructor.frames_lost")
    yield Row("frames lost on the way to the reconstructor", "frames", lost, target=floor(0.0))
    yield Row("frames that had to wait for the reconstructor", "frames", seen.grown("detector.frames_held_back"))
    rates = seen.slices_hz()
    for name in ("xy", "xz", "yz"):
        what = f"denoised pictures of slice {name}"
        if name in rates:
            yield Row.of(what, "Hz", rates[name], target=floor(1.0))
        else:
            yield Row(what, "Hz", 0.0, target=floor(1.0))
    yield Row("pictures that the guard showed as they were reconstructed", "%", seen.guarded_percent())
    yield Row.of("training steps", "/s", seen.rate("trainer.steps"), target=floor(5.0))
    yield Row("mean use of a pair, so far", "uses", seen.values("trainer.reuse")[-1], target=floor(16.0))
    pairs = [x for x in seen.values("trainer.samples_per_s") if np.isfinite(x)]
    yield Row("new pairs", "/s", float(np.mean(pairs)) if pairs else 0.0)
    yield Row("filtered frames that the trainer missed", "frames", seen.grown("trainer.frames_lost"))
    ceilings = {50: 500.0, 99: 1000.0}
    for client, of in CLIENTS.items():
        times = of(seen)
        for percent in PERCENTILES:
            name = f"latency p{percent}, last needed frame to denoised slice at {client}"
            target = floor(ceilings[percent]) if percent in ceilings and client == "a ZeroMQ client" else None
            if times:
                yield Row(name, "ms", float(np.percentile(times, percent)), repeats=len(times), target=target)
            else:
                yield Row.not_run(name, "ms", "no slice came", target=target)


def latency_curves(seen: Observation) -> Iterator[Series]:
    """Every latency, sorted: a cumulative distribution to be drawn."""
    for client, of in CLIENTS.items():
        times = sorted(of(seen))
        if times:
            parts = tuple((k + 1) / len(times) for k in range(len(times)))
            yield Series("latency", f"at {client}", tuple(times), parts, "latency (ms)", "part of the slices")
