"""Jumps of an experiment that nobody announced: the sample fell, the beam changed, somebody touched the dose.

Figures of the stream come in one by one (accuracy, noise, level). Each is measured in units of its own scatter, which
is learned from the stream, and goes through Page's test for a change of the mean (`PageHinkley` of `river.drift`)
twice: once made for the smallest step that matters, once for large steps, which is quicker there. How high the sums of
the test may get follows from how rare a false alarm shall be. How rare and how quick they turned out to be is in
`benchmarks/results/jumps.json`. Sources: Page, Biometrika 41 (1954); Siegmund, Sequential Analysis (1985), ch. 2.

No thread, no clock: time is counted in observations.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from river.drift import PageHinkley

LIMIT = 3.0  # units that one observation counts at most: one outlier, however large, is no jump
LARGE = 3.0  # units; the step that the quick test is made for
RECENT = 256  # observations that are looked back on to say from what to what
SETTLING = 1000  # the scatter is the mean over so many observations
FEW = 100  # observations that say little about how alike neighbours are
MOST_ALIKE = 0.8  # the correlation of neighbours that is allowed for at most
PINNED = 1000


@dataclass(frozen=True)
class Kind:
    """How a figure behaves. A unit is its scatter, but at least `least`: what is smaller matters to nobody.

    Parameters
    ----------
    step : the step that the sensitive test is made for, in units. Steps from about 1.25 of it on are found soon.
    rarity : observations to a false alarm in the mean, of one test in one direction.
    memory : over so many observations is averaged what the next are compared with; what changes more slowly than that
        is no jump.
    least : the smallest unit, as part of the mean if `relative`.
    ratio : is it multiplied by what happens, rather than shifted? Then its logarithm is watched.
    falls : is a fall a jump? Otherwise it is the new state without a word.
    """

    step: float = 0.8
    rarity: float = 1e7
    memory: int = 600
    least: float = 0.02
    relative: bool = True
    ratio: bool = False
    falls: bool = True


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # Falls while the network learns.
        "accuracy": Kind(step=1.3, rarity=1e8, memory=300, relative=False, falls=False),
        "noise": Kind(step=1.1, rarity=1e8, memory=300, least=0.1, relative=False, ratio=True),
        "level": Kind(),
    }
)


class Jumps:
    """Watches named figures of a stream, each from its own first observation on.

    `kinds` says how those behave that are not like `Kind()`. `first`: so many observations say what is normal before
    any is judged. Small steps are found reliably only where several times as many came before them. Raises ValueError
    for less than 10 first ones.
    """

    def __init__(self, kinds: Mapping[str, Kind] = KINDS, *, first: int = 60) -> None:
        if first < 10:
            raise ValueError(f"first: expected at least 10 observations, got {first}")
        self._kinds, self._needed = kinds, first
        self._figures: dict[str, _Figure] = {}
        page_test(LARGE, 1e7)  # imports the library now, and not amid the stream

    def watch(self, **figures: float | None) -> str:
        """One observation of each figure that is known now; None and NaN: not known.

        Returns what jumped, in words: "noise rose from about 0.0021 to about 0.0063", or "". After that everything
        starts anew, as after `forget`: all figures belong to one experiment.
        """
        told = []
        for name, value in figures.items():
            kind = self._kinds.get(name, Kind())
            if value is None or not math.isfinite(value) or (kind.ratio and value <= 0):
                continue
            figure = self._figures.get(name)
            if figure is None:
                figure = self._figures[name] = _Figure(kind, self._needed)
            jump = figure.add(math.log(value) if kind.ratio else float(value))
            if jump is None:
                continue
            before, after = (math.exp(x) if kind.ratio else x for x in jump)
            if after > before or kind.falls:
                verb = "rose" if after > before else "fell"
                told.append(f"{name} {verb} from about {before:.3g} to about {after:.3g}")
            else:
                del self._figures[name]
        if told:
            self.forget()
        return "; ".join(told)

    def forget(self) -> None:
        """After an announced change: what was seen no longer counts."""
        self._figures.clear()


class _Figure:
    """One figure: what is normal, and the tests for that it no longer is."""

    def __init__(self, kind: Kind, first: int) -> None:
        self._kind, self._needed = kind, first
        self._recent: deque[float] = deque(maxlen=max(RECENT, first))
        self._seen = 0
        """Observations that count; 0 until the first ones are there."""

    def add(self, value: float) -> tuple[float, float] | None:
        """From what to what it jumped; None: it did not."""
        if not self._seen:
            self._recent.append(value)
            if len(self._recent) == self._needed:
                self._begin(np.array(self._recent))
            return None
        mean, unit = self._mean, self._unit()
        score = min(max((value - mean) / unit, -LIMIT), LIMIT)
        self._recent.append(value)
        value = mean + score * unit
        self._seen += 1
        self._mean += (value - mean) / min(self._seen, self._kind.memory)
        self._scatter.add(value)
        for test in self._tests:
            test.update(score)
        return self._jump(unit) if any(test.drift_detected for test in self._tests) else None

    def _begin(self, values: NDArray[np.float64]) -> None:
        """What the first observations say, apart from outliers, is normal."""
        middle = np.median(values)
        spread = LIMIT * 1.4826 * np.median(np.abs(values - middle))  # of a Gaussian: 3 standard deviations
        values = values.clip(middle - spread, middle + spread)
        self._seen, self._mean, self._scatter = len(values), float(values.mean()), _Scatter(values)
        self._tests = [page_test(step, self._kind.rarity) for step in (self._kind.step, LARGE)]

    def _unit(self) -> float:
        least = self._kind.least * (abs(self._mean) if self._kind.relative else 1.0)
        return max(self._scatter.value, least, sys.float_info.min)

    def _jump(self, unit: float) -> tuple[float, float]:
        """What was usual before and after the most likely moment of a step among the recent observations."""
        values = np.array(self._recent)
        before = np.arange(1, len(values))  # observations before each possible moment
        after = len(values) - before
        sums = values.clip(self._mean - LIMIT * unit, self._mean + LIMIT * unit).cumsum()
        difference = sums[:-1] / before - (sums[-1] - sums[:-1]) / after
        moment = before[np.argmax(difference**2 * before * after)]
        return float(np.median(values[:moment])), float(np.median(values[moment:]))


class _Scatter:
    """How far observations scatter about their mean, from the differences of neighbours: steps and drift add little.

    Where neighbours are alike (correlation r), the sums of a test grow like those of independent observations that
    scatter more by the root of (1 + r) / (1 - r). That is what `value` is: r follows from neighbours and next but one.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._count, self._last, self._last_but_one = len(values), float(values[-1]), float(values[-2])
        self._near, self._far = (float(((values[k:] - values[:-k]) ** 2).mean()) / 2 for k in (1, 2))
        self.value = self._follow()

    def add(self, value: float) -> None:
        self._count = min(self._count + 1, SETTLING)
        self._near += ((value - self._last) ** 2 / 2 - self._near) / self._count
        self._far += ((value - self._last_but_one) ** 2 / 2 - self._far) / self._count
        self._last, self._last_but_one = value, self._last
        self.value = self._follow()

    def _follow(self) -> float:
        """`_near` tends to (1 - r) of the variance, `_far` to (1 - r^2)."""
        alike = self._far / self._near - 1 if self._near else 0.0
        alike = min(max(alike * self._count / (self._count + FEW), 0.0), MOST_ALIKE)
        return math.sqrt(self._near * (1 + alike)) / (1 - alike)


def threshold(step: float, rarity: float) -> float:
    """How high the sum of (score - step / 2) may get, so that it gets there once in `rarity` scores, in the mean.

    Siegmund's approximation for independent Gaussian scores of mean 0 and scatter 1.
    """
    return math.log(1 + step**2 * rarity / 2) / step - 1.166


def page_test(step: float, rarity: float) -> PageHinkley:
    """Page's test for steps of the mean of scores, in both directions."""
    from river.drift import PageHinkley  # here, as it takes a second: much of scipy comes along

    # alpha 1: nothing fades. Fading sums settle at a level where the half step is no longer taken off.
    test = PageHinkley(min_instances=1, delta=step / 2, threshold=threshold(step, rarity), alpha=1.0, mode="both")
    # It compares with the mean of all that it was given, here with 0: a figure that falls slowly and then stays where
    # it is has scores below 0, then of 0, and that is no rise.
    for _ in range(PINNED):
        test.update(0.0)
    return test
