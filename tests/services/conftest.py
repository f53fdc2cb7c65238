"""Benches: a service between real sockets, and a clock that stands until a test moves it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from sim.detector import DetectorService
from tango_jit.geometry import ScanGeometry
from tango_jit.learn import total_variation
from tango_jit.recon import preprocess, volume
from tango_jit.recon.backproject import cpu
from tango_jit.recordings import NXtomoWriter
from tango_jit.services.reconstructor import ReconstructorService
from tango_jit.services.recorder import RecorderService
from tango_jit.services.service import Clock, Service
from tango_jit.services.trainer import TrainerService
from tango_jit.streams import Dark, Flat, Header, Image, Mailbox, Message, Publisher, Pusher, SeriesEnd, Subscriber
from tests.events import wait_until
from tests.phantom import ball
from tests.pva import AreaDetector
from tests.services import scans
from tests.services.beamline import Beamline, seen
from tests.services.denoisers import DenoiserBench, meet, wait_for_slices
from tests.services.scans import Feed, StandingClock, see
from tests.services.trainers import PATCH, Rounds

M = TypeVar("M", bound=Message)


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile before the first test: its deadlines are for the service, not for a compiler's first run."""
    cpu.warm_up()
    preprocess.warm_up()
    volume.warm_up()
    total_variation.warm_up()


VIEWS = 24
STEP_RAD = 2 * np.pi / VIEWS
MU_PER_MM = 0.5
DARK, FLAT = 100.0, 20_100.0

CONE = ScanGeometry.cone(rows=8, cols=16, pixel_mm=0.2, source_axis_mm=200, source_detector_mm=300)
FAN = ScanGeometry.cone(rows=1, cols=32, pixel_mm=0.2, source_axis_mm=200, source_detector_mm=300)
PARALLEL = ScanGeometry.parallel(rows=1, cols=32, pixel_mm=0.1)


class Scan:
    """A ball off the axis under a detector, 24 views a turn, for as many turns as wanted."""

    def __init__(self, geometry: ScanGeometry, series: str = "scan", *, counts: bool = False) -> None:
        self.geometry, self.series, self.counts = geometry, series, counts
        self.header = Header(series, "raw", geometry, linear=not counts, name="ball")
        reach = geometry.radius_mm
        self.ball_mm, self.ball_radius_mm = (0.2 * reach, -0.1 * reach, 0.0), 0.5 * reach
        angles = STEP_RAD * np.arange(VIEWS)
        self.views = ball(geometry, angles, self.ball_mm, self.ball_radius_mm, MU_PER_MM)

    def image(self, frame: int, **changes: Any) -> Image:
        data = self.views[frame % VIEWS]
        if self.counts:
            data = (DARK + (FLAT - DARK) * np.exp(-data)).astype(np.float32)
        fields: dict[str, Any] = dict(series=self.series, frame=frame, data=data)
        return Image(angle_rad=frame * STEP_RAD, timestamp_s=0.0, **fields | changes)

    def mean(self, kind: type[Dark] | type[Flat], level: float) -> Dark | Flat:
        shape = (self.geometry.rows, self.geometry.cols)
        return kind(self.series, np.full(shape, level, np.float32), 10)

    @property
    def dark(self) -> Dark | Flat:
        return self.mean(Dark, DARK)

    @property
    def flat(self) -> Dark | Flat:
        return self.mean(Flat, FLAT)

    def write(self, path: Path, frames: Iterable[int] = range(VIEWS)) -> str:
        """A recording of these frames; with dark and flat for counts."""
        dark, flat = (self.dark, self.flat) if self.counts else (None, None)
        assert dark is None or isinstance(dark, Dark)
        assert flat is None or isinstance(flat, Flat)
        writer = NXtomoWriter(path, self.header, dark, flat)
        try:
            for frame in frames:
                writer.append(self.image(frame))
        finally:
            writer.close()
        return str(path)


class Tap:
    """Keeps every message of a stream in its order."""

    def __init__(self, endpoint: str, kind: Any = "sub") -> None:
        self._mailbox = Mailbox(64 << 20, "lossless")
        self._subscriber = Subscriber(lambda: endpoint, self._mailbox, kind=kind)
        self._seen: list[Message] = []

    @property
    def seen(self) -> list[Message]:
        self._seen += self._mailbox.drain()
        return self._seen

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.seen if isinstance(message, kind)]

    def wait(self, kind: type[M], fits: Callable[[M], bool] = lambda message: True) -> M:
        """The first message of this kind that fits, also an earlier one."""
        return wait_until(
            lambda: next((message for message in self.all(kind) if fits(message)), None), 20, f"such a {kind.htype}"
        )

    def join(self, publisher: Publisher) -> None:
        """Return when the subscription stands, so that nothing published later is missed."""
        publisher.send(SeriesEnd("probe", 0), retain="probe")
        self.wait(SeriesEnd, lambda end: end.series == "probe")
        publisher.forget("probe")
        self._seen.clear()

    def close(self) -> None:
        self._subscriber.close()


def pass_turns(service: Service) -> None:
    """Return after the worker has done at least one whole turn from now on, with its housekeeping."""
    for _ in range(2):
        service.ask(lambda: None, timeout_s=10)


class ReconstructorBench:
    """A reconstructor that pulls what the test pushes, with taps on both of its streams."""

    def __init__(self, clock: Clock = time.time, **options: Any) -> None:
        self.clock = clock
        self.pusher = Pusher()
        self.service = ReconstructorService(lambda: self.pusher.endpoint, clock=clock, **options)
        self.filtered = Tap(self.service.values["filtered_endpoint"])
        self.slices = Tap(self.service.values["slices_endpoint"])
        self.filtered.join(self.service._filtered)
        self.slices.join(self.service._slices_out)
        self.service.start()

    @property
    def values(self) -> Any:
        return self.service.values

    def push(self, *messages: Message) -> None:
        for message in messages:
            assert self.pusher.send(message, timeout_s=10), f"nobody took {message}"

    def frames(self, scan: Scan, *numbers: int) -> None:
        """Push these frames and return when the last of them went through the filter."""
        before = len(self.filtered.all(Image))
        self.push(*(scan.image(number) for number in numbers))
        wait_until(lambda: len(self.filtered.all(Image)) >= before + len(numbers), 20, f"{len(numbers)} frames")
        pass_turns(self.service)

    def after(self, seconds: float) -> None:
        """Move the clock, and let housekeeping see it."""
        assert isinstance(self.clock, StandingClock)
        self.clock.now += seconds
        pass_turns(self.service)

    def close(self) -> None:
        self.service.close()
        self.filtered.close()
        self.slices.close()
        self.pusher.close()


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def bench() -> Iterator[Callable[..., ReconstructorBench]]:
    """Makes benches and closes them."""
    made: list[ReconstructorBench] = []

    def make(**options: Any) -> ReconstructorBench:
        made.append(ReconstructorBench(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def detector(clock: StandingClock) -> Iterator[DetectorService]:
    """As fast as its frames are taken, on the standing clock."""
    service = DetectorService(clock=clock)
    service.write("frame_period_s", 0)
    yield service
    service.close()


@pytest.fixture
def tap() -> Iterator[Callable[..., Tap]]:
    """Makes taps and closes them."""
    made: list[Tap] = []

    def make(endpoint: str, kind: str = "pull") -> Tap:
        made.append(Tap(endpoint, kind))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """For every test of a service."""


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed(scans.FAN)
    yield feed
    feed.close()


@pytest.fixture
def make_trainer(clock: StandingClock) -> Iterator[Callable[..., TrainerService]]:
    """Builds trainers of small patches that are closed at the end."""
    made: list[TrainerService] = []

    def build(feed: Feed | None = None, *, start: bool = True, patch_size: int = PATCH, **arguments: Any):
        service = TrainerService(lambda: feed and feed.endpoint, threads=1, clock=clock, **arguments)
        made.append(service)
        if feed is not None:
            service.write("patch_size", patch_size)
        if start:
            service.start()
            see(service, status=lambda text: "window filling" in text or "no new frames" in text)
        return service

    yield build
    for service in made:
        service.close()


@pytest.fixture
def trainer(make_trainer: Callable[..., TrainerService], feed: Feed) -> TrainerService:
    """Has its header and waits for frames."""
    return make_trainer(feed)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


@pytest.fixture
def denoiser() -> Iterator[DenoiserBench]:
    """A running denoiser that knows the slice xy, and is heard."""
    bench = DenoiserBench()
    try:
        wait_for_slices(bench, "xy")
        meet(bench)
        yield bench
    finally:
        bench.close()


@pytest.fixture
def beamline() -> Iterator[Beamline]:
    made = Beamline()
    yield made
    made.close()


@pytest.fixture
def recorder(beamline: Beamline, tmp_path: Path) -> Iterator[RecorderService]:
    service = beamline.recorder()
    service.write("folder", str(tmp_path))
    service.write("reserve_mb", 0)
    seen(service, beamline)
    yield service
    service.close()


@pytest.fixture
def area_detector() -> Iterator[AreaDetector]:
    detector = AreaDetector()
    yield detector
    detector.close()
