"""Noise2Inverse: learn to predict one half of the views from the other, and measure how well that goes.

Two reconstructions u and v of the same thing from disjoint views (even and odd ones) carry independent noise. What
predicts v from u best in the mean square cannot predict the noise of v: it is a denoiser. The accuracy

    |A(u) - v|^2 / |u - v|^2

is 1 for A = identity and 0.5 for a perfect denoiser of independent noise of equal strength: half of |u - v|^2 is the
noise of v, which stays. Below 0.5 the network predicts differences between the halves (streaks, motion). Source: Graas
et al., Sci Rep (2023), eq. 3; Hendriksen et al., IEEE Trans. Comput. Imaging 6 (2020).

Images are torch tensors (n, 1, H, W), pairs (n, 2, H, W): even half, odd half. Stacks of D images (neighbouring slices,
or moments) are pairs (n, 2, D, H, W); of a stack the middle image is what is predicted and scored.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Errors = NDArray[np.float64]

WORST = 1e6  # the most that a sample can score: what a network gone wild puts out must not spoil all figures


def draw_directions(pairs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (n, D, H, W) and targets (n, 1, H, W): one half of every pair and the other, which is which at random.

    `generator` is one of the device of the pairs.
    """
    first = torch.randint(2, (len(pairs),), generator=generator, device=pairs.device)
    return directed(pairs, first)


def directed(pairs: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """As `draw_directions`, with the half `first` (n,) of each pair, 0 or 1, as the input."""
    sample = torch.arange(len(pairs), device=pairs.device)
    inputs, targets = pairs[sample, first], pairs[sample, 1 - first]
    return stacks(inputs), middle(targets)


def stacks(images: Tensor) -> Tensor:
    """Images (n, H, W) as stacks (n, 1, H, W); stacks as they are."""
    return images[:, None] if images.ndim == 3 else images


def middle(images: Tensor) -> Tensor:
    """The middle image (n, 1, H, W) of stacks (n, D, H, W), or images (n, H, W)."""
    images = stacks(images)
    return images[:, images.shape[1] // 2, None]


def valid(images: Tensor, halo: int) -> Tensor:
    """The images without `halo` pixels at each border."""
    return images[..., halo : images.shape[-2] - halo, halo : images.shape[-1] - halo]


def loss(denoised: Tensor, target: Tensor, halo: int = 0) -> Tensor:
    """Mean squared error in the valid region, a scalar."""
    return (valid(denoised, halo) - valid(target, halo)).square().mean()


def distinct(pairs: Tensor, halo: int = 0) -> Tensor:
    """Which pairs say anything, (n,) bool: all numbers finite, and halves that differ by more than rounding.

    Equal halves (nothing but zeros outside the object, a simulation without noise) have no accuracy, and there is
    nothing to learn from them.
    """
    even, odd = (middle(valid(half, halo)) for half in pairs.unbind(1))
    # The sum of all numbers is finite if they are, and several times faster than to look at each.
    return pairs.flatten(1).sum(1).isfinite() & (_power(even - odd) > 1e-10 * (_power(even) + _power(odd)))


def _power(images: Tensor) -> Tensor:
    """Sum of the squares of each image, (n,) float64."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1, dtype=torch.float64).square()


def errors(denoised: Tensor, inputs: Tensor, targets: Tensor, halo: int = 0) -> Errors:
    """(n, 2): |A(u) - v|^2, limited to finite numbers, and |u - v|^2 of every sample; inputs may be stacks."""
    v = valid(targets, halo)
    parts = [_power(valid(x, halo) - v) for x in (denoised, middle(inputs))]
    samples = torch.stack(parts, 1).cpu().numpy()
    samples[:, 0] = np.fmin(samples[:, 0], WORST * samples[:, 1])  # a NaN becomes the limit
    return samples


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
