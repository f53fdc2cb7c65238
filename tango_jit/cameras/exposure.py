"""What a camera tells: frames with the camera's own numbers, and what belongs to them. All are values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Role = Literal["projection", "flat", "dark"]


@dataclass(frozen=True, eq=False)
class Exposure:
    """One frame as the camera made it.

    `number` is the camera's own, which may wrap round or begin again; `timestamp_s` its time, s since the epoch, 0: not
    told. `data` (rows, cols), any plain number type. `attributes`: what else came with it, by name. `offset` and
    `binning` (row, column): the region of the sensor, in its own pixels.
    """

    number: int
    timestamp_s: float
    data: NDArray[Any] = field(repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    offset: tuple[int, int] = (0, 0)
    binning: tuple[int, int] = (1, 1)

    @property
    def form(self) -> Form:
        """What frames must have in common to be one scan: shape, region, binning, type of the pixels."""
        return self.data.shape, self.offset, self.binning, self.data.dtype.str


Form = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class FieldMean:
    """A dark or flat that somebody averaged already: `mean` (rows, cols) in counts."""

    role: Role
    mean: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Angles:
    """The angles of a scan, frame by frame, in degrees (n,)."""

    degrees: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class FirstNumber:
    """The camera's number of the frame that has the first angle."""

    number: int


@dataclass(frozen=True)
class Position:
    """Where the rotation stage was at a time, in degrees and s since the epoch."""

    timestamp_s: float
    degrees: float


@dataclass(frozen=True)
class RoleNow:
    """What frames show from now on."""

    role: Role


@dataclass(frozen=True)
class Refused:
    """A frame that could not be read; `number` None: not even that."""

    why: str
    number: int | None = None


Event = Exposure | FieldMean | Angles | FirstNumber | Position | RoleNow | Refused


class Camera(Protocol):
    """Where exposures come from: one method that waits, and nothing of angles, series or geometry."""

    @property
    def trouble(self) -> str:
        """Why no frames come; empty: it is connected."""
        ...

    @property
    def missing(self) -> str:
        """What else does not come that should; empty: all does."""
        ...

    @property
    def tells(self) -> Collection[type]:
        """Kinds of events without which its frames are not understood: the first of each comes soon after `open`."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that came and had no room here."""
        ...

    def open(self) -> None:
        """Connect. Raises OSError or ValueError in words for what will never work; what is only away comes later."""
        ...

    def receive(self, timeout_s: float) -> Event | None:
        """What came next; None: nothing within `timeout_s`."""
        ...

    def close(self) -> None:
        """Disconnect; twice is no error, and `open` may come again."""
        ...


WORDS: tuple[tuple[str, Role], ...] = (("dark", "dark"), ("flat", "flat"), ("white", "flat"), ("proj", "projection"))
NUMBERS: tuple[Role, ...] = ("projection", "flat", "dark")


def role_of(value: Any) -> Role:
    """What a frame shows, from the words or numbers that sites use.

    tomoScan: Projection, FlatField, DarkField or 0, 1, 2; Data Exchange: /exchange/data, data_white, data_dark. Raises
    ValueError for others.
    """
    if isinstance(value, (str, bytes)):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        for word, role in WORDS:
            if word in text.lower():
                return role
        if text.strip().endswith("/data"):
            return "projection"
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < len(NUMBERS):
        return NUMBERS[int(value)]
    raise ValueError(f"frame type: expected projection, flat or dark, in words or as 0, 1 or 2, got {value!r}")
