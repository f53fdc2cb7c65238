"""Pairs of two turns: what moved neither trains nor scores, and a slice of a turn before tells how good this one is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from tango_jit.learn import Denoiser, NetworkConfig, Trainer, build, noise2inverse
from tango_jit.learn.denoiser import GUARD, Mode
from tango_jit.learn.inference import Predictor
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import Weights, from_checkpoint, pack, unpack
from tests.training import SMALL, blobs, equal, pairs, scene, tensors, trained

Image = NDArray[np.float32]
SHAPE = (120, 100)
LARGER = replace(SMALL, patch_size=32, halo=4)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- the trainer


def moving(bright: float, n: int = 16, seed: int = 3) -> Image:
    """Pairs (n, 2, 32, 32) in whose second image there is something that was not there a turn before."""
    images = pairs(n, seed=seed, size=32, noise=0.1)
    images[:, 1, 12:18, 12:18] = bright
    return images


def learned(bright: float, split: Split, form: str) -> tuple[Weights, NDArray[np.float64]]:
    """Weights after some steps on such pairs, and their scores."""
    trainer = Trainer(LARGER.edited(form=form), seed=5)
    trainer.add(pairs(8, size=32, noise=0.1), split=split)  # which decide the scale
    scores = np.concatenate([trainer.add(moving(bright, seed=seed), split=split) for seed in (3, 4)])
    for _ in range(6):
        trainer.step()
    assert (trainer.pairs, trainer.pairs_moving) == (40, 0)
    return trainer.weights(), scores


@pytest.mark.parametrize("form", ["guided", "residual"])
def test_what_moved_enters_neither_loss_nor_score(form, monkeypatch):
    """However bright it is, where the one image is always the input, and the other always the target."""
    monkeypatch.setattr(
        noise2inverse,
        "draw_directions",
        lambda samples, *_: noise2inverse.directed(samples, torch.zeros(len(samples), dtype=torch.int64)),
    )
    monkeypatch.setattr(torch, "randint", lambda *args, **named: torch.zeros(args[-1], dtype=torch.int64))
    first, scores = learned(50.0, "turns", form)
    second, others = learned(90.0, "turns", form)
    assert equal(first, second)
    np.testing.assert_array_equal(scores, others)
    assert scores.mean() < 2  # of noise alone
    first, scores = learned(50.0, "halves", form)
    second, others = learned(90.0, "halves", form)
    assert not equal(first, second)
    assert scores.mean() != others.mean()


def test_pairs_of_which_most_moved_are_counted_and_left_out():
    still, gone = pairs(12, size=32, noise=0.1), moving(1.0, 4)
    gone[:, 1] += 1
    trainer = Trainer(LARGER)
    assert len(trainer.add(np.concatenate([still, gone]), split="turns")) == 12
    assert (trainer.pairs, trainer.pairs_moving, trainer.pairs_refused) == (12, 4, 0)
    trainer.add(np.concatenate([still, gone]), split="turns")
    assert (trainer.pairs, trainer.pairs_moving) == (24, 8)
    trainer.add(np.concatenate([still, gone]))  # halves of one turn: what differs between them is noise
    assert (trainer.pairs, trainer.pairs_moving) == (16, 8)


def test_no_pairs_of_turns_are_no_harm():
    trainer = Trainer(SMALL)
    assert len(trainer.add(np.zeros((0, 2, 16, 16), np.float32), split="turns")) == 0
    spoilt = pairs(6)
    spoilt[0, 0, 3, 3] = np.nan
    assert len(trainer.add(spoilt, split="turns")) == 5
    assert (trainer.pairs_refused, trainer.pairs_moving) == (1, 0)


def test_another_split_empties_the_buffer():
    trainer = trained(8)
    assert (trainer.pairs, trainer.split) == (16, "halves")
    before = trainer.weights()
    trainer.add(pairs(8, seed=50), split="turns")
    assert (trainer.pairs, trainer.split, trainer.reuse, trainer.steps) == (8, "turns", 0.0, 8)
    assert len(trainer.scores) == 8
    assert equal(trainer.weights(), before, but=STRENGTH)  # the network goes on
    trainer.add(pairs(8, seed=51), split="turns")
    assert trainer.pairs == 16
    trainer.add(pairs(8, seed=52))
    assert (trainer.pairs, trainer.split) == (8, "halves")


def test_pairs_that_all_moved_leave_the_buffer_as_it_is(monkeypatch):
    trainer = trained(8)
    monkeypatch.setattr("tango_jit.learn.motion.still", lambda u, _: torch.zeros_like(u))
    assert len(trainer.add(pairs(8, seed=50), split="turns")) == 0
    assert (trainer.pairs, trainer.split, trainer.pairs_moving) == (16, "halves", 8)


def test_weights_say_what_they_were_trained_on():
    trainer = trained(8, split="turns")
    weights = trainer.weights()
    assert weights.split == "turns"
    assert from_checkpoint(trainer.save()).split == "turns"
    trainer.add(pairs(8, seed=50))
    assert trainer.weights().split == "turns"  # until it takes a step on the others
    trainer.step()
    assert trainer.weights().split == "halves"
    trainer.load(weights)
    assert trainer.weights().split == "turns"
    trainer.reset_network()
    assert trainer.weights().split == "halves"  # nothing yet: that of the pairs it will be


def test_a_checkpoint_keeps_the_split():
    first = trained(8, split="turns")
    second = Trainer(SMALL, seed=9)
    second.load(first.save())
    weights = second.weights()
    assert weights.split == "turns"
    assert equal(weights, first.weights())
    first.add(pairs(8, seed=50))
    first.step()
    first.weights()
    first.rollback()
    assert first.weights().split == "turns"


def test_a_checkpoint_from_before_there_were_turns_is_one_of_halves():
    data = trained(8, split="turns").save()
    size = int.from_bytes(data[:8], "little")
    fields = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["tango_jit"])
    del fields["split"]
    weights = from_checkpoint(save(load(data), {"tango_jit": json.dumps(fields)}))
    assert weights.split == "halves"
    assert weights.version == fields["version"]
    assert equal(weights, from_checkpoint(data))


def test_same_seed_and_pairs_of_turns_give_the_same_bits():
    for settings in (SMALL, replace(SMALL, precision="bfloat16")):
        first, second = (trained(settings=settings, split="turns") for _ in range(2))
        assert equal(first.weights(), second.weights())
        np.testing.assert_array_equal(first.add(pairs(8, seed=70)), second.add(pairs(8, seed=70)))


@pytest.mark.parametrize("split", ["halves", "turns"])
def test_a_guided_network_learns_sooner(split):
    """By its error against the object, which no trainer sees, after a second or two of training."""
    new, truth = (torch.from_numpy(images) for images in scene(16, seed=999, size=48))
    errors = {}
    for form in ("guided", "residual"):
        trainer = Trainer(replace(LARGER.edited(form=form), batch_size=8), seed=5)
        for step in range(30):
            trainer.add(pairs(4 if step else 8, seed=step, size=32), split=split)
            trainer.step()
        scale, network = trainer.scale, unpack(trainer.weights())
        assert scale is not None
        with torch.no_grad():
            errors[form] = float((network(new[:, :1] / scale) * scale - truth).square().mean())
    assert errors["guided"] < 0.5 * errors["residual"]
    assert errors["guided"] < 0.15 * 0.3**2  # of the noise


def test_the_strength_is_that_of_the_pairs_and_follows_another_split():
    trainer = trained(8)
    halves = trainer.weights()
    trainer.add(pairs(8, seed=50, noise=0.1), split="turns")
    turns = trainer.weights()
    ratio = tensors(turns)[STRENGTH] / tensors(halves)[STRENGTH]
    assert 0.15 < float(ratio) < 0.6  # a third of the noise
    trainer.load(halves)  # in an experiment that goes on
    assert torch.equal(tensors(trainer.weights())[STRENGTH] * halves.scale, tensors(turns)[STRENGTH] * turns.scale)


# --- the denoiser


def times(factor: float, split: Split = "turns") -> Weights:
    """A network that multiplies by `factor`: an oracle for an object of nothing, where that is 0."""
    network = build(NetworkConfig(form="residual"))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        for channel, sign in enumerate((1.0, -1.0)):
            for layer in (network.top.first, network.top.second, network.top.third):
                layer.weight[channel, channel if layer is not network.top.first else 0, 1, 1] = 1.0
            network.top.first.weight[channel, 0, 1, 1] = sign
            network.top.last.weight[0, channel, 1, 1] = sign * (factor - 1)
    return pack(network, version=1, scale=1.0, patch_accuracy=None, generation=0, split=split)


def guided(split: Split) -> Weights:
    """Not linear, so that halves and whole differ."""
    network = build(NetworkConfig())
    getattr(network, STRENGTH).fill_(0.3)
    return pack(network, version=1, scale=1.0, patch_accuracy=None, generation=0, split=split)


def engine(weights: Weights, *, guard: bool = False) -> Denoiser:
    denoiser = Denoiser(precision="float32", guard=guard)
    denoiser.load(weights)
    return denoiser


def slices(truth: Image | float = 0.0, seed: int = 0, noise: float = 1.0) -> tuple[Image, Image, Image]:
    """Even and odd half of a turn, and the whole of the turn before, which has the noise of the mean of two halves."""
    even, odd, *before = noise * np.random.default_rng(seed).normal(size=(4, *SHAPE))
    return tuple((truth + image).astype(np.float32) for image in (even, odd, np.mean(before, axis=0)))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many images passed through the network since it was asked last."""
    count = [0]
    call = Predictor.__call__

    def counted(self: Predictor, images: Tensor) -> Tensor:
        count[0] += len(images)
        return call(self, images)

    def since() -> int:
        number, count[0] = count[0], 0
        return number

    monkeypatch.setattr(Predictor, "__call__", counted)
    return since


def test_an_oracle_scores_half_against_the_turn_before():
    even, odd, before = slices()
    result = engine(times(0))(even, odd, before=before)
    assert result.evidence == "turns"
    assert result.accuracy == pytest.approx(0.5, abs=0.03)
    assert result.errors.shape == (1, 2)
    assert result.accuracy == result.errors[0, 0] / result.errors[0, 1]
    assert float(np.abs(result.image).max()) == 0
    identity = engine(times(1))(even, odd, before=before)
    assert (identity.accuracy, identity.evidence) == (1.0, "turns")
    assert engine(times(0))(even, odd).evidence == "halves"
    assert engine(times(0))(even, odd, complete=False).evidence is None
    assert Denoiser()(even, odd, before=before).evidence is None


def test_what_moved_since_the_turn_before_does_not_count():
    even, odd, before = slices()
    moved = before.copy()
    moved[40:60, 30:60] += 10
    for network in (times(0), guided("turns")):
        expected = engine(network)(even, odd, before=before).accuracy
        found = engine(network)(even, odd, before=moved)
        assert found.evidence == "turns"
        assert found.accuracy == pytest.approx(expected, abs=0.02)
    assert np.mean((0 - moved) ** 2) / np.mean(((even + odd) / 2 - moved) ** 2) > 0.8  # what it would be otherwise


def test_where_everything_moved_the_halves_tell():
    first, second = (5 * blobs(1, SHAPE, 0.8, seed=seed)[0].numpy() for seed in (1, 2))
    even, odd, _ = slices(first, seed=1, noise=0.1)
    _, _, before = slices(second, seed=2, noise=0.1)
    denoise = engine(times(1))
    result = denoise(even, odd, before=before)
    assert (result.evidence, result.accuracy, result.errors.shape) == ("halves", 1.0, (2, 2))
    result = denoise(even, odd, before=before, complete=False)
    assert (result.evidence, result.accuracy) == (None, None)
    same = slices(first, seed=3, noise=0.1)[2]
    assert denoise(even, odd, before=same).evidence == "turns"


def test_an_equal_slice_of_the_turn_before_says_nothing():
    even, odd, _ = slices()
    whole = ((even + odd) / 2).astype(np.float32)
    assert engine(times(0))(even, odd, before=whole).evidence == "halves"


def test_weights_of_turns_denoise_the_whole_and_weights_of_halves_the_halves():
    even, odd, before = slices(seed=4)
    cases: list[tuple[Split, Mode]] = [("turns", "full"), ("halves", "halves")]
    for split, mode in cases:
        denoise = engine(guided(split))
        trained_for = denoise(even, odd)
        np.testing.assert_array_equal(trained_for.image, denoise(even, odd, mode=mode).image)
        other = denoise(even, odd, mode="halves" if mode == "full" else "full")
        assert float(np.abs(trained_for.image - other.image).max()) > 0.01
        np.testing.assert_array_equal(denoise(even, odd, before=before).image, trained_for.image)
    own = (0.75 * (even + odd)).astype(np.float32)  # a whole with weights of its own
    network = unpack(guided("turns"))
    with torch.no_grad():
        expected = network(torch.from_numpy(own)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(engine(guided("turns"))(even, odd, own).image, expected, atol=1e-5)


def test_no_more_passes_through_the_network_than_are_needed(passes):
    even, odd, before = slices()
    denoise = engine(times(0.5))
    cases: list[tuple[Mode, Image | None, bool, int]] = [
        ("trained", before, True, 1),
        ("trained", before, False, 1),
        ("trained", None, True, 3),
        ("trained", None, False, 1),
        ("halves", before, True, 2),
        ("halves", None, False, 2),
    ]
    for mode, earlier, complete, expected in cases:
        denoise(even, odd, mode=mode, before=earlier, complete=complete)
        assert passes() == expected, (mode, complete)
    halves = engine(times(0.5, "halves"))
    halves(even, odd, before=before)
    assert passes() == 2
    halves(even, odd, before=before, mode="full")
    assert passes() == 1


def test_the_guard_asks_for_less_noise_by_either_evidence():
    """Of an object of nothing, a network that multiplies by k leaves k^2 of the noise power."""
    worse, better = GUARD
    even, odd, before = slices(seed=6)

    def guarded(denoise: Denoiser, left: float, before: Image | None) -> bool:
        denoise.load(replace(times(left**0.5), version=round(1000 * left)))
        result = denoise(even, odd, before=before)
        assert result.blend is not None
        assert result.blend.error / result.blend.noise == pytest.approx(min(left, 1), abs=0.05)
        assert (result.image is result.raw) == result.guarded
        return result.guarded

    for evidence in (before, None):
        denoise = Denoiser(precision="float32")
        denoise.load(times(0.5))
        sure = denoise(even, odd, before=evidence).blend
        assert sure is not None
        doubt = sure.sure / sure.noise
        below, between, above = better - doubt - 0.1, (better + worse) / 2 - doubt, 1.1
        assert not guarded(denoise, below, evidence)
        assert guarded(denoise, above, evidence)
        assert guarded(denoise, above, evidence)
        assert not guarded(denoise, below, evidence)
        assert between < worse


def test_a_slice_of_the_turn_before_may_be_read_only_and_of_another_type():
    even, odd, before = slices()
    denoise = engine(times(0))
    expected = denoise(even, odd, before=before).accuracy
    locked = before.copy()
    locked.flags.writeable = False
    assert denoise(even, odd, before=locked).accuracy == expected
    assert denoise(even, odd, before=before.astype(np.float64)).accuracy == expected  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"before: expected shape \(120, 100\), or a stack .*, got \(100, 120\)"):
        denoise(even, odd, before=before.T)


def test_of_a_stack_the_middle_image_is_compared():
    config = NetworkConfig("CUSTOM", depth=3)
    network = build(config)
    getattr(network, STRENGTH).fill_(0.3)
    weights = pack(network, version=1, scale=1.0, patch_accuracy=None, generation=0, split="turns")
    stacks = [slices(seed=seed) for seed in range(3)]
    even, odd = (np.stack([stack[half] for stack in stacks]) for half in (0, 1))
    before = stacks[1][2]
    result = engine(weights)(even, odd, before=before)
    whole = (even + odd)[1] / 2
    kept = (result.image - before) ** 2
    assert result.evidence == "turns"
    assert result.accuracy == pytest.approx(kept.mean() / ((whole - before) ** 2).mean(), abs=0.01)
    among = np.stack([stack[2] for stack in stacks])  # with its neighbours
    assert engine(weights)(even, odd, before=among).accuracy == result.accuracy
    with pytest.raises(ValueError, match=r"before: expected shape \(120, 100\), or a stack .*, got \(1, 3, 120, 100\)"):
        engine(weights)(even, odd, before=among[None])
