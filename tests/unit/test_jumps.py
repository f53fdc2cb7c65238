"""Unannounced jumps of figures: found soon, and nothing else is taken for one."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tango_jit.learn.jumps import KINDS, LARGE, Jumps, Kind, page_test, threshold

ROOT = Path(__file__).resolve().parents[2]
AT = 1000


def told(values, name, jumps=None):
    """What is told, by the number of observations that it took."""
    jumps = jumps or Jumps()
    words = (jumps.watch(**{name: float(value)}) for value in values)
    return {k: word for k, word in enumerate(words, 1) if word}


def stepped(name, size, scatter, seed, before=AT, after=600):
    """A figure with a step: added to the accuracy, multiplied to the others."""
    rng = np.random.default_rng(seed)
    random, new = rng.normal(0, scatter, before + after), np.arange(before + after) >= before
    if name == "accuracy":
        return 0.55 + random + size * new
    return 2e-3 * np.where(new, size, 1) * (np.exp(random) if name == "noise" else 1 + random)


def noisy(course, scatter, seed):
    return course + np.random.default_rng(seed).normal(0, scatter, len(course))


@pytest.mark.parametrize(
    ("name", "size", "scatter", "within"),
    [
        ("accuracy", 0.05, 0.03, 30),
        ("accuracy", 0.2, 0.03, 5),
        ("noise", 1.5, 0.3, 50),
        ("noise", 1 / 1.5, 0.3, 50),
        ("noise", 1.5, 0.1, 10),
        ("noise", 3.0, 0.3, 10),
        ("noise", 1 / 3, 0.3, 10),
        ("level", 1.2, 0.2, 60),
        ("level", 0.8, 0.2, 60),
    ],
)
def test_a_step_is_told_once_and_soon(name, size, scatter, within):
    for seed in range(5):
        found = list(told(stepped(name, size, scatter, seed), name))
        assert len(found) == 1
        assert AT < found[0] <= AT + within


def test_the_words_name_the_figure_and_say_from_what_to_what():
    ((_, words),) = told(stepped("noise", 3.0, 0.1, 1), "noise").items()
    head, before, after = words.replace(" to about ", " from about ").split(" from about ")
    assert head == "noise rose"
    assert float(before) == pytest.approx(2e-3, rel=0.03)
    assert float(after) == pytest.approx(6e-3, rel=0.15)
    ((_, words),) = told(stepped("level", 0.5, 0.2, 1), "level").items()
    assert words.startswith("level fell from about 0.00")


@pytest.mark.parametrize(
    ("name", "scatter"), [("accuracy", 0.08), ("accuracy", 0.004), ("noise", 0.3), ("level", 0.2), ("other", 0.05)]
)
def test_scatter_alone_is_no_jump(name, scatter):
    assert told(stepped(name, 0.0 if name == "accuracy" else 1.0, scatter, 3, 10_000), name) == {}


@pytest.mark.parametrize("scatter", [0.02, 0.08])
@pytest.mark.parametrize("span", [50, 200, 1000])
def test_learning_is_no_jump_and_a_rise_after_it_is(span, scatter):
    course = 0.52 + 0.48 * np.exp(-4 * np.arange(2 * span + 500) / span)
    jumps = Jumps()
    assert told(noisy(course, scatter, 2), "accuracy", jumps) == {}
    found = told(noisy(np.full(100, 0.72), scatter, 3), "accuracy", jumps)
    assert next(iter(found)) <= (5 if scatter == 0.02 else 20)
    assert "accuracy rose" in next(iter(found.values()))


def test_a_fall_of_the_accuracy_is_the_new_state():
    """Without a word; a rise from there is told."""
    jumps = Jumps()
    assert told(noisy(np.repeat([0.9, 0.6], 500), 0.03, 0), "accuracy", jumps) == {}
    (words,) = told(noisy(np.full(100, 0.9), 0.03, 1), "accuracy", jumps).values()
    assert words.startswith("accuracy rose from about 0.59")


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_slow_drift_is_no_jump(factor):
    course = math.log(factor) * np.arange(10_000) / 10_000
    assert told(np.exp(noisy(course, 0.1, 4)), "noise") == {}


def test_the_unit_of_a_figure_does_not_matter():
    values = {name: stepped(name, 1.5, 0.2, 5) for name in ("noise", "level")}
    for name, plain in values.items():
        found = list(told(plain, name))
        assert len(found) == 1
        assert list(told(1e6 * plain, name)) == list(told(1e-6 * plain, name)) == found


def test_all_figures_start_anew_after_a_jump_and_one_event_is_told_once():
    streams = {"accuracy": 0.1, "noise": 2.0, "level": 1.3}
    values = {name: stepped(name, size, 0.03, seed) for seed, (name, size) in enumerate(streams.items())}
    jumps = Jumps()
    rounds = (dict(zip(values, map(float, v))) for v in zip(*values.values()))
    words = [word for known in rounds if (word := jumps.watch(**known))]
    assert len(words) == 1
    assert "noise rose" in words[0]


def test_an_announced_change_is_no_jump():
    values = stepped("noise", 3.0, 0.2, 6)
    jumps = Jumps()
    assert told(values[:AT], "noise", jumps) == {}
    jumps.forget()
    assert told(values[AT:], "noise", jumps) == {}


def test_outliers_are_no_jump():
    """A network gone wild scores 1e6; also among the first observations, by which what is normal is judged."""
    values = stepped("accuracy", 0.1, 0.03, 7)
    soon = list(told(values, "accuracy"))
    values[5:AT:50] = 1e6
    (late,) = told(values, "accuracy")
    assert late - soon[0] <= 10


def test_neighbours_that_are_alike_are_allowed_for():
    """With the scatter of single observations as the unit this stream has a dozen alarms."""
    rng, random = np.random.default_rng(8), [0.0]
    for value in rng.normal(0, 0.2 * math.sqrt(1 - 0.3**2), 20_000):
        random.append(0.3 * random[-1] + value)
    assert told(1 + np.array(random), "level") == {}


def test_what_is_not_known_is_skipped():
    jumps, plain = Jumps(), Jumps()
    for value in stepped("noise", 3.0, 0.2, 9):
        for unknown in (None, math.nan, math.inf, 0.0, -1.0):
            assert jumps.watch(noise=unknown, level=None) == ""
        assert jumps.watch(noise=float(value)) == plain.watch(noise=float(value))
    assert jumps.watch() == ""


def test_a_constant_figure_may_rest_and_jump():
    assert told([1.0] * 500, "level") == told([0.0] * 500, "level") == {}
    assert next(iter(told([1.0] * 500 + [1.5] * 20, "level"))) <= 505
    assert next(iter(told([0.0] * 500 + [1e-9] * 20, "level"))) <= 505


def test_what_is_too_small_to_matter_is_no_jump():
    """However little a figure scatters: by less than its least unit."""
    assert told(stepped("accuracy", 0.01, 0.001, 1), "accuracy") == {}
    assert told(stepped("level", 1.01, 0.001, 1), "level") == {}
    assert list(told(stepped("level", 1.01, 0.001, 1), "level", Jumps({"level": Kind(least=0.001)})))


@pytest.mark.parametrize("step", [KINDS["level"].step, LARGE])
def test_false_alarms_are_as_rare_as_wanted(step):
    """The test alone, where the scatter is known, for a rarity that can be counted."""
    rarity, times = 1000, []
    for seed in range(100):
        test, rng = page_test(step, rarity), np.random.default_rng(seed)
        count = 0
        while not test.drift_detected:
            test.update(float(rng.normal()))
            count += 1
        times.append(count)
    assert np.mean(times) == pytest.approx(rarity / 2, rel=0.3)  # two directions


def test_the_threshold_grows_with_rarity():
    assert threshold(0.8, 1e7) - threshold(0.8, 1e6) == pytest.approx(math.log(10) / 0.8, rel=1e-3)


def test_too_few_first_observations_are_refused():
    with pytest.raises(ValueError, match="at least 10 observations, got 5"):
        Jumps(first=5)


def test_the_library_is_imported_with_the_first_detector_and_not_with_the_room():
    program = (
        "import sys; from tango_jit.learn.jumps import Jumps; assert 'river' not in sys.modules;"
        "Jumps(); assert 'river' in sys.modules; print('pandas' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr
