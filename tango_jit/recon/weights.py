"""What each view of a span counts: the angle that it stands for, in the full set and in its half."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.float32]

# In typical steps: a half with a gap above GAP of its own steps is incomplete.
GAP = 1.75


def angular_weights(angles_rad: Array, span_rad: float) -> tuple[Array, float]:
    """Half the gap to both neighbours, circular in `span_rad`, scaled to sum pi; and the largest gap over the median.

    `angles_rad` (n,) in any order and turn; no views: no weights and an infinite gap.
    """
    if not len(angles_rad):
        return np.zeros(0), math.inf
    turned = np.mod(angles_rad - angles_rad[0], span_rad)
    order = np.argsort(turned, kind="stable")
    gaps = np.diff(turned[order], append=turned[order[0]] + span_rad)
    weights = np.empty(len(angles_rad))
    weights[order] = (gaps + np.roll(gaps, 1)) / 2 * (math.pi / span_rad)
    typical = np.median(gaps)
    return weights, float(gaps.max() / typical) if typical > 1e-12 * span_rad else math.inf


def split_weights(frames: NDArray[np.int64], angles_rad: Array, span_rad: float) -> tuple[Image, bool, bool]:
    """Weights (3, n) of the even half, the odd half and the full set; are the halves complete; are they equal."""
    weights = np.zeros((3, len(frames)))
    complete = True
    for row, chosen in enumerate((frames % 2 == 0, frames % 2 == 1, np.ones(len(frames), bool))):
        weights[row, chosen], gap = angular_weights(angles_rad[chosen], span_rad)
        complete &= gap <= GAP
    difference = np.abs(weights[:2].mean(axis=0) - weights[2]).max(initial=0)
    return weights.astype(np.float32), complete, bool(difference <= 1e-5 * weights[2].mean())
