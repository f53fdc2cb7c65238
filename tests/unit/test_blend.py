"""What part of a network's change is shown: against a truth that is known here, and nowhere else."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tango_jit.learn.blend import BANDS, Blend, Evidence, blend, blended, of_halves, of_turns
from tests.training import blobs

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = 180, 161  # of no power of two, one of them odd


def noise(seed: int, level: float = 1.0) -> Tensor:
    return level * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def coarse(image: Tensor) -> Tensor:
    """What is left of an image in the low frequencies."""
    for _ in range(3):
        image = avg_pool2d(image[None, None], 31, 1, 15, count_include_pad=False)[0, 0]
    return image


def fine(image: Tensor) -> Tensor:
    return image - coarse(image)


TRUTH = 5 * blobs(1, SHAPE, 0.8)[0]
EVERYWHERE = torch.ones(SHAPE)


def power(image: Tensor) -> float:
    return float(image.double().square().sum())


def turns(denoise, seed: int = 0) -> tuple[Tensor, Tensor, Evidence]:
    """Raw, denoised, evidence: `denoise` makes a slice of its noise."""
    n, m = noise(2 * seed), noise(2 * seed + 1)
    raw, denoised = TRUTH + n, TRUTH + denoise(n)
    return raw, denoised, of_turns(raw, TRUTH + m, denoised, EVERYWHERE)


def halves(denoise, seed: int = 0) -> tuple[Tensor, Tensor, Evidence]:
    n, m = noise(2 * seed, 2**0.5), noise(2 * seed + 1, 2**0.5)
    p, q = TRUTH + denoise(n), TRUTH + denoise(m)
    return TRUTH + (n + m) / 2, (p + q) / 2, of_halves(TRUTH + n, TRUTH + m, p, q)


NETWORKS = {
    "good": lambda n: 0.2 * n,
    "biased": lambda n: 0.1 * n + 0.4 * fine(blobs(1, SHAPE, 0.5, seed=9)[0]),
    "levels wrong": lambda n: coarse(n) + 0.1 * fine(n) + 8 * coarse(noise(77)),
    "levels alone": lambda n: 0.1 * coarse(n) + 0.9 * fine(n),
    "worse": lambda n: 1.3 * n + noise(78),
}


@pytest.mark.parametrize("told", [turns, halves])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_picture_is_as_good_as_the_better_of_both_and_the_error_is_what_it_says(told, network):
    for seed in range(4):
        raw, denoised, evidence = told(NETWORKS[network], seed)
        found = blend(raw, denoised, evidence)
        shown = blended(raw, denoised, found.bands)
        errors = [power(image - TRUTH) for image in (raw, denoised, shown)]
        assert errors[2] < 1.03 * min(errors[:2])
        assert found.noise == pytest.approx(errors[0], rel=0.03)
        assert found.error == pytest.approx(errors[2], abs=1.5 * found.sure + 0.02 * found.noise)
        assert found.quality_db < 10 * np.log10(errors[0] / errors[2]) + 0.3


def test_bands_in_which_the_network_is_wrong_are_not_shown():
    raw, denoised, evidence = turns(NETWORKS["levels wrong"])
    found = blend(raw, denoised, evidence)
    assert found.bands[0] > 0.95
    assert found.bands[5] < 0.3
    assert power(blended(raw, denoised, found.bands) - TRUTH) < 0.5 * power(denoised - TRUTH)


def test_the_evidence_is_right_95_times_of_100():
    inside, seeds = {turns: 0, halves: 0}, 60
    for told in inside:
        for seed in range(seeds):
            raw, denoised, evidence = told(NETWORKS["biased"], seed + 100)
            found = blend(raw, denoised, evidence)
            true = power(blended(raw, denoised, found.bands) - TRUTH)
            inside[told] += abs(found.error - true) < found.sure
    assert min(inside.values()) > 0.86 * seeds, inside


def test_what_moved_says_nothing():
    n, m = noise(1), noise(2)
    raw, before, denoised = TRUTH + n, TRUTH + m, TRUTH + 0.2 * n
    before[:80] += 30
    pixels = torch.ones(SHAPE)
    pixels[:80] = 0
    found = blend(raw, denoised, of_turns(raw, before, denoised, pixels))
    assert found.noise == pytest.approx(power(n[80:]), rel=0.05)
    assert found.share > 0.95


def test_noise_that_is_not_independent_counts_against_the_picture():
    """Streaks of opposite sign in both halves: a network that turns them round seems better than it can be."""
    streaks = 2 * fine(blobs(1, SHAPE, 0.2, seed=5)[0])
    n, m = noise(3), noise(4)
    good, turned = 0.1, -0.5
    found = {}
    for how in (good, turned, *(a / 20 for a in range(21))):
        u, v, p, q = n + streaks, m - streaks, 0.1 * n + how * streaks, 0.1 * m - how * streaks
        raw, denoised = (u + v) / 2, (p + q) / 2
        found[how] = blend(raw, denoised, of_halves(u, v, p, q))
        # Whatever part of the streaks is kept, no more is promised than there is where the streaks were noise.
        gain = 10 * np.log10(power(u) / power(p))
        assert found[how].quality_db < max(gain, 0) + 3.5
    assert found[turned].error < -found[turned].sure
    assert found[turned].quality_db < found[good].quality_db - 3


def test_a_network_that_changes_nothing_is_no_better():
    raw, denoised, evidence = turns(lambda n: n)
    found = blend(raw, denoised, evidence)
    assert found.share < 1e-3
    assert found.error == pytest.approx(found.noise)
    torch.testing.assert_close(blended(raw, denoised, found.bands), raw)


def test_a_small_slice_has_bands_without_frequencies():
    raw, before = torch.randn(2, 8, 9, generator=torch.Generator().manual_seed(1))
    found = blend(raw, 0.5 * raw, of_turns(raw, before, 0.5 * raw, torch.ones(8, 9)))
    assert found.bands.shape == (BANDS,)
    assert found.bands.isfinite().all()
    assert blended(raw, 0.5 * raw, found.bands).isfinite().all()


def test_quality_is_the_least_gain():
    found = Blend(torch.ones(BANDS, dtype=torch.float64), 1.0, noise=100.0, error=8.0, sure=2.0)
    assert found.quality_db == pytest.approx(10.0)
    assert Blend(found.bands, 1.0, 100.0, -8.0, 2.0).quality_db == pytest.approx(10.0)
