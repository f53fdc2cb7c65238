"""What moved between two turns: where two reconstructions of the same place differ by more than noise.

Whole slices of two turns are a better pair than the halves of one (docs/decisions/0036), but only where nothing moved:
elsewhere the one is no noisy image of the other. So the pixels that moved are left out of loss and score. What was
learned from the others holds for them too, because the network sees one moment.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from tango_jit.learn import noise2inverse

MEAN, MARGIN = 5, 7  # pixels: side of the means that are compared, and of what is left out around a difference
LIMIT = 4.0  # standard deviations of such a mean: noise alone exceeds it in one of 16,000
LEAST_STILL = 0.25  # part of an image that must not have moved
LEAST = LEAST_STILL / 2  # part of the pixels, those that differ least, that tell the noise


def still(u: Tensor, v: Tensor) -> Tensor:
    """(n, H, W) each -> (n, H, W) of the same type: 1 where they show the same, 0 where something moved.

    The noise is taken from these images themselves: it is what those pixels differ by that differ least, so that
    half of them may have moved, and more.
    """
    if not len(u):
        return torch.ones_like(u)
    difference = avg_pool2d((u - v)[:, None], MEAN, 1, MEAN // 2, count_include_pad=False)
    size = difference.abs()
    values = size.flatten()
    values = values[:: 1 + len(values) // 20_000]
    # Equal pixels (nothing but zeros) and such that are not finite say nothing about noise.
    noise = torch.where(values > 0, values, torch.nan).nanquantile(LEAST) / NormalDist().inv_cdf((1 + LEAST) / 2)
    moved = (size > LIMIT * noise).to(u.dtype)
    return 1 - max_pool2d(moved, MARGIN, 1, MARGIN // 2)[:, 0]


def weighted(pairs: Tensor, split: noise2inverse.Split, at: int | None = None) -> tuple[Tensor, int]:
    """Samples (n, 3, ...) of pairs (n, 2, ...), without those of two turns of which most moved; how many those are.

    `at`: the image of a stack that is looked at, see noise2inverse.py.
    """
    if split == "halves":
        return noise2inverse.samples(pairs), 0
    weights = still(*(noise2inverse.shown(image, at)[:, 0] for image in pairs.unbind(1)))
    calm = weights.flatten(1).mean(1) >= LEAST_STILL
    return noise2inverse.samples(pairs[calm], weights[calm]), int((~calm).sum())


def useful(pairs: Tensor, halo: int = 0, at: int | None = None) -> int:
    """How many pairs (n, 2, ...) of two turns say anything: most of them stands still, and the two are not equal.

    As a trainer counts, which nobody has to show them to. `halo` and `at`: see noise2inverse.py.
    """
    return int(noise2inverse.distinct(weighted(pairs, "turns", at)[0], halo, at).sum())
