"""Which pictures are of after a trigger."""

import pytest

from devices.moment import Moment

AT = Moment.of("a", 1000, 60, {"xy": 940, "xz": 880})  # frame 999 has arrived
ANEW = AT.seen("b", 30)  # another series since, of which 30 frames have come


@pytest.mark.parametrize(
    ("moment", "number", "frames", "new"),
    [
        (AT, 940, 1, False),  # what was shown
        (AT, 999, 1, False),  # newer, but all of it had arrived
        (AT, 1000, 1, True),
        (AT, 1000, 150, False),  # only one of its frames is new
        (AT, 1149, 150, True),
        (AT, -1, 1, False),  # none
        (AT, 149, 1, False),  # numbers do not go back by themselves
        (ANEW, 149, 1, True),  # they have begun anew
        (ANEW, 149, 150, False),
        (ANEW, 960, 1, False),  # may be one of before, on its way
        (ANEW, 940, 1, False),
        (ANEW, 1200, 1, True),
    ],
)
def test_a_picture_of_after_the_trigger(moment: Moment, number: int, frames: int, new: bool) -> None:
    assert moment.is_past("xy", number, frames) is new


def test_a_slice_without_a_picture_has_its_first_one() -> None:
    moment = Moment.of("", 0, 60, {"xy": -1})
    assert not moment.is_past("xy", -1, 1)
    assert moment.seen("a", 150).seen("a", 210).is_past("xy", 209, 1)


def test_a_slice_that_came_after_the_trigger_needs_new_frames_too() -> None:
    assert not AT.is_past("tilted", 960, 1)
    assert AT.is_past("tilted", 1000, 1)


def test_a_reconstructor_that_came_late_has_counted_less_than_the_numbers() -> None:
    """It has seen 200 frames of a series of which 5000 are shown: an update further may have arrived."""
    moment = Moment.of("a", 200, 60, {"xy": 5000})
    assert not moment.is_past("xy", 5060, 1)
    assert moment.is_past("xy", 5061, 1)


def test_a_series_that_has_just_begun_while_pictures_of_the_one_before_are_shown() -> None:
    moment = Moment.of("b", 20, 60, {"xy": 7528, "xz": 7468})
    assert not moment.is_past("xy", 7528, 1)
    assert not moment.is_past("xz", 7528, 1)  # on its way
    assert moment.is_past("xy", 149, 1)
    assert not moment.is_past("xy", 149, 150)


def test_a_reconstructor_that_starts_again_counts_anew_and_numbers_go_on() -> None:
    moment = AT.seen("c", 10)
    assert not moment.is_past("xy", 999, 1)
    assert moment.is_past("xy", 1300, 1)


@pytest.mark.parametrize("series_at_the_trigger", ["a", "b"])
def test_a_count_that_is_still_that_of_the_series_before(series_at_the_trigger: str) -> None:
    """A reconstructor may tell the name of a new series before its counters, or the other way round."""
    moment = Moment.of(series_at_the_trigger, 6322, 60, {"xy": 6300}).seen("b", 6322)
    assert not moment.is_past("xy", 149, 1)  # not known yet
    moment = moment.seen("b", 50)
    assert moment.awaited(1) == 50
    assert moment.is_past("xy", 149, 1)
    assert not moment.is_past("xy", 6310, 1)
