"""The camera's frame numbers, made to count up for ever."""

from __future__ import annotations

from typing import Literal

REORDERED = 64  # so many frames back one may be late; further back the camera has begun again
WRAPS = (1 << 16, 1 << 32)  # UniqueIdMode of areaDetector; signed numbers of 32 bits are taken without their sign
NEAR = 1024  # a number wraps round from so close below its end to so close above 0


class Numbering:
    """Follows the numbers of one camera: across the end of their range, and through its restarts."""

    def __init__(self) -> None:
        self._newest = -1  # counted through
        self._newest_s = 0.0
        self._base = 0  # what is added to the camera's numbers

    def place(self, number: int, timestamp_s: float) -> tuple[int, Literal["on", "anew"]]:
        """The number counted through, and whether the camera has begun "anew" with this frame or goes "on".

        A lower number than before is a late frame or a repeat if it is no newer than the newest was (`timestamp_s`; 0:
        not told) or, without times, within 64 of it. Otherwise the camera was started again.
        """
        told = number & 0xFFFFFFFF
        seen = self._newest - self._base
        for wrap in WRAPS:
            if wrap - NEAR <= seen < wrap and told < NEAR:
                self._base += wrap
            elif self._base >= wrap and seen < NEAR and wrap - NEAR <= told < wrap:
                return self._base - wrap + told, "on"  # late, from before the wrap
        counted = self._base + told
        begins = self._newest < 0
        if not begins and counted <= self._newest:
            timed = timestamp_s > 0 and self._newest_s > 0
            restarted = timestamp_s > self._newest_s if timed else counted < self._newest - REORDERED
            if not restarted:
                return counted, "on"
            self._base, counted, begins = 0, told, True
        self._newest, self._newest_s = counted, timestamp_s
        return counted, "anew" if begins else "on"
