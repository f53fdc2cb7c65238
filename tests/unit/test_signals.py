"""The Signal: what may be written, and what the words say when it may not."""

import math

import numpy as np
import pytest

from tango_jit.signals import Signal, history, setting

PERIOD = setting("period_s", "float", "A period.", unit="s", minimum=0, maximum=10, default=1.0)
COUNT = setting("count", "int", "A count.", minimum=1)
MODE = setting("mode", "enum", "A mode.", choices=("FAST", "SLOW"))
PLACE = Signal("place", "float", "A place.", shape=(3,), writable=True)


def test_values_come_back_in_their_type():
    assert PERIOD.check(np.float32(2)) == 2.0
    assert COUNT.check(3.0) == 3
    assert type(COUNT.check(np.int64(3))) is int
    assert MODE.check(1) == "SLOW"
    assert MODE.check("FAST") == "FAST"
    assert PLACE.check([1, 2, 3]).dtype == np.float64


@pytest.mark.parametrize(
    ("signal", "value", "words"),
    [
        (PERIOD, -0.1, "period_s: expected 0 to 10 s, got -0.1"),
        (PERIOD, math.nan, "period_s: expected a finite number"),
        (PERIOD, math.inf, "period_s: expected a finite number"),
        (COUNT, 0, "count: expected at least 1, got 0"),
        (COUNT, 1.5, "count: expected a whole number, got 1.5"),
        (MODE, "MEDIUM", "mode: expected one of FAST, SLOW, got 'MEDIUM'"),
        (MODE, 2, "mode: expected one of FAST, SLOW"),
        (PLACE, [1, 2, 3, 4], r"place: expected at most \(3,\) elements, got \(4,\)"),
        (PLACE, [1, math.nan, 3], "place: expected finite numbers"),
    ],
)
def test_what_is_wrong_is_refused_in_words(signal, value, words):
    with pytest.raises(ValueError, match=words):
        signal.check(value)


def test_large_arrays_are_never_pushed():
    assert not Signal("picture", "float", "", shape=(4096, 4096)).pushed
    assert not Signal("line", "float", "", shape=(1001,)).pushed
    assert history("curve", "").pushed
    assert math.prod(history("curve", "").shape) <= 1000


@pytest.mark.parametrize(
    "fields", [{"name": "Name"}, {"name": "two words"}, {"kind": "enum"}, {"choices": ("fast",), "kind": "enum"}]
)
def test_a_signal_that_no_door_could_show_is_refused(fields):
    with pytest.raises(ValueError, match=r"expected|needs"):
        Signal(**{"name": "x", "kind": "float", "description": "", **fields})
