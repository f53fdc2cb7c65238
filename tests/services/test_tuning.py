"""AutoTune live: beside the training of the present network, on the pairs of the running stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import default_slices
from tango_jit.learn import NetworkConfig, autotune
from tango_jit.services.service import State
from tango_jit.services.tuning import TuningTrainerService
from tango_jit.streams import Weights
from tests.events import wait_until
from tests.services import scans
from tests.services.conftest import Tap
from tests.services.scans import FAN, Feed, StandingClock, look, see
from tests.services.trainers import PATCH, training

FLAT = (
    NetworkConfig("CUSTOM", features=1, form="residual"),
    NetworkConfig("CUSTOM", features=2, form="guided"),
)
SLICES = {"xy": default_slices(FAN, (24, 24))["xy"]}
Make = Callable[..., TuningTrainerService]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "FIRST", 8)
    monkeypatch.setattr(autotune, "LONGEST", 16)


@pytest.fixture
def make(clock: StandingClock) -> Iterator[Make]:
    """Trainers at rest that are closed at the end."""
    made: list[TuningTrainerService] = []

    def build(feed: Feed, patch_size: int = PATCH, **options: Any) -> TuningTrainerService:
        options = {"menu": FLAT, "timer": iter(np.arange(0, 1e4, 1e-3)).__next__, **options}
        made.append(TuningTrainerService(lambda: feed.endpoint, threads=1, clock=clock, **options))
        made[-1].write("patch_size", patch_size)
        made[-1].start()
        see(made[-1], status=lambda text: "window filling" in text or "no new frames" in text)
        return made[-1]

    yield build
    for service in made:
        service.close()


@pytest.fixture
def fan() -> Iterator[Feed]:
    feed = Feed(FAN, SLICES)
    yield feed
    feed.close()


def table(service: TuningTrainerService) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(look(service)["tuning_table"])}


def slow_to_learn(service: TuningTrainerService) -> None:
    """The present network stays what it is: any other one beats it."""
    service.write("features", 1)
    service.write("learning_rate", 1e-6)
    service.reset_network()


def test_the_best_one_takes_over_and_is_published(make, fan):
    service = make(fan, menu=FLAT[1:])
    tap = Tap(service.values["weights_endpoint"], "sub")
    try:
        service.write("network", "PAPER")
        service.write("patch_size", PATCH)
        service.write("learning_rate", 1e-6)
        service.reset_network()
        fan.frames()
        training(service)
        service.auto_tune()
        see(service, 60, tuning_verdict=lambda text: "guided, 2 features: more accurate" in text)
        values = training(service)
        assert (values["network"], values["features"], values["tuning_progress"]) == ("CUSTOM", 2, 100)
        assert service._trainer.settings.network.form == "guided"
        assert '"form": "guided"' in values["settings"]
        sent = tap.wait(Weights, lambda weights: weights.network["features"] == 2)
        assert sent.network["form"] == "guided"
        rows = table(service)
        assert rows["guided, 2 features"]["verdict"] == "chosen"
        assert rows["paper, 8 features"]["verdict"] == "present"
        assert rows["guided, 2 features"]["hz"] == pytest.approx(500)  # two passes of 1 ms: pairs are halves
    finally:
        tap.close()


def test_rollback_undoes_the_takeover_whatever_was_published_since(make, fan, clock):
    service = make(fan, menu=FLAT[1:])
    service.write("network", "PAPER")
    service.write("patch_size", PATCH)
    service.write("learning_rate", 1e-6)
    service.reset_network()
    fan.frames()
    training(service)
    service.auto_tune()
    see(service, 60, features=2, tuning_verdict=lambda text: "more accurate" in text)
    for _ in range(10):
        version = training(service)["weights_version"]
        clock.now += 2
        fan.frames([look(service)["frames_received"]])
        see(service, weights_version=lambda now, version=version: now > version)
    service.rollback()
    see(service, features=8)
    assert service._trainer.settings.network.form == "paper"
    service.rollback()
    see(service, features=2)


def test_a_winner_that_the_settings_no_longer_allow_does_not_take_over(make):
    feed = Feed(scans.CONE, {"xy": default_slices(scans.CONE, (24, 24))["xy"]})
    try:
        service = make(feed, 12, menu=(NetworkConfig("CUSTOM", features=2, depth=3, form="guided"),))
        service.write("network", "PAPER")
        service.write("depth", 3)
        service.write("patch_size", 12)
        service.write("learning_rate", 1e-6)
        service.reset_network()
        feed.frames()
        training(service)
        service.pause()
        service.auto_tune()
        service.write("depth", 1)  # for the next network: the present one goes on
        service.write("patch_size", 256)
        service.write("buffer_size", 2000)
        service.start()
        values = see(service, 60, tuning_verdict=lambda text: text != "")
        words = "given up, the present network stays: the settings refuse the best one: buffer_size: expected at most"
        assert values["tuning_verdict"].startswith(words)
        assert (values["depth"], service._trainer.settings.network.form) == (1, "paper")
        assert training(service)["state"] is not State.FAULT
    finally:
        feed.close()


def test_the_present_one_serves_and_learns_meanwhile_and_stays_where_it_is_better(make, fan):
    service = make(fan, menu=FLAT[:1])
    fan.frames()
    training(service, 60)
    version, steps = service._trainer.version, look(service)["steps"]
    service.auto_tune()
    values = see(service, 60, tuning_verdict=lambda text: "the present network stays" in text)
    assert values["steps"] > steps
    assert values["network"] == "CUSTOM"  # for its patch size
    assert values["features"] == 8
    assert service._trainer.version >= version
    training(service)


def test_too_slow_for_the_wanted_rate(make, fan):
    service = make(fan, timer=iter(np.arange(0, 1e4, 0.5)).__next__)
    fan.frames()
    training(service)
    service.write("wanted_hz", 5.0)
    service.auto_tune()
    values = see(service, tuning_verdict=lambda text: "no other one does 5 Hz" in text)
    assert "does 1 Hz (all slices, two passes each: of both halves)" in values["tuning_verdict"]
    assert table(service)["guided, 2 features"]["verdict"] == "too slow: 1 of 5 Hz"


def test_stacks_are_made_for_deep_networks_and_the_present_one_sees_the_middle(make, rounds):
    feed = Feed(scans.CONE, {"xy": default_slices(scans.CONE, (24, 24))["xy"]})
    try:
        service = make(feed, 12, menu=(*FLAT[:1], NetworkConfig("CUSTOM", features=2, depth=5)))
        feed.frames()
        training(service)
        service.auto_tune()
        see(service, 60, tuning_verdict=lambda text: text != "")
        stacks = [len(poses) for poses in rounds.poses]
        assert 3 * max(stacks) == 5 * min(stacks)  # the present one sees three
        assert {row["steps"] > 0 for row in table(service).values()} == {True}
        training(service)
    finally:
        feed.close()


def test_one_at_a_time_and_not_before_there_is_something(make, fan, clock):
    service = make(fan)
    look(service)
    service.auto_tune()  # there is a scan with slices: it waits for frames
    with pytest.raises(ValueError, match="AutoTune: expected none at work, StopAutoTune gives it up"):
        service.auto_tune()
    service.stop_auto_tune()
    service.stop_auto_tune()
    values = look(service)
    assert values["tuning_verdict"] == "given up, the present network stays: StopAutoTune"
    assert values["tuning_progress"] == 0
    alone = TuningTrainerService(lambda: None, threads=1, clock=clock)
    try:
        with pytest.raises(ValueError, match="AutoTune: expected a scan and slices on display, none have come yet"):
            alone.auto_tune()
    finally:
        alone.close()


def test_what_ends_it_is_told(make, fan):
    service = make(fan)
    ends: list[tuple[Callable[[], Any], str]] = [
        (service.reset_network, "ResetNetwork has changed the present network"),
        (lambda: service.write("batch_size", 4), "the settings of the trainer have changed"),
    ]
    fan.frames()
    training(service)
    for end, words in ends:
        service.pause()
        service.auto_tune()
        end()
        service.start()
        see(service, tuning_verdict=lambda text, words=words: words in text)
        training(service)
    service.pause()
    service.auto_tune()
    assert "AutoTune waits: 0 %" in see(service, status=lambda text: "AutoTune" in text)["status"]
    service.stop()
    wait_until(lambda: "the trainer was stopped" in service.values["tuning_verdict"])


def test_it_waits_through_the_end_of_a_stream_and_goes_on_with_the_next(make, fan, clock):
    service = make(fan)
    fan.frames()
    training(service)
    service.pause()
    service.auto_tune()
    clock.now += 10
    service.start()
    values = see(service, state=State.STANDBY, status=lambda text: "no new frames" in text)
    assert "AutoTune waits" in values["status"]
    fan.header("second")
    fan.frames()
    see(service, 60, tuning_verdict=lambda text: text != "" and "given up" not in text)


def test_slices_of_another_size_begin_it_anew(make, fan):
    service = make(fan)
    fan.frames()
    training(service)
    service.pause()
    service.auto_tune()
    first = service._tune
    received = service._subscriber.received
    fan.view({"xy": default_slices(FAN, (32, 32))["xy"]})
    see(service, steps=lambda _: service._subscriber.received > received)
    service.start()
    see(service, 60, last_error=lambda text: "AutoTune began anew" in text, tuning_verdict=lambda text: text != "")
    assert service._tune is None
    assert first is not None
    assert first.shapes == ((24, 24),)


def test_another_split_begins_it_anew_as_pictures_take_other_times(make, fan):
    service = make(fan)
    service.write("split", "HALVES")
    fan.frames(range(3 * scans.VIEWS), turns=4)
    training(service)
    service.pause()
    service.auto_tune()
    service.start()
    see(service, tuning_progress=lambda percent: percent > 10)
    service.write("split", "TURNS")
    see(service, 60, last_error=lambda text: "AutoTune began anew: pairs are turns" in text)
    values = see(service, 60, tuning_verdict=lambda text: text != "")
    assert "one pass each" in values["tuning_verdict"]
    assert table(service)["guided, 2 features"]["hz"] == pytest.approx(1000)


def test_what_was_written_just_before_does_not_end_it(make, fan):
    service = make(fan)
    fan.frames()
    training(service)
    for learning_rate in (2e-4, 3e-4, 4e-4):
        service.write("learning_rate", learning_rate)
        service.auto_tune()
        verdict = see(service, 60, tuning_verdict=lambda text: text != "")["tuning_verdict"]
        assert "have changed" not in verdict
