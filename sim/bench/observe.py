"""A stretch of live operation as it was seen from outside: counters once a second, every slice that arrived."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import psutil

from sim.bench.rows import Figure
from sim.bench.station import Seen, Station, TangoClient, ZmqClient

COUNTERS = {
    "detector": ("frames_sent", "frames_held_back", "lateness_p99_ms"),
    "reconstructor": ("frames_received", "frames_lost", "slices_reconstructed"),
    "trainer": ("steps", "samples_per_s", "reuse", "frames_lost"),
    "denoiser": ("slices_denoised", "accuracy"),
}
MEGABYTE = 2**20
TAIL_S = 0.3  # what is on its way when the time is over


@dataclass(frozen=True)
class Sample:
    """Counters "member.name" and memory (MB, without pages of files) of each server, at one moment."""

    at_s: float
    counters: dict[str, float]
    memory_mb: dict[str, float]


@dataclass(frozen=True)
class Observation:
    """From the first sample to the last one; `zmq` and `tango` what those clients got meanwhile."""

    samples: tuple[Sample, ...]
    zmq: tuple[Seen, ...]
    tango: tuple[Seen, ...]

    @property
    def seconds(self) -> float:
        return self.samples[-1].at_s - self.samples[0].at_s

    def grown(self, counter: str) -> float:
        """By how much a counter grew."""
        return self.samples[-1].counters[counter] - self.samples[0].counters[counter]

    def rate(self, counter: str) -> Figure:
        """A second over all of the time; its spread is that of the seconds."""
        times = np.diff([s.at_s for s in self.samples])
        each = np.diff([s.counters[counter] for s in self.samples]) / times
        low, high = (float(x) for x in np.percentile(each, (25, 75)))
        return Figure(self.grown(counter) / self.seconds, (low, high), float(each.max()), len(each))

    def values(self, counter: str) -> list[float]:
        return [s.counters[counter] for s in self.samples]

    def latency_ms(self) -> list[float]:
        """Of every slice that the ZeroMQ client got: since its last needed frame arrived."""
        return [1e3 * (seen.at_s - seen.needed_at_s) for seen in self.zmq if seen.needed_at_s is not None]

    def tango_latency_ms(self) -> list[float]:
        """Of every slice that the Tango client read; when its last needed frame arrived, the other one was told."""
        needed = {(seen.slice, seen.last_frame): seen.needed_at_s for seen in self.zmq}
        times = ((seen.at_s, needed.get((seen.slice, seen.last_frame))) for seen in _firsts(self.tango))
        return [1e3 * (at - arrived) for at, arrived in times if arrived is not None]

    def guarded_percent(self) -> float:
        """Of the pictures: how many there was a network for, but were shown as they were reconstructed."""
        return 100 * sum(seen.guarded for seen in self.zmq) / max(len(self.zmq), 1)

    def slices_hz(self) -> dict[str, Figure]:
        """How many pictures of each slice a second were denoised by trained weights; spread of the intervals.

        Those that the guard showed as they were reconstructed do not count.
        """
        figures = {}
        for name in sorted({seen.slice for seen in self.zmq}):
            times = [seen.at_s for seen in self.zmq if seen.slice == name and seen.denoised]
            gaps = [b - a for a, b in pairwise(times) if b > a]
            mean = len(times) / self.seconds
            spread = tuple(1 / x for x in np.percentile(gaps, (75, 25))) if gaps else (mean, mean)
            figures[name] = Figure(
                mean, (float(spread[0]), float(spread[1])), 1 / min(gaps) if gaps else mean, len(times)
            )
        return figures


def observe(station: Station, seconds: float, *, memory: bool = False) -> Observation:
    """Look on for so long, once a second. `memory`: ask the kernel for that of the servers, too (it takes its time)."""
    zmq, tango = ZmqClient(station), TangoClient(station)
    try:
        time.sleep(1.0)  # both are connected, and have got what is resent to newcomers
        zmq.take()
        tango.take()
        samples = [_sample(station, memory)]
        by_zmq, by_tango = list[Seen](), list[Seen]()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            samples.append(_sample(station, memory))
            by_zmq += zmq.take()
            by_tango += tango.take()
        time.sleep(TAIL_S)
        by_zmq += zmq.take()
        by_tango += tango.take()
    finally:
        zmq.close()
        tango.close()
    began, ended = samples[0].at_s, samples[-1].at_s
    within = [tuple(s for s in seen if began <= s.at_s <= ended) for seen in (by_zmq, by_tango)]
    return Observation(tuple(samples), *within)


def _sample(station: Station, memory: bool) -> Sample:
    counters = {}
    for member, names in COUNTERS.items():
        for name, read in zip(names, station.devices[member].read_attributes(list(names)), strict=True):
            counters[f"{member}.{name}"] = float("nan") if read.has_failed or read.value is None else float(read.value)
    held = {}
    if memory:
        for name, process in station.processes.items():
            with suppress(psutil.NoSuchProcess):
                held[name] = process.memory_full_info().uss / MEGABYTE
    return Sample(time.time(), counters, held)


def _firsts(seen: Iterable[Seen]) -> list[Seen]:
    """Only the first time that each picture was seen."""
    first: dict[tuple[str, int], Seen] = {}
    for one in seen:
        first.setdefault((one.slice, one.last_frame), one)
    return list(first.values())
