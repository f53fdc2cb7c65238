"""The newest pictures, kept in memory for a recording that begins later."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from tango_jit.streams import Denoised

Shapes = Mapping[str, tuple[int, int]]


class Shot(NamedTuple):
    """A picture, when it came, and the shapes of all slices at that moment."""

    picture: Denoised
    received_s: float
    shapes: Shapes


class Backlog:
    """Shots of the last `seconds`, and of no more than `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._shots: deque[Shot] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._shots)

    @property
    def span_s(self) -> float:
        """From the first to the last."""
        return self._shots[-1].received_s - self._shots[0].received_s if self._shots else 0.0

    @property
    def oldest_s(self) -> float:
        """When the oldest came; infinity if there is none."""
        return self._shots[0].received_s if self._shots else float("inf")

    def add(self, shot: Shot, seconds: float) -> int:
        """Keep one more; returns how many were forgotten for it."""
        self._shots.append(shot)
        self._bytes += shot.picture.nbytes
        return self.trim(shot.received_s, seconds)

    def trim(self, now_s: float, seconds: float) -> int:
        """Forget what is older, or too much; returns how many."""
        forgotten = 0
        while self._shots and (self._shots[0].received_s < now_s - seconds or self._bytes > self._budget_bytes):
            self.pop()
            forgotten += 1
        return forgotten

    def pop(self) -> Shot:
        """Take the oldest. Raises IndexError if there is none."""
        shot = self._shots.popleft()
        self._bytes -= shot.picture.nbytes
        return shot
