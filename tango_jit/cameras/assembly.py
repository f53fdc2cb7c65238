"""From exposures to a scan: series, numbers, angles, darks and flats. No thread, no socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from tango_jit.cameras.angles import AngleFinder, AngleSettings, NoAngleError
from tango_jit.cameras.exposure import (
    Angles,
    Event,
    Exposure,
    FieldMean,
    FirstNumber,
    Position,
    Refused,
    Role,
    RoleNow,
    role_of,
)
from tango_jit.cameras.numbering import Numbering
from tango_jit.cameras.scanner import Scanner
from tango_jit.streams.frames import FrameCount
from tango_jit.streams.messages import Dark, Flat, Header, Image, Message, SeriesEnd

WAITING_FRAMES = 256
WAITING_BYTES = 256 << 20


@dataclass(frozen=True)
class CameraSettings:
    """How frames become a scan. `linear`: -log is already applied. `role_attribute`: name of the attribute that tells
    what a frame shows, see `role_of`; empty: none does. `full_turn`: see `Header`."""

    scanner: Scanner = field(default_factory=Scanner)
    angles: AngleSettings = field(default_factory=AngleSettings)
    role_attribute: str = ""
    linear: bool = False
    full_turn: bool = False
    name: str = ""


class Assembly:
    """Takes what a camera tells and gives the messages of the raw stream.

    A new series begins with the first projection, after the camera was started again, when frames have another shape,
    region or type, and when settings change. Darks and flats that fit go on counting. A frame whose angle is not
    known yet waits, with all after it, until 256 frames or 256 MB do; then the oldest is refused.
    """

    def __init__(self, settings: CameraSettings, new_name: Callable[[], str]) -> None:
        """`new_name` gives the name of each new series."""
        self.count = FrameCount()
        self.refused = 0
        """Frames that could not be used in this series."""
        self.why = ""
        """Why the last of them was not."""
        self.series = ""
        self._new_name = new_name
        self._numbering = Numbering()
        self._role: Role = "projection"
        self._means: dict[Role, Dark | Flat] = {}
        self._sums: dict[Role, tuple[np.ndarray, int]] = {}  # of fields that are being taken
        self._form: tuple[object, ...] = ()
        self.sent = 0
        """Frames of this series that became messages."""
        self._fields_seen = 0
        self._waiting: deque[tuple[Exposure, int, int]] = deque()  # with its number counted through, and in the series
        self._angles = AngleFinder()
        self.set(settings)

    def set(self, settings: CameraSettings) -> None:
        """Other settings: what comes next begins a new series."""
        self.settings = settings
        self._form = ()

    @property
    def waiting(self) -> int:
        """Frames that wait for their angle."""
        return len(self._waiting)

    @property
    def fields(self) -> dict[Role, int]:
        """How many frames dark and flat are the means of."""
        return {role: mean.count for role, mean in self._means.items()}

    def take(self, event: Event) -> Iterator[Message]:
        """The messages that come of one more event."""
        match event:
            case Exposure():
                yield from self._frame(event)
            case FieldMean():
                yield from self._field(event.role, event.mean, 1)
            case Angles():
                self._angles.set_table(event.degrees)
            case FirstNumber():
                self._angles.set_first(event.number)
            case Position():
                self._angles.add_position(event.timestamp_s, event.degrees)
            case RoleNow():
                yield from self._now(event.role)
            case Refused():
                self._refuse(event.why)
        yield from self._flush()

    def end(self) -> Iterator[Message]:
        """The last message of the series that runs."""
        yield from self._finish()
        self._form = ()

    # ---- frames

    def _frame(self, frame: Exposure) -> Iterator[Message]:
        try:
            role = self._role_of(frame)
        except ValueError as error:
            self._refuse(f"frame {frame.number}: {error}")
            return
        yield from self._now(role)
        number, step = self._numbering.place(frame.number, frame.timestamp_s)
        if step == "anew":
            self._form, self._fields_seen = (), 0
        if role != "projection":
            self._fields_seen += 1
            self._add_to_field(role, frame)
            return
        form = (frame.data.shape, frame.data.dtype, frame.offset, frame.binning)
        if form != self._form:
            try:
                yield from self._begin(frame)
            except ValueError as error:
                self._refuse(f"frame {frame.number}: {error}")
                return
            self._form = form
        in_series = max(number - self._fields_seen, 0)  # darks and flats between projections are no gap
        if self.count.observe(in_series) != "duplicate":
            self._waiting.append((frame, number, in_series))

    def _role_of(self, frame: Exposure) -> Role:
        name = self.settings.role_attribute
        if not name:
            return self._role
        if name not in frame.attributes:
            known = ", ".join(sorted(frame.attributes)) or "none"
            raise ValueError(f"frame type: expected the attribute {name!r}, there are: {known}")
        return role_of(frame.attributes[name])

    def _flush(self) -> Iterator[Message]:
        """Send what has its angle by now, in order."""
        while self._waiting:
            frame, number, in_series = self._waiting[0]
            try:
                degrees = self._angles.of(frame, number)
            except NoAngleError as error:
                self._refuse(f"frame {number}: {error}")
                self._waiting.popleft()
                continue
            if degrees is None:
                if len(self._waiting) <= WAITING_FRAMES and len(self._waiting) * frame.nbytes <= WAITING_BYTES:
                    return
                self._refuse(f"frame {number}: angle: expected one from {self.settings.angles.scheme}, none came")
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            self.sent += 1
            angle_rad = float(np.deg2rad(degrees)) * self.settings.scanner.sense
            yield Image(self.series, in_series, angle_rad, frame.timestamp_s, frame.data)

    def _refuse(self, why: str) -> None:
        self.refused, self.why = self.refused + 1, why

    # ---- series

    def _begin(self, frame: Exposure) -> Iterator[Message]:
        """A new series of frames like this one. Raises ValueError where they make no scan."""
        geometry = self.settings.scanner.geometry(frame)
        yield from self._finish()
        self.series = self._new_name()
        self.count.reset()
        self.refused, self.why, self.sent = 0, "", 0
        self._angles.begin(self.settings.angles)
        settings = self.settings
        yield Header(self.series, "raw", geometry, settings.linear, name=settings.name, full_turn=settings.full_turn)
        for role, mean in list(self._means.items()):
            if mean.mean.shape == frame.data.shape:
                yield replace(mean, series=self.series)
            else:
                del self._means[role]

    def _finish(self) -> Iterator[Message]:
        if self.series:
            for _, number, _ in self._waiting:
                self._refuse(f"frame {number}: the series ended before its angle came")
            self._waiting.clear()
            yield SeriesEnd(self.series, self.sent)
        self.series = ""

    # ---- darks and flats

    def _now(self, role: Role) -> Iterator[Message]:
        """Frames show this from now on: a field that was being taken is whole."""
        self._role = role
        whole: dict[Role, tuple[np.ndarray, int]] = {
            other: taken for other, taken in self._sums.items() if other != role
        }
        for other, (total, count) in whole.items():
            del self._sums[other]
            yield from self._field(other, (total / count).astype(np.float32), count)

    def _add_to_field(self, role: Role, frame: Exposure) -> None:
        total, count = self._sums.get(role, (None, 0))
        if total is None or total.shape != frame.data.shape:
            total, count = np.zeros(frame.data.shape), 0
        total += frame.data
        self._sums[role] = total, count + 1

    def _field(self, role: Role, mean: np.ndarray, count: int) -> Iterator[Message]:
        kind = Dark if role == "dark" else Flat
        message = kind(self.series or "none yet", np.ascontiguousarray(mean, np.float32), count)
        self._means[role] = message
        if self.series and self._form and self._form[0] == mean.shape:
            yield message
