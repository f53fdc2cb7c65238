"""The simulated detector: replays a recording through exactly the path that real frames take."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sim.detector_signals import SIGNALS
from sim.disturbances import Disturbance, camera_of, check_dose
from sim.faults import settings_of
from sim.pace import LATE_S, Pace
from sim.replay import Replay
from sim.scenario import Camera
from sim.series import Series
from tango_jit.recordings import open_recording
from tango_jit.services.rates import Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.streams import FrameSource, Image, Message, Publisher, Pusher

LONGEST_STALL_S = 600.0
TICK_S = 0.1
NAP_S = 0.001  # shorter waits cannot be ended by a Stop, longer ones can


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
        self._target: int | None = None  # where the replay is to go on
        self._stalled_until: float | None = None
        self._reborn = False  # Restart was commanded
        self._retake = False  # RetakeFields was
        self._source: FrameSource | None = None
        self._series: Series | None = None
        self._camera: Camera | None = None  # of a simulated recording
        self._rate, self._pace = Rate(), Pace(clock())
        self._done = self._replayed = ""
        self.publish(raw_endpoint=self._pusher.endpoint, monitor_endpoint=self._copies.endpoint, recording=recording)
        try:
            self.set_state(State.STANDBY, self._ready(recording))
        except (ValueError, OSError) as error:
            self.publish(state=State.ALARM, status=f"{error}: choose another recording")

    # ---- commands

    def start(self) -> None:
        """Begin a new series, with the first frame or where `position` was set to, or go on after Pause.

        Raises ValueError or OSError without a recording that holds the frames to replay.
        """
        if self._paused():
            self._pace.restart(self.clock())
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

    def stall(self, seconds: float) -> None:
        """Send nothing for so long, as when nobody reads the camera out; it goes on making frames at its rate.

        Those of the last second wait in its buffer and come at once afterwards, those before are lost and counted
        (`injected_stall`). With `frame_period_s` 0 there is no rate, and nothing is lost.
        """
        self._check_runs("Stall")
        if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_STALL_S):
            raise ValueError(f"Stall: expected above 0 to {LONGEST_STALL_S:g} s, got {seconds!r}")
        self._stalled_until = self.clock() + seconds

    def restart(self) -> None:
        """Die in mid-scan and come back: no end of the series, and a new one from here with frame numbers from 0."""
        self._check_runs("Restart")
        self._reborn = True

    def retake_fields(self) -> None:
        """Take dark and flat again, between two frames: the same means with new noise. The window fills anew.

        Raises ValueError when no series runs, or for a recording without darks and flats.
        """
        self._check_runs("RetakeFields")
        if (source := self._source) is None or (source.dark is None and source.flat is None):
            raise ValueError("RetakeFields: expected a recording with a dark or a flat, got one without")
        self._retake = True

    def close(self) -> None:
        super().close()
        self._pusher.close()
        self._copies.close()

    # ---- what is refused

    def _check_runs(self, command: str) -> None:
        if not self._alive():
            raise ValueError(f"{command}: expected a series that runs, got none: Start begins one")

    def _check_frames(self, command: str) -> None:
        """Raises ValueError or OSError in words unless there are frames to replay."""
        path = self.values["recording"]
        if not path:
            raise ValueError(f"recording: expected the path of a recording before {command}, got none")
        with open_recording(path) as source:
            check_dose(self.values["dose"], source.header.linear)
            Replay(source, "", self.values["first_frame"], self.values["last_frame"], self._loops, self._target)

    def _ready(self, recording: str) -> str:
        """What to do next. Raises ValueError or OSError in words for what is no recording."""
        if not recording:
            return "ready: choose a recording, then Start"
        with open_recording(recording) as source:
            camera = camera_of(source)
            if not self._alive():
                self.publish(recording_frames=len(source))
                if camera is not None:
                    self.publish(counts_per_photon=camera.counts_per_photon)
            return f"ready: Start replays {len(source)} frames of {recording}"

    def accept(self, name: str, value: Any) -> None:
        if name == "recording":
            ready = self._ready(value)
            if not self._alive():
                self._target = None
                self.set_state(State.STANDBY, ready)
                self.publish(position=0)
        if name == "position":
            self._check_position(value)
            self._target = value
        if name == "dose" and self._alive() and (source := self._source) is not None:
            check_dose(value, source.header.linear)
        if name.startswith("fault_"):
            settings_of({**self.values, name: value})
        first = value if name == "first_frame" else self.values["first_frame"]
        last = value if name == "last_frame" else self.values["last_frame"]
        if name in ("first_frame", "last_frame") and 0 <= last < first:
            raise ValueError(f"{name}: expected first_frame <= last_frame, got {first} and {last}")

    def _check_position(self, index: int) -> None:
        if self._alive() and (series := self._series) is not None:
            first, end = series.replay.first, series.replay.end
        else:
            last, frames = self.values["last_frame"], self.values["recording_frames"]
            first, end = self.values["first_frame"], frames if last < 0 else min(last + 1, frames)
        if not first <= index < end:
            raise ValueError(f"position: expected {first} to {end - 1}, the frames that are replayed, got {index}")

    # ---- the worker

    def open(self) -> None:
        self._done = ""
        self._series = None
        self._replayed = self.values["recording"]
        self._source = source = open_recording(self._replayed)
        self._camera = camera_of(source)
        self.publish(recording_frames=len(source))
        self._stalled_until, self._reborn, self._retake = None, False, False
        with self._lock:
            target, self._target = self._target, None
        self._begin(source, target)

    def _begin(self, source: FrameSource, at: int | None) -> Series:
        """Announce a new series; its first frame is that at index `at`, None: the first one."""
        first, last = self.values["first_frame"], self.values["last_frame"]
        self._series = series = Series(source, first, last, self._loops, self._how(), at)
        self._before = self.values["frames_total"], self.values["turns_total"]
        news = {"series": series.name, "frame_number": -1, "frames_held_back": 0, "passes": series.replay.passes}
        self.publish(**news, **series.figures())
        for message in series.preamble():
            self._copies.send(message, retain=type(message).__name__)
            while not self._pusher.send(message, timeout_s=0.2, retain=type(message).__name__):
                self.set_state(State.STANDBY, "waiting for a reconstructor to connect")
                if self._stop.is_set():
                    return series
        self._rate, self._pace = Rate(), Pace(self.clock())
        return series

    def _how(self) -> Disturbance:
        return Disturbance.of(self.values, self._camera)

    def _loops(self) -> bool:
        return bool(self.values["loop"])

    def _paused(self) -> bool:
        return self._alive() and not self._go.is_set()

    def _alive(self) -> bool:
        return self._worker is not None and self._worker.is_alive() and not self._stop.is_set()

    def turn(self) -> None:
        series = self._follow()
        if self._stalls(series) or not self._wait():
            return
        series = self._follow()  # what was set before a Step counts for its frames
        image = series.next_frame()
        if image is None:
            self._done = f"replayed {series.made} frames: Start replays again"
            self._stop.set()
            return
        image = replace(image, timestamp_s=self.clock())
        for message in series.messages(image, settings_of(self.values)):
            if not self._hand_over(message):
                return
        self._account(series, image)
        series.next_frame()  # from the disk ahead of its time

    def _follow(self) -> Series:
        """Do what was commanded and set since the last frame. Returns the series that runs now."""
        series, source = self._series, self._source
        assert series is not None and source is not None
        if self._reborn:
            self._reborn = False
            series = self._begin(source, series.replay.upcoming)
        with self._lock:
            target, self._target = self._target, None
        if target is not None:
            series.seek(target)
        news = series.change(self._how())
        if self._retake:
            self._retake = False
            news += series.retake()
        for message in news:
            if not self._hand_over(message, None if isinstance(message, Image) else type(message).__name__):
                break
        return series

    def _hand_over(self, message: Message, retain: str | None = None) -> bool:
        """Wait until somebody takes it; False: the series was stopped before."""
        held = False
        while not self._pusher.send(message, timeout_s=TICK_S, retain=retain):
            if not held:
                held = True
                self.publish(frames_held_back=self.values["frames_held_back"] + 1)
            self.set_state(*self.health())
            if self._stop.is_set():
                return False
        self._copies.send(message, retain=retain)
        return True

    def _account(self, series: Series, image: Image) -> None:
        """The frame is gone: publish what is true now."""
        now = self.clock()
        self._rate.add(now)
        news = series.taken() | {"image": image.data}
        news["lateness_ms"] = 1e3 * self._pace.sent(now, self.values["frame_period_s"])
        if self._target is not None:
            del news["position"]  # that shows already where the next one is from
        self.publish(**news, **self._totals(series))

    def _totals(self, series: Series) -> dict[str, Any]:
        frames, turns = self._before
        return {"frames_total": frames + series.made, "turns_total": turns + abs(series.turns)}

    def _stalls(self, series: Series) -> bool:
        """True while nothing may be sent; afterwards what the camera could not keep is passed over."""
        if self._stalled_until is None:
            return False
        self._pusher.poll()
        left = self._stalled_until - self.clock()
        if 0 < left <= LONGEST_STALL_S:  # else the clock was set back
            self._stop.wait(min(left, TICK_S))
            return True
        self._stalled_until = None
        if self._go.is_set():
            news = series.lose(self._pace.lose(self.clock(), self.values["frame_period_s"]))
            self.publish(**news, **self._totals(series))
        return False

    def _wait(self) -> bool:
        """True when the next frame is due; False to look again (paused, or the period is long)."""
        self._pusher.poll()
        if not self._go.is_set():
            with self._lock:
                if self._steps:
                    self._steps -= 1
                    self._pace.restart(self.clock())
                    return True
            self._go.wait(0.05)
            return False
        ahead = self._pace.ahead(self.clock(), self.values["frame_period_s"])
        if ahead > NAP_S:
            self._stop.wait(min(ahead - NAP_S, TICK_S))
            return False
        if ahead > 0:
            time.sleep(ahead)
        return not self._stop.is_set()

    def shut(self) -> None:
        source, series = self._source, self._series
        if source is None:
            return
        if series is not None:
            for message in series.end():
                self._copies.send(message)
                self._pusher.send(message, timeout_s=0.5)
            self.publish(**self.counters(), **series.figures())
        for retained in ("Header", "Dark", "Flat"):
            self._pusher.forget(retained)
        with suppress(OSError):
            source.close()
        self._source = None

    def rest(self) -> str:
        return self._done or super().rest()

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        figures = {"actual_rate_hz": self._rate.per_second(self.clock()), **self._pace.figures()}
        if (series := self._series) is not None:
            first, end = series.replay.first, series.replay.end
            figures["progress"] = 100.0 * (self.values["position"] - first + 1) / (end - first) if series.made else 0.0
        return figures

    def health(self) -> tuple[State, str]:
        if not self._go.is_set():
            return State.STANDBY, f"paused after frame {self.values['frame_number']}: Start goes on, Step sends one"
        if (until := self._stalled_until) is not None:
            return State.ALARM, f"stalled on command for {max(until - self.clock(), 0):.1f} s more"
        late = self._pace.late(self.clock(), self.values["frame_period_s"])
        if late >= LATE_S:
            return State.ALARM, f"frames are {late:.1f} s late: the reconstructor is missing or too slow"
        return State.RUNNING, f"replaying {self._replayed}"
