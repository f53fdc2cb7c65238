"""Noise2Inverse: learn to predict a reconstruction from one with other noise, and measure how well that goes.

Two reconstructions u and v of the same thing from disjoint views carry independent noise. What predicts v from u best
in the mean square cannot predict the noise of v: it is a denoiser. The accuracy

    |A(u) - v|^2 / |u - v|^2

is 1 for A = identity and 0.5 for a perfect denoiser of independent noise of equal strength: half of |u - v|^2 is the
noise of v, which stays. Below 0.5 the network predicts differences between the two (streaks, motion). Source: Graas
et al., Sci Rep (2023), eq. 3; Hendriksen et al., IEEE Trans. Comput. Imaging 6 (2020).

Two splits of the views make u and v: the even and the odd views of one turn ("halves"), or all views of two turns that
follow each other ("turns", see motion.py).

Images are torch tensors (n, 1, H, W), pairs (n, 2, H, W): u and v. Stacks of D images (neighbouring slices, or moments)
are pairs (n, 2, D, H, W); one image of a stack is predicted and scored: that of index `at`, None: the middle one.
Samples (n, 3, ...) are pairs and, third, how much each pixel counts: 0 where the two do not show the same, otherwise 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Errors = NDArray[np.float64]
Split = Literal["halves", "turns"]

WORST = 1e6  # the most that a sample can score: what a network gone wild puts out must not spoil all figures


def samples(pairs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Pairs (n, 2, ..., H, W) and weights (n, H, W) of their pixels, None: all count, as samples (n, 3, ..., H, W)."""
    if weights is None:
        return torch.cat([pairs, torch.ones_like(pairs[:, :1])], 1)
    weights = weights if pairs.ndim == 4 else weights[:, None].expand_as(pairs[:, 0])
    return torch.cat([pairs, weights[:, None]], 1)


def draw_directions(
    samples: Tensor, generator: torch.Generator, at: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (n, D, H, W), targets and weights (n, 1, H, W): which of u and v is the input is drawn for each sample.

    `generator` is one of the device of the samples.
    """
    first = torch.randint(2, (len(samples),), generator=generator, device=samples.device)
    return directed(samples, first, at)


def directed(samples: Tensor, first: Tensor, at: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """As `draw_directions`, with image `first` (n,) of each pair, 0 or 1, as the input."""
    sample = torch.arange(len(samples), device=samples.device)
    inputs, targets = samples[sample, first], samples[sample, 1 - first]
    return stacks(inputs), shown(targets, at), shown(samples[:, 2], at)


def stacks(images: Tensor) -> Tensor:
    """Images (n, H, W) as stacks (n, 1, H, W); stacks as they are."""
    return images[:, None] if images.ndim == 3 else images


def shown(images: Tensor, at: int | None = None) -> Tensor:
    """Image `at` (n, 1, H, W) of stacks (n, D, H, W), None: the middle one; or images (n, H, W)."""
    images = stacks(images)
    return images[:, images.shape[1] // 2 if at is None else at, None]


def valid(images: Tensor, halo: int) -> Tensor:
    """The images without `halo` pixels at each border."""
    return images[..., halo : images.shape[-2] - halo, halo : images.shape[-1] - halo]


def loss(denoised: Tensor, target: Tensor, weights: Tensor, halo: int = 0) -> Tensor:
    """Mean squared error over the pixels of the valid region, those that do not count at 0; a scalar."""
    return ((valid(denoised, halo) - valid(target, halo)).square() * valid(weights, halo)).mean()


def distinct(samples: Tensor, halo: int = 0, at: int | None = None) -> Tensor:
    """Which samples say anything, (n,) bool: all numbers finite, and two images that differ by more than rounding.

    Equal images (nothing but zeros outside the object, a simulation without noise) have no accuracy, and there is
    nothing to learn from them.
    """
    u, v, weights = (shown(valid(part, halo), at) for part in samples.unbind(1))
    # The sum of all numbers is finite if they are, and several times faster than to look at each.
    return samples.flatten(1).sum(1).isfinite() & (
        _power((u - v) * weights) > 1e-10 * (_power(u * weights) + _power(v * weights))
    )


def _power(images: Tensor) -> Tensor:
    """Sum of the squares of each image, (n,) float64."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1, dtype=torch.float64).square()


def errors(
    denoised: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor, halo: int = 0, at: int | None = None
) -> Errors:
    """(n, 2): |A(u) - v|^2, limited to finite numbers, and |u - v|^2 of every sample; inputs may be stacks."""
    return limited(powers(denoised, shown(inputs, at), targets, weights, halo))


def powers(made: Tensor, simple: Tensor, targets: Tensor, weights: Tensor, halo: int = 0) -> Errors:
    """(n, 2): |made - target|^2 and |simple - target|^2 of every sample, all (n, 1, H, W)."""
    v, counts = valid(targets, halo), valid(weights, halo)
    parts = [_power((valid(x, halo) - v) * counts) for x in (made, simple)]
    return torch.stack(parts, 1).cpu().numpy()


def limited(errors: Errors) -> Errors:
    """The same (n, 2) with finite numbers in the first column; those of the second are."""
    worst = WORST * errors[:, 1]
    return np.stack([np.fmin(errors[:, 0], worst), errors[:, 1]], 1)  # a NaN becomes the limit


def accuracy(samples: Errors) -> float | None:
    """The mean over samples of |A(u) - v|^2 / |u - v|^2, as in the paper. None without samples.

    Expects samples of `distinct` pairs alone.
    """
    return float((samples[:, 0] / samples[:, 1]).mean()) if len(samples) else None


def ratio_of_means(samples: Errors) -> float | None:
    """Mean |A(u) - v|^2 / mean |u - v|^2, as in the paper's software: samples with more noise weigh more."""
    return float(samples[:, 0].sum() / samples[:, 1].sum()) if len(samples) else None


def robust_scale(pairs: Tensor) -> float:
    """What samples are divided by, in their own unit: the range of the halves' mean without its outer percents.

    It brings values to about 0..1 whatever the unit, is dominated by the object where there is one, and is never
    far below the noise. 0 for pairs without any contrast.
    """
    values = pairs.mean(1).flatten()
    values = values[:: 1 + len(values) // 1_000_000].double()  # quantile takes 16 million, a million is enough
    low, high = torch.quantile(values, values.new_tensor([0.01, 0.99])).tolist()
    return high - low
