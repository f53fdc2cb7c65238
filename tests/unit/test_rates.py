"""Rates and curves: right numbers in bounded memory."""

import numpy as np
import pytest

from tango_jit.services.rates import HOUR_POINTS, Curve, Hour, Rate


def test_a_steady_rate():
    rate = Rate(span_s=5)
    for k in range(100):
        rate.add(0.1 * k, count=3)
    assert rate.per_second(9.9) == pytest.approx(30, rel=0.01)
    assert rate.per_second(100.0) == 0


def test_what_has_stopped_has_no_rate_long_before_it_leaves_the_window():
    rate = Rate(span_s=10)
    for k in range(50):
        rate.add(0.1 * k)
    assert rate.per_second(6.8) > 5
    assert rate.per_second(7.0) == 0
    slow = Rate(span_s=100)
    for k in range(5):
        slow.add(10.0 * k)
    assert slow.per_second(69.0) > 0
    assert slow.per_second(71.0) == 0


def test_a_curve_keeps_the_whole_run_in_few_points():
    curve = Curve(capacity=500)
    for k in range(100_000):
        curve.add(float(k), 2.0 * k)
    points = curve.array()
    assert points.shape[1] < 500
    assert points[0, 0] == 0
    assert points[0, -1] > 99_000
    np.testing.assert_array_equal(points[1], 2 * points[0])
    assert Curve().array().shape == (2, 0)


def test_an_hour_has_a_column_every_ten_seconds():
    hour = Hour(["loss", "fill"])
    due = [hour.add(at, {"loss": at / 10, "fill": 1.0, "other": 3.0}) for at in (0.0, 9.9, 10.0, 12.0, 20.0)]
    assert due == [True, False, True, False, True]
    np.testing.assert_array_equal(hour.array(), [[0, 10, 20], [0, 1, 2], [1, 1, 1]])
    for at in range(30, 5000, 10):
        hour.add(float(at), {"loss": 0.5, "fill": 1.0})
    assert hour.array().shape == (3, HOUR_POINTS)
    assert np.ptp(hour.array()[0]) == 3600


def test_an_hour_has_a_gap_where_nobody_worked_and_obeys_the_clock():
    hour = Hour(["loss"])
    assert hour.array().shape == (2, 0)
    for at in (0.0, 10.0, 200.0):
        hour.add(at, {"loss": 1.0})
    np.testing.assert_array_equal(hour.array(), [[0, 10, 190, 200], [1, 1, np.nan, 1]])
    assert hour.add(100.0, {"loss": 2.0})  # the clock was set back
    np.testing.assert_array_equal(hour.array()[0], [0, 10, 90, 100])
    hour.add(9000.0, {"loss": 3.0})
    np.testing.assert_array_equal(hour.array()[0], [8990, 9000])
