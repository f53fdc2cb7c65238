"""Which pictures are of a time after a trigger: what a client that counts has to know, without Tango."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Moment:
    """What had arrived, and what was shown, at a trigger.

    `series` and `counted`: those of the reconstructor at the last look; frames that were lost are counted. `arrived`:
    number of the newest frame at the trigger. `shown`: slice name -> frame number of its picture at the denoiser; -1:
    it had none. `anew`: newest frame, when that was noticed, of a series other than that of the pictures shown; None:
    there is none.
    """

    series: str
    counted: int
    arrived: int
    shown: Mapping[str, int]
    anew: int | None = None

    @classmethod
    def of(cls, series: str, counted: int, every: int, shown: Mapping[str, int]) -> Moment:
        """`every`: frames between two updates.

        Numbers begin with 0, so that the newest frame is the counted one. Fewer are counted than are shown when a
        series has just begun, with numbers anew, or when the reconstructor came later than the first frame, with
        numbers that go on: at most an update beyond what is shown has arrived then. The next pictures tell which.
        """
        newest = max(shown.values(), default=-1)
        if counted > newest:
            return cls(series, counted, counted - 1, dict(shown))
        return cls(series, counted, newest + every, dict(shown), anew=counted - 1)

    def seen(self, series: str, counted: int) -> Moment:
        """The same trigger after a later look: another series, or a count that fell, says that numbers begin anew.

        Both are looked at, as a reconstructor tells them one after the other.
        """
        if series == self.series and counted >= self.counted:
            return replace(self, counted=counted)
        return replace(self, series=series, counted=counted, anew=counted - 1)

    def awaited(self, frames: int) -> int:
        """Number that a picture must have so that `frames` of its frames came after the trigger."""
        return (self.arrived if self.anew is None else self.anew) + frames

    def is_past(self, name: str, number: int, frames: int) -> bool:
        """Is a picture of slice `name` with this frame number from after the trigger, by `frames` frames at least?

        What was shown at the trigger is never new. Once numbers have begun anew, those from what was shown to what had
        arrived may still be pictures of the earlier series on their way.
        """
        before = self.shown.get(name, -1)
        if number < self.awaited(frames) or number in (-1, before):
            return False
        return self.anew is None or number > self.arrived or number < (before if before >= 0 else self.arrived)
