"""The window before the present one: one turn earlier, no view in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.backproject.fixed import FixedRing
from tango_jit.recon.window import MISFITS, ProjectionWindow, Window, WindowOverflowError
from tests.windows import CONE, PARALLEL, STEP, VIEWS, both, feed, kept

BLANK = np.zeros((1, 2), np.float32)


def filled_twice(frames: Any = range(2 * VIEWS), geometry: ScanGeometry = CONE, **options: Any) -> ProjectionWindow:
    window = ProjectionWindow(geometry, spans=2, **options)
    feed(window, frames)
    return window


# --- which views


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("first", [0.0, 2.1, -1e5])
def test_nothing_before_two_spans_are_full_and_then_exactly_the_turn_before(direction: int, first: float) -> None:
    window = ProjectionWindow(CONE, spans=2)
    for k in range(5 * VIEWS):
        assert window.add(k, first + direction * k * STEP, np.full((1, 2), k, np.float32)) == "new"
        assert (window.window() is None) == (k < VIEWS - 1)
        if k < 2 * VIEWS - 1:
            assert window.before() is None
            continue
        before, now = both(window)
        assert before.frames.tolist() == kept(before) == [*range(k + 1 - 2 * VIEWS, k + 1 - VIEWS)]
        assert now.frames.tolist() == kept(now) == [*range(k + 1 - VIEWS, k + 1)]
        assert before.complete
        assert before.equal
        np.testing.assert_allclose(before.weights[2], math.pi / VIEWS, rtol=1e-6)
        assert len(window) == 2 * VIEWS


@pytest.mark.parametrize(
    ("geometry", "span", "views"),
    [(CONE, None, VIEWS), (PARALLEL, None, VIEWS // 2), (PARALLEL, 2 * math.pi, VIEWS)],
    ids=["cone", "half a turn", "a turn"],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_the_span_before_is_as_long_as_the_present_one(
    geometry: ScanGeometry, span: float | None, views: int, direction: int
) -> None:
    window = ProjectionWindow(geometry, span, spans=2)
    feed(window, range(100), direction * STEP)
    before, now = both(window)
    assert now.frames.tolist() == [*range(100 - views, 100)]
    assert before.frames.tolist() == kept(before) == [*range(100 - 2 * views, 100 - views)]
    np.testing.assert_allclose(before.angles_rad, now.angles_rad - direction * views * STEP)
    np.testing.assert_allclose(before.matrices, geometry.matrices(before.angles_rad), atol=1e-12)
    np.testing.assert_allclose(before.weights.sum(1), math.pi, rtol=1e-6)


@pytest.mark.parametrize("views", [20.0, 20.3, 20.6, 20.9, 21.3, 21.5])
def test_it_is_the_window_of_the_moment_at_which_it_ended(views: float) -> None:
    """Also where a turn is no whole number of views: none is shown twice, none is left out, both halves are whole."""
    window, past = ProjectionWindow(CONE, spans=2), dict[int, Window | None]()
    compared = 0
    for k in range(int(5 * views)):
        feed(window, [k], 2 * math.pi / views)
        past[k] = now = window.window()
        if now is None or not now.first_frame:
            assert window.before() is None
            continue
        expected, before = past[now.first_frame - 1], window.before()
        assert (before is None) == (expected is None)
        if before is not None and expected is not None:
            np.testing.assert_array_equal(before.frames, expected.frames)
            np.testing.assert_array_equal(before.weights, expected.weights)
            np.testing.assert_array_equal(before.matrices, expected.matrices)
            assert before.complete
            compared += 1
    assert compared > 2 * views


def test_uneven_steps_are_no_matter() -> None:
    rng = np.random.default_rng(0)
    angles = np.cumsum(rng.uniform(0.3, 1.0, 400) * STEP)
    window, seen = ProjectionWindow(CONE, spans=2), 0
    for k, angle in enumerate(angles):
        window.add(k, angle, np.full((1, 2), k, np.float32))
        if window.before() is None:
            assert angle - angles[0] < 4 * math.pi
            continue
        seen += 1
        before, now = both(window)
        assert before.last_frame + 1 == now.first_frame
        assert (np.diff(before.frames) == 1).all()
        assert kept(before) == before.frames.tolist()
        # One turn to less than half a typical step, from a view that lies one turn behind the foremost.
        assert np.ptp(before.angles_rad) < 2 * math.pi
        if before.first_frame:
            assert angles[before.last_frame] - angles[before.first_frame - 1] > 2 * math.pi - STEP / 2
        assert angle - angles[before.last_frame] > 2 * math.pi - STEP / 2
        np.testing.assert_allclose(before.weights.sum(1), math.pi, rtol=1e-6)
    assert seen > 250


def test_missing_frames_leave_a_gap_in_the_span_that_lacks_them() -> None:
    window = filled_twice([k for k in range(2 * VIEWS) if not 10 <= k < 15])
    before, now = both(window)
    assert before.frames.tolist() == [*range(10), *range(15, VIEWS)]
    assert not before.complete
    assert now.complete
    assert before.weights[2, 9] == pytest.approx(3.5 * before.weights[2, 5])  # (1 + 6) / 2 steps


def test_a_gap_where_the_spans_meet_belongs_to_neither() -> None:
    """The span before ends with the last view before the gap, and is whole."""
    window = filled_twice([k for k in range(3 * VIEWS) if not 2 * VIEWS - 5 <= k < 2 * VIEWS])
    before, now = both(window)
    assert now.frames.tolist() == [*range(2 * VIEWS, 3 * VIEWS)]
    assert before.frames.tolist() == [*range(VIEWS - 5, 2 * VIEWS - 5)]
    assert before.complete


def test_a_frame_keeps_its_own_pose_in_the_span_before() -> None:
    window, other = ProjectionWindow(CONE, spans=2), CONE.shifted(0.25)
    for k in range(2 * VIEWS):
        pose = other.vectors(k * STEP)[0] if k in (4, VIEWS + 7) else None
        window.add(k, k * STEP, BLANK, pose)
    for made, own in zip(both(window), (4, 7), strict=True):
        expected = CONE.matrices(made.angles_rad)
        expected[own] = other.matrices(made.angles_rad[own])[0]
        np.testing.assert_allclose(made.matrices, expected, atol=1e-12)


# --- order and restarts


def test_a_late_frame_goes_to_the_span_that_its_angle_is_of() -> None:
    order = [k for k in range(-1, 2 * VIEWS) if k not in (7, VIEWS - 1, VIEWS, VIEWS + 9)]
    window = filled_twice(order)
    before, now = both(window)
    assert before.frames.tolist() == [k for k in range(-1, VIEWS - 1) if k != 7]
    assert len(now.frames) == VIEWS - 2
    assert not before.complete
    for late in (VIEWS + 9, 7, VIEWS - 1, VIEWS):
        assert feed(window, [late]) == ["late"]
        assert window.before() is not before
        before, now = both(window)
    assert before.frames.tolist() == kept(before) == [*range(VIEWS)]
    assert now.frames.tolist() == kept(now) == [*range(VIEWS, 2 * VIEWS)]
    assert before.complete
    assert now.complete
    feed(window, range(2 * VIEWS, 3 * VIEWS))  # and they leave as the others do
    before, now = both(window)
    assert before.frames.tolist() == [*range(VIEWS, 2 * VIEWS)]


def test_late_frames_are_taken_as_far_back_as_views_are_kept() -> None:
    missing = (VIEWS - 1, VIEWS, 2 * VIEWS + 5)
    order = [k for k in range(3 * VIEWS) if k not in missing]
    for spans, expected in ((1, ["stale", "stale", "late"]), (2, ["stale", "late", "late"])):
        window = ProjectionWindow(CONE, spans=spans)
        feed(window, order)
        assert feed(window, missing) == expected


def test_late_first_frames_count_for_the_span_before() -> None:
    window = filled_twice(range(5, 2 * VIEWS))
    assert window.before() is None
    assert feed(window, range(5)) == ["late"] * 5
    assert both(window)[0].frames.tolist() == [*range(VIEWS)]


def test_it_is_the_same_object_until_the_next_view() -> None:
    window = filled_twice()
    before = window.before()
    assert before is not None
    assert feed(window, [2 * VIEWS - 1, 3, -1]) == ["duplicate", "duplicate", "stale"]
    assert window.before() is before
    feed(window, [2 * VIEWS])
    after = window.before()
    assert after is not None
    assert after is not before
    assert (before.first_frame, after.first_frame) == (0, 1)


@pytest.mark.parametrize("jump", [-0.5 * math.pi, 1.1 * math.pi, 1000.0])
def test_a_jump_clears_both(jump: float) -> None:
    window = filled_twice()
    for k in range(2 * VIEWS, 4 * VIEWS):
        assert (window.before() is None) == (k > 2 * VIEWS)
        window.add(k, jump + k * STEP, BLANK)
        assert len(window) == k + 1 - 2 * VIEWS
        assert (window.window() is None) == (k < 3 * VIEWS - 1)
    before, now = both(window)
    assert (before.first_frame, now.first_frame) == (2 * VIEWS, 3 * VIEWS)


def test_a_stage_that_turns_back_clears_both() -> None:
    window = filled_twice()
    for k in range(2 * VIEWS, 4 * VIEWS + 1):
        window.add(k, (4 * VIEWS - k) * STEP, np.full((1, 2), k, np.float32))
    assert len(window) == 2 * VIEWS
    before, now = both(window)
    assert before.frames.tolist() == kept(before) == [*range(2 * VIEWS + 1, 3 * VIEWS + 1)]
    assert (np.diff(before.angles_rad) < 0).all()
    assert now.last_frame == 4 * VIEWS


@pytest.mark.parametrize("late", [[40], [40, 41], [2 * VIEWS - 1]])
def test_a_late_frame_of_before_a_turn_back_is_in_no_window(late: list[int]) -> None:
    """It arrives when the new direction is not yet known, and lies ahead of the first frame that counts."""
    window = ProjectionWindow(CONE, spans=2)
    feed(window, (k for k in range(2 * VIEWS) if k not in late))
    back = 30 * STEP
    window.add(2 * VIEWS, back, BLANK)
    assert [window.add(k, back + (3 + k - late[0]) * STEP, BLANK) for k in late] == ["late"] * len(late)
    for k in range(1, 2 * VIEWS):
        window.add(2 * VIEWS + k, back + k * STEP, BLANK)
    before, now = both(window)
    assert before.frames.tolist() == [*range(2 * VIEWS, 3 * VIEWS)]
    assert (np.diff(before.angles_rad) > 0).all()
    assert (now.first_frame, now.last_frame) == (3 * VIEWS, 4 * VIEWS - 1)


def test_numbers_that_start_anew_and_clear_forget_both() -> None:
    window = filled_twice(range(10 * VIEWS))
    assert feed(window, range(MISFITS)) == ["stale"] * (MISFITS - 1) + ["new"]
    assert (window.window(), window.before(), len(window)) == (None, None, 1)
    feed(window, range(MISFITS, MISFITS + 2 * VIEWS))
    assert both(window)[1].last_frame == MISFITS + 2 * VIEWS - 1
    window.clear()
    assert (window.window(), window.before(), len(window), window.fill) == (None, None, 0, 0)


def test_a_standing_stage_changes_the_newest_view_alone() -> None:
    window = filled_twice()
    for k in range(2 * VIEWS, 2 * VIEWS + 50):
        window.add(k, (2 * VIEWS - 1) * STEP, np.full((1, 2), k, np.float32))
        assert len(window) == 2 * VIEWS
    before, now = both(window)
    assert kept(before) == [*range(VIEWS)]
    assert kept(now) == [*range(VIEWS, 2 * VIEWS - 1), 2 * VIEWS + 49]


# --- memory


def test_one_span_has_none_before_it_and_its_memory_is_as_ever() -> None:
    window = ProjectionWindow(CONE)
    for k in range(3000):
        feed(window, [k], 2 * math.pi / 1000)
        assert window.before() is None
    assert len(window) == 1000
    assert window.nbytes == 1341 * 2 * 4  # 4/3 of a turn and 8


def test_many_turns_go_round_in_a_ring_for_two_spans() -> None:
    window = ProjectionWindow(CONE, spans=2)
    feed(window, range(3000), 2 * math.pi / 1000)
    assert len(window) == 2000
    assert window.nbytes == 2341 * 2 * 4  # 7/3 of a turn and 8
    for first in range(3000, 15_000, 700):
        feed(window, range(first, first + 700), 2 * math.pi / 1000)
        before, now = both(window)
        end = first + 700
        assert before.frames.tolist() == kept(before) == [*range(end - 2000, end - 1000)]
        assert now.frames.tolist() == kept(now) == [*range(end - 1000, end)]
    assert len(window) == 2000
    assert window.nbytes == 2341 * 2 * 4


def test_where_memory_is_short_there_is_room_for_both_spans_and_no_spare_views(monkeypatch: Any) -> None:
    grown, room = FixedRing.grown, 230

    def up_to_room(ring: FixedRing, capacity: int) -> FixedRing:
        if capacity > room:
            raise MemoryError("full")
        return grown(ring, capacity)

    monkeypatch.setattr(FixedRing, "grown", up_to_room)
    window = ProjectionWindow(CONE, spans=2)
    feed(window, range(500), 2 * math.pi / 100)
    assert both(window)[0].frames.tolist() == [*range(300, 400)]
    assert window.nbytes == 212 * 2 * 4  # 2.05 turns and 8, rounded down
    room = 150
    words = r"memory: expected room for 212 views in 720 degrees, got a scan with about 199: .* \(full\)"
    with pytest.raises(WindowOverflowError, match=words):
        feed(ProjectionWindow(CONE, spans=2), range(500), 2 * math.pi / 100)


def test_too_many_views_for_two_spans_are_refused_in_words() -> None:
    window = ProjectionWindow(CONE, spans=2, max_views=100)
    with pytest.raises(WindowOverflowError, match=r"no more than 100 views in 720 degrees, got a scan with about 120"):
        feed(window, range(200), 2 * math.pi / 60.2)
    assert (len(window), window.window(), window.before()) == (0, None, None)
    feed(window, range(200, 200 + 2 * VIEWS))
    assert both(window)[0].first_frame == 200


@pytest.mark.parametrize("spans", [0, 3, -1])
def test_other_numbers_of_spans_are_refused(spans: int) -> None:
    with pytest.raises(ValueError, match=f"spans: expected 1 or 2, got {spans}"):
        ProjectionWindow(CONE, spans=spans)


# --- whatever the stream does


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, float]]:
    """Two turns and more with uneven steps, losses, leaps and frames that come late by up to two turns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = draw(st.sampled_from([1, -1])) * draw(st.floats(0.1, 0.5))
    angle, number, stream = draw(st.floats(-1e4, 1e4)), draw(st.integers(0, 1000)), []
    for _ in range(draw(st.integers(60, 200))):
        stream.append((number, angle))
        number += 1 if rng.random() > 0.03 else int(rng.integers(2, 6))
        angle += step * (1 + 0.3 * rng.standard_normal()) + (rng.random() > 0.995) * rng.uniform(-10, 10)
    for _ in range(draw(st.integers(0, 8))):
        k = int(rng.integers(len(stream)))
        stream.insert(min(len(stream), k + int(rng.integers(1, 80))), stream.pop(k))
    return stream


@given(streams())
@settings(deadline=None, max_examples=20)
def test_the_present_window_is_the_same_whether_there_is_one_before_it_or_not(stream: list[tuple[int, float]]) -> None:
    one, two, same = ProjectionWindow(CONE), ProjectionWindow(CONE, spans=2), True
    came: dict[tuple[int, float], float] = {}
    for serial, (frame, angle) in enumerate(stream):
        view = np.full((1, 2), serial, np.float32)
        arrivals = one.add(frame, angle, view), two.add(frame, angle, view)
        came[frame, angle] = serial
        # A late one that one span refuses may be the eighth in a row that does not fit, or count for the typical step.
        same &= arrivals[0] == arrivals[1]
        now, before = two.window(), two.before()
        if same:
            expected = one.window()
            assert one.fill == two.fill
            assert (now is None) == (expected is None)
            if now is not None and expected is not None:
                np.testing.assert_array_equal(now.frames, expected.frames)
                np.testing.assert_array_equal(now.weights, expected.weights)
        if before is None:
            continue
        both(two)
        serials = [came[key] for key in zip(before.frames.tolist(), before.angles_rad.tolist(), strict=True)]
        np.testing.assert_array_equal(kept(before), serials)
        assert np.ptp(before.angles_rad) < 2 * math.pi * 1.02
        np.testing.assert_array_equal(before.occupants[before.slots], before.serials)
