"""What figures were over the last hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

LENGTH_S = 3600.0


class History:
    """Points (time in s since the epoch, value) of one figure, none older than an hour before the newest."""

    def __init__(self, length_s: float = LENGTH_S) -> None:
        self._length_s = length_s
        self._points: deque[tuple[float, float]] = deque()

    def add(self, at_s: float, value: float) -> None:
        """A point in order of time; an older one than the last is passed over. NaN: a gap in the curve."""
        if self._points and at_s <= self._points[-1][0]:
            return
        self._points.append((at_s, value))
        while self._points[0][0] < at_s - self._length_s:
            self._points.popleft()

    def before(self, points: Iterable[tuple[float, float]]) -> None:
        """Points from before the first one: what a device remembers of the time when nobody looked."""
        first = self._points[0][0] if self._points else np.inf
        newest = self._points[-1][0] if self._points else None
        earlier = sorted((float(t), float(v)) for t, v in points if t < first)
        last = newest if newest is not None else (earlier[-1][0] if earlier else 0.0)
        self._points.extendleft(reversed([p for p in earlier if p[0] >= last - self._length_s]))

    def after(self, at_s: float) -> tuple[list[float], list[float]]:
        """Times and values of the points later than that."""
        late = list(takewhile(lambda point: point[0] > at_s, reversed(self._points)))[::-1]
        return [at for at, _ in late], [value for _, value in late]

    def array(self) -> NDArray[np.float64]:
        """(2, n): times and values."""
        return np.array(self._points, np.float64).reshape(-1, 2).T
