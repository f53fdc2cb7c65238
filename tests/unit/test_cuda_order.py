"""Streams that share a ring wait for each other: simulated ones, each with a clock of what happened before."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from typing import Literal

import pytest

from tango_jit.recon.backproject import cuda_device
from tango_jit.recon.backproject.cuda_order import Order

Access = tuple["Stream", Literal["read", "write"], Counter[int]]


class Stream:
    """`clock`: how much of every stream is certainly done before what is queued here next."""

    numbers = itertools.count(1)

    def __init__(self) -> None:
        self.cuda_stream = next(self.numbers)
        self.clock: Counter[int] = Counter()

    def wait_event(self, event: Event) -> None:
        self.clock |= event.clock

    def work(self) -> Counter[int]:
        """Queue something; what is certainly done before it, itself included."""
        self.clock[self.cuda_stream] += 1
        return self.clock.copy()


class Event:
    """It knows what was done when it was recorded last."""

    def __init__(self) -> None:
        self.clock: Counter[int] = Counter()
        self.awaited = 0

    def record(self, stream: Stream) -> None:
        self.clock = stream.clock.copy()

    def synchronize(self) -> None:
        self.awaited += 1


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """The stream of each thread is its attribute `stream`."""
    local = threading.local()
    monkeypatch.setattr(cuda_device, "stream", lambda: local.stream)
    monkeypatch.setattr(cuda_device, "event", Event)
    return local


def before(earlier: Access, later: Access) -> bool:
    stream, _, clock = earlier
    return later[2][stream.cuda_stream] >= clock[stream.cuda_stream]


@pytest.mark.parametrize("seed", range(20))
def test_no_access_overtakes_a_writing_and_no_writing_a_reading(current: threading.local, seed: int) -> None:
    draw = random.Random(seed)
    order, streams = Order(), [Stream() for _ in range(3)]
    accesses: list[Access] = []
    for _ in range(40):
        current.stream = draw.choice(streams)
        kind: Literal["read", "write"] = draw.choice(["read", "read", "write"])
        with order.reading() if kind == "read" else order.writing():
            accesses.append((current.stream, kind, current.stream.work()))
    for earlier, later in itertools.combinations(accesses, 2):
        if "write" in (earlier[1], later[1]):
            assert before(earlier, later)


def test_readings_on_two_streams_run_side_by_side(current: threading.local) -> None:
    order, a, b = Order(), Stream(), Stream()
    accesses: list[Access] = []
    for current.stream in (a, b):
        with order.reading():
            accesses.append((current.stream, "read", current.stream.work()))
    assert not before(*accesses)


def test_memory_is_given_back_when_all_is_done(current: threading.local, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []

    def event() -> Event:
        events.append(Event())
        return events[-1]

    monkeypatch.setattr(cuda_device, "event", event)
    order, a, b = Order(), Stream(), Stream()
    for current.stream in (a, b):
        with order.reading():
            current.stream.work()
    order.finish()
    assert [event.awaited for event in events if event.clock] == [1, 1]
