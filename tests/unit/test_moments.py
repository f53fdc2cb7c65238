"""Windows of earlier moments: what the window was then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tango_jit.recon.moments import moment, moments_until
from tango_jit.recon.window import ProjectionWindow
from tests.windows import CONE, STEP, VIEWS, kept

FRAMES = 2 * VIEWS + 37


def stream(until: int, spans: int = 2, missing: tuple[int, ...] = (), direction: int = 1) -> ProjectionWindow:
    """A stage that turns evenly; every view holds its number."""
    ring = ProjectionWindow(CONE, spans=spans)
    for number in range(until):
        if number not in missing:
            view = np.full((CONE.rows, CONE.cols), number, np.float32)
            ring.add(number, direction * number * STEP + 0.3, view)
    return ring


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("ago", [1, 2, 7, VIEWS // 2, VIEWS - 1, VIEWS])
def test_it_is_what_the_window_was_then(ago, direction):
    ring = stream(FRAMES, direction=direction)
    now, before = ring.window(), ring.before()
    assert now is not None
    assert before is not None
    then = stream(FRAMES - ago, spans=1, direction=direction).window()
    assert then is not None
    found = moment(before, now, FRAMES - 1 - ago, 2 * math.pi)
    assert found is not None
    np.testing.assert_array_equal(found.frames, then.frames)
    np.testing.assert_array_equal(found.angles_rad, then.angles_rad)
    np.testing.assert_allclose(found.weights, then.weights, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.matrices, then.matrices)
    assert (found.complete, found.equal) == (then.complete, then.equal)
    assert kept(found) == found.frames.tolist()


def test_halves_of_different_moments_share_no_view():
    ring = stream(FRAMES)
    now, before = ring.window(), ring.before()
    assert now is not None
    windows = moments_until(now, before, 3, 5, 2 * math.pi)
    assert [window.last_frame for window in windows] == [now.last_frame - 10, now.last_frame - 5, now.last_frame]
    assert windows[-1] is now
    even, odd = ({int(f) for w in windows for f in w.frames[w.weights[half] > 0]} for half in (0, 1))
    assert even
    assert odd
    assert not even & odd


def test_a_missing_view_leaves_its_gap():
    lost = (FRAMES - 20, FRAMES - 19, FRAMES - 18)
    ring = stream(FRAMES, missing=lost)
    now, before = ring.window(), ring.before()
    assert now is not None
    assert before is not None
    assert not now.complete
    early = moment(before, now, FRAMES - 30, 2 * math.pi)
    assert early is not None
    assert early.complete
    gone = moment(before, now, lost[1], 2 * math.pi)  # which is not there: the newest view before it ends the window
    assert gone is not None
    assert gone.last_frame == lost[0] - 1


def test_moments_with_large_gaps_are_refused_in_words():
    ring = stream(FRAMES, missing=tuple(range(VIEWS + 20, VIEWS + 30)))
    now, before = ring.window(), ring.before()
    assert now is not None
    with pytest.raises(ValueError, match="expected views without large gaps, got some 12 frames ago"):
        moments_until(now, before, 2, 12, 2 * math.pi)


def test_what_is_out_of_reach_is_refused_in_words():
    ring = stream(FRAMES)
    now, before = ring.window(), ring.before()
    assert now is not None
    assert before is not None
    assert moment(before, now, before.first_frame, 2 * math.pi) is None
    assert moment(before, now, before.last_frame - 2, 2 * math.pi) is None
    with pytest.raises(ValueError, match=f"expected views of {2 * VIEWS} frames before the last turn"):
        moments_until(now, before, 3, VIEWS, 2 * math.pi)
    with pytest.raises(ValueError, match="got 0: they are still to come"):
        moments_until(now, None, 3, 5, 2 * math.pi)
    assert moments_until(now, None, 1, 5, 2 * math.pi) == [now]
