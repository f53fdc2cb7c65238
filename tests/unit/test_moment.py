"""Which pictures are of after a trigger."""

import pytest

from devices.moment import Moment

AT = Moment.of("a", 1000, 60, {"xy": 940, "xz": 880})  # frame 999 has arrived


@pytest.mark.parametrize(
    ("number", "series", "frames", "new"),
    [
        (940, "a", 1, False),  # what was shown
        (999, "a", 1, False),  # newer, but all of it had arrived
        (1000, "a", 1, True),
        (1000, "a", 150, False),  # only one of its frames is new
        (1149, "a", 150, True),
        (-1, "a", 1, False),  # none
        (149, "b", 1, True),  # numbers have begun anew
        (149, "a", 1, False),  # they have not
        (960, "b", 1, False),  # may be one of before, on its way
        (940, "b", 1, False),
        (1200, "b", 1, True),
    ],
)
def test_a_picture_of_after_the_trigger(number: int, series: str, frames: int, new: bool) -> None:
    assert AT.is_past("xy", number, series, frames) is new


def test_a_slice_without_a_picture_has_its_first_one() -> None:
    moment = Moment.of("", 0, 60, {"xy": -1})
    assert not moment.is_past("xy", -1, "a", 1)
    assert moment.is_past("xy", 149, "a", 1)


def test_a_slice_that_came_after_the_trigger_needs_new_frames_too() -> None:
    assert not AT.is_past("tilted", 960, "a", 1)
    assert AT.is_past("tilted", 1000, "a", 1)


def test_a_reconstructor_that_came_late_has_counted_less_than_the_numbers() -> None:
    """It has seen 200 frames of a series of which 5000 are shown: an update further may have arrived."""
    moment = Moment.of("a", 200, 60, {"xy": 5000})
    assert not moment.is_past("xy", 5060, "a", 1)
    assert moment.is_past("xy", 5061, "a", 1)


def test_a_new_series_that_the_trigger_has_seen_and_the_pictures_have_not() -> None:
    """At the trigger 200 frames of series b had come, and the picture was still one of series a."""
    moment = Moment("b", 199, {"xy": 5000})
    assert not moment.is_past("xy", 5000, "b", 1)
    assert not moment.is_past("xy", 149, "b", 1)
    assert moment.is_past("xy", 209, "b", 1)
