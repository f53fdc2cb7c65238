"""What moved between two turns: noise is not taken for motion, and motion not for noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn.motion import LEAST_STILL, MARGIN, MEAN, still, useful, weighted
from tests.training import blobs


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def disc(at: tuple[float, float], radius: float = 20, size: int = 128) -> Tensor:
    row, col = np.mgrid[:size, :size]
    return torch.from_numpy(((row - at[0]) ** 2 + (col - at[1]) ** 2 < radius**2).astype(np.float32))[None]


def near(changed: Tensor, far: int) -> Tensor:
    """Where a pixel that changed is at most `far` rows and columns away."""
    return torch.nn.functional.max_pool2d(changed.float()[:, None], 2 * far + 1, 1, far)[:, 0] > 0


@pytest.mark.parametrize("shape", [(64, 48, 48), (1, 400, 300), (4, 64, 64)])
@pytest.mark.parametrize("level", [1e-4, 1.0])
def test_noise_alone_does_not_move(shape, level):
    u, v = 5 * level + level * noise(2, *shape)
    weights = still(u, v)
    assert weights.shape == u.shape
    assert weights.dtype == u.dtype
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    assert float(weights.mean()) > 0.99


@pytest.mark.parametrize("shift", [3, 8, 60])
@pytest.mark.parametrize("level", [0.02, 0.2])
def test_a_moved_disc_is_left_out_around_its_rim(shift, level):
    u, v = disc((64, 40)), disc((64, 40 + shift))
    weights = still(*(image + level * noise(1, 128, 128, seed=seed) for seed, image in enumerate((u, v))))
    changed = u != v
    thick = near(
        ~near(~changed, 1), 1
    )  # without crescents of a pixel or two, which no mean of 5 x 5 can tell from noise
    assert float(weights[thick].mean()) < 0.01
    assert float(weights[near(changed, 1) & near(thick, 1)].mean()) < 0.05  # its rim
    away = ~near(changed, MEAN // 2 + MARGIN // 2)
    assert float(weights[away].mean()) > 0.99
    assert bool(away.any())


@pytest.mark.parametrize(("level", "contrast"), [(0.8, 1.0), (0.8, 5.0), (0.2, 5.0)])
def test_where_all_grains_moved_little_is_left(level, contrast):
    """Which is more than half of the pixels: what most of them differ by is no noise."""
    u, v = (contrast * blobs(2, (120, 100), level, seed=seed) for seed in (1, 2))
    assert float((u != v).float().mean()) > 0.3
    weights = still(u + 0.1 * noise(2, 120, 100), v + 0.1 * noise(2, 120, 100, seed=1))
    assert (weights.mean((1, 2)) < LEAST_STILL).all()
    assert float(weights[near(u != v, 2)].mean()) < 0.15
    same = still(u + 0.1 * noise(2, 120, 100), u + 0.1 * noise(2, 120, 100, seed=1))
    assert float(same.mean()) > 0.99


def test_what_was_found_holds_in_both_directions_and_for_each_image():
    u = torch.cat([disc((64, 40)), disc((30, 30)), disc((64, 64))]) + 0.1 * noise(3, 128, 128)
    v = torch.cat([disc((64, 60)), disc((30, 30)), disc((90, 64))]) + 0.1 * noise(3, 128, 128, seed=1)
    weights = still(u, v)
    assert torch.equal(weights, still(v, u))
    parts = weights.mean((1, 2))
    assert parts[1] > 0.99
    assert (parts[[0, 2]] < 0.9).all()
    assert torch.equal(still(7 * u, 7 * v), weights)  # whatever the unit


def test_equal_images_are_still():
    u = noise(2, 32, 32)
    assert torch.equal(still(u, u.clone()), torch.ones(2, 32, 32))
    assert torch.equal(still(torch.zeros(2, 32, 32), torch.zeros(2, 32, 32)), torch.ones(2, 32, 32))


def test_equal_pixels_say_nothing_about_the_noise():
    """Nothing but zeros around what a scan sees, or a slice that lies half outside."""
    u, v = noise(2, 4, 96, 96)
    for image in (u, v):
        image[:, :60] = 0
    weights = still(u, v)
    assert float(weights.mean()) > 0.99
    v[:, 80:90, 40:60] += 5
    weights = still(u, v)
    assert float(weights[:, 80:90, 40:60].max()) == 0
    assert float(weights[:, 60:70].mean()) > 0.98


def test_a_spoilt_image_does_not_hide_what_moved_in_others():
    u, v = 0.1 * noise(2, 3, 128, 128)
    v[1] += disc((64, 64))[0]
    expected = still(u[1:2], v[1:2])
    for bad in (torch.nan, torch.inf):
        spoilt = u.clone()
        spoilt[0, 5, 7] = bad
        weights = still(spoilt, v)
        assert float(weights[1, 60:68, 60:68].max()) == 0
        assert float((weights[1:2] != expected).float().mean()) < 0.01


def moving(*shape: int) -> Tensor:
    """Pairs of noise (4, 2, ..., 64, 64): in the first nothing moves, in the second a little, in the last two all."""
    pairs = 0.1 * noise(4, 2, *shape, 64, 64)
    pairs[1, 1, ..., 20:30, 20:30] += 1
    pairs[2, 1, ..., ::9, :] += 3  # more than a mean of 5 x 5 takes away, everywhere
    pairs[3, 0, ..., :50] += 1
    return pairs


@pytest.mark.parametrize("shape", [(), (3,)])
def test_pairs_of_which_most_moved_are_left_out_and_counted(shape):
    pairs = moving(*shape)
    samples, left_out = weighted(pairs, "turns")
    assert left_out == 2
    assert samples.shape == (2, 3, *shape, 64, 64)
    assert torch.equal(samples[:, :2], pairs[:2])
    middle = [image[:, 1] if shape else image for image in pairs.unbind(1)]
    counted = still(*middle)[:2]
    assert 0.8 < float(counted[1].mean()) < 0.95
    for plane in samples[:, 2].unbind(1) if shape else (samples[:, 2],):
        assert torch.equal(plane, counted)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_of_use_is_what_stands_still_and_is_not_equal(shape):
    pairs = moving(*shape)
    assert useful(pairs, halo=4) == 2
    pairs[0, 1] = pairs[0, 0]
    assert useful(pairs, halo=4) == 1
    assert useful(pairs[:1], halo=4) == useful(pairs[:0], halo=4) == 0


def test_of_halves_everything_counts():
    pairs = moving()
    samples, left_out = weighted(pairs, "halves")
    assert left_out == 0
    assert torch.equal(samples[:, :2], pairs)
    assert torch.equal(samples[:, 2], torch.ones(4, 64, 64))


@pytest.mark.parametrize("split", ["halves", "turns"])
def test_no_pairs_are_no_samples(split):
    samples, left_out = weighted(torch.zeros(0, 2, 16, 16), split)
    assert (samples.shape, left_out) == ((0, 3, 16, 16), 0)
