"""The projection window: causal for any stream, bounded in memory, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango_jit.recon.window import (
    ProjectionWindow,
    WindowOverflowError,
)
from tests.windows import CONE, PARALLEL, VIEWS, feed, kept

# --- causality and memory


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, float]]:
    """A rotation with everything that can go wrong: uneven steps, losses, late and repeated frames, leaps, restarts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = draw(st.sampled_from([1, -1])) * draw(st.floats(0.03, 0.3))
    angle, number, stream = draw(st.floats(-1e4, 1e4)), draw(st.integers(0, 1000)), []
    for _ in range(draw(st.integers(1, 300))):
        stream.append((number, angle))
        event = rng.random()
        number += 1 if event > 0.03 else int(rng.integers(2, 8))
        angle += step * (1 + 0.3 * rng.standard_normal())
        if event > 0.995:
            angle += rng.uniform(-10, 10)
        if event > 0.998:
            number = int(rng.integers(0, 1000))
    for _ in range(draw(st.integers(0, 5))):  # late and repeated
        k = int(rng.integers(len(stream)))
        stream.insert(
            min(len(stream), k + int(rng.integers(1, 20))), stream[k] if rng.random() < 0.5 else stream.pop(k)
        )
    return stream


@given(streams())
@settings(deadline=None, max_examples=60)
def test_a_window_is_made_of_what_came_before_it_and_is_bounded(stream: list[tuple[int, float]]) -> None:
    window = ProjectionWindow(CONE, max_views=400)
    came: dict[tuple[int, float], float] = {}
    for serial, (frame, angle) in enumerate(stream):
        arrival = window.add(frame, angle, np.full((1, 2), serial, np.float32))
        if arrival in ("new", "late"):
            came[frame, angle] = serial
        assert len(window) <= 400
        assert window.nbytes <= 400 * 2 * 4
        got = window.window()
        assert (got is None) == (window.fill < 1)
        if got is None:
            continue
        assert (np.diff(got.frames) > 0).all()
        assert len(set(got.slots.tolist())) == len(got.slots)
        serials = [came[key] for key in zip(got.frames.tolist(), got.angles_rad.tolist(), strict=True)]
        np.testing.assert_array_equal(kept(got), serials)
        assert np.ptp(got.angles_rad) < 2 * math.pi * 1.02
        assert not (got.weights[0] * got.weights[1]).any()


@given(streams(), st.data())
@settings(deadline=None, max_examples=30)
def test_the_future_does_not_change_the_past(stream: list[tuple[int, float]], data: st.DataObject) -> None:
    """Two streams that part at some moment have the same windows until then."""
    part = data.draw(st.integers(0, len(stream)))
    other = data.draw(streams())
    snapshots = []
    for rest in (stream[part:], other):
        window, seen = ProjectionWindow(CONE), []
        for moment, (frame, angle) in enumerate([*stream[:part], *rest]):
            window.add(frame, angle, np.zeros((1, 2), np.float32))
            got = window.window()
            if moment < part:
                seen.append(None if got is None else (got.frames.tolist(), got.weights.tolist()))
        snapshots.append(seen)
    assert snapshots[0] == snapshots[1]


def test_the_ring_grows_to_what_the_scan_needs() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(3000), 2 * math.pi / 1000)
    assert 1000 * 8 <= window.nbytes <= 1350 * 8
    size = window.nbytes
    feed(window, range(3000, 9000), 2 * math.pi / 1000)
    assert window.nbytes == size


@pytest.mark.parametrize("limit", [dict(max_views=100), dict(max_bytes=100 * 2 * 4)])
def test_too_many_views_are_refused_in_words_and_the_window_starts_anew(limit: dict[str, Any]) -> None:
    window = ProjectionWindow(CONE, **limit)
    with pytest.raises(WindowOverflowError, match=r"no more than 100 views in 360 degrees, got a scan with about 500"):
        feed(window, range(200), 2 * math.pi / 500)
    assert len(window) == 0
    assert feed(window, range(200, 200 + VIEWS)) == ["new"] * VIEWS
    assert window.window() is not None


# --- what is refused


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"span_rad: expected 6\.28319 for a cone beam, got 3\.14"):
        ProjectionWindow(CONE, math.pi)
    with pytest.raises(ValueError, match=r"span_rad: expected 3\.14159 or 6\.28319 for a parallel beam, got 1"):
        ProjectionWindow(PARALLEL, 1.0)
    with pytest.raises(ValueError, match="max_views, max_bytes: expected room for 2 views"):
        ProjectionWindow(CONE, max_bytes=10)
    window = ProjectionWindow(CONE)
    with pytest.raises(ValueError, match=r"projection: expected shape \(1, 2\), got \(2, 1\)"):
        window.add(0, 0.0, np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="angle_rad: expected a finite number, got nan"):
        window.add(0, math.nan, np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="pose: expected 12 finite numbers"):
        window.add(0, 0.0, np.zeros((1, 2), np.float32), [1.0, 2.0])
    assert len(window) == 0


@pytest.mark.parametrize("angle_rad", [2 * math.pi, 20.0], ids=["next", "a jump"])
def test_a_view_that_is_no_picture_changes_nothing(angle_rad: float) -> None:
    """Neither the views that are held nor the room for more."""
    window = ProjectionWindow(CONE)
    feed(window, range(VIEWS))
    before, size = window.window(), window.nbytes
    assert before is not None
    for _ in range(100):
        with pytest.raises(ValueError, match="expected finite values"):
            window.add(10 * VIEWS, angle_rad, np.full((1, 2), np.nan, np.float32))
    assert window.window() is before
    feed(window, range(VIEWS, 4 * VIEWS))
    assert len(window) == VIEWS
    assert window.nbytes == size
