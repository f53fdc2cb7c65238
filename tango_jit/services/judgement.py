"""What is known of the slices on display, all together."""

from __future__ import annotations

import math

import numpy as np

from tango_jit.learn import noise2inverse
from tango_jit.learn.denoiser import Result


class Judgement:
    """The newest result of each slice; figures of all, NaN where nothing tells them."""

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}

    def take(self, name: str, result: Result) -> None:
        """This is what slice `name` shows now."""
        self._results[name] = result

    def forget(self, name: str) -> None:
        self._results.pop(name, None)

    def clear(self) -> None:
        self._results.clear()

    @property
    def guarded(self) -> bool:
        """Is any slice shown as reconstructed because the denoised one is not surely better?"""
        return any(result.guarded for result in self._results.values())

    def figures(self) -> dict[str, float]:
        """Values of the signals accuracy, accuracy_ratio, accuracy_band, quality (dB), share and streaks (%)."""
        results = list(self._results.values())
        errors = np.concatenate([np.empty((0, 2)), *(result.errors for result in results)])
        accuracy, ratio = noise2inverse.accuracy(errors), noise2inverse.ratio_of_means(errors)
        blends = [result.blend for result in results if result.blend is not None]
        bands = [blend.sure / (2 * blend.noise) for blend in blends]
        streaks = [result.streaks for result in results if result.streaks is not None]
        return {
            "accuracy": math.nan if accuracy is None else accuracy,
            "accuracy_ratio": math.nan if ratio is None else ratio,
            "accuracy_band": math.hypot(*bands) / len(bands) if bands else math.nan,
            "quality": self._quality_db(),
            "share": 100 * float(np.mean([blend.share for blend in blends])) if blends else math.nan,
            "streaks": 100 * float(np.mean(streaks)) if streaks else math.nan,
        }

    def _quality_db(self) -> float:
        """That of the worst slice: a figure for all must not hide it. NaN where any is not known."""
        found = [result.quality_db for result in self._results.values()]
        known = [quality for quality in found if quality is not None]
        return min(known) if known and len(known) == len(found) else math.nan
