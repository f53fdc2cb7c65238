"""The denoiser: in the unit of the slice, and worse slices withheld."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from tango_jit.learn import Denoiser, NetworkConfig, build
from tango_jit.learn.blend import Blend
from tango_jit.learn.weights import Weights, pack
from tests.denoising import MU, Image, constant, halves, learned, network_of, rms, stronger

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Of a network that was trained on such discs."""
    return learned("guided")


@pytest.fixture(scope="module")
def residual() -> Weights:
    """The same for one that adds a correction to the image itself."""
    return learned("residual")


def test_without_weights_slices_pass():
    even, odd, _ = halves()
    result = Denoiser()(even, odd)
    np.testing.assert_array_equal(result.image, (even + odd) / 2)
    np.testing.assert_array_equal(result.raw, result.image)
    assert (result.accuracy, result.guarded, result.weights_version) == (None, False, 0)
    assert Denoiser().weights is None


def test_denoises_in_the_unit_of_the_slice(weights):
    even, odd, truth = halves(seed=500)
    denoise = Denoiser()
    assert denoise.load(weights)
    result = denoise(even, odd)
    assert result.image.dtype == result.raw.dtype == np.float32
    assert result.image.shape == (60, 70)
    assert rms(result.image - truth) < 0.6 * rms(result.raw - truth)
    assert result.accuracy is not None
    assert 0.5 < result.accuracy < 0.7
    assert result.weights_version == 1
    assert not result.guarded


def test_halves_are_denoised_apart_and_scored_against_each_other(weights):
    even, odd, _ = halves(seed=501)
    denoise = Denoiser(precision="float32", guard=False)
    denoise.load(weights)
    with torch.no_grad():
        stack = torch.from_numpy(np.stack([even, odd]))[:, None] / weights.scale
        a, b = (network_of(weights)(stack)[:, 0] * weights.scale).numpy()
    result = denoise(even, odd)
    np.testing.assert_allclose(result.image, (a + b) / 2, atol=1e-4 * MU)
    noise = np.sum((even - odd) ** 2)
    expected = (np.sum((a - odd) ** 2) / noise + np.sum((b - even) ** 2) / noise) / 2
    assert result.accuracy == pytest.approx(expected, rel=1e-4)
    assert result.errors.shape == (2, 2)
    assert result.errors[:, 0].sum() / result.errors[:, 1].sum() == pytest.approx(expected, rel=1e-4)


def test_full_mode_denoises_the_whole(weights):
    even, odd, _ = halves(seed=502)
    denoise = Denoiser(precision="float32", guard=False)
    denoise.load(weights)
    full = np.stack([even, odd]).mean(axis=0)
    with torch.no_grad():
        expected = network_of(weights)(torch.from_numpy(full)[None, None] / weights.scale)[0, 0] * weights.scale
    for given in (None, full):
        result = denoise(even, odd, given, mode="full")
        np.testing.assert_allclose(result.image, expected.numpy(), atol=1e-4 * MU)
        assert result.accuracy == denoise(even, odd).accuracy


def test_raw_is_the_whole_where_it_has_weights_of_its_own(weights):
    even, odd, truth = halves()
    denoise = Denoiser()
    np.testing.assert_array_equal(denoise(even, odd, truth).raw, truth)
    denoise.load(weights)
    np.testing.assert_array_equal(denoise(even, odd, truth).raw, truth)


def test_identity_scores_1_and_is_guarded():
    even, odd, _ = halves()
    denoise = Denoiser()
    denoise.load(constant(1))
    result = denoise(even, odd)
    assert result.accuracy == 1.0
    assert result.guarded
    np.testing.assert_array_equal(result.image, result.raw)


def test_halves_without_an_accuracy(weights):
    even, odd, _ = halves()
    denoise = Denoiser()
    denoise.load(weights)
    assert denoise(even, odd, complete=False).accuracy is None
    assert denoise(even, even).accuracy is None
    assert denoise(np.zeros_like(even), np.zeros_like(even)).accuracy is None


def test_guard_shows_the_raw_slice_while_the_network_is_worse(residual):
    even, odd, _ = halves(seed=503)
    denoise = Denoiser()
    denoise.load(stronger(residual, -2.0))
    result = denoise(even, odd)
    assert result.accuracy is not None
    assert result.accuracy > 1
    assert result.guarded
    np.testing.assert_array_equal(result.image, result.raw)
    denoise.guard = False
    shown = denoise(even, odd)
    assert not shown.guarded
    assert rms(shown.image - shown.raw) > 0
    denoise.guard = True
    assert denoise(even, odd, complete=False).guarded  # no accuracy: the last verdict stands
    denoise.load(replace(residual, version=3))
    assert not denoise(even, odd).guarded


def test_guard_has_hysteresis_for_each_slice(residual):
    even, odd, _ = halves(seed=504)
    low, high = 0.0, 1.0  # how much of the correction leaves an error between both thresholds
    for _ in range(30):
        factor = (low + high) / 2
        found = judged(residual, factor, even, odd)
        low, high = (factor, high) if found.worst > 0.95 * found.noise else (low, factor)
    between = stronger(residual, low, version=3)
    denoise = Denoiser(precision="float32")
    for weights, guarded in ((between, False), (stronger(residual, -1.0), True), (between, True), (residual, False)):
        denoise.load(weights)
        assert denoise(even, odd, name="xy").guarded == guarded  # not before it is good enough again
    denoise.load(between)
    assert not denoise(even, odd, name="yz").guarded  # which was never worse


def judged(weights: Weights, factor: float, even: Image, odd: Image) -> Blend:
    denoise = Denoiser(precision="float32", guard=False)
    denoise.load(stronger(weights, factor))
    found = denoise(even, odd).blend
    assert found is not None
    return found


def test_a_slice_of_which_nothing_is_known_is_shown_raw(weights):
    even, odd, _ = halves(seed=505)
    denoise = Denoiser()
    denoise.load(weights)
    unknown = denoise(even, odd, complete=False)
    assert (unknown.image is unknown.raw, unknown.evidence, unknown.quality_db) == (True, None, 0.0)
    assert (denoise(even, odd).quality_db or 0) > 3
    later = denoise(even, odd, complete=False)  # as it was shown the last time
    assert (later.guarded, later.quality_db) == (False, None)
    denoise.load(replace(stronger(weights, 4.0), patch_accuracy=None))  # another network altogether
    assert denoise(even, odd, complete=False).guarded


def test_what_is_shown_is_never_worse_than_either(weights):
    for seed, factor in product(range(510, 516), (-1.0, 0.3, 1.0, 2.0, 4.0)):
        even, odd, truth = halves(seed=seed)
        guarded, free = (Denoiser(precision="float32", guard=guard) for guard in (True, False))
        for denoise in (guarded, free):
            denoise.load(stronger(weights, factor))
        shown = guarded(even, odd)
        best = min(rms(shown.raw - truth), rms(free(even, odd).image - truth))
        assert rms(shown.image - truth) < 1.05 * best


def test_slices_that_are_not_finite_are_never_denoised_into_more(weights):
    even, odd, _ = halves()
    even[3, 4] = np.nan
    denoise = Denoiser()
    denoise.load(weights)
    result = denoise(even, odd)
    assert result.guarded
    assert np.isnan(result.image).sum() == 1
    assert not denoise(*halves()[:2]).guarded


def stack(images: int, shape: tuple[int, int] = (60, 70), seed: int = 0) -> tuple[Image, Image]:
    """Halves (images, rows, cols) of the same disc."""
    pairs = [halves(shape, seed=seed + n)[:2] for n in range(images)]
    even, odd = zip(*pairs, strict=True)
    return np.stack(even), np.stack(odd)


@pytest.mark.parametrize("seen", [{"depth": 3}, {"frames": 5}, {"frames": 3, "target": "last"}])
def test_of_a_stack_the_middle_or_the_last_image_is_denoised(seen):
    network = build(NetworkConfig("CUSTOM", **seen))
    weights = pack(network, version=1, scale=MU, patch_accuracy=None, generation=0)
    count = network.config.images
    even, odd = stack(count)
    denoise = Denoiser(precision="float32", guard=False)
    denoise.load(weights)
    result = denoise(even, odd)
    with torch.no_grad():
        expected = [(network(torch.from_numpy(half)[None] / MU)[0, 0] * MU).numpy() for half in (even, odd)]
    np.testing.assert_allclose(result.image, np.mean(expected, axis=0), atol=1e-5 * MU)
    shown = -1 if "target" in seen else count // 2
    np.testing.assert_allclose(result.raw, (even + odd)[shown] / 2, atol=1e-6 * MU)
    errors = [float(((a - b) ** 2).sum()) for a, b in zip(expected, (odd[shown], even[shown]), strict=True)]
    noise = float(((even[shown] - odd[shown]) ** 2).sum())
    assert result.accuracy == pytest.approx(np.mean(errors) / noise, rel=1e-4)
    words = (
        rf"expected stacks of {count} planes.*got 1" if "depth" in seen else rf"one shape \({count}, rows, cols\), got"
    )
    with pytest.raises(ValueError, match=words):
        denoise(even[0], odd[0])


def test_wrong_calls_are_refused(weights):
    even, odd, _ = halves()
    denoise = Denoiser()
    with pytest.raises(ValueError, match=r"slice: expected halves .* of one shape"):
        denoise(even, odd[1:])
    with pytest.raises(ValueError, match="slice: expected halves"):
        denoise(even, odd, even[:, 1:])
    with pytest.raises(ValueError, match="mode: expected one of trained, halves, full, got 'both'"):
        denoise(even, odd, mode="both")  # pyright: ignore[reportArgumentType]
