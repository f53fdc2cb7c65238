"""The figures of training, as signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil

from tango_jit.learn.trainer import Trainer
from tango_jit.services.rates import Curve, Rate


class Figures:
    """How fast it goes, and where it stands."""

    def __init__(self) -> None:
        self.steps, self.pairs = Rate(), Rate()
        self._curve = Curve()

    def counters(self, trainer: Trainer, now_s: float, *, at_work: bool) -> dict[str, Any]:
        """Values of the signals. While it is `at_work` the accuracy goes on its curve."""
        accuracy, ratio, band = trainer.scores.accuracy, trainer.scores.ratio_of_means, trainer.scores.band
        if accuracy is not None and at_work:
            self._curve.add(now_s, accuracy)
        return {
            "patch_accuracy": np.nan if accuracy is None else accuracy,
            "patch_accuracy_ratio": np.nan if ratio is None else ratio,
            "patch_accuracy_band": np.nan if band is None else band,
            "accuracy_history": self._curve.array(),
            "loss": trainer.loss,
            "steps": trainer.steps,
            "steps_rejected": trainer.steps_rejected,
            "steps_per_s": self.steps.per_second(now_s),
            "samples_per_s": self.pairs.per_second(now_s),
            "reuse": trainer.reuse,
            "buffer_fill": trainer.buffer_fill,
            "scale_per_mm": np.nan if trainer.scale is None else trainer.scale,
            "split_used": trainer.split.upper(),
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def rate(self, trainer: Trainer, now_s: float) -> str:
        """In words."""
        return f"{self.steps.per_second(now_s):.1f} steps/s, {trainer.steps} steps done"
