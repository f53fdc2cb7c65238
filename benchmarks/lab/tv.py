"""What total variation can reach at best: its weight is chosen by looking at the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from skimage.restoration import denoise_tv_chambolle

from benchmarks.lab.experiment import Experiment, Image

COARSE = tuple(0.01 * 2.0**power for power in range(8))
"""Weights for data in peaks. Between the neighbours of the best one a golden section goes on."""
GOLDEN = (math.sqrt(5) - 1) / 2
SECTIONS = 8  # after which the weight is known to 3 %


class Oracle(NamedTuple):
    image: Image  # (rows, cols) in mm^-1
    weight: float  # for data divided by the peak of the reference
    score: float  # PSNR in dB against the reference


def denoised(raw: Image, peak: float, weight: float, iterations: int = 300) -> Image:
    """Chambolle's total variation denoising of a slice (rows, cols) in mm^-1."""
    smooth = denoise_tv_chambolle(raw / peak, weight, eps=1e-7, max_num_iter=iterations)
    return (smooth * peak).astype(np.float32)


def oracle(experiment: Experiment, place: str, raw: Image, reference: str | None = None) -> Oracle:
    """The weight with the best PSNR against a reference (None: the main one), for a slice (rows, cols) in mm^-1."""
    target = experiment.targets[place]
    peak = target.peak(reference)

    def score(log_weight: float) -> float:
        return target.psnr_db(denoised(raw, peak, math.exp(log_weight)), reference)

    weight = math.exp(best(score, [math.log(weight) for weight in COARSE]))
    image = denoised(raw, peak, weight)
    return Oracle(image, weight, target.psnr_db(image, reference))


def best(score: Callable[[float], float], grid: list[float]) -> float:
    """Where `score` is largest: the best of an ascending grid, and of a golden section around it."""
    found = {x: score(x) for x in grid}
    at = grid.index(max(found, key=found.__getitem__))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    for _ in range(SECTIONS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        for x in (left, right):
            if x not in found:
                found[x] = score(x)
        low, high = (low, right) if found[left] > found[right] else (left, high)
    return max(found, key=found.__getitem__)
