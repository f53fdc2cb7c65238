"""A camera of another control system as a detector: its frames become the raw stream."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tango_jit.cameras import AngleSettings, Assembly, Camera, CameraSettings, Exposure, Scanner
from tango_jit.services.arrivals import Pace
from tango_jit.services.camera_signals import SIGNALS
from tango_jit.services.rates import Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.streams import Dark, Flat, Header, Image, Message, Publisher, Pusher, SeriesEnd

PATIENCE_S = 1.0  # so long a frame waits for a reconstructor, and only if that took the one before
TICK_S = 0.1
SILENCE_S = 2.0
ALARM_S = 10.0
LONGEST_NAME = 200


class CameraService(Service):
    """Receives what `camera` tells, makes a scan of it and pushes that."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        camera: Camera,
        *,
        raw_endpoint: str = "tcp://127.0.0.1:*",
        monitor_endpoint: str = "tcp://127.0.0.1:*",
        budget_bytes: int = 64 << 20,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(clock)
        self._camera = camera
        self._pusher = Pusher(raw_endpoint, budget_bytes=budget_bytes)
        self._copies = Publisher(monitor_endpoint, budget_bytes=budget_bytes)
        self._forget()
        self.publish(raw_endpoint=self._pusher.endpoint, monitor_endpoint=self._copies.endpoint)
        self.set_state(State.STANDBY, "ready: Start takes what the camera sends")

    def accept(self, name: str, value: Any) -> None:
        """Raises ValueError for a name that no message can carry."""
        if name == "scan_name" and (len(value) > LONGEST_NAME or not value.isprintable()):
            raise ValueError(f"scan_name: expected at most {LONGEST_NAME} printable characters, got {value[:80]!r}")

    def _forget(self) -> None:
        self._settings = camera_settings(self.values)
        self._assembly = Assembly(self._settings, self._new_series, self._camera.tells)
        self._rate, self._pace = Rate(), Pace(SILENCE_S)
        self._taken = True  # the last frame was
        self._noticed = (0, 0, 0)  # refused, lost, left over: what was seen of them
        self._alarm_until, self._alarm = -math.inf, ""

    def _new_series(self) -> str:
        return f"{self._settings.name or 'camera'}-{uuid.uuid4().hex[:8]}"

    def close(self) -> None:
        super().close()
        self._pusher.close()
        self._copies.close()

    # ---- the worker

    def open(self) -> None:
        self._forget()
        self.publish(series="", frame_number=-1, frames_untaken=0)
        self._camera.open()

    def shut(self) -> None:
        self._camera.close()
        for message in self._assembly.end():
            self._hand_over(message)
        for retained in ("Header", "Dark", "Flat"):
            self._pusher.forget(retained)
        self.publish(**self.counters())

    def turn(self) -> None:
        event = self._camera.receive(TICK_S)
        now = self.clock()
        if (settings := camera_settings(self.values)) != self._settings:
            self._settings = settings
            self._assembly.set(settings)
        if isinstance(event, Exposure):
            self._pace.beat(now)
        elif self._pace.silent(now):
            self._pass_on(self._assembly.settle(), now)
        if event is not None:
            self._pass_on(self._assembly.take(event), now)
        else:
            self._pusher.poll()

    def _pass_on(self, messages: Iterator[Message], now: float) -> None:
        """Send what came of an event; what the messages refuse is a frame that cannot be used."""
        try:
            self._send(messages, now)
        except (ValueError, ArithmeticError) as error:
            self._assembly.refuse(str(error))

    def _send(self, messages: Iterator[Message], now: float) -> None:
        for message in messages:
            if isinstance(message, Image) and message.timestamp_s <= 0:
                message = replace(message, timestamp_s=now)
            taken = self._hand_over(message)
            if isinstance(message, Image):
                self._account(message, now, taken)
            elif isinstance(message, Header):
                self._noticed = (self._noticed[0], 0, self._noticed[2])
                self.publish(series=message.series)

    def _hand_over(self, message: Message) -> bool:
        """Push it and its copy. False: no reconstructor took it, and it is gone."""
        if isinstance(message, (Header, Dark, Flat)):
            retain = type(message).__name__
            if isinstance(message, Header):
                self._pusher.forget("Dark")
                self._pusher.forget("Flat")
            self._copies.send(message, retain=retain)
            return self._pusher.send(message, retain=retain)
        self._copies.send(message)
        patience_s = 0.0 if isinstance(message, SeriesEnd) or not self._taken else PATIENCE_S
        taken = self._pusher.send(message)
        deadline = self.clock() + patience_s
        while not taken and not self._stop.is_set() and self.clock() < deadline:
            taken = self._pusher.send(message, timeout_s=TICK_S)
        return taken

    def _account(self, image: Image, now: float, taken: bool) -> None:
        self._taken = taken
        if not taken:
            self.publish(frames_untaken=self.values["frames_untaken"] + 1)
            return
        self._rate.add(now)
        self.publish(
            frame_number=image.frame,
            angle_deg=math.degrees(image.angle_rad),
            image=image.data.astype("f4", copy=False),
            frames_sent=self._assembly.sent,
        )

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        assembly, fields = self._assembly, self._assembly.fields
        return {
            "frames_received": assembly.count.received,
            "frames_lost": assembly.count.lost,
            "frames_late": assembly.count.late,
            "frames_duplicate": assembly.count.duplicate,
            "frames_refused": assembly.refused,
            "frames_dropped": self._camera.dropped,
            "frames_waiting": assembly.waiting,
            "darks": fields.get("dark", 0),
            "flats": fields.get("flat", 0),
            "actual_rate_hz": self._rate.per_second(self.clock()),
        }

    def health(self) -> tuple[State, str]:
        now = self.clock()
        self._look_for_trouble(now)
        if self._camera.trouble:
            return State.STANDBY, f"waiting for the camera: {self._camera.trouble}"
        if now < self._alarm_until:
            return State.ALARM, self._alarm
        if not self._taken:
            return State.ALARM, "frames come, but no reconstructor takes them"
        if not self._pace.at_s or self._pace.silent(now):
            return State.STANDBY, "connected, no frames"
        if self._camera.missing:
            return State.ALARM, f"frames without {self._camera.missing}"
        return State.RUNNING, f"{self._rate.per_second(now):.1f} frames/s from the camera"

    def _look_for_trouble(self, now: float) -> None:
        """What went wrong lately is told for a while."""
        assembly = self._assembly
        refused, lost, dropped = assembly.refused, assembly.count.lost, self._camera.dropped
        before_refused, before_lost, before_dropped = self._noticed
        self._noticed = refused, lost, dropped
        news = ""
        if dropped > before_dropped:
            news = f"{dropped} frames found the queue full: the reconstructor is too slow"
        elif lost > before_lost:
            news = f"{lost} frames lost on the way from the camera"
        elif refused > before_refused:
            news = f"{refused} frames refused: {assembly.why}"
        if news:
            self._alarm, self._alarm_until = news, now + ALARM_S


def camera_settings(values: Mapping[str, Any]) -> CameraSettings:
    """The settings in the values of a camera."""
    return CameraSettings(
        Scanner(
            values["pixel_mm"],
            values["beam"],
            values["source_axis_mm"],
            values["axis_detector_mm"],
            values["axis_column_px"],
            values["mid_row_px"],
            values["rows"],
            values["rotation_sense"],
        ),
        AngleSettings(
            values["angle_source"],
            values["start_angle_deg"],
            values["angle_step_deg"],
            values["angle_attribute"],
            values["angle_period_deg"],
            values["first_projection"],
        ),
        values["frame_type_attribute"],
        values["linear"],
        values["full_turn"],
        values["scan_name"],
    )
