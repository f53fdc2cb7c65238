"""The accuracy of the last pairs, and how far it can be trusted."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from tango_jit.learn import noise2inverse

PAIRS = 512  # how many of the last pairs count
SURE = 1.96  # standard errors to each side that hold 95 of 100 normal figures


class Scores:
    """Errors (n, 2) of pairs, see `noise2inverse.errors`, batch by batch; the newest `PAIRS` of them."""

    def __init__(self) -> None:
        self._batches: deque[noise2inverse.Errors] = deque()
        self._count = 0

    def clear(self) -> None:
        self._batches.clear()
        self._count = 0

    def add(self, errors: noise2inverse.Errors) -> None:
        """Take the errors of one batch; none are no batch."""
        if not len(errors):
            return
        self._batches.append(errors[-PAIRS:])
        self._count += len(self._batches[-1])
        while self._count - len(self._batches[0]) >= PAIRS:
            self._count -= len(self._batches.popleft())

    def __len__(self) -> int:
        """Pairs that count."""
        return min(self._count, PAIRS)

    @property
    def _last(self) -> noise2inverse.Errors:
        return np.concatenate([np.empty((0, 2)), *self._batches])[-PAIRS:]

    @property
    def accuracy(self) -> float | None:
        """Mean of |A(u)-v|^2 / |u-v|^2 (1: no denoising, 0.5: perfect); None: no pairs yet."""
        return noise2inverse.accuracy(self._last)

    @property
    def ratio_of_means(self) -> float | None:
        """The same as ratio of the two means."""
        return noise2inverse.ratio_of_means(self._last)

    @property
    def band(self) -> float | None:
        """The accuracy is right within this much, 95 times of 100; None: fewer than two batches yet.

        From the scatter of the batches, because the pairs of one batch come from one window and are not independent.
        """
        figures = [noise2inverse.accuracy(batch) for batch in self._batches]
        if len(figures) < 2:
            return None
        return SURE * float(np.std(np.array(figures, float), ddof=1)) / math.sqrt(len(figures))
