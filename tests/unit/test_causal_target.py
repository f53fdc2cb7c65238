"""Networks that see several moments and put out the last one: trained, scored and compared there, nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tango_jit.learn import NetworkConfig, Trainer, build, noise2inverse
from tango_jit.learn.motion import still, weighted
from tango_jit.learn.prior import PriorStrength
from tango_jit.learn.unet import BREADTH, FORMS
from tango_jit.learn.weights import from_checkpoint, pack, to_checkpoint, unpack
from tests.training import SIZE, SMALL, scene

CAUSAL = [NetworkConfig("CUSTOM", form=form, frames=n, target="last") for form in FORMS for n in (3, 5)]


def moments(n: int = 8, seed: int = 0, count: int = 3) -> Tensor:
    """Pairs (n, 2, count, SIZE, SIZE) of which only the last moment shows the discs; the others are noise."""
    noise = torch.randn(n, 2, count, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    noise[:, :, -1] = torch.from_numpy(scene(n, seed=seed)[0])
    return noise


@pytest.mark.parametrize("config", CAUSAL, ids=str)
def test_every_parameter_and_every_moment_has_a_gradient(config):
    network = build(config)
    images = torch.rand(2, config.images, 24, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
    network(images).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in network.parameters())
    assert images.grad is not None
    assert (images.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("form", ["residual", "guided"])
def test_without_its_correction_a_network_puts_out_the_last_moment(form):
    network = build(NetworkConfig("CUSTOM", form=form, frames=3, target="last"))
    images = torch.rand(2, 3, 24, 24)
    torch.nn.init.zeros_(network.top.last.weight)
    with torch.no_grad():
        torch.testing.assert_close(network(images), images[:, -1:], rtol=0, atol=1e-5)


def test_the_target_is_the_last_moment_of_the_other_image():
    pairs = torch.arange(12.0).view(2, 2, 3, 1, 1).expand(2, 2, 3, 8, 8)
    u, v, _ = noise2inverse.directed(noise2inverse.samples(pairs), torch.tensor([0, 1]), at=2)
    assert u[:, :, 0, 0].tolist() == [[0, 1, 2], [9, 10, 11]]
    assert v[:, :, 0, 0].tolist() == [[5], [8]]
    assert noise2inverse.errors(v, u, v, torch.ones_like(v), at=2).tolist() == [[0, 9 * 64], [0, 9 * 64]]


def test_pairs_whose_last_moments_are_equal_say_nothing():
    pairs = moments(2)
    pairs[0, 1, -1] = pairs[0, 0, -1]
    assert noise2inverse.distinct(noise2inverse.samples(pairs), at=2).tolist() == [False, True]
    assert noise2inverse.distinct(noise2inverse.samples(pairs)).tolist() == [True, True]


def test_what_moved_is_judged_at_the_last_moment():
    pairs = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    pairs[0, 0, -1, 20:40, 20:40] += 5
    samples, _ = weighted(pairs, "turns", 2)
    assert torch.equal(samples[0, 2, 0], still(pairs[:, 0, -1], pairs[:, 1, -1])[0])
    assert samples[0, 2, 0, 30, 30] == 0
    assert weighted(pairs, "turns")[0][0, 2, 0, 30, 30] == 1


def test_the_strength_of_the_prior_is_that_of_the_last_moment():
    flat, stacked = PriorStrength(), PriorStrength()
    pairs = moments()
    assert flat.measure(noise2inverse.samples(pairs[:, :, -1].contiguous()), 2)
    assert stacked.measure(noise2inverse.samples(pairs), 2, 2)
    assert stacked.numbers() == flat.numbers() | {BREADTH: 1.0}


@pytest.mark.parametrize("form", ["guided", "paper"])
def test_a_trainer_learns_the_last_moment(form):
    """The discs are there and nowhere else; of the other moments the best prediction is nothing at all."""
    found = {}
    for target in ("last", "middle"):
        trainer = Trainer(SMALL.edited(frames=3, target=target, form=form), seed=3)
        for step in range(100):
            if step % 4 == 0:
                trainer.add(moments(8, seed=step), scored=False)
            trainer.step()
        assert trainer.scale is not None
        with torch.no_grad():
            output = trainer.averaged()(moments(32, seed=999)[:, 0] / trainer.scale) * trainer.scale
        found[target] = float((output - torch.from_numpy(scene(32, seed=999)[1])).square().mean())
    assert found["last"] < 0.5 * found["middle"]


def test_scores_are_those_of_the_last_moment():
    trainer = Trainer(SMALL.edited(frames=3, target="last"), seed=1)
    trainer.add(moments(8))
    new, network, scale = moments(1, seed=5), trainer.averaged(), trainer.scale
    assert scale is not None
    counts = torch.ones(1, 1, SIZE, SIZE)
    with torch.no_grad():
        expected = [
            noise2inverse.errors(network(u / scale), u / scale, v[:, -1:] / scale, counts, SMALL.halo, at=2)
            for u, v in (new.unbind(1), new.unbind(1)[::-1])
        ]
    score = trainer.add(new)[0]
    assert min(abs(score - e[0, 0] / e[0, 1]) for e in expected) < 1e-3


def test_a_network_of_another_target_is_of_another_shape():
    middle = NetworkConfig("CUSTOM", frames=3)
    last = replace(middle, target="last")
    assert middle.shape != last.shape
    words = r"expected .* target middle, task DENOISE\), got .* target last, task DENOISE: another shape needs a reset"
    with pytest.raises(ValueError, match=words):
        last.refuse_unlike(middle)
    assert NetworkConfig(target="last").shape == NetworkConfig().shape  # of one image there is but one
    assert (middle.shown, last.shown, NetworkConfig("CUSTOM", depth=5).shown) == (1, 2, 2)


def test_another_target_empties_the_buffer():
    trainer = Trainer(SMALL.edited(frames=3))
    trainer.add(moments(8))
    assert trainer.pairs == 8
    trainer.reset_network(network=replace(trainer.settings.network, target="last"))
    assert trainer.pairs == 0


def test_checkpoints_without_a_target_mean_the_middle():
    """As they were written before there was a choice."""
    network = build(NetworkConfig("CUSTOM", frames=3))
    written = to_checkpoint(pack(network, version=3, scale=0.02, patch_accuracy=0.6, generation=0))
    size = int.from_bytes(written[:8], "little")
    fields = json.loads(json.loads(written[8 : 8 + size])["__metadata__"]["tango_jit"])
    assert fields["network"].pop("target") == "middle"
    old = save(load(written), {"tango_jit": json.dumps(fields)})
    loaded = unpack(from_checkpoint(old))
    assert loaded.config == network.config
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    trainer = Trainer()
    trainer.load(old)
    assert trainer.settings.network.target == "middle"


def test_the_target_survives_a_checkpoint():
    network = build(NetworkConfig("CUSTOM", frames=3, target="last"))
    written = to_checkpoint(pack(network, version=3, scale=0.02, patch_accuracy=0.6, generation=0))
    assert unpack(from_checkpoint(written)).config.target == "last"
