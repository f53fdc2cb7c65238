"""The angle of each frame, by one of four schemes. Angles here are degrees, as sites tell them."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tango_jit.cameras.exposure import Exposure

Scheme = Literal["COMPUTED", "TABLE", "ATTRIBUTE", "POSITION"]
REMEMBERED = 10_000  # positions
BEHIND = 8  # so many positions in a row that are older than the newest are right, and that one was wrong
LONGEST_GAP_S = 10.0
LARGEST_GAP_DEG = 1.0  # a stage at rest may be silent for long; one that moved further meanwhile may not
LARGEST_DEG = 1e9


class NoAngleError(ValueError):
    """A frame whose angle will never be known; the text says why."""


@dataclass(frozen=True)
class AngleSettings:
    """`scheme`: COMPUTED, `start_deg` + `step_deg` * (number - first); TABLE, the value of that index in a list; the
    ATTRIBUTE of that name; POSITION of the stage at the frame's time. `period_deg`: after so much the stage counts
    from 0 again, 0: it counts through. `first_number`: of the frame with the first angle, -1: the first that comes."""

    scheme: Scheme = "COMPUTED"
    start_deg: float = 0.0
    step_deg: float = 1.0
    attribute: str = ""
    period_deg: float = 0.0
    first_number: int = -1


class Turns:
    """Counts a stage through that begins again at 0 after `period_deg`; 0: it counts through by itself."""

    def __init__(self, period_deg: float) -> None:
        self._period = period_deg
        self._turned = 0.0  # degrees
        self._before: float | None = None

    def through(self, degrees: float) -> float:
        """Degrees counted through, less than half a period from those before."""
        if self._period and self._before is not None:
            self._turned -= self._period * round((degrees - self._before) / self._period)
        self._before = degrees
        return degrees + self._turned


class AngleFinder:
    """Finds the angle of each frame. What is known of the scan (table, first number, positions) outlives a series."""

    def __init__(self) -> None:
        self._table: NDArray[np.float64] | None = None
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._degrees: deque[float] = deque(maxlen=REMEMBERED)
        self._behind = 0
        self._stage = Turns(0.0)
        self._settings = AngleSettings()
        self._turns = Turns(0.0)
        self._first = -1

    def begin(self, settings: AngleSettings, first: int = -1) -> None:
        """A series begins, with these settings. `first`: the number, counted through, of the frame with the first
        angle, where the settings do not say it; -1: that of the first frame."""
        if settings.period_deg != self._settings.period_deg:
            self._forget_positions(settings.period_deg)
        self._settings = settings
        self._turns = Turns(settings.period_deg)
        self._first = settings.first_number if settings.first_number >= 0 else first

    def set_table(self, degrees: NDArray[np.float64]) -> bool:
        """The angles of the scheme TABLE, (n,). Says whether others were known before."""
        before, self._table = self._table, degrees
        return before is not None and not np.array_equal(before, degrees)

    def add_position(self, timestamp_s: float, degrees: float) -> None:
        """The stage was there. Without a time, or older than the newest, that is of no use and ignored.

        Where eight in a row are older the newest had a wrong time, and all positions are forgotten.
        """
        if not (timestamp_s > 0 and abs(degrees) <= LARGEST_DEG):
            return
        if self._times and timestamp_s <= self._times[-1]:
            self._behind += 1
            if self._behind < BEHIND:
                return
            self._forget_positions(self._settings.period_deg)
        self._behind = 0
        self._times.append(timestamp_s)
        self._degrees.append(self._stage.through(degrees))

    def _forget_positions(self, period_deg: float) -> None:
        self._times.clear()
        self._degrees.clear()
        self._behind = 0
        self._stage = Turns(period_deg)

    def of(self, exposure: Exposure, number: int) -> float | None:
        """The angle in degrees; None: not known yet, ask again. Raises NoAngleError: it will never be."""
        settings = self._settings
        if self._first < 0:
            self._first = number
        match settings.scheme:
            case "COMPUTED":
                return settings.start_deg + settings.step_deg * (number - self._first)
            case "TABLE":
                return self._listed(number - self._first)
            case "ATTRIBUTE":
                return self._turns.through(self._told(exposure))
            case "POSITION":
                return self._at(exposure.timestamp_s)

    def _listed(self, index: int) -> float | None:
        if self._table is None:
            return None
        if not 0 <= index < len(self._table):
            raise NoAngleError(f"angle: expected frame 0 to {len(self._table) - 1} of the scan's table, got {index}")
        return float(self._table[index])

    def _told(self, exposure: Exposure) -> float:
        name = self._settings.attribute
        value = exposure.attributes.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not abs(value) <= LARGEST_DEG:
            known = ", ".join(sorted(exposure.attributes)) or "none"
            raise NoAngleError(f"angle: expected a number in the attribute {name!r}, got {value!r}; there are: {known}")
        return float(value)

    def _at(self, timestamp_s: float) -> float | None:
        """Between the positions before and after, in proportion."""
        if timestamp_s <= 0:
            raise NoAngleError("angle: expected a frame with a time, to find where the stage was, got none")
        if not self._times or timestamp_s > self._times[-1]:
            return None
        after = bisect_left(self._times, timestamp_s)
        if self._times[after] == timestamp_s:
            return self._degrees[after]
        if after == 0:
            first_s = self._times[0]
            raise NoAngleError(
                f"angle: expected a position before {timestamp_s:.6f} s, the first is of {first_s:.6f} s"
            )
        start_s, end_s = self._times[after - 1], self._times[after]
        start, change = self._degrees[after - 1], self._degrees[after] - self._degrees[after - 1]
        if end_s - start_s > LONGEST_GAP_S and abs(change) > LARGEST_GAP_DEG:
            raise NoAngleError(
                f"angle: expected positions within {LONGEST_GAP_S:g} s of each other, got {end_s - start_s:.1f} s with "
                f"{change:g} degrees between"
            )
        return start + change * (timestamp_s - start_s) / (end_s - start_s)
