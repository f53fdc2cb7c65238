"""One network trained on one domain by a clock that counts the processor time of one core.

Nothing depends on how busy the computer is. What the clock counts: making pairs, putting them into the buffer, steps;
as in the paper four steps go by a batch of new pairs, and earlier pairs are drawn again. It stops for tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.family import Domain
from benchmarks.paper.film import Film, around
from benchmarks.paper.places import Box
from tango_jit.learn import Trainer, TrainerSettings
from tango_jit.learn.weights import Weights

STEPS_A_BATCH = 4
WINDOWS = 4  # of which a batch is made


class Lesson:
    """Trains on the first `learned` frames of a film, in any order. `seed`: of weights and draws."""

    def __init__(self, film: Film, box: Box, learned: int, settings: TrainerSettings, seed: int = 0) -> None:
        self._film, self._box, self._learned = film, box, learned
        self._random = np.random.default_rng(seed)
        self.trainer = Trainer(settings, seed=seed)
        self.spent_s = 0.0
        """Processor time."""

    def batch(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """New pairs (batch_size, 2, ...)."""
        settings, film = self.trainer.settings, self._film
        network, size = settings.network, settings.patch_size
        steps = network.frame_interval if network.frames > 1 else 0
        first = -steps * around(network)[0]
        last = self._learned - film.views_a_turn - steps * around(network)[-1]
        made = []
        for share in np.array_split(np.arange(settings.batch_size), min(WINDOWS, settings.batch_size)):
            poses = self._box.draw(self._random, len(share), size)
            made.append(film.pairs(network, int(self._random.integers(first, last + 1)), poses, (size, size)))
        return np.concatenate(made)

    def learn(self, until_s: float) -> None:
        """Go on until so much processor time has been spent, at least one batch."""
        while True:
            began = time.process_time()
            self.trainer.add(self.batch(), scored=False)
            for _ in range(STEPS_A_BATCH):
                self.trainer.step()
            self.spent_s += time.process_time() - began
            if self.spent_s >= until_s:
                return


def warm_up(domain: Domain, settings: TrainerSettings) -> None:
    """What is compiled or loaded at first use is no training."""
    lesson = Lesson(domain.film, domain.box, domain.learned, settings)
    for _ in range(3):
        lesson.learn(0.0)


def train(
    domain: Domain,
    settings: TrainerSettings,
    marks_s: Sequence[float],
    look: Callable[[Weights], dict[str, Any]],
    keep: Callable[[float], Path],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A row at each mark: time spent, steps, and what `look` says of the weights, which are kept at `keep(mark)`."""
    warm_up(domain, settings)
    lesson, rows = Lesson(domain.film, domain.box, domain.learned, settings, seed), []
    for mark in marks_s:
        lesson.learn(mark)
        weights = lesson.trainer.weights()
        keep(mark).write_bytes(bytes(weights.tensors))
        rows.append({"mark_s": mark, "spent_s": round(lesson.spent_s, 2), "steps": lesson.trainer.steps})
        rows[-1] |= look(weights)
    return rows
