"""The size of the buffer of a live trainer, reviewed each time that it was filled anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango_jit.learn.buffer_size import GROUP, BufferSize
from tango_jit.learn.settings import TrainerSettings
from tango_jit.learn.trainer import Trainer

LEAST_PAIRS = 320  # between two reviews: they take time


class Buffering:
    """Counts pairs, not seconds: the same pairs give the same sizes."""

    def __init__(self) -> None:
        self._size = BufferSize(0)
        self._added = 0
        self._fresh = np.zeros(0)  # scores of the last pairs, from when they were new

    def review(self, trainer: Trainer, fresh: np.ndarray) -> int | None:
        """After pairs with the scores `fresh` were added, before they are trained on: the size from now on, None where
        nothing is to change."""
        size = trainer.settings.buffer_size
        if self._size.pairs != size:  # another trainer, or a hand
            self._size, self._added = BufferSize(size), 0
        known = trainer.pairs - len(fresh)
        self._added += len(fresh)
        self._fresh = np.concatenate([self._fresh, fresh])[-max(GROUP, len(fresh)) :] if known > 0 else fresh
        group = min(GROUP, known // 2)
        if self._added < max(size, LEAST_PAIRS) or not trainer.steps or group < 2:
            return None
        self._added = 0
        errors = trainer.known(group, len(fresh))
        scores = errors[:, 0] / errors[:, 1]
        self._size = self._size.reviewed(self._fresh, scores[:group], scores[group:], trainer.settings.largest_buffer)
        return None if self._size.pairs == size else self._size.pairs


def resized(settings: TrainerSettings, pairs: int) -> TrainerSettings:
    """The settings with another size of the buffer, or as they are where that is nothing they allow."""
    try:
        return replace(settings, buffer_size=max(pairs, settings.batch_size))
    except ValueError:
        return settings
