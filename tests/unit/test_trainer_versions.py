"""The versions of a trainer: published, saved, loaded, rolled back to, and what is left when its device is lost."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tango_jit.learn import NetworkConfig, Trainer, build
from tango_jit.learn.noise2inverse import Split, robust_scale
from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.versions import Versions
from tango_jit.learn.weights import Weights, from_checkpoint, pack, unpack
from tango_jit.streams.messages import decode
from tests.training import SMALL, equal, pairs, tensors, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_is_measured_is_that_of_now_after_a_rollback():
    trainer = trained(8)
    trainer.weights()
    trainer.step()
    before = trainer.weights()
    trainer.jumped()
    for seed in range(10):
        trainer.add(5 * pairs(8, seed=seed))
    now = float(tensors(trainer.weights())[STRENGTH])
    assert now > 2 * float(tensors(before)[STRENGTH])
    trainer.rollback()
    assert float(tensors(trainer.weights())[STRENGTH]) == pytest.approx(now, rel=1e-6)


def test_figures_from_before_a_jump_are_not_compared_with_those_since():
    def version(number: int, accuracy: float) -> Weights:
        return pack(build(SMALL.network), version=number, scale=1, patch_accuracy=accuracy, generation=0)

    versions = Versions(8)
    for number, accuracy in enumerate((0.3, 0.2, 0.9), 1):
        versions.keep(version(number, accuracy))
        if number == 2:
            versions.jumped(2)
    assert versions.best_before.version == 2  # the only ones there are
    versions.keep(version(4, 0.8))
    versions.keep(version(5, 0.7))
    assert versions.best_before.version == 4
    versions.give_up(versions.best_before)
    assert versions.best_before.version == 2


class NoRoomLeftError(RuntimeError):
    pass


@pytest.mark.parametrize("order", ["load", "rollback", "reset_network"])
def test_where_there_is_no_room_for_a_network_nothing_has_changed(order, monkeypatch):
    trainer = trained(8)
    other = NetworkConfig("CUSTOM", features=4, depth=3)
    taken = pack(build(other), version=1, scale=1, patch_accuracy=None, generation=0)
    trainer.versions.taken_over(taken)
    settings, before, held, steps = trainer.settings, trainer.averaged(), trainer.pairs, trainer.steps

    def refuse(*_: object) -> None:
        raise NoRoomLeftError("out of memory")

    monkeypatch.setattr("tango_jit.learn.trainer.Step", refuse)
    arguments = {"load": (taken,), "rollback": (), "reset_network": (1, other)}[order]
    with pytest.raises(NoRoomLeftError):
        getattr(trainer, order)(*arguments)
    monkeypatch.undo()
    assert (trainer.settings, trainer.pairs, trainer.steps) == (settings, held, steps)
    assert held > 0
    torch.testing.assert_close(trainer.averaged().state_dict(), before.state_dict(), rtol=0, atol=0)
    assert trainer.versions.earlier is taken
    trainer.step()


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
    versions = []
    for accuracy in (0.7, None, 0.9, 0.6, 0.8, 0.5):  # the last is the present one: nobody goes back to it
        trainer.step()
        versions.append(trainer.weights())
        trainer.versions._kept[-1] = replace(versions[-1], patch_accuracy=accuracy)
    assert trainer.rollback() == 4
    again = trainer.weights()
    assert again.version == 7
    assert equal(again, versions[3])
    assert trainer.patch_accuracy is None  # nothing is scored yet
    trainer.add(pairs(8, seed=55))
    assert math.isfinite(trainer.step())
    assert trainer.rollback() == 1
    assert equal(trainer.weights(), versions[0], but=STRENGTH)
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version"):
        trainer.rollback()


@pytest.mark.parametrize("other", [{"form": "paper"}, {"features": 4}, {"depth": 3}])
def test_rollback_goes_back_to_the_network_of_a_version_too(other):
    """It is trained, scored and published as what it is, as after `load` of that version."""
    trainer, loaded = trained(), Trainer(SMALL)
    first = trainer.weights()
    trainer.load(pack(build(NetworkConfig("CUSTOM", **other)), version=1, scale=1, patch_accuracy=None, generation=0))
    trainer.weights()
    assert trainer.rollback() == first.version
    loaded.load(first)
    assert trainer.settings == loaded.settings
    assert equal(trainer.weights(), first)  # the strength of its prior included
    for one in (trainer, loaded):
        one._generator.manual_seed(1)  # of the directions
    np.testing.assert_array_equal(trainer.add(pairs(8, seed=9)), loaded.add(pairs(8, seed=9)))
    assert math.isfinite(trainer.step())
    assert trainer.weights().network == first.network


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


def test_a_device_without_room_is_not_half_moved_to():
    """Torch makes no random numbers there: it fails when the pairs have already come along."""
    trainer, same = trained(), trained()
    with pytest.raises(RuntimeError):
        trainer.move("meta")
    trainer.step()
    same.step()
    assert equal(trainer.weights(), same.weights())
    with pytest.raises(RuntimeError):  # asked for again it is tried again
        trainer.move("meta")


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
    for step in range(0, 20, 4):  # the pairs of the other one
        fresh.add(pairs(8, seed=step))
    assert equal(trainer.weights(), fresh.weights(), but=STRENGTH)
    assert trainer.scale != fresh.scale  # of all pairs, not the first eight; the strength is the same in their unit
    first, second = (one.weights() for one in (trainer, fresh))
    assert tensors(first)[STRENGTH] * first.scale == pytest.approx(float(tensors(second)[STRENGTH]) * second.scale)
    assert first.scale == pytest.approx(
        robust_scale(torch.cat([torch.from_numpy(pairs(8, seed=s)) for s in range(0, 20, 4)]))
    )
    trainer.reset_network(5, NetworkConfig("CUSTOM", features=4))
    assert trainer.settings.network.features == 4
    assert math.isfinite(trainer.step())


def test_versions_of_another_kind_of_pairs_are_not_compared():
    """Between halves with streaks figures fall below those of any two turns."""
    versions = Versions(8)
    network = build(SMALL.network)
    kinds: list[tuple[int, Split, float]] = [
        (1, "halves", 0.1),
        (2, "turns", 0.52),
        (3, "turns", 0.54),
        (4, "turns", 0.6),
    ]
    for number, split, figure in kinds:
        versions.keep(pack(network, version=number, scale=1.0, patch_accuracy=figure, generation=0, split=split))
    assert versions.earlier.version == 2
    versions.give_up(versions.earlier)
    versions.keep(pack(network, version=5, scale=1.0, patch_accuracy=0.5, generation=1, split="turns"))
    assert versions.earlier.version == 1  # there is no other


@pytest.mark.parametrize("published", [1, 20])
def test_the_first_rollback_undoes_a_load_and_the_next_ones_go_to_the_best_as_ever(published):
    trainer = trained(8)
    trainer.weights()
    trainer.step()  # what was learned since the last version is not lost either
    before = pack(trainer.averaged(), version=1, scale=trainer.scale or 0, patch_accuracy=None, generation=0)
    other = NetworkConfig("CUSTOM", features=4)
    trainer.load(pack(build(other), version=1, scale=1, patch_accuracy=None, generation=0))
    for _ in range(published):
        trainer.add(pairs(8, seed=7))
        trainer.step()
        trainer.weights()
        trainer.versions._kept[-1] = replace(trainer.versions._kept[-1], patch_accuracy=0.1)
    assert trainer.rollback() == 1
    assert trainer.settings.network.shape == SMALL.network.shape
    assert equal(trainer.weights(), before, but=STRENGTH)
    newest = trainer.rollback()
    assert newest == 2 if published == 1 else newest > 2, "the loaded one has good versions, too"
    assert trainer.settings.network.shape == other.shape


def test_what_is_saved_pushes_no_version_out():
    trainer = trained(8)
    trainer.weights()
    trainer.step()
    kept = trainer.weights()
    trainer.step()
    for _ in range(20):
        trainer.save()
    data = trainer.save()
    assert equal(from_checkpoint(data), trainer.weights())
    assert not equal(from_checkpoint(data), kept)
    assert trainer.rollback() in (1, 2)
