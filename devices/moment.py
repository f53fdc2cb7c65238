"""Which pictures are of a time after a trigger: what a client that counts has to know, without Tango."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """What had arrived, and what was shown, at a trigger.

    `series`: that of the reconstructor. `arrived`: number of the newest frame that it had. `shown`: slice name -> frame
    number of its picture at the denoiser; -1: it had none.
    """

    series: str
    arrived: int
    shown: Mapping[str, int]

    @classmethod
    def of(cls, series: str, counted: int, every: int, shown: Mapping[str, int]) -> Moment:
        """`counted`: frames of the series so far, those that were lost included; `every`: frames between two updates.

        Numbers begin with 0, so that the newest frame is the counted one. A reconstructor that came later than the
        first frame counts less: then the newest is at most an update beyond what is shown.
        """
        newest = max(shown.values(), default=-1)
        return cls(series, counted - 1 if counted > newest else newest + every, dict(shown))

    def awaited(self, frames: int) -> int:
        """Number that a picture must have so that `frames` of its frames came after the trigger."""
        return self.arrived + frames

    def is_past(self, name: str, number: int, series: str, frames: int) -> bool:
        """Is a picture of slice `name` with this frame number from after the trigger, by `frames` frames at least?

        `series` is the present one: the frames of another series than that of the trigger came after it, and their
        numbers begin anew. What was shown at the trigger is never new.
        """
        before = self.shown.get(name, -1)
        if number < 0 or number == before:
            return False
        if number >= self.awaited(frames):
            return True
        return series != self.series and number < (before if before >= 0 else self.arrived)
