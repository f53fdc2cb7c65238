"""Due times without drift, and the figures that tell how well they were kept."""

from __future__ import annotations

import math

import pytest

from sim.pace import LATE_S, REMEMBERED, Pace


def test_due_times_do_not_drift():
    pace = Pace(100.0)
    for n in range(500):
        due = 100.0 + n * 0.024
        assert pace.ahead(due - 0.01, 0.024) == pytest.approx(0.01, abs=1e-9)
        assert pace.sent(due + 0.003, 0.024) == pytest.approx(0.003, abs=1e-9)  # always late, never later
    assert pace.figures()["lateness_p50_ms"] == pytest.approx(3.0, abs=1e-6)
    assert pace.figures()["lateness_p99_ms"] == pytest.approx(3.0, abs=1e-6)
    assert pace.figures()["jitter_ms"] == pytest.approx(0.0, abs=1e-6)


def test_figures_are_those_of_the_last_frames():
    pace = Pace(0.0)
    assert all(math.isnan(figure) for figure in pace.figures().values())
    for n in range(REMEMBERED):
        pace.sent(n * 1.0 + 0.5, 1.0)
    for n in range(REMEMBERED, 2 * REMEMBERED):
        pace.sent(n * 1.0 + (0.2 if n % 2 else 0.0), 1.0)  # intervals of 1.2 and 0.8 s
    figures = pace.figures()
    assert figures["lateness_p50_ms"] == pytest.approx(100, abs=101)
    assert figures["lateness_p99_ms"] == pytest.approx(200, abs=1e-6)
    assert figures["jitter_ms"] == pytest.approx(200, rel=0.01)


def test_another_period_counts_for_the_next_frame():
    pace = Pace(0.0)
    pace.ahead(0.0, 3600.0)
    pace.sent(0.0, 3600.0)
    assert pace.ahead(1.0, 3600.0) == pytest.approx(3599.0)
    assert pace.ahead(1.0, 0.5) == pytest.approx(-0.5)
    assert pace.ahead(1.0, 2.0) == pytest.approx(1.0)
    pace.sent(2.0, 2.0)
    assert pace.ahead(2.0, 0.0) == 0.0
    assert pace.late(5.0, 0.0) == 0.0


def test_catching_up_is_bounded():
    pace = Pace(0.0)
    pace.sent(0.0, 0.1)
    assert pace.sent(50.0, 0.1) == pytest.approx(49.9)
    assert pace.ahead(50.0, 0.1) == pytest.approx(-LATE_S)


def test_a_clock_that_is_set_back_costs_one_period_at_most():
    pace = Pace(1000.0)
    pace.sent(1000.0, 0.1)
    assert pace.ahead(500.0, 0.1) == 0.0


def test_after_a_pause_nothing_is_late():
    pace = Pace(0.0)
    pace.sent(0.0, 0.1)
    pace.restart(60.0)
    assert pace.ahead(60.0, 0.1) == 0.0
    assert pace.sent(60.0, 0.1) == 0.0
    assert math.isnan(pace.figures()["jitter_ms"])  # the pause is no interval


@pytest.mark.parametrize(("stalled_s", "lost"), [(0.5, 0), (1.0, 0), (3.0, 20), (3.05, 21)])
def test_a_camera_nobody_reads_keeps_a_second(stalled_s, lost):
    pace = Pace(0.0)
    pace.ahead(0.0, 0.1)
    assert pace.lose(stalled_s, 0.1) == lost
    assert -LATE_S <= pace.ahead(stalled_s, 0.1) <= max(-stalled_s, -LATE_S) + 0.1  # the rest comes at once
    assert pace.lose(stalled_s, 0.0) == 0
