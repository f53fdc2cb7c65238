"""Noise2Inverse: directions, valid region, accuracy and scale."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn import noise2inverse


def noisy_pairs(n: int = 64, size: int = 24, noise: float | Tensor = 0.3) -> tuple[Tensor, Tensor]:
    """Pairs (n, 2, size, size) with independent noise, and the truth (n, 1, size, size) below it."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(n, 1, 1, 1, generator=generator) + torch.linspace(0, 1, size)[:, None]
    truth = truth.expand(n, 1, size, size).contiguous()
    return truth + noise * torch.randn(n, 2, size, size, generator=generator), truth


def both(errors: noise2inverse.Errors) -> tuple[float | None, float | None]:
    return noise2inverse.accuracy(errors), noise2inverse.ratio_of_means(errors)


def halves_counted(n: int, size: int = 24) -> Tensor:
    """Weights (n, size, size): the left half of the pixels counts."""
    return (torch.arange(size) < size // 2).float().expand(n, size, size)


@pytest.mark.parametrize("counted", [None, halves_counted(64)])
@pytest.mark.parametrize("halo", [0, 4])
def test_identity_scores_exactly_1(halo, counted):
    pairs, _ = noisy_pairs(noise=torch.linspace(0.1, 2, 64)[:, None, None, None])
    u, v, weights = noise2inverse.draw_directions(noise2inverse.samples(pairs, counted), torch.Generator())
    assert both(noise2inverse.errors(u, u, v, weights, halo)) == (1.0, 1.0)


@pytest.mark.parametrize("counted", [None, halves_counted(256)])
@pytest.mark.parametrize("halo", [0, 4])
def test_oracle_scores_half_on_independent_noise(halo, counted):
    pairs, truth = noisy_pairs(n=256)
    u, v, weights = noise2inverse.draw_directions(noise2inverse.samples(pairs, counted), torch.Generator())
    # Each ratio has a standard deviation of about 1/sqrt(pixels) = 0.04 (0.06), their mean a sixteenth of it.
    assert both(noise2inverse.errors(truth, u, v, weights, halo)) == (pytest.approx(0.5, abs=0.01),) * 2


def test_mean_of_ratios_and_ratio_of_means_weigh_samples_differently():
    errors = np.array([[0.5, 1.0], [10.0, 10.0]])
    assert both(errors) == (0.75, 10.5 / 11)
    assert both(np.empty((0, 2))) == (None, None)


def test_predicting_what_the_halves_do_not_share_scores_below_half():
    pairs, truth = noisy_pairs(noise=0.0)
    streaks = 0.1 * torch.sin(torch.arange(24.0))
    u, v = truth + streaks, truth - streaks
    assert noise2inverse.accuracy(noise2inverse.errors(v, u, v, torch.ones_like(u))) == 0
    assert pairs.shape == (64, 2, 24, 24)


def test_a_network_gone_wild_spoils_no_figure():
    pairs, _ = noisy_pairs(4)
    u, v = pairs[:, :1], pairs[:, 1:]
    wild = u.clone()
    wild[0], wild[1], wild[2] = torch.nan, torch.inf, 3e38
    errors = noise2inverse.errors(wild, u, v, torch.ones_like(u))
    assert np.isfinite(errors).all()
    assert both(errors) == (pytest.approx((3 * noise2inverse.WORST + 1) / 4), pytest.approx(750_000, rel=0.1))


def test_both_directions_are_drawn_and_halves_never_mixed():
    pairs = torch.stack([torch.zeros(200, 8, 8), torch.ones(200, 8, 8)], 1)
    counted = torch.rand(200, 8, 8).round()
    samples = noise2inverse.samples(pairs, counted)
    u, v, weights = noise2inverse.draw_directions(samples, torch.Generator().manual_seed(3))
    assert u.shape == v.shape == (200, 1, 8, 8)
    assert torch.equal(weights[:, 0], counted)
    assert torch.equal(u + v, torch.ones(200, 1, 8, 8))  # one half each
    assert 60 < u[:, 0, 0, 0].sum() < 140


def test_of_stacks_the_middle_image_is_the_target():
    pairs = torch.arange(2 * 2 * 3.0).view(2, 2, 3, 1, 1).expand(2, 2, 3, 8, 8)
    counted = torch.rand(2, 8, 8).round()
    samples = noise2inverse.samples(pairs, counted)
    assert samples.shape == (2, 3, 3, 8, 8)
    u, v, weights = noise2inverse.directed(samples, torch.tensor([0, 1]))
    assert u[:, :, 0, 0].tolist() == [[0, 1, 2], [9, 10, 11]]
    assert v[:, :, 0, 0].tolist() == [[4], [7]]
    assert torch.equal(weights[:, 0], counted)
    flat, target, same = noise2inverse.directed(noise2inverse.samples(pairs[:, :, 1], counted), torch.tensor([0, 1]))
    assert torch.equal(flat, u[:, 1, None])
    assert torch.equal(target, v)
    assert torch.equal(same, weights)
    assert noise2inverse.errors(v, u, v, torch.ones_like(v)).tolist() == [[0, 9 * 64], [0, 9 * 64]]
    equal = pairs.clone()
    equal[0, 1, 1] = equal[0, 0, 1]
    assert noise2inverse.distinct(noise2inverse.samples(equal)).tolist() == [False, True]  # the others do not count


def test_loss_sees_the_valid_region_only():
    target = torch.zeros(2, 1, 16, 16)
    denoised = torch.ones(2, 1, 16, 16, requires_grad=True)
    loss = noise2inverse.loss(denoised, target, torch.ones(2, 1, 16, 16), halo=3)
    loss.backward()
    assert loss == 1
    assert denoised.grad is not None
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[3:13, 3:13] = True
    assert torch.equal(denoised.grad[0, 0] != 0, inside)


def test_pixels_that_do_not_count_are_in_no_figure():
    pairs, truth = noisy_pairs(8)
    counted = halves_counted(8)
    spoilt = pairs.clone()
    spoilt[:, 1] += 1e4 * (1 - counted)  # something moved
    clean, moved = noise2inverse.samples(pairs, counted), noise2inverse.samples(spoilt, counted)
    first = torch.zeros(8, dtype=torch.int64)
    (u, v, weights), (_, moved_v, _) = (noise2inverse.directed(samples, first) for samples in (clean, moved))
    for halo in (0, 4):
        losses = [noise2inverse.loss(truth, target, weights, halo) for target in (v, moved_v)]
        assert losses[0] == losses[1]
        # 0.3 squared of half of the pixels; a mean over all of them, so that few pixels weigh little
        assert float(losses[0]) == pytest.approx(0.5 * 0.09, rel=0.1)
        expected = noise2inverse.errors(truth, u, v, weights, halo)
        np.testing.assert_array_equal(noise2inverse.errors(truth, u, moved_v, weights, halo), expected)
        kept = noise2inverse.valid(((truth - v).square() * weights), halo).sum((1, 2, 3))
        np.testing.assert_allclose(expected[:, 0], kept.numpy(), rtol=1e-5)


def test_pairs_that_differ_only_where_nothing_counts_say_nothing():
    pairs, _ = noisy_pairs(3)
    counted = halves_counted(3).clone()
    pairs[0, 1] = pairs[0, 0] + (1 - counted[0])
    counted[1] = 0
    assert noise2inverse.distinct(noise2inverse.samples(pairs)).tolist() == [True, True, True]
    assert noise2inverse.distinct(noise2inverse.samples(pairs, counted)).tolist() == [False, False, True]


def test_pairs_that_say_nothing_are_told_apart():
    pairs, _ = noisy_pairs(6)
    pairs[1] = 0
    pairs[2, 1] = pairs[2, 0]
    pairs[3, 1] = pairs[3, 0] * (1 + 1e-7)  # rounding
    pairs[4, 0, 2, 2] = torch.nan
    pairs[5, 1, 0, 0] = torch.inf  # in the halo, but seen by the network
    told = noise2inverse.distinct(noise2inverse.samples(pairs), halo=4)
    assert told.tolist() == [True, False, False, False, False, False]


def test_pairs_that_differ_in_the_halo_alone_say_nothing():
    pairs = torch.ones(1, 2, 16, 16)
    pairs[0, 0, 0] = 2
    assert not noise2inverse.distinct(noise2inverse.samples(pairs), halo=2).any()
    assert noise2inverse.distinct(noise2inverse.samples(pairs), halo=0).all()


def test_scale_follows_the_unit_and_ignores_outliers():
    pairs, _ = noisy_pairs()
    scale = noise2inverse.robust_scale(pairs)
    assert 1 < scale < 4
    assert noise2inverse.robust_scale(pairs * 1e-3) == pytest.approx(1e-3 * scale, rel=1e-6)
    assert noise2inverse.robust_scale(pairs + 7) == pytest.approx(scale, rel=1e-5)
    pairs[0, :, :4, :4] = 1e6  # a metal pin, or a spoilt pixel
    assert noise2inverse.robust_scale(pairs) == pytest.approx(scale, rel=0.02)


def test_no_contrast_has_no_scale():
    assert noise2inverse.robust_scale(torch.full((4, 2, 8, 8), 3.0)) == 0


def test_scale_of_many_pairs():
    pairs = torch.rand(1000, 2, 48, 48, generator=torch.Generator().manual_seed(1))
    assert noise2inverse.robust_scale(pairs) == pytest.approx(0.86, abs=0.02)  # 1 - 2 sqrt(2 * 0.01)/2: a triangle
