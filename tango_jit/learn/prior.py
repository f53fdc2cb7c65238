"""How strong the prior of a guided network should be: as strong as predicts the other half of a pair best.

Total variation has one number to choose. Noise2Inverse chooses it as it chooses weights: the strength with which what
total variation makes of u comes nearest to v is the one that brings it nearest to the object. Of stacks it chooses in
the same way over how many images the mean goes that total variation is made of. Some patches decide. Later
another choice has to be surely better (docs/decisions/0048).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.total_variation import total_variation
from tango_jit.learn.unet import BREADTH, STRENGTH, mean

Array = NDArray[np.float64]

# Strengths that are tried, in units of the noise: the root mean square of the difference of the halves.
TRIED = np.geomspace(0.05, 4.0, 19)
BREADTHS = 1.0, 2.0, 6.0  # of the mean, see `unet.mean`
PATCHES = 12  # of a batch that are looked at
AT_FIRST, EVERY = 8, 16  # batches that are looked at: so many, then each so manieth
LOOKS = 32  # the last ones count, by their median: a spoilt batch, however bright, does not decide
SURE = 3.0  # standard errors by which another choice has to be better, once the first looks are over


class PriorStrength:
    """Follows the best strength through the pairs of an experiment."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Another experiment begins: what was seen no longer counts."""
        self._batches = 0
        self._chosen = 0, 0  # of breadths and strengths
        self._noise: deque[float] = deque(maxlen=LOOKS)
        self._errors: deque[Array] = deque(maxlen=LOOKS)  # (breadths, strengths), in units of the noise

    def numbers(self, scale: float = 1.0) -> dict[str, float]:
        """The numbers of the prior by their names among the tensors of a network, for pairs divided by `scale`; empty
        before the first ones."""
        if not self._noise:
            return {}
        breadth, strength = self._chosen
        numbers = {STRENGTH: float(TRIED[strength] * np.median(self._noise)) / scale}
        return numbers | ({BREADTH: BREADTHS[breadth]} if len(self._errors[0]) > 1 else {})

    @property
    def alone(self) -> float | None:
        """The strength that is best for one image by itself, in the unit of the pairs; None before the first ones."""
        if not self._noise:
            return None
        return float(TRIED[np.median(self._errors, axis=0)[0].argmin()] * np.median(self._noise))

    def measure(self, samples: Tensor, halo: int, at: int | None = None) -> bool:
        """Take samples (n, 3, ..., H, W), n > 0, into account, see `noise2inverse`; `halo` pixels at each border do
        not count. Returns whether it looked at them."""
        self._batches += 1
        if self._batches > AT_FIRST and self._batches % EVERY:
            return False
        first, second = (noise2inverse.stacks(part) for part in samples[:PATCHES, :2].unbind(1))
        u, v, counts = (noise2inverse.shown(part, at) for part in samples[:PATCHES].unbind(1))
        weight = noise2inverse.valid(counts, halo)
        pixels = float(weight.sum())
        if not pixels:
            return False

        def power(difference: Tensor) -> float:
            return float((noise2inverse.valid(difference, halo).double().square() * weight).sum()) / pixels

        noise = math.sqrt(power(u - v))
        u, v = u / noise, v / noise
        images = first.shape[1]
        put_out, errors = images // 2 if at is None else at, []
        for breadth in BREADTHS if images > 1 else BREADTHS[:1]:
            guides = [mean(stack / noise, put_out, breadth) for stack in (first, second)]
            for tried in TRIED.tolist():
                smooth = [total_variation(guide, tried) for guide in guides]
                errors.append(power(smooth[0] - v) + power(smooth[1] - u))
        if not np.isfinite([noise, *errors]).all():
            return False
        self._errors.append(np.reshape(errors, (-1, len(TRIED))))
        self._noise.append(noise)
        self._choose()
        return True

    def _choose(self) -> None:
        """The best choice of the first looks, and later another one only if it is surely better: the network learns to
        correct what one choice makes, and does worse for a while with another."""
        looks = np.array(self._errors)  # (looks, breadths, strengths)
        middle = np.median(looks, axis=0)
        best = np.unravel_index(middle.argmin(), middle.shape)
        if self._batches > AT_FIRST:
            gain = looks[:, *self._chosen] - looks[:, *best]
            if gain.mean() <= SURE * gain.std() / math.sqrt(len(gain)):
                return
        self._chosen = int(best[0]), int(best[1])
