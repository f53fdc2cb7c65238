"""Rates and curves: right numbers in bounded memory."""

import numpy as np
import pytest

from tango_jit.services.rates import Curve, Rate


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
