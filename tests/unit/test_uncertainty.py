"""The map of what each pixel may be wrong by, against errors that are known here."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn import Denoiser, NetworkConfig, build
from tango_jit.learn.uncertainty import uncertainty
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import pack
from tests.training import blobs

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = 200, 160
EVERYWHERE = torch.ones(SHAPE)


def noise(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def pair(spread: Tensor, bias: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two noisy images of nothing, and what is left of their noise: `spread` of it, and `bias` in both."""
    n, m = noise(2 * seed), noise(2 * seed + 1)
    return n, m, spread * n + bias, spread * m + bias


def covered(error: Tensor, sigma: Tensor) -> float:
    return float((error.abs() < 1.96 * sigma).float().mean())


def test_the_map_holds_95_of_100_pixels_where_the_error_is_noise():
    spread = torch.full(SHAPE, 0.1)
    spread[:, 80:] = 0.4
    first, second, p, q = pair(spread, torch.zeros(SHAPE))
    sigma = uncertainty(first, second, p, q, EVERYWHERE, mean=False)
    assert sigma.shape == SHAPE
    left, right = sigma[:, 20:60], sigma[:, 100:140]
    assert float(left.mean()) == pytest.approx(0.1, abs=0.06)
    assert float(right.mean()) == pytest.approx(0.4, abs=0.06)
    assert 0.93 < covered(p, sigma) < 0.99
    both = uncertainty(first, second, p, q, EVERYWHERE, mean=True)
    assert 0.92 < covered((p + q) / 2, both) < 0.99
    assert float(both[:, 100:140].mean()) < 0.9 * float(right.mean())


def test_what_both_get_wrong_alike_counts():
    bias = torch.zeros(SHAPE)
    bias[60:140, 40:120] = 0.5
    first, second, p, q = pair(torch.full(SHAPE, 0.1), bias)
    sigma = uncertainty(first, second, p, q, EVERYWHERE, mean=False)
    assert float(sigma[80:120, 60:100].mean()) > 1.8 * float(sigma[:30, :30].mean())
    assert covered(p, sigma) > 0.9


def test_where_nothing_around_counts_there_is_no_figure():
    pixels = torch.ones(SHAPE)
    pixels[:100] = 0
    first, second, p, q = pair(torch.full(SHAPE, 0.2), torch.zeros(SHAPE))
    p[:100] += 50 * blobs(1, (100, 160), 0.5)[0]  # what moved
    sigma = uncertainty(first, second, p, q, pixels, mean=False)
    assert sigma[:80].isnan().all()
    assert float(sigma[110:].mean()) == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_slice_of_a_turn_before_tells_it_with_its_neighbours(depth: int):
    """As many as the network sees; without them the halves tell."""
    network = build(NetworkConfig(depth=depth))
    cast(Tensor, getattr(network, STRENGTH)).fill_(0.15)
    denoise = Denoiser(guard=False)
    denoise.load(pack(network, version=1, scale=1.0, patch_accuracy=0.6, generation=0, split="turns"))
    truth = blobs(1, SHAPE, 0.8)[0].numpy()
    draw = np.random.default_rng(4).normal(size=(3, depth, *SHAPE)).astype(np.float32)
    even, odd = truth + 0.2 * 2**0.5 * draw[:2]
    before = truth + 0.2 * draw[2]
    result = denoise(even, odd, before=before, with_uncertainty=True)
    alone = denoise(even, odd, before=before[depth // 2], with_uncertainty=True)
    assert result.uncertainty is not None
    assert alone.uncertainty is not None
    error = float(np.sqrt(np.mean((result.image - truth) ** 2)))
    told = float(np.sqrt(np.mean(result.uncertainty**2)))
    assert told == pytest.approx(error, rel=0.12)
    assert np.array_equal(alone.uncertainty, result.uncertainty) == (depth == 1)
    np.testing.assert_array_equal(alone.image, result.image)
