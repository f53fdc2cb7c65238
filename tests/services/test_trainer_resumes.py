"""A trainer that is started again, or that meets what it knows: over real sockets and with real files."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tango_jit.learn import PRODUCT
from tango_jit.learn.regimes import UNTRAINED
from tango_jit.learn.weights import from_checkpoint
from tango_jit.services import warm_start
from tango_jit.services.service import State
from tango_jit.services.trainer import TrainerService
from tango_jit.services.trainer_settings import as_text
from tango_jit.services.weights_folder import LAST, WeightsFolder
from tests.events import wait_until
from tests.services.scans import VIEWS, Feed, Listener, StandingClock, look, see
from tests.services.trainers import training

# Not guided: what is untrained does nothing, so that what is trained is better for sure.
SETTINGS = as_text(PRODUCT.edited(form="residual", patch_size=16, buffer_size=64))
STEPS = 80  # after which the figure is that of many pairs

Make = Callable[..., TrainerService]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "weights"


@pytest.fixture
def make(make_trainer: Make, feed: Feed, folder: Path) -> Make:
    def build(**arguments) -> TrainerService:
        return make_trainer(feed, patch_size=16, **{"folder": folder, "settings": SETTINGS, **arguments})

    return build


def files(folder: Path, where: str) -> list[Path]:
    return sorted((folder / where).glob("*.safetensors"))


def begin(service: TrainerService) -> None:
    """Start it, and wait until it hears the frames."""
    service.start()
    see(service, status=lambda text: "window filling" in text or "no new frames" in text)


def learned(service: TrainerService, feed: Feed, clock: StandingClock, folder: Path) -> None:
    """It has trained, and what it keeps is in the folder."""
    feed.frames()
    training(service, more=STEPS)
    clock.now += 11
    wait_until(lambda: files(folder, "known"), 20, "weights that are good for such streams")
    wait_until(lambda: files(folder, "best"), 20, "the best weights")


def crashed(service: TrainerService, folder: Path, tmp_path: Path) -> Path:
    """The folder as a trainer that was killed just now would have left it; it is told nothing and goes on."""
    left = tmp_path / "left"
    shutil.copytree(folder, left)
    service.close()
    return left


def test_a_trainer_that_was_killed_goes_on_from_its_last_weights(make, feed, clock, folder, tmp_path):
    first = make()
    assert look(first)["weights_folder"] == str(folder)
    assert look(first)["network_from"] == UNTRAINED
    learned(first, feed, clock, folder)
    left = crashed(first, folder, tmp_path)
    last = from_checkpoint((left / LAST).read_bytes())
    second = make(folder=left)
    second.write("publish_every_s", 3600)
    with Listener(second.values["weights_endpoint"]) as listener:
        feed.frames(range(VIEWS, 2 * VIEWS))
        values = see(second, network_from=LAST, steps=lambda steps: steps > 0)
        published = listener.next()
    assert values["resumed_from"].startswith(f"{left / LAST}: version {last.version} of ")
    assert f"begun from {LAST} (version {last.version}" in values["status"]
    assert published.scale == pytest.approx(last.scale, rel=0.3)
    assert look(second)["patch_accuracy"] < 0.9, "from the first pairs on"
    clock.now += 30
    feed.frames([2 * VIEWS])
    assert LAST not in see(second, state=State.RUNNING)["status"], "told for some seconds"
    assert files(left, "best"), "the same experiment goes on, and so does what was best in it"


def test_what_is_published_every_second_is_written_every_ten(make, feed, clock, folder):
    trainer = make()
    feed.frames()
    training(trainer)
    wait_until((folder / LAST).exists, 20, "the first checkpoint")
    first = from_checkpoint((folder / LAST).read_bytes()).version
    for _ in range(3):
        version = look(trainer)["weights_version"]
        clock.now += 2
        feed.frames([look(trainer)["frames_received"]])
        see(trainer, weights_version=lambda now, version=version: now > version)
    assert from_checkpoint((folder / LAST).read_bytes()).version == first
    trainer.stop()
    see(trainer, state=State.STANDBY, running=False)
    wait_until(lambda: from_checkpoint((folder / LAST).read_bytes()).version == first + 3, 20, "the last ones")


def test_a_reset_is_a_reset_also_after_a_crash(make, feed, clock, folder, tmp_path):
    first = make()
    learned(first, feed, clock, folder)
    first.pause()
    see(first, state=State.STANDBY)
    first.reset_network()
    assert not files(folder, "best")
    assert look(first)["network_from"] == UNTRAINED
    left = crashed(first, folder, tmp_path)
    assert files(left, "known"), "other experiments may have use for them"
    (left / LAST).unlink(missing_ok=True)  # killed before the reset network was written
    second = make(folder=left)
    feed.frames(range(VIEWS, 2 * VIEWS))
    training(second)
    assert (look(second)["network_from"], look(second)["resumed_from"]) == (UNTRAINED, "")
    feed.header("another sample")
    see(second, fill=0.0)
    feed.frames()
    see(second, steps=lambda steps: steps > 0, network_from=lambda name: name != UNTRAINED)


def test_a_reset_before_the_first_frame_counts_for_the_series_that_comes(make, feed, clock, folder):
    first = make()
    learned(first, feed, clock, folder)
    first.close()
    second = make(start=False)
    second.reset_network()
    begin(second)
    feed.frames(range(VIEWS, 2 * VIEWS))
    training(second)
    assert look(second)["network_from"] == UNTRAINED


def test_another_trainer_begins_warm_with_what_is_known_of_such_streams(make, feed, clock, folder, tmp_path):
    first = make()
    learned(first, feed, clock, folder)
    left = crashed(first, folder, tmp_path)
    (left / LAST).unlink()
    second = make(folder=left, seed=9)
    feed.frames(range(VIEWS, 2 * VIEWS))
    name = see(second, network_from=lambda name: name != UNTRAINED)["network_from"]
    assert (left / name).is_file()
    assert look(second)["resumed_from"] == ""
    assert not files(left, "best"), "those were of another experiment"


def test_weights_that_do_not_fit_are_refused_in_words_and_training_begins_anew(make, feed, folder):
    folder.mkdir()
    (folder / LAST).write_bytes(b"no weights at all")
    trainer = make()
    feed.frames()
    values = training(trainer)
    assert "training begins anew, the last weights are refused" in values["last_error"]
    assert "expected a safetensors file" in values["last_error"]
    assert (values["state"], values["network_from"], values["resumed_from"]) == (State.RUNNING, UNTRAINED, "")


def test_a_network_of_another_shape_than_the_settings_is_refused_in_words(make, feed, clock, folder):
    first = make()
    learned(first, feed, clock, folder)
    first.close()
    wide = as_text(PRODUCT.edited(form="residual", features=4, patch_size=16))
    second = make(settings=wide)
    feed.frames(range(VIEWS, 2 * VIEWS))
    values = training(second)
    assert "expected a network of the shape" in values["last_error"]
    assert values["network_from"] == UNTRAINED


def test_a_folder_that_cannot_be_used_is_an_alarm_and_training_goes_on(make, feed, clock, tmp_path):
    place = tmp_path / "place"
    place.write_text("a file where the folder should be")
    trainer = make(folder=place / "weights")
    feed.frames()
    values = training(trainer)
    assert values["state"] is State.ALARM
    assert "weights are not kept: " in values["status"]
    assert str(place) in values["status"]
    place.unlink()
    clock.now += 11
    feed.frames([VIEWS])
    see(trainer, state=State.RUNNING)
    clock.now += 2
    feed.frames([VIEWS + 1])
    wait_until((place / "weights" / LAST).is_file, 20, "the next weights")


def test_a_disk_that_does_not_answer_is_an_alarm_and_training_goes_on(make, feed, folder):
    """A pipe that nobody writes to: reading it takes for ever."""
    folder.mkdir()
    os.mkfifo(folder / LAST)
    trainer = make()
    try:
        feed.frames()
        values = training(trainer)
        assert values["state"] is State.ALARM
        assert f"weights are not kept: {folder} does not answer" in values["status"]
    finally:
        (folder / LAST).write_bytes(b"")  # the end of waiting


def test_a_jump_that_nobody_announced_asks_for_what_is_known_too(make, feed, clock, folder):
    trainer = make()
    trainer.write("split", "HALVES")
    learned(trainer, feed, clock, folder)
    feed.frames(range(VIEWS, 2 * VIEWS), turns=4)
    for _ in range(5):
        training(trainer, more=60)
    feed.frames(range(2 * VIEWS, 3 * VIEWS), gain=10.0, turns=4)
    see(trainer, jumps=lambda jumps: jumps > 0)
    training(trainer)
    assert trainer._trainer.regimes.contests > 0
    assert any(name.startswith("known/") for name in trainer._trainer.regimes.offered)


def test_two_trainers_do_not_share_a_folder(make, feed, clock, folder):
    first = make()
    feed.frames()
    training(first)
    second = make()
    feed.frames(range(VIEWS, 2 * VIEWS))
    values = training(second)
    assert values["state"] is State.ALARM
    assert "expected a folder that no other trainer uses" in values["status"]
    first.close()
    clock.now += 11
    feed.frames(range(2 * VIEWS, 3 * VIEWS))
    see(second, state=State.RUNNING)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def fed(trainer: TrainerService, feed: Feed, clock: StandingClock, seconds: float = 11) -> None:
    """Time has passed, and frames came."""
    clock.now += seconds
    feed.frames([look(trainer)["frames_received"]])


def locked(make: Make, feed: Feed, clock: StandingClock, folder: Path, tmp_path: Path):
    """A folder with the weights of a run that was killed, its holder, and a trainer that begins beside that."""
    first = make()
    learned(first, feed, clock, folder)
    left = crashed(first, folder, tmp_path)
    holder = WeightsFolder(left)
    second = make(folder=left)
    feed.frames()
    return left, holder, second


def test_a_folder_that_was_locked_is_taken_up_late_and_nothing_in_it_is_lost(make, feed, clock, folder, tmp_path):
    left, holder, second = locked(make, feed, clock, folder, tmp_path)
    before = contents(left)
    values = training(second)
    assert (values["state"], values["network_from"]) == (State.ALARM, UNTRAINED)
    assert "expected a folder that no other trainer uses" in values["status"]
    fed(second, feed, clock)
    assert training(second)["state"] is State.ALARM
    assert contents(left) == before
    holder.close()
    fed(second, feed, clock)
    values = see(second, network_from=LAST, state=State.RUNNING)
    assert values["resumed_from"].startswith(f"{left / LAST}: version ")
    assert contents(left).keys() == before.keys(), "the best are those of this experiment"
    version = values["weights_version"]
    fed(second, feed, clock)
    see(second, weights_version=lambda now: now > version)
    wait_until(lambda: contents(left)[left / LAST] != before[left / LAST], 20, "the next weights")


def test_a_trainer_that_ends_before_the_folder_answers_leaves_it_alone(make, feed, clock, folder, tmp_path):
    left, holder, second = locked(make, feed, clock, folder, tmp_path)
    before = contents(left)
    version = training(second)["weights_version"]
    fed(second, feed, clock, 2)
    see(second, weights_version=lambda now: now > version)
    holder.close()
    second.close()
    assert contents(left) == before


def test_a_reset_is_one_for_a_folder_that_was_locked(make, feed, clock, folder, tmp_path):
    left, holder, second = locked(make, feed, clock, folder, tmp_path)
    training(second)
    second.reset_network()
    assert files(left, "best"), "nobody else's"
    holder.close()
    fed(second, feed, clock)
    values = see(second, state=State.RUNNING)
    wait_until((left / "cold").is_file, 20, "the reset in the folder")
    assert (left / "cold").read_text() == feed.series
    assert not files(left, "best")
    training(second)
    assert (values["network_from"], values["resumed_from"]) == (UNTRAINED, "")


def test_a_slow_folder_is_waited_for_without_an_answer_being_guessed(make, feed, clock, folder, tmp_path, monkeypatch):
    first = make()
    learned(first, feed, clock, folder)
    first.pause()
    see(first, state=State.STANDBY)
    first.reset_network()
    left = crashed(first, folder, tmp_path)
    known = contents(left)
    answers, opened = threading.Event(), WeightsFolder.__init__

    def slow(self: WeightsFolder, path: Path) -> None:
        answers.wait(30)
        opened(self, path)

    monkeypatch.setattr(WeightsFolder, "__init__", slow)
    monkeypatch.setattr(warm_start, "WAIT_S", 0.05)
    second = make(folder=left)
    see(second, status=lambda text: f"{left} does not answer within" in text)
    assert contents(left) == known
    monkeypatch.setattr(warm_start, "WAIT_S", 5.0)
    answers.set()
    wait_until(lambda: (look(second), second._warm._folder)[1], 20, "the folder")
    feed.frames()
    training(second)
    assert look(second)["network_from"] == UNTRAINED, "it was reset in this series"


def test_what_an_operator_loads_goes_on_whatever_is_known(make, feed, clock, folder, tmp_path):
    first = make()
    first.write("publish_every_s", 3600)
    feed.frames()
    training(first)
    mine = tmp_path / "mine.safetensors"
    first.save(mine)
    first.write("publish_every_s", 1)
    learned(first, feed, clock, folder)
    first.close()
    second = make(start=False)
    second.write("publish_every_s", 3600)
    second.load(mine)
    begin(second)
    feed.frames(range(VIEWS, 4 * VIEWS), turns=4)
    see(second, split_used="TURNS", steps=lambda steps: steps > 8)
    assert look(second)["network_from"] == str(mine)


def test_a_trainer_that_never_started_leaves_the_folder_to_others(make, folder):
    first = make(start=False)
    first.reset_network()
    assert (folder / "cold").read_text() == ""
    first.close()
    WeightsFolder(folder).close()


def test_without_a_folder_nothing_is_kept(make, feed, folder):
    trainer = make(folder=None)
    feed.frames()
    values = training(trainer)
    trainer.reset_network()
    assert (values["weights_folder"], values["resumed_from"], values["state"]) == ("", "", State.RUNNING)
    assert not folder.exists()
