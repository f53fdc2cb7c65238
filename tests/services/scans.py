"""Small scans, a virtual clock and the two ends of a stream, for tests of single services without Tango."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.services.service import Service
from tango_jit.streams import Header, Image, Mailbox, Message, Publisher, Subscriber, View
from tests.events import wait_until

Frames = NDArray[np.float32]

LOOPBACK = "tcp://127.0.0.1:*"
MU = 0.03  # mm^-1
VIEWS = 32  # a turn
FAN = ScanGeometry.cone(rows=1, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200)
CONE = ScanGeometry.cone(rows=16, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200)
PARALLEL = ScanGeometry.parallel(rows=1, cols=64, pixel_mm=0.1)


class StandingClock:
    """Seconds since the epoch; moves when a test sets `now`. Work is seen to be `lag` s later than what is received."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.lag = 0.0

    def __call__(self) -> float:
        receiving = threading.current_thread().name.startswith("subscriber")
        return self.now if receiving else self.now + self.lag


def look(service: Service) -> Mapping[str, Any]:
    """The values of a service after its housekeeping, done by its worker now whatever its clock says."""

    def keep() -> Mapping[str, Any]:
        service.publish(**service.counters())
        service.set_state(*service.health())
        return service.values

    return service.ask(keep, 30.0)  # longer than a turn of any service on a busy machine


def see(service: Service, timeout_s: float = 20.0, **expected: Any) -> Mapping[str, Any]:
    """Wait until the values are as expected: a value, or a function that says whether one fits."""

    def fits(value: Any, wanted: Any) -> bool:
        return bool(wanted(value) if callable(wanted) else value == wanted)

    def values() -> Mapping[str, Any] | None:
        now = look(service)
        return now if all(fits(now[name], wanted) for name, wanted in expected.items()) else None

    try:
        return wait_until(values, timeout_s)
    except AssertionError:
        now = look(service)
        shown = {name: now[name] for name in (*expected, "state", "status", "last_error")}
        raise AssertionError(f"expected {expected}, last seen {shown}") from None


def filtered(scan: ScanGeometry, count: int, seed: int = 0) -> Frames:
    """Filtered projections (count, rows, cols) of a cylinder on the axis, with noise: all views show the same."""
    x = (np.arange(scan.cols) - (scan.cols - 1) / 2) * scan.voxel_mm
    chords = 2 * MU * np.sqrt(np.maximum((0.6 * scan.radius_mm) ** 2 - x**2, 0))
    noise = 0.2 * chords.max() * np.random.default_rng(seed).normal(size=(count, scan.rows, scan.cols))
    lines = (chords + noise).astype(np.float32)
    return Preprocessor(scan, filter="hann", linear=True)(lines)


class Feed:
    """A reconstructor as the trainer knows it: header and view for every new listener, then filtered frames."""

    def __init__(self, scan: ScanGeometry, slices: Mapping[str, SliceGeometry] | None = None) -> None:
        self.publisher = Publisher(LOOPBACK, budget_bytes=4 << 30)  # a burst of frames must not be lost
        self.scan, self.series = scan, ""
        self.generation = 0
        self._frames = filtered(scan, VIEWS)
        self.view(default_slices(scan) if slices is None else slices)
        self.header("first")

    @property
    def endpoint(self) -> str:
        return self.publisher.endpoint

    def header(self, series: str, filter: str = "hann", *, full_turn: bool = False) -> None:
        self.series = series
        header = Header(series, "filtered", self.scan, True, filter, full_turn=full_turn)
        self.publisher.send(header, retain="header")

    def view(self, slices: Mapping[str, SliceGeometry]) -> None:
        self.generation += 1
        self.publisher.send(View(self.generation, "hann", slices), retain="view")

    def frames(self, numbers: Iterable[int] = range(VIEWS), gain: float = 1.0, *, turns: int = 1) -> None:
        """`turns`: how many there are with noise of their own; then it comes again."""
        if len(self._frames) < turns * VIEWS:
            self._frames = np.concatenate([self._frames, filtered(self.scan, (turns - 1) * VIEWS, seed=1)])
        for number in numbers:
            data = gain * self._frames[number % (turns * VIEWS)]
            self.publisher.send(Image(self.series, number, number * 2 * math.pi / VIEWS, 0.0, data))

    def close(self) -> None:
        self.publisher.close()


class Listener:
    """Receives all messages of an endpoint, in order."""

    def __init__(self, endpoint: str) -> None:
        self._box = Mailbox(64 << 20, "lossless")
        self._subscriber = Subscriber(lambda: endpoint, self._box)

    def next(self, fits: Callable[[Any], object] = lambda message: True, timeout_s: float = 20.0) -> Any:
        """The next message that fits; the ones before it are thrown away."""

        def found() -> Message | None:
            while (message := self._box.get(timeout=0.0)) is not None:
                if fits(message):
                    return message
            return None

        return wait_until(found, timeout_s, f"message of {self._subscriber}")

    def waiting(self) -> list[Message]:
        """What has come meanwhile."""
        return self._box.drain()

    def close(self) -> None:
        self._subscriber.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
