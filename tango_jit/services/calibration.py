"""The dark and the flat of a series, and how old they are."""

from __future__ import annotations

import math

import numpy as np

from tango_jit.streams import Dark, Flat


class Calibration:
    """The newest dark and flat of a series; None: none came."""

    def __init__(self) -> None:
        self.dark: Dark | None = None
        self.flat: Flat | None = None
        self._since_s = {Dark: math.nan, Flat: math.nan}

    def take(self, field: Dark | Flat, now_s: float) -> bool:
        """Keep a field that came now. Returns whether it is another one: a repeat changes nothing, nor its age."""
        old = self.dark if isinstance(field, Dark) else self.flat
        if old is not None and old.count == field.count and np.array_equal(old.mean, field.mean, equal_nan=True):
            return False
        if isinstance(field, Dark):
            self.dark = field
        else:
            self.flat = field
        self._since_s[type(field)] = now_s
        return True

    def ages(self, now_s: float) -> dict[str, float]:
        """Values of signals: s since they came, NaN for what did not."""
        return {"dark_age_s": now_s - self._since_s[Dark], "flat_age_s": now_s - self._since_s[Flat]}
