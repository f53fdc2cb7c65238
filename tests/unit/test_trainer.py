"""The trainer: scoring, steps, versions, and what it survives."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from tango_jit.learn import PAPER, PRODUCT, RELEASED, SETTINGS, NetworkConfig, Trainer, TrainerSettings, noise2inverse
from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.weights import Weights, from_checkpoint, pack, unpack
from tango_jit.streams.messages import decode

SIZE = 16
SMALL = replace(PRODUCT, patch_size=SIZE, halo=2, batch_size=4, buffer_size=64, precision="float32")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(n: int = 32, seed: int = 0, size: int = SIZE, noise: float = 0.3) -> NDArray[np.float32]:
    """Halves (n, 2, size, size) of discs of brightness 1 with independent noise."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    center, radius = random.uniform(0, size, (2, n, 1, 1)), random.uniform(3, size, (n, 1, 1))
    discs = ((row - center[0]) ** 2 + (col - center[1]) ** 2 < radius**2).astype(np.float32)
    return (discs[:, None] + noise * random.normal(size=(n, 2, size, size))).astype(np.float32)


def trained(steps: int = 20, settings: TrainerSettings = SMALL, factor: float = 1.0) -> Trainer:
    trainer = Trainer(settings, seed=5)
    for step in range(steps):
        if step % 4 == 0:
            trainer.add(factor * pairs(8, seed=step))
        trainer.step()
    return trainer


def tensors(weights: Weights) -> dict[str, Tensor]:
    return load(bytes(weights.tensors))


def equal(a: Weights, b: Weights) -> bool:
    first, second = tensors(a), tensors(b)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_learns_to_denoise():
    trainer = trained(steps=300, settings=replace(SMALL, precision="auto"))
    assert trainer.patch_accuracy is not None
    assert trainer.patch_ratio_of_means is not None
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
            noise2inverse.errors(network(u / scale), u / scale, v / scale, halo=2)
            for u, v in ((new[:, :1], new[:, 1:]), (new[:, 1:], new[:, :1]))
        )
    expected = np.stack([e[:, 0] / e[:, 1] for e in (forward, backward)], 1)
    scores = trainer.add(new)
    nearest = np.abs(expected - scores[:, None])
    assert nearest.min(axis=1).max() < 1e-4
    assert 5 < nearest.argmin(axis=1).sum() < 35  # both directions


def test_steps_do_not_change_the_accuracy():
    trainer = trained(20)
    before = trainer.patch_accuracy, trainer.patch_ratio_of_means
    for _ in range(10):
        trainer.step()
    assert (trainer.patch_accuracy, trainer.patch_ratio_of_means) == before


def test_accuracy_looks_back_on_the_last_pairs_only():
    trainer = Trainer(SMALL)
    scores = [trainer.add(pairs(128, seed=n)) for n in range(6)]
    assert trainer.patch_accuracy == pytest.approx(np.concatenate(scores[2:]).mean())


def test_untrained_network_scores_about_as_the_identity():
    scores = Trainer(PRODUCT).add(pairs(32, size=PRODUCT.patch_size))
    assert 0.8 < scores.mean() < 2.5
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


def test_newer_generation_empties_the_buffer_and_older_pairs_are_too_late():
    trainer = trained(20)
    assert trainer.pairs == 40
    trainer.add(pairs(8, seed=100), generation=3)
    assert (trainer.pairs, trainer.generation, trainer.reuse) == (8, 3, 0.0)
    assert len(trainer.add(pairs(8, seed=101), generation=2)) == 0
    assert trainer.pairs == 8
    assert trainer.weights().generation == 3
    assert trainer.steps == 20  # the network goes on


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
    assert equal(before, trainer.weights())
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


def test_versions_count_on():
    trainer = trained()
    assert [trainer.weights().version, trainer.weights().version] == [1, 2]
    trainer.reset_network(1)
    assert trainer.weights().version == 3


def test_weights_travel_as_a_message():
    weights = trained().weights()
    received = decode([bytes(part) for part in weights.parts()])
    assert isinstance(received, Weights)
    assert received == weights
    assert NetworkConfig.from_dict(received.network) == SMALL.network
    torch.testing.assert_close(unpack(received).state_dict(), tensors(weights), rtol=0, atol=0)


def test_checkpoint_brings_back_network_scale_and_figures():
    first = trained(40, settings=SMALL.edited(features=4))
    data = first.save()
    second = Trainer(SMALL, seed=9)
    second.load(data)
    assert second.settings.network == NetworkConfig("CUSTOM", features=4)
    assert second.scale == first.scale
    saved, loaded = from_checkpoint(data), second.weights()
    assert equal(saved, loaded)
    assert saved.patch_accuracy == first.patch_accuracy
    second.add(pairs(32, seed=3))
    assert math.isfinite(second.step())


@pytest.mark.parametrize("data", [b"", b"no checkpoint at all", b"\x10\0\0\0\0\0\0\0{}              ", bytes(64)])
def test_what_is_no_checkpoint_is_refused(data):
    trainer = trained(8)
    before = trainer.weights()
    with pytest.raises(ValueError, match="checkpoint: expected a safetensors file"):
        trainer.load(data)
    assert equal(before, trainer.weights())


def test_a_checkpoint_cut_short_is_refused():
    trainer = trained(8)
    with pytest.raises(ValueError, match="weights: expected a safetensors file"):
        trainer.load(trainer.save()[:-100])


def test_rollback_goes_to_the_best_version_and_then_further():
    trainer = trained(8)
    versions = [trainer.weights()]
    for noise in (0.1, 0.3, 2.0):  # accuracies differ, as the untrained part of the network does
        trainer._scored.clear()
        trainer.add(pairs(64, seed=int(10 * noise), noise=noise))
        for _ in range(4):
            trainer.step()
        versions.append(trainer.weights())
    best = min(versions[:-1], key=lambda weights: weights.patch_accuracy or math.inf)
    assert trainer.rollback() == best.version
    again = trainer.weights()
    assert again.version == 5
    assert equal(again, best)
    assert trainer.patch_accuracy is None  # nothing is scored yet
    trainer.add(pairs(8, seed=55))
    assert math.isfinite(trainer.step())
    earlier = [weights for weights in versions if weights.version < best.version]
    if earlier:
        expected = min(earlier, key=lambda weights: weights.patch_accuracy or math.inf)
        assert trainer.rollback() == expected.version


def lost(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What was on a device cannot be read any more."""

    def gone(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    trainer._device = torch.device("cuda")
    monkeypatch.setattr(*((Trainer, "averaged") if what == "network" else (PairBuffer, "moved")), gone)
    trainer.move("cpu")
    monkeypatch.undo()


@pytest.mark.parametrize("what", ["network", "pairs"])
def test_a_device_that_gives_nothing_back_is_left_with_the_last_version(what: str, monkeypatch: pytest.MonkeyPatch):
    trainer = trained()
    last = trainer.weights()
    trainer.step()
    lost(trainer, monkeypatch, what)
    assert (trainer.pairs, trainer.ready, trainer.scale) == (0, False, last.scale)
    weights = trainer.weights()
    assert weights.version == last.version + 1
    assert equal(weights, last)
    trainer.add(pairs(8))
    assert math.isfinite(trainer.step())


def test_a_lost_device_without_a_version_leaves_a_new_network(monkeypatch: pytest.MonkeyPatch):
    trainer = trained()
    lost(trainer, monkeypatch, "network")
    trainer.add(pairs(8))
    assert math.isfinite(trainer.step())
    assert trainer.steps == 1


def test_rollback_needs_an_earlier_version():
    trainer = trained(4)
    trainer.weights()
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version of the weights, got none"):
        trainer.rollback()


def test_only_some_versions_are_kept():
    trainer = Trainer(SMALL, keep=3)
    trainer.add(pairs())
    for _ in range(10):
        trainer.weights()
    assert trainer.rollback() >= 8


def test_reset_starts_anew_and_takes_the_scale_from_the_buffer():
    trainer = trained(20)
    trainer.reset_network(5)
    assert (trainer.steps, trainer.pairs, trainer.patch_accuracy) == (0, 40, None)
    assert equal(
        trainer.weights(), pack(unpack(trainer.weights()), version=1, scale=1, patch_accuracy=None, generation=0)
    )
    fresh = Trainer(SMALL, seed=5)
    fresh.add(pairs())
    assert equal(trainer.weights(), fresh.weights())
    trainer.reset_network(5, NetworkConfig("CUSTOM", features=4))
    assert trainer.settings.network.features == 4
    assert math.isfinite(trainer.step())


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
        ValueError, match=r"network: expected the present shape .form residual, 8 features.*needs a reset"
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
    with torch.no_grad():
        expected = [
            noise2inverse.errors(network(u / scale), u / scale, v[:, count // 2, None] / scale, halo=2)
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
        ({"halo": 23}, "halo: expected to leave at least 4 of the 48 pixels of a patch, got 23"),
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
