"""What a search for the centre of rotation says on its way, and how far its answer can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

TRUSTED = 0.5
"""Confidence below which an answer is a guess."""
NEAR_PX = 4.0  # scores closer to the best one than this belong to its peak
AGREE_PX = 1.0  # by which two searches may differ and still mean the same
PROMINENT = 0.2  # part of its height by which a peak should stand above all others


@dataclass(frozen=True)
class Search:
    """How far a search is: `progress` 0 to 1, the best shift so far in detector pixels, and at the end (NaN before)
    the confidence in it, 0 to 1."""

    progress: float
    shift_px: float
    confidence: float = math.nan


def confidence(scores: Mapping[float, float], first: Mapping[float, float], second: Mapping[float, float]) -> float:
    """0 to 1, of scores by shift (px), and those of two halves of the data at the same shifts: do the halves find the
    same, does the peak stand out, and is it inside the range?"""
    best = best_of(scores)
    if not min(scores) < best < max(scores):
        return 0.0
    apart = max(abs(best_of(half) - best) for half in (first, second))
    return min(agreement(apart), prominence(scores) / PROMINENT, 1.0)


def best_of(scores: Mapping[float, float]) -> float:
    """The shift with the highest score."""
    return max(scores, key=scores.__getitem__)


def agreement(apart_px: float) -> float:
    """1: two answers are the same, 0.5: they differ by `AGREE_PX`."""
    return 1 / (1 + (apart_px / AGREE_PX) ** 2)


def prominence(scores: Mapping[float, float]) -> float:
    """How far the best score is above all that do not belong to its peak, as part of its height above their mean."""
    best = best_of(scores)
    others = [score for shift, score in scores.items() if abs(shift - best) >= NEAR_PX]
    height = scores[best] - sum(others) / len(others) if others else 0.0
    return (scores[best] - max(others)) / height if height > 0 else 0.0


def vertex(scores: Mapping[float, float], best: float, step: float) -> float:
    """Where the parabola through the best score and its two neighbours has its top, relative to the best."""
    left, right = scores.get(best - step), scores.get(best + step)
    if left is None or right is None:
        return 0.0
    curvature = left - 2 * scores[best] + right
    return 0.0 if curvature >= 0 else 0.5 * step * (left - right) / curvature
