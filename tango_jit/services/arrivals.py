"""When things come: whether a stream fell silent, which frames of a series are lost, whether the series ended."""

from __future__ import annotations

import math

from tango_jit.streams import FrameCount

LONGEST_PERIOD_S = 600.0
REPEATS = 32  # so many repeated frames in a row are a numbering that has started anew
FIRST = 5  # the second may take so many times longer than `silence_s`: the period is not known yet


class Pace:
    """When something came last, and how long the next may take. Times are seconds of the service's clock."""

    def __init__(self, silence_s: float) -> None:
        """`silence_s`: for how long nothing may come before that is worth telling (or 3 periods, if they are long)."""
        self.at_s = 0.0
        """When the last one came; 0: none yet."""
        self._silence_s, self._period_s = silence_s, math.nan

    def beat(self, at_s: float) -> None:
        """One came."""
        if self.at_s:
            self._period_s = min(max(at_s - self.at_s, 0.0), LONGEST_PERIOD_S)
        self.at_s = at_s

    def silent(self, now_s: float) -> bool:
        """Has nothing come for longer than usual?"""
        first = FIRST * self._silence_s if self.at_s else 0.0
        patience = first if math.isnan(self._period_s) else max(self._silence_s, 3 * self._period_s)
        return now_s - self.at_s > patience


class Arrivals(Pace):
    """The frames of one series as they come in."""

    def __init__(self, silence_s: float) -> None:
        super().__init__(silence_s)
        self.count = FrameCount()
        self.ended = False
        self.refused = 0
        """Frames that could not be used."""
        self.why = ""
        """Why the last of them was not."""
        self._refused_at_s = self._lost_at_s = -math.inf
        self._lost_seen = self._repeats = 0

    def add(self, frame: int, at_s: float) -> bool:
        """Account for one frame; False: it was there before.

        Several repeats in a row mean that the numbering has started anew: then the counts do, too.
        """
        self.beat(at_s)
        self.ended = False
        if self.count.observe(frame) != "duplicate":
            self._repeats = 0
            return True
        self._repeats += 1
        if self._repeats < REPEATS:
            return False
        self.forget_losses()
        self.count.observe(frame)
        return True

    def refuse(self, why: str) -> bool:
        """The last frame is of no use. Says whether that is news: nothing was refused in the second before."""
        news = self.at_s - self._refused_at_s > 1
        self.refused, self.why, self._refused_at_s = self.refused + 1, why, self.at_s
        return news

    def lost_within(self, seconds: float, now_s: float) -> bool:
        """Was a loss noticed in these last seconds? To be asked often: a loss is dated when it is first seen here."""
        if self.count.lost > self._lost_seen:
            self._lost_at_s = now_s
        self._lost_seen = self.count.lost
        return now_s - self._lost_at_s < seconds

    def refused_within(self, seconds: float, now_s: float) -> bool:
        """Was a frame refused in these last seconds?"""
        return now_s - self._refused_at_s < seconds

    def figures(self) -> dict[str, int]:
        """Of the signals that count frames."""
        count = self.count
        return {
            "frames_received": count.received,
            "frames_lost": count.lost,
            "frames_late": count.late,
            "frames_duplicate": count.duplicate,
        }

    def forget_losses(self) -> None:
        """Count anew."""
        self.count, self.refused, self._lost_seen, self._repeats = FrameCount(), 0, 0, 0
