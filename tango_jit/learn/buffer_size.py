"""How many pairs to keep: fewer where old ones no longer say what new ones do, more where the network knows them by
heart.

Three groups of pairs are scored with the same network: fresh ones, which it has not seen yet; the newest that it was
trained on; the oldest. Newest and oldest were both trained on, so what they differ by is drift of the experiment. Fresh
and newest are of nearly the same moment, so what they differ by is what was learned by heart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

GROUP = 64  # pairs of a group: two or three rounds
LEAST, MOST = 80, 2000  # pairs
FACTOR = 2
SURE = 3.0  # standard errors of a difference, and
MATTERS = 0.01  # so much of the noise power: what is less changes nothing that is seen
AGREED = 2  # reviews in a row that have to say the same


@dataclass(frozen=True)
class BufferSize:
    """`pairs` to keep; `leaning`: how many reviews in a row have asked for more (above 0) or fewer (below)."""

    pairs: int
    leaning: int = 0

    def reviewed(self, fresh: Scores, newest: Scores, oldest: Scores, most: int = MOST) -> BufferSize:
        """After a review of scores |A(u)-v|^2 / |u-v|^2 (n,), one or more each; never above `most` pairs.

        The size changes by a factor, once several reviews agree; within bounds that a hand may have left before.
        """
        if surely(newest, oldest) or surely(oldest, newest):
            wish = -1
        elif surely(fresh, newest):
            wish = 1
        else:
            return BufferSize(self.pairs)
        leaning = wish + (self.leaning if self.leaning * wish > 0 else 0)
        if abs(leaning) < AGREED:
            return BufferSize(self.pairs, leaning)
        if wish < 0:
            return BufferSize(min(self.pairs, max(LEAST, self.pairs // FACTOR)))
        return BufferSize(max(self.pairs, min(MOST, most, self.pairs * FACTOR)))


def surely(worse: Scores, better: Scores) -> bool:
    """Is the mean of the first scores above that of the others, by more than chance and enough to matter?"""
    if min(len(worse), len(better)) < 2:
        return False
    error = math.sqrt(worse.var(ddof=1) / len(worse) + better.var(ddof=1) / len(better))
    return float(worse.mean() - better.mean()) > max(SURE * error, MATTERS)
