"""When the frames of a series came: what is lost, whether the stream fell silent, whether it ended."""

from __future__ import annotations

import math

from tango_jit.streams import FrameCount

LONGEST_PERIOD_S = 600.0


class Arrivals:
    """The frames of one series as they come in. Times are seconds of the service's clock."""

    def __init__(self, silence_s: float) -> None:
        """`silence_s`: for how long nothing may come before that is worth telling (or 3 periods of a slow scan)."""
        self.count = FrameCount()
        self.at_s = 0.0
        """When the last frame came; 0: none yet."""
        self.ended = False
        self._silence_s, self._period_s = silence_s, 0.0
        self._lost_at_s, self._lost_seen = -math.inf, 0

    def add(self, frame: int, at_s: float) -> bool:
        """Account for one frame; False: it was there before."""
        self._period_s = min(max(at_s - self.at_s, 0.0), LONGEST_PERIOD_S) if self.at_s else 0.0
        self.at_s, self.ended = at_s, False
        return self.count.observe(frame) != "duplicate"

    def discard(self) -> None:
        """The last frame could not be used: that is a loss, too."""
        self._lost_at_s = self.at_s

    def silent(self, now_s: float) -> bool:
        """Has nothing come for longer than this series' frames take?"""
        return now_s - self.at_s > max(self._silence_s, 3 * self._period_s)

    def lost_within(self, seconds: float, now_s: float) -> bool:
        """Was a loss noticed in these last seconds? To be asked often: a loss is dated when it is first seen here."""
        if self.count.lost > self._lost_seen:
            self._lost_at_s = now_s
        self._lost_seen = self.count.lost
        return now_s - self._lost_at_s < seconds

    def forget_losses(self) -> None:
        """Count anew."""
        self.count, self._lost_seen = FrameCount(), 0
