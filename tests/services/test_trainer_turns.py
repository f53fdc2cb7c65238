"""Which views pairs come from: two turns where that works, halves otherwise; and what happens at a jump."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, WindowOverflowError
from tango_jit.services.pairs import HALVES_S, LONGEST_HALVES_S, OFFERED, PairSource, SplitChoice, Where
from tango_jit.services.service import State
from tango_jit.streams import Header, Image
from tests.services.scans import FAN, VIEWS, look, see
from tests.services.trainers import training


def test_two_turns_are_used_as_soon_as_they_are_there(rounds, trainer, feed):
    feed.frames(turns=4)
    assert training(trainer)["split_used"] == "HALVES"
    assert set(rounds.befores) == {None}
    feed.frames(range(VIEWS, 2 * VIEWS + 1), turns=4)
    see(trainer, split_used="TURNS", steps=lambda steps: steps > 20)
    now, before = rounds.windows[-1], rounds.befores[-1]
    assert before is not None
    assert not set(now.frames) & set(before.frames)
    assert len(before.frames) == VIEWS
    assert before.last_frame == now.first_frame - 1
    assert 0.3 < look(trainer)["patch_accuracy"] < 1.5
    assert look(trainer)["patch_accuracy_band"] > 0


def test_a_turn_that_comes_again_and_again_gives_halves(rounds, trainer, feed):
    """Its pairs of two turns are equal: nothing could be learned from them."""
    feed.frames(range(3 * VIEWS))
    values = training(trainer, more=20)
    assert values["split_used"] == "HALVES"
    assert any(before is not None for before in rounds.befores), "they were tried"
    assert rounds.befores[-1] is None
    assert np.isfinite(values["patch_accuracy"])


@pytest.mark.parametrize("setting", ["HALVES", "TURNS"])
def test_the_setting_decides(rounds, trainer, feed, setting):
    trainer.write("split", setting)
    feed.frames(range(3 * VIEWS), turns=4)
    see(trainer, frames_received=3 * VIEWS)
    made = len(rounds.befores) + 1
    assert training(trainer, more=12)["split_used"] == setting
    assert {before is None for before in rounds.befores[made:]} == {setting == "HALVES"}


def test_turns_are_learned_from_once_a_trial_finds_them_of_use():
    choice = SplitChoice()
    assert (choice.wanted("AUTO"), choice.tries("AUTO", 0.0)) == ("halves", True)
    choice.seen(OFFERED - 1, 0, 0.0)
    assert choice.wanted("AUTO") == "halves", "too few to judge"
    choice.seen(1, 1, 1.0)
    assert (choice.wanted("AUTO"), choice.tries("AUTO", 1.0)) == ("turns", False)
    choice.seen(OFFERED, OFFERED // 2, 30.0)
    assert choice.wanted("AUTO") == "turns", "half of them were of use"
    choice.seen(OFFERED, OFFERED, 40.0)
    assert (choice.wanted("AUTO"), choice.wanted("TURNS")) == ("halves", "turns")
    assert not choice.tries("AUTO", 40.0)
    assert choice.tries("AUTO", 40.0 + HALVES_S)


def test_a_setting_is_not_tried_and_auto_goes_on_from_what_it_found():
    choice = SplitChoice()
    for setting, split in (("HALVES", "halves"), ("TURNS", "turns")):
        assert (choice.wanted(setting), choice.tries(setting, 0.0)) == (split, False)
    choice.seen(OFFERED, 0, 0.0)
    assert choice.wanted("AUTO") == "turns"


def failed(choice: SplitChoice, now_s: float) -> float:
    """How long halves serve after a trial that finds nothing of use."""
    choice.seen(OFFERED, OFFERED, now_s)
    return next(wait for wait in range(1000) if choice.tries("AUTO", now_s + wait))


def test_trials_that_fail_become_rare_and_one_that_succeeds_for_long_ends_that():
    choice, now = SplitChoice(), 0.0
    for expected in (20, 40, 80, 160, 320, 320):
        assert failed(choice, now) == expected
        choice.seen(OFFERED, OFFERED, now + 1)  # by the setting TURNS: no trial
        assert not choice.tries("AUTO", now + expected - 1)
        now += expected
    choice.seen(OFFERED, 0, now)
    assert failed(choice, now + 1) == LONGEST_HALVES_S, "turns served for a moment"
    now += 1 + LONGEST_HALVES_S
    choice.seen(OFFERED, 0, now)
    assert failed(choice, now + HALVES_S) == HALVES_S


def few_still(monkeypatch: pytest.MonkeyPatch, calm: int = 6) -> None:
    """Of the pairs of two turns all but the first few of a round show something else in each turn."""
    reconstruct = Reconstructor.reconstruct_turns

    def moving(*arguments: Any) -> Any:
        pairs = reconstruct(*arguments)
        pairs[calm:, 0] += 100 * np.abs(pairs).max()
        return pairs

    monkeypatch.setattr(Reconstructor, "reconstruct_turns", moving)


def test_who_learns_notices_nothing_of_a_trial_that_fails(monkeypatch, rounds, trainer, feed, clock):
    """A moving sample with a few pairs that stand still, which alone would empty the buffer."""
    few_still(monkeypatch)
    feed.frames(range(3 * VIEWS), turns=4)
    training(trainer, more=40)
    tried = sum(before is not None for before in rounds.befores)
    assert tried
    clock.now += HALVES_S
    feed.frames(range(3 * VIEWS, 4 * VIEWS), turns=4)
    values = training(trainer, more=20)
    assert sum(before is not None for before in rounds.befores) > tried, "they were tried again"
    assert set(rounds.splits) == {"halves"}
    assert rounds.held == sorted(rounds.held), "the buffer was never emptied"
    assert (values["split_used"], trainer._trainer.pairs_moving) == ("HALVES", 0)


def test_where_two_turns_do_not_fit_one_is_kept(monkeypatch):
    source = PairSource(Header("s", "filtered", FAN, True, "hann"), "cpu", 0)
    assert source.window.spans == 2
    add = ProjectionWindow.add

    def short(window: ProjectionWindow, *arguments):
        if window.spans == 2 and len(window) > VIEWS:
            raise WindowOverflowError("full")
        return add(window, *arguments)

    monkeypatch.setattr(ProjectionWindow, "add", short)
    view = np.zeros((FAN.rows, FAN.cols), np.float32)
    for number in range(VIEWS + 1):
        source.add(Image("s", number, number * 2 * np.pi / VIEWS, 0.0, view))
    with pytest.raises(WindowOverflowError):
        source.add(Image("s", VIEWS + 1, (VIEWS + 1) * 2 * np.pi / VIEWS, 0.0, view))
    assert source.keep_one_turn()
    assert source.window.spans == 1
    assert not source.keep_one_turn()
    for number in range(3 * VIEWS):
        source.add(Image("s", number, number * 2 * np.pi / VIEWS, 0.0, view))
    assert source.window.window() is not None
    assert source.window.before() is None


def test_a_jump_of_the_beam_is_found_and_told(rounds, trainer, feed):
    """Ten times the noise and the level, and no message that says so."""
    trainer.write("split", "HALVES")
    feed.frames(turns=4)
    for _ in range(5):
        training(trainer, more=60)
    calm = look(trainer)
    assert (calm["jumps"], calm["last_jump"]) == (0, "")
    feed.frames(range(VIEWS, 2 * VIEWS), gain=10.0, turns=4)
    for _ in range(4):
        training(trainer, more=30)
    values = see(trainer, jumps=lambda jumps: jumps > 0)
    assert "rose from about" in values["last_jump"]
    values = training(trainer)
    assert values["state"] is State.RUNNING
    assert values["last_jump"] in values["status"]
    assert min(rounds.held[-5:]) < trainer._trainer.settings.buffer_size


RIM, MIDDLE = (
    SliceGeometry.centered((x, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=0.1, shape=(24, 24)) for x in (1.6, 0.0)
)
ELSEWHERE = {
    "region": ("UNIFORM", lambda trainer, _: trainer.write("region", np.array([-1.3, -1.3, -1, 1.3, 1.3, 1]))),
    "a slice that moves": ("NEAR_SLICES", lambda _, feed: feed.view({"xy": MIDDLE})),
}


@pytest.mark.parametrize(("sampling", "change"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_patches_that_somebody_has_lie_elsewhere_are_no_jump(trainer, feed, sampling, change):
    """The level is another one there; the buffer and the network go on."""
    trainer.write("split", "HALVES")
    trainer.write("sampling", sampling)
    feed.view({"xy": RIM})
    feed.frames(turns=4)
    for _ in range(5):
        training(trainer, more=60)
    held, kind = trainer._trainer.pairs, trainer._trainer.generation
    change(trainer, feed)
    for _ in range(4):
        training(trainer, more=30)
    values = look(trainer)
    assert (values["jumps"], values["last_jump"]) == (0, "")
    assert (trainer._trainer.pairs, trainer._trainer.generation) == (held, kind)


def test_a_container_that_is_found_again_and_again_is_one_place():
    here, there = (Where(16, 1, "MIXED", (), (x, 0.0, 2.0, -1.0, 1.0)) for x in (0.0, 0.1))
    assert here.announced(automatic=True) == there.announced(automatic=True)
    assert here.announced(automatic=False) != there.announced(automatic=False)
    others = {"container": (), "region": (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0), "sampling": "UNIFORM", "size": 20}
    for name, value in others.items():
        other = here._replace(**{name: value})
        assert all(other.announced(automatic) != here.announced(automatic) for automatic in (True, False))


def test_one_turn_for_want_of_memory_is_told(trainer, feed, monkeypatch):
    ring = PairSource._ring
    monkeypatch.setattr(PairSource, "_ring", lambda source, spans: ring(source, spans=1))
    feed.header("second")  # the first may have come already
    feed.frames(range(3 * VIEWS), turns=4)
    values = training(trainer)
    assert (values["split_used"], values["state"]) == ("HALVES", State.ALARM)
    assert "two turns of views do not fit in memory" in values["status"]
