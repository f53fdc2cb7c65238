"""Figures over time: rates, curves, the last hour. Times are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

STOPPED_S = 2.0
HOUR_EVERY_S = 10.0
HOUR_POINTS = 361


class Rate:
    """Events per second over a sliding window of `span_s`."""

    def __init__(self, span_s: float = 10.0) -> None:
        self._span_s = span_s
        self._events: deque[tuple[float, int]] = deque(maxlen=10_000)

    def add(self, now_s: float, count: int = 1) -> None:
        self._events.append((now_s, count))

    def per_second(self, now_s: float) -> float:
        """0 when nothing happened in the window, or nothing for much longer than usual."""
        while self._events and not 0 <= now_s - self._events[0][0] < self._span_s:
            self._events.popleft()
        if len(self._events) < 2:
            return 0.0
        # the first event only starts the clock: n events span n-1 intervals
        first, last = self._events[0][0], self._events[-1][0]
        if now_s - last > max(STOPPED_S, 3 * (last - first) / (len(self._events) - 1)):
            return 0.0
        span = max(now_s - first, 1e-6)
        return sum(count for _, count in list(self._events)[1:]) / span


class Curve:
    """(time, value) points in bounded memory: when full, every other point goes, so the whole run stays visible."""

    def __init__(self, capacity: int = 500) -> None:
        self._capacity = capacity
        self._points: list[tuple[float, float]] = []
        self._stride, self._seen = 1, 0

    def add(self, time_s: float, value: float) -> None:
        if self._seen % self._stride == 0:
            self._points.append((time_s, value))
        self._seen += 1
        if len(self._points) >= self._capacity:
            self._points = self._points[::2]
            self._stride *= 2

    def array(self) -> NDArray[np.float64]:
        """(2, n): times in s since the epoch, values."""
        return np.array(self._points, np.float64).reshape(-1, 2).T.copy()


class Hour:
    """What some figures were over the last hour, a column every 10 s; where nobody worked one of no numbers."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._columns: deque[tuple[float, ...]] = deque(maxlen=HOUR_POINTS)

    def add(self, now_s: float, values: Mapping[str, Any]) -> bool:
        """Take the figures of now if the next column is due; was it?"""
        while self._columns and self._columns[-1][0] > now_s:  # the clock was set back
            self._columns.pop()
        since_s = now_s - self._columns[-1][0] if self._columns else HOUR_EVERY_S
        if since_s < HOUR_EVERY_S:
            return False
        if since_s > 3 * HOUR_EVERY_S:
            self._columns.append((now_s - HOUR_EVERY_S, *(np.nan for _ in self._names)))
        self._columns.append((now_s, *(float(values[name]) for name in self._names)))
        while self._columns[0][0] < now_s - HOUR_EVERY_S * (HOUR_POINTS - 1):
            self._columns.popleft()
        return True

    def array(self) -> NDArray[np.float64]:
        """(1 + figures, n): times in s since the epoch, then a row for each figure."""
        return np.array(self._columns, np.float64).reshape(-1, 1 + len(self._names)).T.copy()
