"""When frames are due, and how well that was kept. Times are arguments, in s."""

from __future__ import annotations

from collections import deque

import numpy as np

LATE_S = 1.0
"""So much time is caught up; what is later than that shifts all that follows."""
REMEMBERED = 1000


class Pace:
    """Due times start + n * period, without drift; the period may change at any time, for the next frame already."""

    def __init__(self, now_s: float) -> None:
        self._late_s: deque[float] = deque(maxlen=REMEMBERED)
        self._deviations_s: deque[float] = deque(maxlen=REMEMBERED)
        self.restart(now_s)

    def restart(self, now_s: float) -> None:
        """The next frame is due now: after a pause, or for a single step."""
        self._due_s, self._period_s, self._last_s = now_s, -1.0, -1.0

    def ahead(self, now_s: float, period_s: float) -> float:
        """For how long the next frame is to wait; 0 or less: it is due (always so for the period 0)."""
        if self._period_s >= 0 and period_s != self._period_s:
            self._due_s += period_s - self._period_s
        self._period_s = period_s
        if self._due_s - now_s > period_s + 1.0:  # the clock was set back
            self._due_s = now_s
        return self._due_s - now_s

    def late(self, now_s: float, period_s: float) -> float:
        """How late the next frame is, in s; never negative, and 0 for the period 0, which promises nothing."""
        return max(now_s - self._due_s, 0.0) if period_s else 0.0

    def sent(self, now_s: float, period_s: float) -> float:
        """A frame went out. Returns how late it was, in s."""
        late_s = self.late(now_s, period_s)
        if period_s:
            self._late_s.append(late_s)
            if self._last_s >= 0:
                self._deviations_s.append(now_s - self._last_s - period_s)
        self._last_s = now_s
        self._period_s = period_s
        self._due_s = max(self._due_s + period_s, now_s - LATE_S)
        return late_s

    def lose(self, now_s: float, period_s: float) -> int:
        """How many frames a camera has made, and its buffer for LATE_S has lost, while nobody read it until now.

        Their due times are passed over. 0 for the period 0: then there is no rate at which frames are made.
        """
        overdue = now_s - LATE_S - self._due_s
        if not period_s or overdue <= 0:
            return 0
        lost = int(np.ceil(overdue / period_s))
        self._due_s += lost * period_s
        return lost

    def figures(self) -> dict[str, float]:
        """Over the last 1000 frames, in ms: median and 99th percentile of the lateness; jitter, which is the
        standard deviation of the intervals from their period. NaN before there are any."""
        p50, p99 = np.percentile(self._late_s, (50, 99)) if self._late_s else (np.nan, np.nan)
        jitter = np.sqrt(np.mean(np.square(self._deviations_s))) if self._deviations_s else np.nan
        return {
            "lateness_p50_ms": 1e3 * float(p50),
            "lateness_p99_ms": 1e3 * float(p99),
            "jitter_ms": 1e3 * float(jitter),
        }
