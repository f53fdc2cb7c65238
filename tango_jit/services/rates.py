"""Figures over the last seconds: rates, latencies, curves. Times are arguments."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

STOPPED_S = 2.0


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
