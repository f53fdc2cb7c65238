"""The numbers beside a plot, also where it is logarithmic and small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg

from tango_jit.view.display import log_ticks

APART_PX = 22  # two numbers
DECADES = 300.0  # from 1, up and down, that numbers have


class Figures(pg.AxisItem):
    """Of a logarithmic plot as many numbers as there is room for, as one reads them. pyqtgraph has 2·10¹ and the like
    there, all over each other."""

    def logTickValues(self, minVal: float, maxVal: float, size: float, stdTicks: Any) -> list[tuple[Any, list[float]]]:
        """Logarithms of what has a number, and of what has a line alone."""
        low, high = (float(np.clip(end, -DECADES, DECADES)) for end in (minVal, maxVal))
        told = np.log10(log_ticks(10**low, 10**high, int(size / APART_PX)))
        decades = range(math.floor(low), math.ceil(high))
        fine = [decade + math.log10(digit) for decade in decades for digit in range(1, 10)]
        return [(1.0, told.tolist()), (None, [one for one in fine if minVal < one < maxVal])]

    def logTickStrings(self, values: Sequence[float], scale: float, spacing: float | None) -> list[str]:
        """The numbers; none where there is a line alone."""
        if spacing is None:
            return [""] * len(values)
        return [f"{10.0**value * scale:.6g}" for value in values]
