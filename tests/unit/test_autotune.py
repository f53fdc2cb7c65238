"""AutoTune: what is too slow goes first, then half of the others after each stretch; the present one must be beaten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tango_jit.learn import NetworkConfig, Trainer, Weights, autotune
from tango_jit.learn.autotune import PASSES, AutoTune, as_seen
from tango_jit.learn.menu import MENU, name_of
from tests.training import SMALL, Images, pairs, tensors

PRESENT = SMALL.edited(features=2, form="residual")
FOUR = (
    NetworkConfig("CUSTOM", features=1, form="residual"),
    NetworkConfig("CUSTOM", features=1, form="guided"),
    NetworkConfig("CUSTOM", features=2, form="guided"),
    NetworkConfig("CUSTOM", features=4, form="residual"),
)
FAST = (0.01,) * 9
ROUND = 4


class Timer:
    """Seconds that go on as the passes of each network take: of the present one, then of those of the menu."""

    def __init__(self, each_s: Sequence[float]) -> None:
        self._steps = self._of(each_s)
        self._now = 0.0

    @staticmethod
    def _of(each_s: Sequence[float]) -> Iterator[float]:
        for seconds in each_s:
            for number in range(PASSES):
                yield 0.0  # between two passes no time goes by
                yield 100.0 if number == 0 else seconds  # the first one does not count

    def __call__(self) -> float:
        self._now += next(self._steps)
        return self._now


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotune, "FIRST", 4)
        patch.setattr(autotune, "LONGEST", 16)
        patch.setattr(autotune, "JUDGED", 8)
        yield


def tuning(each_s: Sequence[float] = FAST, menu: Sequence[NetworkConfig] = FOUR, **options: object) -> AutoTune:
    settings = options.pop("settings", PRESENT)
    wanted_hz = options.pop("wanted_hz", 10.0)
    shapes = options.pop("shapes", [(32, 40)])
    return AutoTune(settings, wanted_hz, shapes, Timer(each_s), menu=menu, seed=3, **options)  # pyright: ignore


def measured(tune: AutoTune) -> AutoTune:
    while tune.busy:
        tune.work()
    return tune


def some(seed: int, depth: int = 1) -> Images:
    """Pairs, or stacks of them whose planes show the same."""
    if depth == 1:
        return pairs(16, seed=seed)
    planes = [pairs(16, seed=seed)]
    truth = planes[0].mean(axis=1, keepdims=True)
    noise = np.random.default_rng(seed).normal(size=(depth - 1, *planes[0].shape))
    return np.stack([*planes, *(truth + 0.2 * noise).astype(np.float32)], axis=2)


def round_of(tune: AutoTune, present: Trainer, seed: int, steps: int = ROUND, scored: bool = True) -> None:
    """As the trainer's service does it: the present network first, then the others in small units."""
    new = some(seed, tune.depth)
    scores = present.add(as_seen(torch.as_tensor(new), present.settings.network.depth), 1, scored=scored)
    for _ in range(steps):
        present.step()
    tune.add(new, scores, ROUND, 1, scored=scored)
    measured(tune)


def decided(tune: AutoTune, present: Trainer, rounds: int = 200, steps: int = ROUND) -> AutoTune:
    measured(tune)
    for seed in range(rounds):
        if tune.verdict:
            return tune
        round_of(tune, present, seed, steps)
    raise AssertionError(f"no verdict after {rounds} rounds: {tune.rows}")


def idle() -> Trainer:
    """A present network that does not learn: as good as no denoising."""
    return Trainer(replace(PRESENT, learning_rate=1e-7), seed=1)


def test_networks_that_are_too_slow_are_left_out_with_the_reason() -> None:
    tune = measured(tuning([0.02, 0.01, 0.2, 0.04, 0.11]))
    present, *others = tune.rows
    assert (present.name, present.verdict) == ("residual, 2 features", "present")
    assert [row.hz for row in tune.rows] == pytest.approx([50, 100, 5, 25, 1 / 0.11])
    assert [row.verdict for row in others] == [
        "in training", "too slow: 5 of 10 Hz", "in training", "too slow: 9.09 of 10 Hz"
    ]  # fmt: skip
    assert tune.training
    assert not tune.verdict


def test_all_slices_on_display_count() -> None:
    one, three = (measured(tuning(shapes=shapes)) for shapes in ([(32, 40)], [(32, 40), (16, 40), (32, 40)]))
    assert one.rows[0].hz == pytest.approx(2.5 * three.rows[0].hz)


def test_of_what_learns_from_halves_a_picture_takes_two_passes() -> None:
    one, two = (measured(tuning([0.02, 0.01, 0.2, 0.04, 0.06], split=split)) for split in ("turns", "halves"))
    assert [row.hz for row in one.rows] == pytest.approx([2 * row.hz for row in two.rows])
    assert one.rows[-1].verdict == "in training"
    assert two.rows[-1].verdict == "too slow: 8.33 of 10 Hz"
    told = measured(tuning([0.06] * 5, split="halves")).verdict
    assert told.endswith("does 8.33 Hz (all slices, two passes each: of both halves)")


def test_without_any_that_is_fast_enough_the_present_one_stays() -> None:
    tune = measured(tuning([0.5, 0.4, 0.3, 0.25, 0.5]))
    assert not tune.training
    assert tune.winner is None
    assert tune.verdict == (
        "the present network stays: no other one does 10 Hz on slices of this size. The fastest (guided, 2 features) "
        "does 4 Hz (all slices, one pass each)"
    )
    assert tune.progress == 1


@pytest.fixture(scope="module")
def usual(_short: None) -> AutoTune:
    """Decided, against a present network that learned nothing."""
    return decided(tuning(), idle())


def test_half_go_after_each_stretch_and_the_stretches_double(usual: AutoTune) -> None:
    tune = usual
    assert sorted(row.steps for row in tune.rows[1:]) == [4, 4, 12, 28]
    left_out = [row for row in tune.rows if row.verdict.startswith("left out after")]
    assert all(f"accuracy {row.accuracy:.4f}" in row.verdict for row in left_out)
    assert [row.verdict for row in tune.rows].count("chosen") == 1


def test_the_best_takes_over_with_what_it_has_learned(usual: AutoTune) -> None:
    present, tune = idle(), usual
    chosen = next(row for row in tune.rows if row.verdict == "chosen")
    assert tune.winner is not None
    assert name_of(tune.winner.settings.network) == chosen.name
    assert tune.winner.steps == chosen.steps
    assert chosen.accuracy < tune.rows[0].accuracy - 0.05
    assert tune.verdict.startswith(f"{chosen.name}: more accurate. accuracy {chosen.accuracy:.4f}, on the same pairs")
    assert "10 Hz are wanted (all slices, one pass each)" in tune.verdict
    present.load(tune.winner.weights())
    assert present.settings.network.shape == tune.winner.settings.network.shape
    fresh = some(999)
    assert np.mean(present.add(fresh, 1)) == pytest.approx(chosen.accuracy, abs=0.1)


@pytest.fixture(scope="module")
def learned() -> Weights:
    """Of a network that had time."""
    present = Trainer(SMALL, seed=1)
    for seed in range(30):
        present.add(pairs(16, seed=1000 + seed), 1)
        for _ in range(ROUND):
            present.step()
    return present.weights()


def going_on(weights: Weights) -> Trainer:
    present = Trainer(SMALL, seed=1)
    present.load(weights)
    return present


def test_a_present_network_that_is_better_stays(learned: Weights) -> None:
    present = going_on(learned)
    tune = decided(tuning(settings=SMALL, menu=FOUR[:2]), present)
    assert tune.winner is None
    assert tune.verdict.startswith("the present network stays: ")
    assert "is not surely better" in tune.verdict
    assert max(row.steps for row in tune.rows[1:]) == 4 + 8 + 16


def test_a_present_network_that_is_too_slow_goes_for_one_that_helps(learned: Weights) -> None:
    tune = decided(tuning([0.5, *FAST], settings=SMALL, menu=FOUR[1:2]), going_on(learned))
    assert tune.winner is not None
    assert "not more accurate, but the present one is too slow" in tune.verdict


def test_deep_networks_and_flat_ones_learn_from_the_same_pairs() -> None:
    menu = (FOUR[1], replace(FOUR[1], depth=3))
    tune = tuning(menu=menu)
    assert measured(tune).depth == 3
    decided(tune, idle())
    assert "chosen" in {row.verdict for row in tune.rows[1:]}


def test_where_no_stack_can_be_deep_networks_are_left_out() -> None:
    tune = measured(tuning(menu=(FOUR[0], replace(FOUR[1], depth=3)), deepest=1))
    assert tune.rows[2].verdict == "left out: it sees 3 slices, and a stack can have 1"
    assert tune.depth == 1


def test_the_same_seed_pairs_and_timings_give_the_same_choice(usual: AutoTune) -> None:
    first, second = usual, decided(tuning(), idle())
    assert first.rows == second.rows
    assert first.verdict == second.verdict
    assert first.winner is not None
    assert second.winner is not None
    a, b = tensors(first.winner.weights()), tensors(second.winner.weights())
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_after_a_jump_the_stretch_begins_anew() -> None:
    present = idle()
    tune = measured(tuning())
    round_of(tune, present, 0)  # two of four are left, for two rounds
    round_of(tune, present, 1)
    present.jumped()
    tune.jumped()
    for seed in (2, 3):
        assert [row.verdict for row in tune.rows].count("in training") == 2
        round_of(tune, present, seed)
    assert sum(row.verdict.startswith("left out after 16 steps") for row in tune.rows) == 1
    assert decided(tune, present).verdict


def test_pairs_without_scores_decide_nothing() -> None:
    present = idle()
    tune = measured(tuning())
    for seed in range(3):
        round_of(tune, present, seed, scored=False)
    assert {row.verdict for row in tune.rows[1:]} == {"in training"}
    assert decided(tune, present).winner is not None


def test_progress_goes_one_way_to_the_end() -> None:
    tune, present, seen = tuning(), idle(), [0.0]
    for seed in range(200):
        while tune.busy:
            tune.work()
            seen.append(tune.progress)
        if tune.verdict:
            break
        tune.add(some(seed), present.add(some(seed), 1), ROUND, 1)
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"AutoTune: expected slices and a rate above 0 Hz, got 0 and 10\.0"):
        tuning(shapes=[])
    with pytest.raises(ValueError, match="got 1 and 0"):
        tuning(wanted_hz=0.0)


def test_the_menu_has_no_two_alike() -> None:
    assert len({network.shape for network in MENU}) == len(MENU)
    assert len({name_of(network) for network in MENU}) == len(MENU)
