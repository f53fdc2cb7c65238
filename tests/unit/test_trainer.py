"""The trainer: scoring, steps, versions, and what it survives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn import PAPER, PRODUCT, RELEASED, SETTINGS, NetworkConfig, Trainer, noise2inverse
from tango_jit.learn.step import WARM
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import unpack
from tests.training import SIZE, SMALL, equal, pairs, tensors, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def test_learns_to_denoise():
    trainer = trained(steps=300, settings=replace(SMALL, precision="auto"))
    assert trainer.patch_accuracy is not None
    assert trainer.scores.ratio_of_means is not None
    scores = trainer.add(pairs(64, seed=999))  # never seen, and not seen yet when scored
    assert 0.5 < scores.mean() < 0.75
    assert trainer.steps == 300
    assert trainer.steps_rejected == 0
    assert trainer.loss < 0.1


def test_same_seed_and_pairs_give_the_same_weights():
    for settings in (SMALL, replace(SMALL, precision="bfloat16")):
        assert equal(trained(settings=settings).weights(), trained(settings=settings).weights())
    assert not equal(trained().weights(), trained(steps=21).weights())


def test_every_pair_is_scored_once_on_arrival_with_the_weights_of_that_moment():
    trainer = trained(20)
    network, scale = unpack(trainer.weights()), trainer.scale
    assert scale is not None
    new = torch.from_numpy(pairs(40, seed=77))
    with torch.no_grad():
        forward, backward = (
            noise2inverse.errors(network(u / scale), u / scale, v / scale, torch.ones_like(u), halo=2)
            for u, v in ((new[:, :1], new[:, 1:]), (new[:, 1:], new[:, :1]))
        )
    expected = np.stack([e[:, 0] / e[:, 1] for e in (forward, backward)], 1)
    scores = trainer.add(new)
    nearest = np.abs(expected - scores[:, None])
    assert nearest.min(axis=1).max() < 1e-4
    assert 5 < nearest.argmin(axis=1).sum() < 35  # both directions


def test_steps_do_not_change_the_accuracy():
    trainer = trained(20)
    before = trainer.patch_accuracy, trainer.scores.ratio_of_means
    for _ in range(10):
        trainer.step()
    assert (trainer.patch_accuracy, trainer.scores.ratio_of_means) == before


def test_accuracy_looks_back_on_the_last_pairs_only():
    trainer = Trainer(SMALL)
    scores = [trainer.add(pairs(128, seed=n)) for n in range(6)]
    assert trainer.patch_accuracy == pytest.approx(np.concatenate(scores[2:]).mean())


def test_untrained_network_scores_about_as_the_identity():
    """A guided one about as total variation, once its strength follows pairs: the first are scored before that."""
    new = [pairs(32, seed=seed, size=PRODUCT.patch_size) for seed in (0, 1)]
    for form in ("guided", "residual"):
        trainer = Trainer(PRODUCT.edited(form=form))
        assert 0.8 < trainer.add(new[0]).mean() < 2.5
        assert (trainer.add(new[1]).mean() < 0.8) == (form == "guided")
    assert Trainer(PRODUCT).patch_accuracy is None
    assert math.isnan(Trainer(PRODUCT).loss)


@pytest.mark.parametrize(("fine", "coarse", "tolerance"), [(1 / 32, 4.0, 0.0), (0.03, 3.0, 0.2)])
def test_unit_does_not_matter(fine, coarse, tolerance):
    """Trained in one unit or another, the same pairs are denoised alike: exactly so where rounding is the same."""
    removed = []
    for unit in (fine, coarse):
        trainer = trained(150, factor=unit)
        assert trainer.scale is not None
        scale = trainer.scale
        image = unit * torch.from_numpy(pairs(1, seed=4, size=64))[:, :1]
        with torch.no_grad():
            removed.append((unpack(trainer.weights())(image / scale) * scale - image) / unit)
    difference = float((removed[1] - removed[0]).norm() / removed[0].norm())
    assert difference <= tolerance


def test_average_of_the_weights():
    plain, averaged = (Trainer(replace(SMALL, ema=ema), seed=2) for ema in (0.0, 0.5))
    for trainer in (plain, averaged):
        trainer.add(pairs())
    expected = tensors(plain.weights())
    for step in range(1, 15):
        for trainer in (plain, averaged):
            trainer.step()
        keep = min(0.5, step / (step + 10))
        newest = tensors(plain.weights())
        expected = {name: keep * expected[name] + (1 - keep) * newest[name] for name in expected}
    torch.testing.assert_close(tensors(averaged.weights()), expected, rtol=1e-4, atol=1e-6)


def test_steps_grow_to_their_full_size():
    """A first step of Adam changes every weight by the learning rate; nothing is known of the gradients yet."""
    settings = replace(SMALL, ema=0.0)
    trainer = Trainer(settings, seed=5)
    trainer.add(pairs())
    farthest: list[float] = []
    before = tensors(trainer.weights())
    for _ in range(WARM + 1):
        trainer.step()
        now = tensors(trainer.weights())
        farthest.append(max(float((now[name] - before[name]).abs().max()) for name in now if name != STRENGTH))
        before = now
    assert farthest[0] == pytest.approx(settings.learning_rate / WARM, rel=0.01)
    assert farthest[-1] > 5 * farthest[0]


def test_newer_generation_empties_the_buffer_and_older_pairs_are_too_late():
    trainer = trained(120, SMALL.edited(form="residual"))  # better than an untrained one by then
    assert trainer.pairs == 64
    before = trainer.weights()
    trainer.add(pairs(8, seed=100), generation=3)
    assert (trainer.pairs, trainer.generation, trainer.reuse) == (8, 3, 0.0)
    assert len(trainer.add(pairs(8, seed=101), generation=2)) == 0
    assert trainer.pairs == 8
    assert trainer.weights().generation == 3
    assert equal(trainer.weights(), before)  # the network goes on


def test_pairs_that_say_nothing_are_left_out():
    trainer = Trainer(SMALL)
    spoilt = pairs(6)
    spoilt[0] = 0
    spoilt[1, 1] = spoilt[1, 0]
    spoilt[2, 0, 3, 3] = np.nan
    spoilt[3, 1, 0, 0] = np.inf
    assert len(trainer.add(spoilt)) == 2
    assert (trainer.pairs, trainer.pairs_refused) == (2, 4)
    assert len(trainer.add(np.zeros((3, 2, SIZE, SIZE), np.float32))) == 0


def test_scale_waits_for_contrast():
    trainer = Trainer(SMALL)
    trainer.add(np.zeros((8, 2, SIZE, SIZE), np.float32))
    opposite = np.random.default_rng(0).normal(size=(8, 1, SIZE, SIZE)).astype(np.float32)
    assert len(trainer.add(np.concatenate([opposite, -opposite], 1))) == 0  # the mean of the halves is 0 everywhere
    assert trainer.scale is None
    assert not trainer.ready
    with pytest.raises(RuntimeError, match="weights: expected a scale, got no pairs yet"):
        trainer.weights()
    trainer.add(pairs())
    assert trainer.scale == pytest.approx(noise2inverse.robust_scale(torch.from_numpy(pairs())))


def test_scale_stays_that_of_the_first_pairs():
    trainer = Trainer(SMALL)
    trainer.add(pairs())
    scale = trainer.scale
    trainer.add(10 * pairs(seed=1))
    assert trainer.scale == scale


def test_steps_that_are_not_finite_are_not_taken():
    trainer = trained(20)
    before = trainer.weights()
    loss = trainer.loss
    trainer.add(1e19 * pairs(64, noise=0.1))  # finite themselves, but not the sum of the gradient's squares
    assert trainer.step() > 1e30
    assert trainer.loss == loss
    assert (trainer.steps, trainer.steps_rejected) == (20, 1)
    assert equal(before, trainer.weights(), but=STRENGTH)  # which is measured anew
    strength = tensors(before)[STRENGTH]
    assert tensors(trainer.weights())[STRENGTH] == pytest.approx(float(strength), rel=0.3)
    trainer.add(pairs(64))
    assert math.isfinite(trainer.step())
    assert trainer.steps == 21


def test_weights_stay_finite_when_training_diverges():
    trainer = trained(60, settings=replace(SMALL, learning_rate=1.0))
    assert all(torch.isfinite(tensor).all() for tensor in tensors(trainer.weights()).values())


def test_step_needs_a_batch():
    trainer = Trainer(SMALL)
    trainer.add(pairs(3))
    assert not trainer.ready
    with pytest.raises(RuntimeError, match="step: expected 4 pairs in the buffer, got 3"):
        trainer.step()


def test_reuse_and_fill():
    trainer = Trainer(SMALL)
    trainer.add(pairs(16))
    for _ in range(8):
        trainer.step()
    assert (trainer.reuse, trainer.buffer_fill, trainer.pairs) == (2.0, 0.25, 16)


def test_settings_change_while_training():
    trainer = trained(20)
    before = trainer.weights()
    trainer.configure(trainer.settings.edited(learning_rate=1e-7, batch_size=8, ema=0.0))
    trainer.step()
    after = trainer.weights()
    moved = max(
        float((tensors(after)[n] - t).abs().max()) for n, t in tensors(before).items() if n != "top.last.weight"
    )
    assert 0 < moved < 0.2  # from the average to the weights, no step to speak of
    start = tensors(after)
    trainer.step()
    assert max(float((tensors(trainer.weights())[n] - t).abs().max()) for n, t in start.items()) < 1e-6
    trainer.configure(trainer.settings.edited(buffer_size=16))
    assert (trainer.pairs, trainer.buffer_fill) == (16, 1.0)
    trainer.configure(trainer.settings.edited(buffer_size=64))
    assert (trainer.pairs, trainer.buffer_fill) == (16, 0.25)
    trainer.configure(trainer.settings.edited(patch_size=24))
    assert trainer.pairs == 0
    trainer.add(pairs(8, size=24))
    assert math.isfinite(trainer.step())


def test_another_shape_of_network_needs_a_reset():
    trainer = trained(4)
    with pytest.raises(
        ValueError, match=r"network: expected the present shape .form guided, 8 features.*needs a reset"
    ):
        trainer.configure(trainer.settings.edited(features=16))
    assert trainer.settings.network.features == 8


def test_wrong_pairs_are_refused():
    trainer = Trainer(SMALL)
    for shape in ((4, 2, SIZE, SIZE + 1), (4, 1, SIZE, SIZE), (2, SIZE, SIZE)):
        with pytest.raises(ValueError, match=r"pairs: expected shape \(n, 2, 16, 16\), got"):
            trainer.add(np.zeros(shape, np.float32))
    assert len(trainer.add(np.zeros((0, 2, SIZE, SIZE), np.float32))) == 0


@pytest.mark.parametrize("seen", [{"depth": 3}, {"frames": 5}])
def test_trains_on_stacks(seen):
    settings = SMALL.edited(**seen)
    count = settings.network.images
    trainer = Trainer(settings, seed=5)

    def stacked(n: int, seed: int) -> Tensor:
        """Pairs of the same disc in all images, with noise of its own in each."""
        noise = torch.randn(n, 2, count, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        return torch.from_numpy(pairs(n, seed=seed, noise=0.0))[:, :, None] + 0.3 * noise

    for step in range(150):
        if step % 4 == 0:
            trainer.add(stacked(8, seed=step))
        trainer.step()
    assert trainer.add(stacked(32, seed=999)).mean() < 0.8
    assert trainer.pairs == settings.buffer_size
    network, scale, new = trainer.averaged(), trainer.scale, stacked(1, seed=1000)
    assert scale is not None
    counts = torch.ones(1, 1, SIZE, SIZE)
    with torch.no_grad():
        expected = [
            noise2inverse.errors(network(u / scale), u / scale, v[:, count // 2, None] / scale, counts, halo=2)
            for u, v in (new.unbind(1), new.unbind(1)[::-1])
        ]
    scores = trainer.add(new)
    assert min(abs(scores[0] - e[0, 0] / e[0, 1]) for e in expected) < 1e-4
    with pytest.raises(ValueError, match=rf"pairs: expected shape \(n, 2, {count}, 16, 16\), got \(8, 2, 16, 16\)"):
        trainer.add(pairs(8))
    trainer.reset_network(5, NetworkConfig("CUSTOM"))
    assert trainer.pairs == 0
    trainer.add(pairs(8))
    assert math.isfinite(trainer.step())


def test_presets_are_named_after_what_they_are():
    assert {name: settings.network.preset for name, settings in SETTINGS.items()} == {name: name for name in SETTINGS}
    custom = PRODUCT.edited(features=16)
    assert custom.network.preset == "CUSTOM"
    assert custom.edited(features=8) == PRODUCT
    assert PRODUCT.edited(learning_rate=1e-4).network.preset == "CUSTOM"
    assert (
        PRODUCT.edited(
            network=PAPER.network,
            **{name: getattr(PAPER, name) for name in ("patch_size", "halo", "batch_size", "learning_rate", "ema")},
        )
        == PAPER
    )
    assert (PAPER.patch_size, PAPER.halo, PAPER.batch_size, PAPER.learning_rate, PAPER.ema) == (20, 0, 32, 1e-4, 0.0)
    assert replace(PAPER, network=NetworkConfig("RELEASED", form="released")) == RELEASED
    assert PRODUCT.patch_size - 2 * PRODUCT.halo >= 40


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"patch_size": 7}, "patch_size: expected a whole number from 8 to 512, got 7"),
        ({"patch_size": 48.0}, "patch_size: expected a whole number"),
        ({"halo": 23}, "patch_size: expected at least 50 with a halo of 23 pixels at each side, got 48"),
        ({"patch_size": 11}, "patch_size: expected at least 12 with a halo of 4 pixels at each side, got 11"),
        ({"halo": -1}, "halo: expected a whole number from 0"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 to 1024, got 0"),
        ({"buffer_size": 7}, "buffer_size: expected at least a batch of 8 pairs, got 7"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, at most 1, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: expected a number above 0"),
        ({"ema": 1.0}, "ema: expected a number from 0 to below 1, got 1.0"),
        ({"ema": math.nan}, "ema: expected a number from 0"),
        ({"precision": "double"}, "precision: expected one of auto, float32, bfloat16, got 'double'"),
        ({"levels": 2}, "settings: expected fields of a trainer or a network, got levels"),
    ],
)
def test_wrong_settings_are_refused_in_words(fields, words):
    with pytest.raises(ValueError, match=words):
        PRODUCT.edited(**fields)
