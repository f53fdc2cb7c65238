"""How wrong each pixel of a denoised slice may be: a map of standard deviations, from the stream itself.

Two noisy images of the same thing, first and second, are denoised apart, as p and q. By how much p and q differ tells
the variance of the error at each place, V = |p - q|^2 / 2; what they get wrong alike, the squared bias, is what their
corrections have in common: B = (p - first) (q - second), right on the average because all noise is independent. V is
read off within a few pixels. B is the product of two noisy fields, and needs the mean over many: it is taken half from
the surroundings and half from the whole slice. Both are powers of the error against the truth, which nobody knows; on
simulated experiments, where it is known, the coverage is measured (docs/reference/benchmarks.md).

What is the same in both images is no error here: rings, beam hardening, streaks of the same views.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

NEAR, FAR = 5, 19  # pixels: sides of the means over V and over B, each taken twice
LEAST = 0.05  # part of the surroundings that must show the same in both, for a place to have a figure


def uncertainty(first: Tensor, second: Tensor, p: Tensor, q: Tensor, pixels: Tensor, *, mean: bool) -> Tensor:
    """Standard deviation (H, W) of the error of p, or of (p + q) / 2 where `mean` is True; all (H, W) in one unit.

    `pixels` is 1 where first and second show the same, otherwise 0: what is around a place tells its figure, and where
    nothing around counts it is NaN.
    """
    variance = _mean((p - q).square() / 2, pixels, NEAR) / (2 if mean else 1)
    shared = (p - first) * (q - second)
    bias = _mean(shared, pixels, FAR)
    whole = ((shared * pixels).sum() / pixels.sum().clamp_min(1)).clamp_min(0)
    return (variance + ((bias + whole) / 2).clamp_min(0)).sqrt()


def _mean(field: Tensor, pixels: Tensor, side: int) -> Tensor:
    """The mean of a field (H, W) around each pixel, over the pixels that count."""
    total, counted = (_boxes(part, side) for part in (field * pixels, pixels))
    return torch.where(counted >= LEAST, total / counted, torch.nan)


def _boxes(image: Tensor, side: int) -> Tensor:
    """The mean over a square (side odd) around each pixel, twice: nearly a Gaussian. Beyond the border lies nothing."""
    image = image[None, None]
    for kernel in ((side, 1), (1, side)) * 2:
        padding = (kernel[0] // 2, kernel[1] // 2)
        image = avg_pool2d(image, kernel, 1, padding, count_include_pad=True)
    return image[0, 0]
