"""The projection window: which views it holds, whatever the stream does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.window import (
    MISFITS,
    STANDING,
    ProjectionWindow,
    Window,
)
from tests.windows import CONE, PARALLEL, STEP, VIEWS, feed, filled, kept


def gaps(window: Window, row: int, span: float = 2 * math.pi) -> NDArray[np.float64]:
    """Circular angles between the views of one row of weights."""
    turned = np.sort(np.mod(window.angles_rad[window.weights[row] > 0], span))
    return np.diff(turned, append=turned[0] + span)


# --- which views


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("first", [0.0, 2.1, -1e5])
def test_nothing_before_the_span_is_full_and_then_exactly_one_turn(direction: int, first: float) -> None:
    window = ProjectionWindow(CONE)
    for k in range(5 * VIEWS):
        assert window.add(k + 7, first + direction * k * STEP, np.full((1, 2), k, np.float32)) == "new"
        got = window.window()
        if k < VIEWS - 1:
            assert got is None
            assert window.fill < 1
        else:
            assert got is not None
            assert window.fill == 1
            assert (got.first_frame, got.last_frame) == (k + 8 - VIEWS, k + 7)
            np.testing.assert_array_equal(got.frames, np.arange(k + 8 - VIEWS, k + 8))
            np.testing.assert_array_equal(np.array(kept(got)) + 7, got.frames)
            assert got.complete
            assert got.equal


def test_fill_grows_with_the_angle() -> None:
    window = ProjectionWindow(CONE)
    fills = []
    for k in range(VIEWS + 3):
        feed(window, [k])
        fills.append(window.fill)
    np.testing.assert_allclose(fills[2 : VIEWS - 1], np.arange(2, VIEWS - 1) / VIEWS)
    assert fills[VIEWS - 1 :] == [1] * 4


def test_the_view_that_repeats_the_first_is_dropped() -> None:
    """A scan from 0 to 360 degrees, both included."""
    got = filled(range(VIEWS + 1))
    assert (got.first_frame, got.last_frame, len(got.frames)) == (1, VIEWS, VIEWS)


@given(views=st.floats(8, 200), first=st.floats(-1e4, 1e4))
@settings(deadline=None, max_examples=30)
def test_any_number_of_views_a_turn(views: float, first: float) -> None:
    """Also broken ones: no view is shown twice, no gap is left."""
    window = ProjectionWindow(CONE)
    feed(window, range(int(2.5 * views)), 2 * math.pi / views, first)
    got = window.window()
    assert got is not None
    assert abs(len(got.frames) - views) <= 1
    between = gaps(got, 2) * views / (2 * math.pi)
    assert between.min() > 0.2
    assert between.max() < 1.8
    assert got.complete


@pytest.mark.parametrize(
    ("geometry", "span"), [(CONE, None), (PARALLEL, None), (PARALLEL, math.pi), (PARALLEL, 2 * math.pi)]
)
def test_the_span_is_a_turn_for_cones_and_half_a_turn_for_parallel_beams(
    geometry: ScanGeometry, span: float | None
) -> None:
    window = ProjectionWindow(geometry, span)
    feed(window, range(100))
    got = window.window()
    assert got is not None
    expected = VIEWS // 2 if geometry is PARALLEL and span != 2 * math.pi else VIEWS
    assert len(got.frames) == expected
    np.testing.assert_allclose(got.weights.sum(1), math.pi, rtol=1e-6)


def test_uneven_steps_are_no_matter() -> None:
    rng = np.random.default_rng(0)
    angles = np.cumsum(rng.uniform(0.3, 1.0, 400) * STEP)
    window = ProjectionWindow(CONE)
    for k, angle in enumerate(angles):
        window.add(k, angle, np.zeros((1, 2), np.float32))
        got = window.window()
        if got is not None:
            ahead = angle - got.angles_rad
            assert (np.diff(got.frames) == 1).all()
            assert ahead.max() < 2 * math.pi
            missing = angle - angles[got.first_frame - 1] if got.first_frame else 2 * math.pi
            assert missing > 2 * math.pi - STEP / 2
            assert not got.equal
    assert window.window() is not None


# --- order


def test_late_frames_are_put_where_they_belong() -> None:
    order = [*range(VIEWS)]
    order[3], order[4] = 4, 3
    order.remove(10)
    order.insert(17, 10)
    window = ProjectionWindow(CONE)
    arrivals = feed(window, order)
    assert [arrivals[order.index(k)] for k in (3, 10)] == ["late", "late"]
    assert arrivals.count("new") == VIEWS - 2
    got, plain = window.window(), filled()
    assert got is not None
    np.testing.assert_array_equal(got.frames, plain.frames)
    np.testing.assert_array_equal(got.weights, plain.weights)
    np.testing.assert_array_equal(kept(got), got.frames)


def test_the_first_frames_may_come_in_any_order() -> None:
    window = ProjectionWindow(CONE)
    assert feed(window, [2, 0, 3, 1, *range(4, VIEWS)])[:4] == ["new", "late", "new", "late"]
    got = window.window()
    assert got is not None
    assert got.frames.tolist() == list(range(VIEWS))


def test_late_first_frames_count_for_the_span() -> None:
    window = ProjectionWindow(CONE)
    assert feed(window, [*range(5, 10), *range(5)])[5:] == ["late"] * 5
    feed(window, range(10, VIEWS - 1))
    assert window.fill < 1
    feed(window, [VIEWS - 1])
    assert window.fill == 1


def test_stale_frames_among_good_ones_are_no_restart() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(2 * VIEWS))
    for k in range(3 * MISFITS):
        assert feed(window, [k, 2 * VIEWS + k]) == ["stale", "new"]


def test_duplicates_and_stale_frames_change_nothing() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(2 * VIEWS))
    before = window.window()
    assert feed(window, [2 * VIEWS - 1, VIEWS + 3]) == ["duplicate"] * 2
    assert feed(window, [VIEWS - 1, 0]) == ["stale"] * 2
    for angle in (40 * STEP, (VIEWS + 4.9) * STEP):  # another angle for a number that is there
        assert window.add(VIEWS + 5, angle, np.zeros((1, 2), np.float32)) == "stale"
    assert window.window() is before
    assert feed(window, [2 * VIEWS]) == ["new"]
    assert window.window() is not before


def test_a_missing_frame_may_still_come_as_long_as_its_angle_is_in_the_window() -> None:
    window = ProjectionWindow(CONE)
    feed(window, [k for k in range(2 * VIEWS) if k not in (VIEWS - 1, VIEWS + 5)])
    assert feed(window, [VIEWS - 1, VIEWS + 5]) == ["stale", "late"]


# --- gaps


def test_missing_frames_leave_a_gap_that_their_neighbours_stand_in_for() -> None:
    got = filled([k for k in range(2 * VIEWS) if not VIEWS + 10 <= k < VIEWS + 15])
    assert len(got.frames) == VIEWS - 5
    assert not got.complete
    assert not got.equal
    np.testing.assert_allclose(got.weights.sum(1), math.pi, rtol=1e-6)
    full = dict(zip(got.frames.tolist(), got.weights[2], strict=True))
    assert full[VIEWS + 9] == pytest.approx(full[VIEWS + 15])
    assert full[VIEWS + 9] == pytest.approx(3.5 * full[VIEWS])  # (1 + 6) / 2 steps


def test_a_gap_makes_the_window_incomplete_as_long_as_it_is_inside() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(VIEWS))
    complete = []
    for k in range(VIEWS + 1, 3 * VIEWS):  # one frame is missing: VIEWS
        feed(window, [k])
        got = window.window()
        assert got is not None
        complete.append(got.complete)
    first = complete.index(True)
    assert first >= VIEWS - 2
    assert all(complete[first:])


def test_a_window_goes_on_while_a_gap_leaves_it() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(VIEWS))
    for k in range(VIEWS + 12, 4 * VIEWS):
        feed(window, [k])
        got = window.window()
        assert got is not None
        np.testing.assert_allclose(got.weights.sum(1), math.pi, rtol=1e-6)


# --- jumps


@pytest.mark.parametrize("jump", [-0.5 * math.pi, -7.0, 1.1 * math.pi, 1000.0])
def test_a_jump_of_the_angle_starts_a_new_window(jump: float) -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(2 * VIEWS))
    assert window.window() is not None
    for k in range(2 * VIEWS, 3 * VIEWS):
        assert window.window() is None or k == 2 * VIEWS
        assert window.add(k, jump + k * STEP, np.zeros((1, 2), np.float32)) == "new"
        assert len(window) == k + 1 - 2 * VIEWS
    got = window.window()
    assert got is not None
    assert got.first_frame == 2 * VIEWS


def test_a_stage_that_turns_back_starts_a_new_window_in_the_other_direction() -> None:
    window = ProjectionWindow(PARALLEL)
    angles = np.abs((np.arange(12 * VIEWS) * STEP / 4 + math.pi) % (2 * math.pi) - math.pi)  # to and fro over pi
    seen = set()
    for k, angle in enumerate(angles):
        window.add(k, angle, np.zeros((1, 2), np.float32))
        got = window.window()
        if got is not None:
            assert (np.diff(np.sign(np.diff(got.angles_rad[1:]))) == 0).all()
            seen.add(np.sign(got.angles_rad[-1] - got.angles_rad[1]))
    assert seen == {1, -1}


def test_numbers_that_start_anew_are_followed_after_a_few_misfits() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(10 * VIEWS))
    assert feed(window, range(MISFITS)) == ["stale"] * (MISFITS - 1) + ["new"]
    assert feed(window, range(MISFITS, MISFITS + VIEWS)) == ["new"] * VIEWS
    got = window.window()
    assert got is not None
    assert got.last_frame == MISFITS + VIEWS - 1


def test_a_standing_stage_keeps_one_view() -> None:
    """Before the start with the noise of the encoder, and in the middle of a turn."""
    rng = np.random.default_rng(0)
    window = ProjectionWindow(CONE)
    for k in range(1000):
        window.add(k, 1e-3 * rng.standard_normal(), np.zeros((1, 2), np.float32))
        assert len(window) <= 16
        assert window.fill == 0
    for k in range(1000, 1020):
        window.add(k, (k - 1000) * STEP, np.zeros((1, 2), np.float32))
    held, fill = len(window), window.fill
    assert fill == pytest.approx(19 / VIEWS, rel=0.02)
    for k in range(1020, 2000):
        window.add(k, 19 * STEP + 1e-3 * rng.standard_normal(), np.full((1, 2), k, np.float32))
    assert len(window) == held
    for k in range(2000, 2011):
        window.add(k, (k - 1980) * STEP, np.zeros((1, 2), np.float32))
    got = window.window()
    assert got is not None
    assert 1999 in got.frames


@pytest.mark.parametrize(
    ("missing", "nearly"),
    [([], True), ([7], True), ([7, 9], True), ([6, 7, 8, 9], True), ([5, 7, 9], False), ([*range(1, VIEWS, 2)], False)],
)
def test_halves_that_miss_no_more_than_two_views_in_a_row_are_nearly_complete(missing, nearly) -> None:
    window = ProjectionWindow(CONE)
    feed(window, [number for number in range(VIEWS + 1) if number not in missing])
    now = window.window()
    assert now is not None
    assert (now.complete, now.nearly_complete) == (not missing, nearly)


def test_a_span_that_is_never_covered_says_why() -> None:
    golden = ProjectionWindow(PARALLEL)
    for number in range(20):
        golden.add(number, number * math.pi * (3 - math.sqrt(5)), np.zeros((1, 2), np.float32))
    assert "the angle leaps or turns back" in golden.obstacle
    standing = ProjectionWindow(CONE)
    for number in range(STANDING):
        assert not standing.obstacle
        standing.add(number, 0.0, np.zeros((1, 2), np.float32))
    standing.add(STANDING, 0.0, np.zeros((1, 2), np.float32))
    assert "stood still for" in standing.obstacle
    feed(standing, range(STANDING + 1, STANDING + 1 + VIEWS + 2))
    assert standing.fill == 1
    assert not standing.obstacle


def test_a_filling_that_gets_further_than_the_broken_ones_before_is_no_obstacle() -> None:
    window = ProjectionWindow(CONE)
    number = 0
    for _ in range(3):  # the operator jogs the stage and turns it back, then the scan begins
        for angle in (*STEP * np.arange(4), 0.0):
            window.add(number, float(angle), np.zeros((1, 2), np.float32))
            number += 1
    for angle in STEP * np.arange(1, VIEWS):
        window.add(number, float(angle), np.zeros((1, 2), np.float32))
        number += 1
        assert not (window.obstacle and window.fill > 0.2)


def test_a_stage_that_swings_covers_its_span_every_time() -> None:
    window = ProjectionWindow(CONE)
    angles = np.concatenate([STEP * np.arange(VIEWS + 5), STEP * np.arange(VIEWS + 5)[::-1]] * 3)
    for number, angle in enumerate(angles):
        window.add(number, float(angle), np.zeros((1, 2), np.float32))
        assert not window.obstacle


def test_clear_forgets_everything() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(2 * VIEWS))
    window.clear()
    assert window.fill == 0
    assert window.window() is None
    feed(window, range(VIEWS))
    got = window.window()
    assert got is not None
    assert got.first_frame == 0
