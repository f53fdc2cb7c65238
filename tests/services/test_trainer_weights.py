"""The weights of the trainer: published, saved, loaded, rolled back, made anew."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tango_jit.learn import NetworkConfig, build
from tango_jit.learn.regimes import UNTRAINED
from tango_jit.learn.weights import pack, to_checkpoint
from tango_jit.services.service import State
from tango_jit.streams import Weights
from tests.services.scans import CONE, FAN, VIEWS, Feed, Listener, look, see
from tests.services.trainers import same, tensors, training

# ---- publishing


def test_weights_come_every_publish_every_s(trainer, feed, clock):
    trainer.write("publish_every_s", 10.0)
    with Listener(trainer.values["weights_endpoint"]) as listener:
        feed.frames()
        first = listener.next()
        assert (first.version, first.scale) == (1, pytest.approx(look(trainer)["scale_per_mm"]))
        clock.now += 9
        feed.frames([VIEWS])
        see(trainer, frames_received=VIEWS + 1)
        training(trainer)
        assert look(trainer)["weights_version"] == 1
        assert listener.waiting() == []
        clock.now += 1.5
        second = listener.next()
        assert second.version == 2
        assert not same(first, second)
        training(trainer)
        assert look(trainer)["weights_version"] == 2


def test_weights_reach_who_comes_late(trainer, feed):
    feed.frames()
    version = see(trainer, weights_version=lambda version: version > 0)["weights_version"]
    trainer.pause()
    with Listener(trainer.values["weights_endpoint"]) as late:
        weights = late.next()
    assert weights.version == version
    assert weights.network["features"] == look(trainer)["features"]


def test_the_same_seed_and_frames_give_the_same_weights(make_trainer, feed):
    def first(seed: int) -> Weights:
        service = make_trainer(feed, seed=seed)
        with Listener(service.values["weights_endpoint"]) as listener:
            feed.header(f"seed {seed} {threading.get_ident()}")
            see(service, fill=0.0)
            feed.frames()
            weights = listener.next()
        service.close()
        return weights

    a, b, other = first(1), first(1), first(2)
    assert same(a, b)
    assert a.scale == b.scale
    assert not same(a, other)


# ---- rollback, save, load, reset: each is published at once


def test_rollback_without_an_earlier_version_is_refused(trainer, feed):
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version"):
        trainer.rollback()
    trainer.write("publish_every_s", 3600)
    feed.frames()
    see(trainer, weights_version=1)
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version"):
        trainer.rollback()


def test_saved_weights_come_back_and_every_change_is_published_at_once(trainer, feed, tmp_path: Path):
    trainer.write("publish_every_s", 3600)
    file = tmp_path / "weights.safetensors"
    feed.frames()
    training(trainer)
    trainer.pause()
    see(trainer, state=State.STANDBY)
    with Listener(trainer.values["weights_endpoint"]) as listener:
        first = listener.next()
        trainer.save(file)
        trainer.reset_network()
        fresh = listener.next(lambda weights: weights.version > first.version)
        trainer.load(file)
        loaded = listener.next(lambda weights: weights.version > fresh.version)
        trainer.rollback()
        back = listener.next(lambda weights: weights.version > loaded.version)
    saved = load(file.read_bytes())
    assert all(torch.equal(saved[name], tensor) for name, tensor in tensors(loaded).items())
    assert not same(fresh, loaded)
    assert same(back, fresh)
    assert look(trainer)["weights_version"] == back.version
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_rollback_shows_the_network_that_it_goes_back_to(trainer, feed, tmp_path: Path):
    trainer.write("publish_every_s", 3600)
    file = tmp_path / "other"
    other = build(NetworkConfig("CUSTOM", features=4, form="paper"))
    file.write_bytes(to_checkpoint(pack(other, version=1, scale=0.02, patch_accuracy=None, generation=0)))
    feed.frames()
    training(trainer)
    trainer.pause()
    see(trainer, state=State.STANDBY)
    names = ("network", "features", "parameters", "settings")
    before = [look(trainer)[name] for name in names]
    first = trainer.ask(lambda: trainer._trainer._packed(1))
    with Listener(trainer.values["weights_endpoint"]) as listener:
        assert not same(listener.next(), first)
        trainer.load(file)
        assert (trainer.values["features"], listener.next().network["form"]) == (4, "paper")
        trainer.rollback()
        back = listener.next()
    assert back.network == first.network
    assert same(back, first), "what was in training, not only what was published"
    assert [trainer.values[name] for name in names] == before
    trainer.start()
    assert training(trainer)["state"] is State.RUNNING


def test_a_network_that_does_not_go_with_the_settings_is_refused_and_nothing_changes(make_trainer, tmp_path: Path):
    files = {}
    for depth in (1, 5):
        files[depth] = tmp_path / str(depth)
        weights = pack(
            build(NetworkConfig("CUSTOM", depth=depth)), version=1, scale=0.02, patch_accuracy=None, generation=0
        )
        files[depth].write_bytes(to_checkpoint(weights))
    trainer = make_trainer(start=False)
    trainer.load(files[5])
    trainer.load(files[1])
    trainer.write("patch_size", 256)
    trainer.write("buffer_size", 2000)
    names = ("network_from", "weights_version", "depth", "depth_auto", "settings")
    before = [{**trainer.values, **trainer.counters()}[name] for name in names]
    for order in (lambda: trainer.load(files[5]), trainer.rollback):
        with pytest.raises(ValueError, match="buffer_size: expected at most 2048 MB"):
            order()
        assert trainer._trainer.settings.network.depth == 1
        assert [{**trainer.values, **trainer.counters()}[name] for name in names] == before
    trainer.write("buffer_size", 320)
    trainer.rollback()
    assert trainer._trainer.settings.network.depth == trainer.values["depth"] == 5


def test_what_cannot_be_saved_or_loaded_is_refused_in_words(trainer, feed, tmp_path: Path):
    with pytest.raises(RuntimeError, match="weights: expected a scale"):
        trainer.save(tmp_path / "early")
    feed.frames()
    before = see(trainer, weights_version=lambda version: version > 0)["settings"]
    with pytest.raises(ValueError, match="Save: expected a path in a folder that exists"):
        trainer.save(tmp_path / "missing" / "file")
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="checkpoint: expected a safetensors file"):
        trainer.load(nonsense)
    with pytest.raises(ValueError, match="Load: expected a file that Save wrote"):
        trainer.load(tmp_path / "missing")
    assert look(trainer)["settings"] == before
    training(trainer)


def test_a_file_of_another_network_brings_its_settings(make_trainer, feed, trainer, tmp_path: Path):
    file = tmp_path / "small"
    trainer.write("features", 4)
    trainer.reset_network()
    feed.frames()
    training(trainer)
    trainer.save(file)
    other = make_trainer(feed)
    other.load(file)
    assert other.values["features"] == 4
    feed.frames(range(VIEWS, 2 * VIEWS))
    assert training(other)["state"] is State.RUNNING


def test_a_network_that_another_scanner_ends_is_told_and_no_longer_named(make_trainer, tmp_path: Path):
    feed, file = Feed(CONE), tmp_path / "mine"
    try:
        service = make_trainer(feed, patch_size=12)
        feed.frames()
        training(service)
        service.save(file)
        service.load(file)
        training(service)
        assert service.values["network_from"] == str(file)
        feed.scan = FAN  # of one row
        feed.header("second")
        values = see(service, depth=1)
        assert "depth is 1 for this scan: an untrained network begins" in values["last_error"]
        assert (values["network_from"], values["steps"]) == (UNTRAINED, 0)
    finally:
        feed.close()
