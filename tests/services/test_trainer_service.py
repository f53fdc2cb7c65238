"""The trainer as a service: when it rests, and its settings; over real sockets, by a clock that the tests move."""

import threading
from typing import Any

import numpy as np
import pytest

from tango_jit.learn.buffer_size import BufferSize
from tango_jit.learn.regimes import UNTRAINED
from tango_jit.services.pairs import Pairs
from tango_jit.services.service import State
from tango_jit.services.trainer import TrainerService
from tango_jit.services.trainer_settings import FIELDS
from tests.events import wait_until
from tests.services.scans import VIEWS, Listener, look, see
from tests.services.trainers import PATCH, holds, training

# ---- pause and silence


def test_pause_holds_steps_and_start_goes_on(trainer, feed):
    feed.frames()
    training(trainer)
    trainer.pause()
    assert see(trainer, state=State.STANDBY)["status"] == "paused: Start goes on"
    feed.frames(range(VIEWS, VIEWS + 8))
    see(trainer, frames_received=VIEWS + 8)
    holds(trainer)
    trainer.start()
    assert training(trainer)["state"] is State.RUNNING


def test_silence_ends_the_steps_until_frames_come(trainer, feed, clock):
    feed.frames()
    training(trainer)
    clock.now += 10
    values = see(trainer, state=State.STANDBY)
    assert values["status"].startswith("no new frames")
    holds(trainer)
    feed.frames([VIEWS])
    see(trainer, frames_received=VIEWS + 1, state=State.RUNNING)
    training(trainer)


def test_a_slow_scan_is_not_silent(trainer, feed, clock):
    trainer.write("publish_every_s", 3600)
    feed.frames(range(VIEWS - 1))
    see(trainer, frames_received=VIEWS - 1)
    clock.now += 10
    feed.frames([VIEWS - 1])
    training(trainer)
    clock.now += 20
    assert training(trainer)["state"] is State.RUNNING
    clock.now += 20
    see(trainer, state=State.STANDBY)
    holds(trainer)


# ---- settings


def test_a_preset_sets_the_fields_and_an_edit_makes_it_custom(make_trainer):
    service = make_trainer(start=False)
    service.write("network", "PAPER")
    shown = {name: service.values[name] for name in ("patch_size", "batch_size", "learning_rate", "features")}
    assert shown == {"patch_size": 20, "batch_size": 32, "learning_rate": 1e-4, "features": 8}
    service.write("learning_rate", 3e-4)
    assert (service.values["network"], service.values["learning_rate"]) == ("CUSTOM", 3e-4)
    service.write("learning_rate", 1e-4)
    assert service.values["network"] == "PAPER"
    service.write("network", "PRODUCT")
    assert (service.values["patch_size"], service.values["learning_rate"]) == (48, 2e-3)
    with pytest.raises(ValueError, match="network: expected one of PRODUCT, PAPER, RELEASED; CUSTOM is shown"):
        service.write("network", "CUSTOM")
    assert service.values["network"] == "PRODUCT"


def test_another_shape_waits_for_reset_network(trainer, feed):
    feed.frames()
    see(trainer, weights_version=lambda version: version > 0)
    trainer.write("features", 4)
    status = see(trainer, state=State.ALARM)["status"]
    assert "ResetNetwork takes it" in status
    with Listener(trainer.values["weights_endpoint"]) as listener:
        assert listener.next().network["features"] == 8
        trainer.reset_network()
        assert listener.next().network["features"] == 4
    assert see(trainer, state=State.RUNNING)["parameters"] == 9 * (3 * 4 + 109 * 16)
    training(trainer)


def test_the_text_of_the_settings_restores_them(make_trainer):
    first = make_trainer(start=False)
    first.write("network", "RELEASED")
    first.write("learning_rate", 5e-4)
    first.write("buffer_size", 100)
    first.write("region", [-1, -1, -1, 1, 1, 1])
    text = first.values["settings"]
    second = make_trainer(start=False, settings=text)
    for name in ("network", "parameters", "settings", *FIELDS):
        assert second.values[name] == first.values[name], name
    np.testing.assert_array_equal(second.values["region"], [-1, -1, -1, 1, 1, 1])


NONSENSE = ["nonsense", "[]", "3", "{}", '{"training": {}, "region": []}']


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_as_settings_is_refused_in_words(make_trainer, text):
    with pytest.raises(ValueError, match="Settings: expected what the attribute settings showed"):
        make_trainer(start=False, settings=text)


@pytest.mark.parametrize("region", ['"here"', "[[1, 2], [3]]"])
def test_a_nonsense_region_in_the_settings_is_refused_in_words(make_trainer, region):
    text = make_trainer(start=False).values["settings"].replace('"region": []', f'"region": {region}')
    with pytest.raises(ValueError, match="Settings: expected"):
        make_trainer(start=False, settings=text)


def test_an_absurd_buffer_is_refused_and_nothing_changes(trainer, feed):
    trainer.write("patch_size", 64)
    before = trainer.values["settings"]
    for name, value in (("buffer_size", 100_000), ("batch_size", 1024), ("patch_size", 11)):
        with pytest.raises(ValueError, match=r"expected"):
            trainer.write(name, value)
        assert trainer.values["settings"] == before
    trainer.write("patch_size", PATCH)
    feed.frames()
    assert training(trainer)["state"] is State.RUNNING


def test_the_size_of_the_buffer_follows_the_reviews_until_a_hand_writes_it(make_trainer, feed, monkeypatch):
    """What is reviewed are real pairs; what the reviews say is given here."""
    monkeypatch.setattr(BufferSize, "reviewed", lambda size, *_: BufferSize(min(2 * size.pairs, 1000)))
    service = make_trainer(feed)
    assert (service.values["buffer_auto"], service.values["buffer_size"]) == (False, 320)
    feed.frames()
    training(service, 60)
    assert service.values["buffer_size"] == 320
    service.write("buffer_auto", True)
    network = service.values["network"]
    values = see(service, 30.0, buffer_size=lambda size: size >= 640)
    assert service._trainer.settings.buffer_size in (values["buffer_size"], 640)
    assert (values["network"], values["buffer_auto"]) == (network, True)
    again = make_trainer(start=False, settings=values["settings"])
    assert (again.values["buffer_size"], again.values["buffer_auto"]) == (values["buffer_size"], True)
    service.write("buffer_size", 100)
    assert service.values["buffer_auto"] is False
    training(service, 200)
    assert look(service)["buffer_size"] == service._trainer.settings.buffer_size == 100


@pytest.mark.parametrize("more", [1, 2])
def test_an_order_does_not_wait_for_pairs_to_be_scored(more, make_trainer, feed, rounds, monkeypatch):
    """Making them and scoring them is the longest there is; what the order does not fit is made anew."""
    make, made = TrainerService._new_pairs, threading.Event()
    trainer = make_trainer(feed)

    def slow(service: TrainerService, *arguments: Any) -> Pairs:
        pairs = make(service, *arguments)
        if not made.is_set():
            made.set()
            wait_until(lambda: service._orders, what="the order")
        return pairs

    monkeypatch.setattr(TrainerService, "_new_pairs", slow)
    feed.frames()
    assert made.wait(30)
    trainer.write("batch_size", more * trainer.values["batch_size"])

    def order() -> tuple[int, list[str]]:
        trainer._reset_network()
        return len(rounds.windows), list(rounds.log)

    reconstructed, log = trainer.ask(order, timeout_s=30)
    assert reconstructed == 1
    assert log == []
    training(trainer)
    assert rounds.log[0] == "add"
    assert len(rounds.poses[0]) * more == len(rounds.poses[1])


def test_who_orders_something_sees_at_once_what_came_of_it(trainer, feed, tmp_path):
    feed.frames()
    training(trainer)
    trainer.pause()
    file = tmp_path / "weights"
    trainer.save(file)
    trainer.load(file)
    assert trainer.values["network_from"] == str(file)
    trainer.reset_network()
    assert trainer.values["steps"] == 0
    assert trainer.values["network_from"] == UNTRAINED


def test_what_is_ordered_while_it_rests_is_shown(trainer, feed, tmp_path):
    feed.frames()
    training(trainer)
    file = tmp_path / "weights"
    trainer.save(file)
    trainer.stop()
    wait_until(lambda: trainer.values["status"].startswith("stopped"), what="the end of the worker")
    trainer.load(file)
    assert trainer.values["network_from"] == str(file)
    assert trainer.values["steps"] == 0
    assert trainer.values["state"] is State.STANDBY
    assert trainer.values["steps_per_s"] == 0
