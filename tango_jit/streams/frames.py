"""Which frames came, by their numbers."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal


class FrameCount:
    """Counts received, lost, late and repeated frames of one series.

    The series begins with whatever frame is seen first. Always `received + lost` = newest - oldest number + 1:
    `lost` are the numbers in between that have not come (yet), `received` the different ones that have, and of those
    `late` came after a higher one. `duplicate` counts repeats apart.

    Memory is bounded: gaps are kept as intervals, and only within `horizon` numbers below the newest. A frame
    from before that cannot be told from a repeat; it counts as a duplicate, and if it was lost it stays lost.
    """

    def __init__(self, horizon: int = 100_000) -> None:
        self._horizon = horizon
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new series begins."""
        self.received = self.late = self.duplicate = 0
        self._oldest = self._newest = -1
        # Missing numbers: start <= number < stop, ascending, apart, between oldest and newest.
        self._starts: list[int] = []
        self._stops: list[int] = []

    @property
    def lost(self) -> int:
        return self._newest - self._oldest + 1 - self.received if self.received else 0

    def observe(self, number: int) -> Literal["new", "duplicate", "late"]:
        """Count frame `number`, 0 or more: "new" is higher than all before, "late" is lower but not seen before."""
        if not self.received or number > self._newest:
            self._advance(number)
            self.received += 1
            return "new"
        if number > self._newest - self._horizon and (number < self._oldest or self._missing(number)):
            self._fill(number)
            self.received += 1
            self.late += 1
            return "late"
        self.duplicate += 1
        return "duplicate"

    def _advance(self, number: int) -> None:
        if not self.received:
            self._oldest = number
        elif number > self._newest + 1:
            self._starts.append(self._newest + 1)
            self._stops.append(number)
        self._newest = number
        passed = bisect_right(self._stops, number - self._horizon)  # gaps that ended before the horizon
        del self._starts[:passed], self._stops[:passed]

    def _missing(self, number: int) -> bool:
        i = bisect_right(self._starts, number) - 1
        return i >= 0 and number < self._stops[i]

    def _fill(self, number: int) -> None:
        if number < self._oldest:
            if number + 1 < self._oldest:
                self._starts.insert(0, number + 1)
                self._stops.insert(0, self._oldest)
            self._oldest = number
            return
        i = bisect_right(self._starts, number) - 1
        rest = [(a, b) for a, b in ((self._starts[i], number), (number + 1, self._stops[i])) if a < b]
        self._starts[i : i + 1] = [a for a, _ in rest]
        self._stops[i : i + 1] = [b for _, b in rest]
