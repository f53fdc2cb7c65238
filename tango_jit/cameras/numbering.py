"""The camera's frame numbers, made to count up for ever."""

from __future__ import annotations

from typing import Literal

REORDERED = 64  # so many frames back one may be late; further back the camera has begun again
BEHIND = 32  # so many in a row that do not go on are a numbering that has begun again
FARTHEST = 1_000_000  # so many frames are never lost at once
WRAPS = (1 << 16, 1 << 32)  # UniqueIdMode of areaDetector; signed numbers of 32 bits are taken without their sign
NEAR = 1024  # a number wraps round from so close below its end to so close above 0,
WRAP_S = 10.0  # and within such a time


class Numbering:
    """Follows the numbers of one camera: across the end of their range, and through its restarts."""

    def __init__(self) -> None:
        self._newest = -1  # counted through
        self._newest_s = 0.0
        self._base = 0  # what is added to the camera's numbers
        self._behind = 0

    @property
    def newest(self) -> int:
        """The highest number, counted through; -1: there is none yet."""
        return self._newest

    def place(self, number: int, timestamp_s: float) -> tuple[int, Literal["on", "anew"]]:
        """The number counted through, and whether the camera has begun "anew" with this frame or goes "on".

        A lower number than before is a late frame or a repeat if it is no newer than the newest was (`timestamp_s`, s
        since the epoch; 0: not told) or, without times, within 64 of it, and as long as there are not 32 of them in a
        row. Otherwise the camera was started again; so it was where more than a million frames seem to be lost.
        """
        told = number & 0xFFFFFFFF
        seen = self._newest - self._base
        timed = timestamp_s > 0 and self._newest_s > 0
        soon = not timed or abs(timestamp_s - self._newest_s) < WRAP_S
        counted = self._base + told
        for wrap in WRAPS:
            if wrap - NEAR <= seen < wrap and told < NEAR and soon:
                self._base += wrap
                counted += wrap
            elif self._base >= wrap and 0 <= seen < NEAR and wrap - NEAR <= told < wrap and soon:
                counted = self._base - wrap + told  # late, from before the wrap
        if self._newest >= 0 and counted <= self._newest + FARTHEST:
            if counted > self._newest:
                self._behind = 0
                self._newest, self._newest_s = counted, timestamp_s
                return counted, "on"
            self._behind += 1
            again = timestamp_s > self._newest_s if timed else counted < self._newest - REORDERED
            if not again and self._behind < BEHIND:
                return counted, "on"
        self._base, self._behind = 0, 0
        self._newest, self._newest_s = told, timestamp_s
        return told, "anew"

    def counted(self, number: int) -> int:
        """What `place` made, or would make, of this number of the camera; before a wrap where that is nearer."""
        told = self._base + (number & 0xFFFFFFFF)
        for wrap in WRAPS:
            if told > self._newest + NEAR and self._base >= wrap:
                return told - wrap
        return told
