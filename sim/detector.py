"""The simulated detector: replays a recording through exactly the path that real frames take."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from sim.detector_signals import SIGNALS
from tango_jit.recordings import open_recording
from tango_jit.services.rates import Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.streams import FrameSource, Image, Publisher, Pusher, SeriesEnd

LATE_S = 1.0
OVERSCAN = 0.009  # of a turn; a window takes steps back of up to 0.01


class DetectorService(Service):
    """Sends header, darks, flats and frames of a recording at `frame_period_s`; see the commands."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        *,
        raw_endpoint: str = "tcp://127.0.0.1:*",
        monitor_endpoint: str = "tcp://127.0.0.1:*",
        budget_bytes: int = 64 << 20,
        recording: str = "",
        clock: Clock = time.time,
    ) -> None:
        """`recording` is what was chosen before a restart; if it cannot be read any more the status says so."""
        super().__init__(clock)
        self._pusher = Pusher(raw_endpoint, budget_bytes=budget_bytes)
        self._copies = Publisher(monitor_endpoint, budget_bytes=budget_bytes)
        self._go = threading.Event()  # cleared while paused
        self._steps = 0
        self._source: FrameSource | None = None
        self._frames: Iterator[Image] = iter(())
        self._rate = Rate()
        self._due_at = 0.0
        self._done = self._replayed = ""
        self.publish(raw_endpoint=self._pusher.endpoint, monitor_endpoint=self._copies.endpoint, recording=recording)
        try:
            self.set_state(State.STANDBY, self._ready(recording))
        except (ValueError, OSError) as error:
            self.publish(state=State.ALARM, status=f"{error}: choose another recording")

    # ---- commands

    def start(self) -> None:
        """Begin a new series with the first frame, or go on after Pause.

        Raises ValueError or OSError without a recording that holds the frames to replay.
        """
        if self._paused():
            self._due_at = self.clock()
            self._go.set()
            return
        if not self._alive():
            self._check_frames("Start")
        self._go.set()
        super().start()

    def step(self, frames: int = 1) -> None:
        """Send `frames` more frames and pause; begins a series, paused, when none runs."""
        if frames < 1:
            raise ValueError(f"Step: expected at least 1 frame, got {frames}")
        if not self._alive():
            self._check_frames("Step")
        with self._lock:
            self._go.clear()
            self._steps += frames
        super().start()

    def pause(self) -> None:
        """Hold the replay; Start goes on, Step sends single frames."""
        self._go.clear()

    def stop(self) -> None:
        """End the series after the present frame; steps that are owed are forgotten."""
        self._steps = 0
        super().stop()
        self._go.set()

    def close(self) -> None:
        super().close()
        self._pusher.close()
        self._copies.close()

    def _check_frames(self, command: str) -> None:
        """Raises ValueError or OSError in words unless there are frames to replay."""
        path, first = self.values["recording"], self.values["first_frame"]
        if not path:
            raise ValueError(f"recording: expected the path of a recording before {command}, got none")
        with open_recording(path) as source:
            if first >= len(source):
                raise ValueError(f"first_frame: expected below {len(source)}, the frames of {path}, got {first}")

    def _ready(self, recording: str) -> str:
        """What to do next. Raises ValueError or OSError in words for what is no recording."""
        if not recording:
            return "ready: choose a recording, then Start"
        with open_recording(recording) as source:
            return f"ready: Start replays {len(source)} frames of {recording}"

    def accept(self, name: str, value: Any) -> None:
        if name == "recording":
            ready = self._ready(value)
            if not self._alive():
                self.set_state(State.STANDBY, ready)
        first = value if name == "first_frame" else self.values["first_frame"]
        last = value if name == "last_frame" else self.values["last_frame"]
        if name in ("first_frame", "last_frame") and 0 <= last < first:
            raise ValueError(f"{name}: expected first_frame <= last_frame, got {first} and {last}")

    # ---- the worker

    def open(self) -> None:
        self._done = ""
        self._replayed = self.values["recording"]
        self._source = open_recording(self._replayed)
        self._series = f"{self._source.header.name or 'recording'}-{uuid.uuid4().hex[:8]}"
        self._frames = replay(
            self._source, self._series, self.values["first_frame"], self.values["last_frame"], self._loops, self.clock
        )
        for message in self._preamble():
            self._copies.send(message, retain=type(message).__name__)
            while not self._pusher.send(message, timeout_s=0.2, retain=type(message).__name__):
                self.set_state(State.STANDBY, "waiting for a reconstructor to connect")
                if self._stop.is_set():
                    return
        self._rate, self._due_at = Rate(), self.clock()
        self._sent = 0
        self.publish(series=self._series, frames_sent=0, frames_held_back=0, frame_number=-1)

    def _preamble(self) -> Iterator[Any]:
        """Header, dark and flat under this series' name."""
        source = self._source
        assert source is not None
        for message in (source.header, source.dark, source.flat):
            if message is not None:
                yield type(message)(**{**vars(message), "series": self._series})

    def _loops(self) -> bool:
        return bool(self.values["loop"])

    def _paused(self) -> bool:
        return self._alive() and not self._go.is_set()

    def _alive(self) -> bool:
        return self._worker is not None and self._worker.is_alive() and not self._stop.is_set()

    def turn(self) -> None:
        if not self._wait():
            return
        frame = next(self._frames, None)
        if frame is None:
            self._done = f"replayed {self._sent} frames: Start replays again"
            self._stop.set()
            return
        held = False
        while not self._pusher.send(frame, timeout_s=0.1):
            if not held:
                held = True
                self.publish(frames_held_back=self.values["frames_held_back"] + 1)
            self.set_state(*self.health())
            if self._stop.is_set():
                return
        self._copies.send(frame)
        self._sent += 1
        now = self.clock()
        self._rate.add(now)
        self.publish(
            frames_sent=self._sent,
            frame_number=frame.frame,
            image=frame.data,
            lateness_ms=1e3 * max(now - self._due_at, 0.0) if self.values["frame_period_s"] else 0.0,
            rotation=(frame.angle_rad - self._first_angle(frame)) / (2 * math.pi),
        )
        self._due_at = max(self._due_at + self.values["frame_period_s"], now - LATE_S)

    def _first_angle(self, frame: Image) -> float:
        if self._sent == 1:
            self._angle0 = frame.angle_rad
        return self._angle0

    def _wait(self) -> bool:
        """True when the next frame is due; False to look again (paused, or the period is long)."""
        self._pusher.poll()
        if not self._go.is_set():
            with self._lock:
                if self._steps:
                    self._steps -= 1
                    self._due_at = self.clock()
                    return True
            self._go.wait(0.05)
            return False
        ahead = self._due_at - self.clock()
        if ahead > self.values["frame_period_s"] + 1.0:  # the clock was set back
            self._due_at, ahead = self.clock(), 0.0
        if ahead > 0:
            self._stop.wait(min(ahead, 0.1))
        return ahead <= 0.1 and not self._stop.is_set()

    def shut(self) -> None:
        if self._source is None:
            return
        end = SeriesEnd(self._series, self.values["frames_sent"])
        self._pusher.send(end, timeout_s=0.5)
        self._copies.send(end)
        for retained in ("Header", "Dark", "Flat"):
            self._pusher.forget(retained)
        with suppress(OSError):
            self._source.close()
        self.publish(**self.counters())
        self._source = None

    def rest(self) -> str:
        return self._done or super().rest()

    def counters(self) -> dict[str, Any]:
        total = len(self._source) if self._source else 1
        first, last = self.values["first_frame"], self.values["last_frame"]
        planned = max((total if last < 0 else min(last + 1, total)) - first, 1)
        sent = self.values["frames_sent"]
        progress = 100.0 * (sent % planned if self._loops() else sent) / planned
        return {"actual_rate_hz": self._rate.per_second(self.clock()), "progress": progress}

    def health(self) -> tuple[State, str]:
        if not self._go.is_set():
            return State.STANDBY, f"paused after frame {self.values['frame_number']}: Start goes on, Step sends one"
        late = max(self.clock() - self._due_at, 0.0) if self.values["frame_period_s"] else 0.0
        if late >= LATE_S:
            return State.ALARM, f"frames are {late:.1f} s late: the reconstructor is missing or too slow"
        return State.RUNNING, f"replaying {self._replayed}"


def replay(
    source: FrameSource, series: str, first: int, last: int, loops: Callable[[], bool], clock: Clock
) -> Iterator[Image]:
    """Frames of `source` from index `first` to `last` (inclusive; -1: the end), again while `loops()` is true.

    Frame numbers go on from pass to pass, with the gaps that the recording has. Angles go on by whole turns, so that
    the object stands where it stood; those of a parallel beam by half turns if the recording ends there, with the
    true vectors as the frame's own pose. Raises ValueError when the range holds no frame.
    """
    end = len(source) if last < 0 else min(last + 1, len(source))
    if not first < end:
        raise ValueError(f"first_frame: expected below {end} (frames to replay), got {first}")
    geometry = source.header.geometry
    number, advance = 0, 0.0
    while True:
        begin = last_image = source.frame(first)
        for index in range(first, end):
            image = last_image = source.frame(index)
            pose = image.pose
            if pose is None and advance % (2 * math.pi) > 1e-6:
                pose = tuple(geometry.vectors(image.angle_rad)[0].tolist())
            frame = number + image.frame - begin.frame
            yield Image(series, frame, image.angle_rad + advance, clock(), np.asarray(image.data), pose)
        if not loops():
            return
        number += last_image.frame - begin.frame + 1
        swept = last_image.angle_rad - begin.angle_rad
        step = swept / max(end - first - 1, 1)
        span = geometry.full_turn_rad
        slack = max(0.25 * abs(step), OVERSCAN * span)  # a last view like the first, or a little beyond, adds no turn
        spans = max(math.ceil((abs(swept) - slack) / span), 1)
        advance = _whole(advance + math.copysign(span * spans, swept), span)


def _whole(angle_rad: float, span_rad: float) -> float:
    """The nearest multiple of a span: sums over many passes stay exact."""
    return round(angle_rad / span_rad) * span_rad
