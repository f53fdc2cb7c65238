"""The numbers beside a plot, also where it is logarithmic and small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg

Ticks = list[tuple[float | None, list[float]]]
FEW_PX = 22  # between two numbers


class Figures(pg.AxisItem):
    """Of a logarithmic plot as many numbers as there is room for, written out: 1, 10, 100; or 1, 2, 5, 10; or, within a
    decade, as beside any other plot. pyqtgraph has 2·10¹ and the like there, all over each other."""

    def logTickValues(self, minVal: float, maxVal: float, size: float, stdTicks: Any) -> Ticks:
        """Logarithms of what has a number, and of what has a line alone."""
        room = max(size / FEW_PX, 2)
        low, high = math.floor(minVal), math.ceil(maxVal)
        told: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            steps = [decade + math.log10(digit) for decade in range(low, high + 1) for digit in digits]
            told = [step for step in steps if minVal <= step <= maxVal]
            if len(told) <= room:
                break
        if len(told) < 2:
            told = self._within(minVal, maxVal, size)
        told = told[:: math.ceil(len(told) / room) or 1]
        fine = [decade + math.log10(digit) for decade in range(low, high) for digit in range(1, 10)]
        return [(1.0, told), (None, [step for step in fine if minVal < step < maxVal])]

    def _within(self, low: float, high: float, size: float) -> list[float]:
        first, last = 10.0**low, 10.0**high
        step = self.tickSpacing(first, last, size)[0][0]
        return [float(np.log10(n * step)) for n in range(math.ceil(first / step), math.floor(last / step) + 1) if n > 0]

    def logTickStrings(self, values: Sequence[float], scale: float, spacing: float | None) -> list[str]:
        """The numbers; none where there is a line alone."""
        if spacing is None:
            return [""] * len(values)
        return [f"{10.0**value * scale:.4g}" for value in values]
