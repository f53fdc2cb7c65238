"""The steps that belong to the newest pairs."""

from __future__ import annotations

from tango_jit.learn.trainer import Trainer
from tango_jit.services.service import Clock

LONGEST_ROUND_S = 0.3  # frames and commands wait meanwhile


class Steps:
    """Those of a large network are done in several turns."""

    def __init__(self) -> None:
        self.owed = 0
        """So many are still to be done."""
        self.rejected_at_s = -1e9
        """When one was not finite."""

    def take(self, trainer: Trainer, clock: Clock) -> int:
        """Do those that are owed, or as many as there is time for; returns how many were taken."""
        taken, started = 0, clock()
        while self.owed and 0 <= clock() - started < LONGEST_ROUND_S:
            self.owed -= 1
            rejected = trainer.steps_rejected
            trainer.step()
            if trainer.steps_rejected > rejected:
                self.rejected_at_s = clock()
            else:
                taken += 1
        return taken
