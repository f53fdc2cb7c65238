"""Rings: what a pixel sees too much of in every view, learned from the stream and subtracted.

The mean over a turn of a pixel's line integrals, less the median of it and its neighbours in row and column, is its
bias: an object leaves smooth means, a gain that has drifted since the flat leaves single pixels. Even and odd frames
are kept apart. What their biases have in common is bias, the rest is noise, and the bias is shrunk by it: where
there is nothing to correct hardly anything is subtracted. The frames of a stage that stands are one view and count
once: thousands of them would make the object's own fine structure there the bias.

Walls that are concentric with the axis, and thin layers across it, leave narrow means too, but in many rows or columns
alike. So what nine in a line have in common is limited to what all the others make believable; in a detector of
one row there is nothing else. (Rings lie in both halves of a slice, so Noise2Inverse keeps them.)
"""

from __future__ import annotations

import math

import torch

from tango_jit.recon.preprocess.median import median_in_line

LIMIT, LIMIT_ALIKE = 50.0, 5.0  # robust standard deviations, for single pixels and for what rows have in common
SURE = 3.0  # standard deviations of the noise, from which on a bias is kept whatever the others are
_EACH = 7  # pixel counts when the spread of all is measured
_FEWEST = 8  # frames in a turn
_LEAP_RAD = math.pi / 2  # no rotation between two frames, but a jump
# The stage stands as long as it has turned by less than these since the last frame that counted: a part of the typical
# step, and an angle for as long as that is not known. Of scans with more views a turn not every frame counts.
_STILL, _STILL_RAD = 0.1, 2 * math.pi / 10_000


class Rings:
    """The running bias of one detector, from all frames that it was shown since it was made.

    turns : time constant. The first turn counts as it is, later ones are averaged with those before: all alike
        until there are that many, then the older ones fade.
    """

    def __init__(self, shape: tuple[int, int], turns: float, device: str = "cpu") -> None:
        self._fade = 1 - math.exp(-1 / turns)
        self._means = torch.zeros(2, *shape, device=device)  # of even and odd frames, over the turns so far
        self._sums = torch.zeros(2, *shape, device=device)  # over this turn
        self._bias = torch.zeros(shape, device=device)
        self._turns = 0
        self._begin()

    def _begin(self) -> None:
        self._sums.zero_()
        self._counts = [0, 0]
        self._swept_rad = 0.0

    _angle_rad = math.nan  # of the last frame that counted

    @property
    def bias(self) -> torch.Tensor:
        """(rows, cols), in the units of the lines: what is subtracted; zero before the first turn is complete."""
        return self._bias

    def __call__(self, lines: torch.Tensor, angle_rad: float) -> None:
        """Learn from one frame (rows, cols) at this unwrapped angle, and subtract what is known so far, in place."""
        if self._moved(angle_rad):
            number = sum(self._counts)
            self._sums[number % 2].add_(lines)
            self._counts[number % 2] += 1
        if self._turns:
            lines.sub_(self._bias)
        steps = sum(self._counts) - 1
        # One more step would bring it to where the turn began.
        if steps >= _FEWEST and self._swept_rad * (1 + 1.01 / steps) >= 2 * math.pi:
            self._learn()
            self._begin()

    def _moved(self, angle_rad: float) -> bool:
        """Does a frame at this angle count? If so, it is where the next step begins."""
        step, number = abs(angle_rad - self._angle_rad), sum(self._counts)
        if step < max(_STILL_RAD, _STILL * self._swept_rad / max(number - 1, 1)):
            return False
        self._angle_rad = angle_rad
        if number and step < _LEAP_RAD:
            self._swept_rad += step
        return True

    def _learn(self) -> None:
        self._turns += 1
        share = max(1 / self._turns, self._fade)
        for mean, total, count in zip(self._means, self._sums, self._counts, strict=True):
            mean.lerp_(total / count, share)
        self._bias = bias_of(self._means)


def bias_of(means: torch.Tensor) -> torch.Tensor:
    """The bias (rows, cols) in two means over turns, of other frames each, (2, rows, cols)."""
    alone = means - median_in_line(median_in_line(means, -1), -2)
    if means.shape[1] == 1:
        return believable(alone, LIMIT_ALIKE)
    rows_alike = median_in_line(alone, -2)
    columns_alike = median_in_line(alone - rows_alike, -1)
    single = alone - rows_alike - columns_alike
    return believable(single, LIMIT) + believable(rows_alike, LIMIT_ALIKE) + believable(columns_alike, LIMIT_ALIKE)


def believable(halves: torch.Tensor, limit: float) -> torch.Tensor:
    """What two independent measurements (2, rows, cols) agree on, (rows, cols): limited, and shrunk by the noise."""
    most = limit * 1.4826 * halves.mean(0).abs().flatten()[::_EACH].median()
    first, second = halves.clamp(-most, most)
    bias = 0.5 * (first + second)
    noise = (first - second).square().mean() / 4
    common = 1 - noise / bias.square().mean().clamp(min=1e-30)
    sure = 1 - SURE**2 * noise / bias.square().clamp(min=1e-30)
    return bias * sure.maximum(common.clamp(min=0))
