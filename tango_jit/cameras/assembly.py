"""From exposures to a scan: series, numbers, angles, darks and flats. No thread, no socket, no clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from tango_jit.cameras.angles import AngleFinder, AngleSettings, NoAngleError
from tango_jit.cameras.exposure import (
    Angles,
    Event,
    Exposure,
    FieldMean,
    FirstNumber,
    Form,
    Position,
    Refused,
    Role,
    RoleNow,
    role_of,
)
from tango_jit.cameras.fields import Field, Fields
from tango_jit.cameras.numbering import Numbering
from tango_jit.cameras.scanner import Scanner
from tango_jit.streams.frames import FrameCount
from tango_jit.streams.messages import Dark, Flat, Header, Image, Message, SeriesEnd

WAITING_FRAMES = 256
WAITING_BYTES = 256 << 20
REMEMBERED = 10_000  # numbers of darks and flats between projections


@dataclass(frozen=True)
class CameraSettings:
    """How frames become a scan. `linear`: -log is already applied. `role_attribute`: name of the attribute that tells
    what a frame shows, see `role_of`; empty: none does. `full_turn`, `name`: see `Header`."""

    scanner: Scanner = field(default_factory=Scanner)
    angles: AngleSettings = field(default_factory=AngleSettings)
    role_attribute: str = ""
    linear: bool = False
    full_turn: bool = False
    name: str = ""


class Assembly:
    """Takes what a camera tells and gives the messages of the raw stream.

    A new series begins with the first projection, after the camera was started again, when frames have another shape,
    region or type, when the scan tells other angles or another first frame, and when settings change. Frames wait
    until all that the camera `tells` has come once, and each with all after it until its angle is known, 256 of them or
    256 MB at most; then the oldest is refused.
    """

    def __init__(
        self, settings: CameraSettings, new_name: Callable[[], str], tells: Collection[type] = frozenset()
    ) -> None:
        """`new_name` gives the name of each new series; `tells`: see `Camera`."""
        self.count = FrameCount()
        """Frames of this series, darks and flats among them."""
        self.refused = 0
        """Frames that could not be used, since the beginning."""
        self.why = ""
        """Why the last of them was not."""
        self.series = ""
        self.sent = 0
        """Frames of this series that became messages."""
        self.settings = settings
        self._running = settings  # those of the series
        self._new_name = new_name
        self._untold = set(tells)
        self._held: deque[Exposure] = deque()  # until nothing is untold
        self._waiting: deque[tuple[Exposure, int, int]] = deque()  # with its number counted through, and in the series
        self._numbering = Numbering()
        self._angles = AngleFinder()
        self._first: int | None = None  # the camera's number of the frame with the first angle
        self._fields = Fields()
        self._field_numbers: list[int] = []
        self._role: Role = "projection"
        self._form: Form | None = None  # of the series
        self._newest_form: Form | None = None

    def set(self, settings: CameraSettings) -> None:
        """Other settings: the next projection begins a new series with them."""
        self.settings = settings
        self._form = None

    @property
    def waiting(self) -> int:
        """Frames that wait for what tells their angle or what they show."""
        return len(self._waiting) + len(self._held)

    @property
    def fields(self) -> dict[Role, int]:
        """How many frames the newest dark and flat are the means of."""
        return self._fields.counts()

    def take(self, event: Event) -> Iterator[Message]:
        """The messages that come of one more event."""
        self._untold.discard(type(event))
        match event:
            case Exposure():
                self._held.append(event)
                self._drop_held()
            case FieldMean():
                shape = self._newest_form and self._newest_form[0]
                form = self._newest_form if shape == event.mean.shape else None
                mean = np.ascontiguousarray(event.mean, np.float32)
                yield from self._tell(self._fields.know(Field(event.role, mean, 1, form)))
            case Angles():
                if self._angles.set_table(event.degrees) and self.settings.angles.scheme == "TABLE":
                    self._form = None
            case FirstNumber():
                if event.number != self._first:
                    self._first, self._form = event.number, None
            case Position():
                self._angles.add_position(event.timestamp_s, event.degrees)
            case RoleNow():
                yield from self._now(event.role)
            case Refused():
                self.refuse(event.why)
        while self._held and not self._untold:
            yield from self._frame(self._held.popleft())
        yield from self._flush()

    def settle(self) -> Iterator[Message]:
        """Nothing came for a while: fields that were being taken are whole."""
        for one in self._fields.taken():
            yield from self._tell(one)

    def end(self) -> Iterator[Message]:
        """The last messages of the series that runs."""
        yield from self.settle()
        yield from self._finish()

    def refuse(self, why: str) -> None:
        """A frame cannot be used."""
        self.refused, self.why = self.refused + 1, why

    # ---- frames

    def _drop_held(self) -> None:
        if self._untold and _too_many(self._held, self._held[0]):
            names = ", ".join(sorted(kind.__name__ for kind in self._untold))
            self.refuse(f"frame {self._held.popleft().number}: expected {names} before it is understood, none came")

    def _frame(self, frame: Exposure) -> Iterator[Message]:
        try:
            role = self._role_of(frame)
        except ValueError as error:
            self.refuse(f"frame {frame.number}: {error}")
            return
        newest = self._numbering.newest
        number, step = self._numbering.place(frame.number, frame.timestamp_s)
        self._newest_form = frame.form
        if step == "anew":
            self._fields.forget_sums()
            self._field_numbers = []
            yield from self._finish()
        elif self.count.observe(number) == "duplicate":
            return
        yield from self._now(role)
        if role != "projection":
            self._fields.add(role, frame)
            if number > newest or step == "anew":  # where it is late its number is a gap in the series
                self._field_numbers = [*self._field_numbers[-REMEMBERED:], number]
            return
        if frame.form != self._form:
            try:
                yield from self._begin(frame, number)
            except ValueError as error:
                self.refuse(f"frame {frame.number}: {error}")
                return
        # Darks and flats between projections are no gap.
        self._waiting.append((frame, number, number - bisect_left(self._field_numbers, number)))

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
                self.refuse(f"frame {number}: {error}")
                self._waiting.popleft()
                continue
            if degrees is None:
                if not _too_many(self._waiting, frame):
                    return
                self.refuse(f"frame {number}: angle: expected one from {self._running.angles.scheme}, none came")
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            self.sent += 1
            angle_rad = float(np.deg2rad(degrees)) * self._running.scanner.sense
            yield Image(self.series, in_series, angle_rad, frame.timestamp_s, frame.data)

    # ---- series

    def _begin(self, frame: Exposure, number: int) -> Iterator[Message]:
        """A new series of frames like this one. Raises ValueError where they make no scan."""
        settings, series = self.settings, self._new_name()
        geometry = settings.scanner.geometry(frame)
        header = Header(series, "raw", geometry, settings.linear, name=settings.name, full_turn=settings.full_turn)
        yield from self._finish()
        self.series, self._running, self._form, self.sent = series, settings, frame.form, 0
        self.count.observe(number)
        self._field_numbers = []
        self._angles.begin(settings.angles, -1 if self._first is None else self._numbering.counted(self._first))
        yield header
        for one in self._fields.of(frame.form):
            yield from self._tell(one)

    def _finish(self) -> Iterator[Message]:
        """End the series that runs, if one does."""
        for _, number, _ in self._waiting:
            self.refuse(f"frame {number}: the series ended before its angle came")
        self._waiting.clear()
        self.count.reset()
        self._form = None
        if self.series:
            yield SeriesEnd(self.series, self.sent)
        self.series = ""

    # ---- darks and flats

    def _now(self, role: Role) -> Iterator[Message]:
        """Frames show this from now on: fields of other roles that were being taken are whole."""
        self._role = role
        for one in self._fields.taken(but=role):
            yield from self._tell(one)

    def _tell(self, one: Field) -> Iterator[Message]:
        """The message of a field, where it is for the frames of the series that runs."""
        if self.series and self._form is not None and one.fits(self._form):
            kind = Dark if one.role == "dark" else Flat
            yield kind(self.series, one.mean, one.count)


def _too_many(waiting: Collection[object], frame: Exposure) -> bool:
    return len(waiting) > WAITING_FRAMES or len(waiting) * frame.data.nbytes > WAITING_BYTES
