"""What a picture needs to be read: levels between which its colours lie, a bar that gives its scale."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

NICE = (1.0, 2.0, 5.0)
LOOKED_AT = 20_000  # values an image: percentiles of more are the same to the eye
MOVES = 0.1  # levels that follow do when they would move by so much of their distance: no flicker


def levels(images: Iterable[ArrayLike], beyond_percent: float = 0.5) -> tuple[float, float] | None:
    """Levels that leave so many percent of all values below, and above; None: there are no numbers.

    Finite values alone count. Equal ones get levels around them.
    """
    values = np.concatenate([np.zeros(0, np.float32), *(_some(image) for image in images)])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = (float(x) for x in np.percentile(values, [beyond_percent, 100 - beyond_percent]))
    if high > low:
        return low, high
    apart = max(abs(low) * 1e-3, 1e-12)
    return low - apart, high + apart


def even_levels(images: Iterable[ArrayLike], beyond_percent: float = 0.5) -> tuple[float, float] | None:
    """As `levels`, the same on both sides of zero: for differences."""
    found = levels((np.abs(np.asarray(image)) for image in images), 2 * beyond_percent)
    return None if found is None else (-abs(found[1]), abs(found[1]))


def following(now: tuple[float, float] | None, wanted: tuple[float, float] | None) -> tuple[float, float] | None:
    """Levels that follow the pictures: those of now, until the wanted ones are clearly others. None: none yet."""
    if now is None or wanted is None:
        return wanted or now
    moves = max(abs(a - b) for a, b in zip(now, wanted, strict=True))
    return wanted if moves > MOVES * (now[1] - now[0]) else now


def bar_length(width: float, most: float = 0.3) -> float:
    """1, 2 or 5 times a power of ten: the largest that is at most so much of the `width`, which has the same unit.

    Raises ValueError for a width that is not positive.
    """
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width: expected a positive number, got {width}")
    limit = width * most
    power = 10.0 ** math.floor(math.log10(limit))
    return max(n * p for n in NICE for p in (power / 10, power) if n * p <= limit * (1 + 1e-9))


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Some `most` numbers, or fewer, for a logarithmic axis from `low` to `high`, both positive: 1, 2, 5, 10; or
    1, 3, 10; or 1, 10; or 1, 100. Where fewer than two of these lie between them, multiples of 1, 2 or 5 times a power.

    Empty where the ends are not apart.
    """
    powers = range(math.floor(math.log10(low)), min(math.ceil(math.log10(high)), 308) + 1)
    found: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [n for n in (digit * 10.0**power for power in powers for digit in digits) if low <= n <= high]
        if len(found) <= most:
            break
    found = found[:: math.ceil(len(found) / max(most, 2)) or 1]
    if len(found) >= 2 or not high > low:
        return found if high > low else []
    least = (high - low) / max(most, 2)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(n * p for p in (power, 10 * power) for n in NICE if n * p >= least)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _some(image: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(image, np.float32).ravel()
    return values[:: max(1, len(values) // LOOKED_AT)]
