"""The projection window: the weights and poses of its views."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.recon.weights import angular_weights, split_weights
from tango_jit.recon.window import ProjectionWindow
from tests.windows import CONE, STEP, VIEWS, feed, filled

# --- weights


def test_weights_of_equal_steps_are_equal_and_the_halves_mean_the_whole() -> None:
    got = filled()
    even = got.frames % 2 == 0
    np.testing.assert_allclose(got.weights[2], math.pi / VIEWS, rtol=1e-6)
    np.testing.assert_allclose(got.weights[0], np.where(even, 2 * math.pi / VIEWS, 0), rtol=1e-6)
    np.testing.assert_allclose(got.weights[1], np.where(even, 0, 2 * math.pi / VIEWS), rtol=1e-6)


def test_an_odd_number_of_views_is_complete_but_not_equal() -> None:
    window = ProjectionWindow(CONE)
    feed(window, range(31), 2 * math.pi / 31)
    got = window.window()
    assert got is not None
    assert got.complete
    assert not got.equal


def test_parity_is_that_of_the_frame_number() -> None:
    got = filled(range(1, 2 * VIEWS, 2))
    assert not got.complete
    assert not got.weights[0].any()
    assert got.weights[1].sum() == pytest.approx(math.pi)


def test_weights_are_half_the_gaps_on_both_sides_round_the_circle() -> None:
    weights, widest = angular_weights(np.array([0.0, 1.0, 3.0]) + 2 * math.pi * np.array([5, 0, -3]), 2 * math.pi)
    last = 2 * math.pi - 3
    np.testing.assert_allclose(weights, np.array([1 + last, 3, 2 + last]) / 4)
    assert widest == pytest.approx(last / 2)
    np.testing.assert_allclose(angular_weights(np.array([7.0]), math.pi)[0], [math.pi])
    assert angular_weights(np.empty(0), math.pi)[1] == math.inf
    # A stage that hardly moves: gaps beyond what a float can be divided by.
    assert angular_weights(np.array([0.0, 1e-311, 2e-311, 3e-311]), math.pi)[1] == math.inf


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e3, 1e3)), min_size=2, unique_by=lambda x: x[0]),
    st.sampled_from([math.pi, 2 * math.pi]),
)
def test_the_halves_share_no_view_and_every_sum_is_pi(views: list[tuple[int, float]], span: float) -> None:
    frames, angles = np.array([v[0] for v in views]), np.array([v[1] for v in views])
    weights, complete, equal = split_weights(frames, angles, span)
    assert (weights >= 0).all()
    assert not (weights[0] * weights[1]).any()
    assert not weights[0, frames % 2 == 1].any()
    assert not weights[1, frames % 2 == 0].any()
    present = [bool((frames % 2 == 0).any()), bool((frames % 2 == 1).any()), True]
    np.testing.assert_allclose(weights.sum(1), np.where(present, math.pi, 0), rtol=1e-5)
    if equal:
        np.testing.assert_allclose(weights[:2].mean(0), weights[2], atol=1e-4)
    assert all(present) or not complete


# --- poses


def test_matrices_are_those_of_the_angles() -> None:
    got = filled()
    np.testing.assert_allclose(got.matrices, CONE.matrices(got.angles_rad), atol=1e-12)


def test_a_frame_may_bring_its_own_pose() -> None:
    window = ProjectionWindow(CONE)
    other = CONE.shifted(0.25)
    for k in range(VIEWS):
        pose = other.vectors(k * STEP)[0] if k == 4 else None
        window.add(k, k * STEP, np.zeros((1, 2), np.float32), pose)
    got = window.window()
    assert got is not None
    np.testing.assert_allclose(got.matrices[4], other.matrices(4 * STEP)[0], atol=1e-12)
    np.testing.assert_allclose(got.matrices[5], CONE.matrices(5 * STEP)[0], atol=1e-12)
