"""The strength of the prior: measured on pairs with noise alone, it is the one that is best for the object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.prior import AT_FIRST, EVERY, LOOKS, TRIED, PriorStrength
from tango_jit.learn.total_variation import total_variation
from tango_jit.learn.unet import BREADTH, STRENGTH
from tests.training import scene

SIZE, HALO = 48, 4


def samples(n: int = 8, seed: int = 0, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Samples (n, 3, SIZE, SIZE) of which all counts, and the truth (n, 1, SIZE, SIZE)."""
    pairs, truth = scene(n, seed, SIZE, noise)
    return noise2inverse.samples(torch.from_numpy(pairs)), torch.from_numpy(truth)


def value_of(prior: PriorStrength) -> float:
    return prior.numbers().get(STRENGTH, 0.0)


def measured(*batches: Tensor, halo: int = HALO) -> float:
    prior = PriorStrength()
    assert all(prior.measure(batch, halo) for batch in batches)
    return value_of(prior)


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.4])
def test_it_finds_the_strength_that_is_best_for_the_object(noise):
    """Against a search with the object known, which it never sees."""
    batches = [samples(seed=seed, noise=noise) for seed in range(AT_FIRST)]
    value = measured(*(batch for batch, _ in batches))

    def error(strength: float) -> float:
        found = [total_variation(batch[:, :2], strength) - truth for batch, truth in batches]
        return float(torch.cat(found)[..., HALO:-HALO, HALO:-HALO].square().mean())

    tried = TRIED * 2**0.5 * noise  # a difference of two has twice the power
    errors = [error(strength) for strength in tried]
    best = int(np.argmin(errors))
    assert 0 < best < len(TRIED) - 1  # what is tried reaches far enough
    assert abs(int(np.abs(tried - value).argmin()) - best) <= 1
    assert error(value) < 1.02 * min(errors)
    assert error(value) < 0.25 * noise**2


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1.0, 1e6])
def test_it_is_in_the_unit_of_the_pairs(unit):
    batch, _ = samples()
    scaled = batch.clone()
    scaled[:, :2] *= unit
    assert measured(scaled) == pytest.approx(unit * measured(batch), rel=1e-4)


def test_it_is_nothing_before_the_first_pairs_and_when_forgotten():
    prior = PriorStrength()
    assert value_of(prior) == 0
    prior.measure(samples(noise=0.4)[0], HALO)
    louder = value_of(prior)
    assert louder > 0
    prior.forget()
    assert value_of(prior) == 0
    assert prior.measure(samples(noise=0.1)[0], HALO)
    assert value_of(prior) == measured(samples(noise=0.1)[0])
    assert value_of(prior) < louder / 3


def test_it_looks_at_the_first_batches_and_then_at_some():
    prior, (batch, _) = PriorStrength(), samples(2)
    looks = [n for n in range(1, 4 * EVERY) if prior.measure(batch, HALO)]
    assert looks == [*range(1, AT_FIRST + 1), EVERY, 2 * EVERY, 3 * EVERY]
    prior.forget()
    assert prior.measure(batch, HALO)  # first ones again


def test_it_follows_the_noise():
    prior = PriorStrength()
    for seed in range(AT_FIRST):
        prior.measure(samples(seed=seed, noise=0.1)[0], HALO)
    before, looks = value_of(prior), 0
    for seed in range(LOOKS * EVERY):
        looks += prior.measure(samples(seed=100 + seed, noise=0.4)[0], HALO)
    assert looks == LOOKS
    assert value_of(prior) > 2.5 * before
    assert value_of(prior) == pytest.approx(
        measured(*(samples(seed=s, noise=0.4)[0] for s in range(AT_FIRST))), rel=0.3
    )


def test_a_choice_stays_where_no_other_is_surely_better():
    """The network learns to correct what this choice makes of images."""
    prior = PriorStrength()
    for seed in range(AT_FIRST):
        prior.measure(samples(seed=seed)[0], HALO)
    small = (samples(n=2, seed=100 + seed)[0] for seed in range(AT_FIRST * EVERY))  # each has another best choice
    values = [value_of(prior) for batch in small if prior.measure(batch, HALO)]
    assert len(values) == AT_FIRST
    assert len({measured(samples(n=2, seed=100 + seed)[0]) for seed in range(AT_FIRST)}) > 2
    assert max(values) / min(values) < TRIED[1] / TRIED[0]


def test_a_spoilt_batch_does_not_decide():
    batches = [samples(seed=seed)[0] for seed in range(5)]
    bright = batches[0].clone()
    bright[:, :2] *= 1e19  # finite, but not the sum of its squares
    step = TRIED[1] / TRIED[0]
    assert 1 / step <= measured(*batches, bright) / measured(*batches) <= step
    assert 1 / step <= measured(*batches[:3], bright, *batches[3:]) / measured(*batches) <= step
    prior = PriorStrength()
    for bad in (torch.nan, torch.inf):
        spoilt = batches[0].clone()
        spoilt[0, 0, 20, 20] = bad
        assert not prior.measure(spoilt, HALO)
    assert value_of(prior) == 0


def test_what_does_not_count_is_not_measured():
    """A disc that was somewhere else a turn before is no noise."""
    batch, _ = samples(noise=0.1)
    moved = batch.clone()
    moved[:, 1, 10:20, 10:20] += 2
    masked = moved.clone()
    masked[:, 2, 6:24, 6:24] = 0
    expected = measured(batch)
    assert measured(masked) == pytest.approx(expected, rel=0.3)
    assert measured(moved) > 2 * expected
    masked[:, 2] = 0
    assert not PriorStrength().measure(masked, HALO)


def test_the_border_of_a_patch_is_not_measured():
    batch, _ = samples(noise=0.1)
    spoilt = batch.clone()
    spoilt[:, 1, :, :HALO] += 2
    spoilt[:, 1, :, -HALO:] += 2
    assert measured(spoilt) == pytest.approx(measured(batch), rel=0.3)
    assert measured(spoilt, halo=0) > 2 * measured(batch, halo=0)


@pytest.mark.parametrize("images", [3, 5])
def test_of_stacks_the_middle_image_is_measured(images):
    flat, _ = samples()
    stacked = flat[:, :, None].repeat(1, 1, images, 1, 1)
    for other in set(range(images)) - {images // 2}:
        stacked[:, :2, other] = torch.randn(len(flat), 2, SIZE, SIZE)
    assert measured(stacked) == measured(flat)


def test_measuring_leaves_the_samples_as_they_are():
    batch, _ = samples()
    kept = batch.clone()
    measured(batch)
    assert torch.equal(batch, kept)


def stacks(turned: bool, depth: int = 5) -> Tensor:
    """Samples (n, 3, depth, SIZE, SIZE): noise on the same scene in all images, or on another in each."""
    truths = [scene(8, number if turned else 0, SIZE, 0.3)[1][:, 0] for number in range(depth)]
    noise = 0.3 * np.random.default_rng(5).normal(size=(8, 2, depth, SIZE, SIZE))
    pairs = np.stack(truths, 1)[:, None] + noise
    return noise2inverse.samples(torch.from_numpy(pairs.astype(np.float32)), torch.ones(8, SIZE, SIZE))


def test_the_mean_is_broad_where_images_are_alike_and_narrow_where_they_are_not():
    found = {}
    for turned in (False, True):
        prior = PriorStrength()
        assert prior.measure(stacks(turned), HALO)
        found[turned] = prior.numbers()
    assert found[False][BREADTH] == 6
    assert found[True][BREADTH] == 1
    assert found[False][STRENGTH] < found[True][STRENGTH]  # less noise is left in a mean
    prior = PriorStrength()
    prior.measure(samples()[0], HALO)
    assert set(prior.numbers()) == {STRENGTH}


def test_it_follows_an_experiment_that_changes_what_is_best():
    """Fine grains want weak smoothing, discs strong one: in units of the noise, so that another choice is due."""
    grains = torch.rand(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).round()
    noise = 0.3 * torch.randn(8, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    fine, smooth = noise2inverse.samples(grains + noise), samples()[0]
    prior = PriorStrength()
    for _ in range(AT_FIRST):
        prior.measure(fine, HALO)
    weak = value_of(prior)
    looks = sum(prior.measure(smooth, HALO) for _ in range(LOOKS * EVERY))
    assert looks <= LOOKS
    assert value_of(prior) > 2 * weak
    assert value_of(prior) == pytest.approx(measured(smooth), rel=0.3)


def test_the_breadth_of_the_mean_follows_an_experiment_too():
    prior = PriorStrength()
    for _ in range(AT_FIRST):
        prior.measure(stacks(True), HALO)
    assert prior.numbers()[BREADTH] == 1
    for _ in range(LOOKS * EVERY):
        prior.measure(stacks(False), HALO)
    assert prior.numbers()[BREADTH] == 6
