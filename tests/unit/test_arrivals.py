"""When things come: silence, losses, refusals, numbers that start anew."""

from tango_jit.services.arrivals import FIRST, REPEATS, Arrivals, Pace


def test_silence_is_judged_by_the_period():
    pace = Pace(2.0)
    assert pace.silent(1.0)  # nothing came yet
    pace.beat(100.0)
    assert not pace.silent(100.0 + FIRST * 2.0)
    assert pace.silent(100.1 + FIRST * 2.0)
    pace.beat(100.1)
    assert not pace.silent(102.0)
    assert pace.silent(102.2)
    pace.beat(105.1)  # a slow scan: 5 s a frame
    assert not pace.silent(120.0)
    assert pace.silent(120.2)


def test_a_loss_is_told_for_a_while_and_a_late_frame_mends_the_count():
    arrivals = Arrivals(2.0)
    assert arrivals.add(0, 10.0)
    assert not arrivals.lost_within(5.0, 10.0)
    assert arrivals.add(3, 10.1)
    assert arrivals.lost_within(5.0, 11.0)
    assert arrivals.add(1, 11.0)
    assert arrivals.count.lost == 1
    assert arrivals.lost_within(5.0, 15.9)
    assert not arrivals.lost_within(5.0, 16.1)


def test_refusals_are_counted_with_their_reason_and_are_news_once_a_second():
    arrivals = Arrivals(2.0)
    arrivals.add(0, 10.0)
    assert arrivals.refuse("first")
    arrivals.add(1, 10.5)
    assert not arrivals.refuse("second")
    arrivals.add(2, 12.0)
    assert arrivals.refuse("third")
    assert (arrivals.refused, arrivals.why) == (3, "third")
    assert arrivals.refused_within(5.0, 16.9)
    assert not arrivals.refused_within(5.0, 17.1)


def test_a_few_repeats_are_repeats_and_many_are_a_numbering_that_starts_anew():
    arrivals = Arrivals(2.0)
    for number in range(2 * REPEATS):
        assert arrivals.add(number, 1.0)
    assert [arrivals.add(number, 2.0) for number in range(REPEATS)] == [False] * (REPEATS - 1) + [True]
    assert arrivals.add(REPEATS, 3.0)
    assert (arrivals.count.received, arrivals.count.lost) == (2, 0)
    assert not arrivals.add(REPEATS, 4.0)
    assert arrivals.add(REPEATS + 1, 4.0)  # one repeat among new ones starts nothing


def test_a_frame_after_the_end_goes_on():
    arrivals = Arrivals(2.0)
    arrivals.add(0, 1.0)
    arrivals.ended = True
    arrivals.add(1, 2.0)
    assert not arrivals.ended
