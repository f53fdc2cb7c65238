"""After a jump the best of the networks there are goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tango_jit.learn import Trainer, noise2inverse
from tango_jit.learn.regimes import KEPT, PRESENT, UNTRAINED, Regimes, best
from tango_jit.learn.unet import STRENGTH, build
from tango_jit.learn.weights import Weights, pack
from tests.training import SMALL, equal, pairs, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def samples(seed: int = 0) -> torch.Tensor:
    return noise2inverse.samples(torch.from_numpy(pairs(16, seed)))


def untrained(trainer: Trainer) -> Weights:
    """Weights that do harm: an untrained network that changes a lot."""
    network = build(SMALL.network, 7)
    with torch.no_grad():
        network.top.last.weight *= 200
    assert trainer.scale is not None
    return pack(network, version=1, scale=trainer.scale, patch_accuracy=None, generation=0)


def test_the_trained_network_is_better_than_untrained_ones():
    plain = SMALL.edited(form="residual")  # a guided one begins where this one is after some hundred steps
    trainer = trained(120, plain)
    networks = [build(plain.network, 1), trainer.averaged(), build(plain.network, 2)]
    assert trainer.scale is not None
    assert best(networks, samples(), trainer.scale, {}, plain) is networks[1]


def test_a_network_gone_wild_is_not_chosen():
    wild, calm = build(SMALL.network, 1), build(SMALL.network, 2)
    with torch.no_grad():
        wild.top.last.weight.fill_(float("nan"))
    assert best([wild, calm], samples(), 1.0, {STRENGTH: 0.1}, SMALL) is calm


def test_a_jump_empties_the_buffer_and_the_same_experiment_goes_on_with_the_same_network():
    trainer = trained(60)
    before = trainer.averaged().state_dict()
    trainer.jumped()
    assert (trainer.pairs, trainer.patch_accuracy) == (0, None)
    scores = trainer.add(pairs(16, seed=99))
    assert trainer.pairs == 16
    assert scores.mean() < 0.8, "scored by the network that knows the experiment"
    after = trainer.averaged().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "strength")
    assert trainer.steps == 0, "its moments and its average are new"


def test_harmful_weights_are_left_and_those_of_an_earlier_regime_are_taken_up_again():
    trainer = trained(80)
    first = trainer.averaged().state_dict()
    trainer.jumped()
    trainer.add(pairs(16, seed=1))
    trainer.load(untrained(trainer))
    trainer.step()
    worse = float(np.mean(trainer.add(pairs(64, seed=500))))
    trainer.jumped()
    back = float(np.mean(trainer.add(pairs(64, seed=500))))
    now = trainer.averaged().state_dict()
    assert back < worse - 0.1
    assert all(torch.equal(first[name], now[name]) for name in first if name != "strength")


def test_a_higher_generation_is_an_announced_jump():
    trainer = trained(40)
    trainer.add(pairs(8, seed=77), generation=3)
    assert (trainer.pairs, trainer.generation, trainer.steps) == (8, 3, 0)


def test_an_untrained_trainer_keeps_nothing():
    trainer = Trainer(SMALL, seed=5)
    trainer.jumped()
    trainer.add(pairs(16))
    other = Trainer(SMALL, seed=5)
    other.add(pairs(16))
    assert equal(trainer.weights(), other.weights())
    assert len(trainer.regimes) == 0


def test_only_some_regimes_are_kept_and_only_those_of_the_shape_are_offered():
    regimes, weights = Regimes(), trained(4).weights()
    for number in range(KEPT + 3):
        regimes.keep(replace(weights, version=number))
    assert len(regimes) == KEPT
    assert len(list(regimes.networks(SMALL))) == KEPT
    assert list(regimes.networks(SMALL.edited(features=4))) == []
    regimes.clear()
    assert len(regimes) == 0


def offered(trainer: Trainer, **others: Weights) -> None:
    trainer.regimes.offer(others)
    trainer.jumped()


def test_offered_weights_that_know_such_samples_go_on_in_the_place_of_an_untrained_network():
    known = trained(80, split="turns").weights()
    trainer = Trainer(SMALL, seed=9)
    offered(trainer, harmful=untrained(trained(4)), known=known)
    trainer.add(10 * pairs(16, seed=200), split="turns")  # in another unit: the scale is that of the new pairs
    assert (trainer.regimes.chosen, trainer.regimes.contests) == ("known", 1)
    assert trainer.scale == pytest.approx(10 * known.scale, rel=0.2)
    assert equal(trainer.weights(), known, but="strength")


def test_offered_weights_that_do_harm_are_left():
    trainer = Trainer(SMALL, seed=9)
    offered(trainer, harmful=untrained(trained(4)))
    trainer.add(pairs(16))
    assert trainer.regimes.chosen == UNTRAINED
    other = Trainer(SMALL, seed=9)
    other.add(pairs(16))
    assert equal(trainer.weights(), other.weights(), but="strength")


def test_what_was_loaded_just_now_goes_on_whatever_is_offered():
    harmful = untrained(trained(4))
    trainer = Trainer(SMALL, seed=9)
    offered(trainer, known=trained(60).weights())
    trainer.load(harmful)
    trainer.add(pairs(16))
    assert (trainer.regimes.chosen, trainer.regimes.contests) == ("", 0)
    assert equal(trainer.weights(), harmful, but="strength")


def test_offered_weights_are_judged_again_on_pairs_of_another_split():
    """Halves come first, but what was learned from turns is for turns."""
    known = trained(80, split="turns").weights()
    trainer = Trainer(SMALL, seed=9)
    offered(trainer, known=known)
    trainer.add(pairs(16))
    trainer.step()
    trainer.add(pairs(16, seed=3), split="turns")
    assert trainer.regimes.contests == 2
    trainer.regimes.offer({})
    trainer.step()
    trainer.add(pairs(16, seed=4), split="halves")
    assert trainer.regimes.contests == 2, "nothing is offered any more"


def test_those_of_another_shape_stay_out_and_a_reset_forgets_them():
    trainer = Trainer(SMALL, seed=9)
    offered(trainer, wide=trained(40, SMALL.edited(features=4)).weights())
    trainer.add(pairs(16))
    assert trainer.regimes.chosen == UNTRAINED
    trainer.reset_network(1)
    assert trainer.regimes.offered == ()


def test_an_announced_jump_to_turns_is_decided_on_them():
    """Another generation and another split in one batch."""
    trainer = trained(40)
    trainer.add(pairs(16, seed=1), generation=1, split="turns")
    assert (trainer.regimes.contests, trainer.regimes.chosen) == (1, PRESENT)
