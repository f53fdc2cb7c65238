"""Views in 16 bits: what comes out is what went in, to the rounding that is promised, and slices hardly feel it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.backproject import cpu, reference
from tango_jit.recon.backproject.fixed import FixedRing
from tests.backprojections import KINDS, on_the_edge, problem

ROUNDING = 1.01 / 65534  # of the peak


def ring_of(projections: NDArray[np.float32]) -> FixedRing:
    ring = cpu.make_ring(*projections.shape)
    for slot, view in enumerate(projections):
        ring.put(slot, view)
    return ring


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("peak", [1e-3, 0.1, 0.499, 0.501, 1.0, 300.0, 6e4])
def test_views_of_any_size_are_kept_to_a_65534th_of_their_peak(dtype: type, peak: float) -> None:
    view = (np.random.default_rng(0).uniform(-1, 1, (9, 37)) * peak).astype(dtype)
    ring = FixedRing.empty(2, 9, 37)
    ring.put(1, view)
    largest = np.abs(view.astype(np.float64)).max()
    assert np.abs(ring.read(1) - view.astype(np.float64)).max() <= ROUNDING * largest


def test_views_of_any_kind_are_taken() -> None:
    view = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    frozen = view.copy()
    frozen.flags.writeable = False
    ring = FixedRing.empty(1, 6, 8)
    for kind in (view, frozen, view.astype(np.float64), np.asfortranarray(view), torch.as_tensor(view)):
        ring.array[:], ring.peaks[:] = 0, 0
        ring.put(0, kind)
        np.testing.assert_allclose(ring.read(0), view, atol=ROUNDING * np.abs(view).max())
    half = np.frombuffer(view.astype(np.float16).tobytes(), np.float16).reshape(6, 8)  # read-only, as from a socket
    ring.put(0, half)
    np.testing.assert_allclose(ring.read(0), half.astype(np.float32), atol=ROUNDING * np.abs(view).max())


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-40])
def test_a_view_of_nothing_is_zero(value: float) -> None:
    ring = ring_of(np.full((1, 2, 2), value, np.float32))
    assert np.abs(ring.read(0)).max() <= 1e-39


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_and_changes_nothing(dtype: type, value: float) -> None:
    ring = ring_of(np.ones((1, 3, 20), np.float32))
    view = np.zeros((3, 20), dtype)
    view[1, 18] = value
    with pytest.raises(ValueError, match="view: expected finite values, got inf or nan"):
        ring.put(0, view)
    np.testing.assert_array_equal(ring.read(0), 1)


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"view: expected shape \(3, 4\), got \(4, 3\)"):
        FixedRing.empty(1, 3, 4).put(0, np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="rows, cols: expected at most 32768 pixels a side, got 1 x 32769"):
        cpu.make_ring(1, 1, 32769)


def test_larger_rings_and_copies_hold_the_same_views() -> None:
    views = np.random.default_rng(0).standard_normal((5, 4, 7)).astype(np.float32)
    ring = ring_of(views)
    assert ring.nbytes == 5 * (2 * 4 * 7 + 4)
    larger, copied = ring.grown(9), ring.copied(np.array([3, 1]))
    assert (larger.shape, copied.shape) == ((9, 4, 7), (2, 4, 7))
    kept = [ring.read(slot) for slot in range(5)]
    ring.put(3, np.zeros((4, 7), np.float32))
    np.testing.assert_array_equal([larger.read(slot) for slot in range(5)], kept)
    np.testing.assert_array_equal([copied.read(0), copied.read(1)], [kept[3], kept[1]])
    band = larger.copied(np.array([2, 4]), slice(1, 3))
    np.testing.assert_array_equal([band.read(0), band.read(1)], [kept[2][1:3], kept[4][1:3]])


# Odd sizes leave lanes without a pixel; 65 x 129 and 200 x 3 are several tiles.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("patches", "shape"),
    [(5, (20, 20)), (40, (1, 1)), (7, (3, 5)), (3, (13, 13)), (1, (64, 64)), (1, (65, 129)), (1, (200, 3))],
)
def test_slices_of_views_in_16_bits_agree_with_the_reference(kind: str, patches: int, shape: tuple[int, int]) -> None:
    """To 2.5e-4 of the largest value, for white noise in float32 before it was rounded."""
    arguments = problem(kind, sum(shape), patches, shape, planes=1 + shape[0] % 3)
    expected = reference.backproject(*arguments)
    got = cpu.backproject(ring_of(arguments[0]), *arguments[1:])
    clear = ~on_the_edge(arguments)[:, None].repeat(expected.shape[1], 1)
    assert clear.mean() > 0.9
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got[clear], expected[clear], atol=2.5e-4 * np.abs(expected).max(), rtol=0)


def one_view(scan: ScanGeometry, picture: Any, pose: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    ring = ring_of(np.asarray(picture, np.float32)[None])
    return cpu.backproject(ring, np.zeros(1, int), scan.matrices(0.0), np.ones((1, 1), np.float32), pose, shape)[0, 0]


def test_the_last_pixels_of_the_detector_are_reached_and_nothing_beyond() -> None:
    """Rows and columns from -1 to one behind the last, by steps of a quarter pixel: the field of view is half wider."""
    scan = ScanGeometry.parallel(rows=3, cols=4, pixel_mm=1.0)
    picture = np.arange(12).reshape(3, 4) - 6.0
    matrix = scan.matrices(0.0)[0]  # column = x + ..., row = z + ...
    pose = np.array([[(-1 - matrix[0, 3], 0.0, -1 - matrix[1, 3]), (0.25, 0.0, 0.0), (0.0, 0.0, 0.25)]])
    row, column = np.mgrid[-1:3.25:0.25, -1:4.25:0.25]
    inside = (row >= -0.5) & (row <= 2.5) & (column >= -0.5) & (column <= 3.5)
    expected = np.where(inside, np.clip(row, 0, 2) * 4 + np.clip(column, 0, 3) - 6, 0.0)
    np.testing.assert_allclose(one_view(scan, picture, pose, row.shape), expected, atol=6e-4)


def test_points_at_and_behind_the_source_are_outside() -> None:
    scan = ScanGeometry.cone(rows=9, cols=9, pixel_mm=1.0, source_axis_mm=100, source_detector_mm=200)
    pose = np.array([[(0.0, -300.0, 0.0), (0.0, 1.0, 0.0), (0.001, 0.0, 0.0)]])  # columns run through the source
    line = one_view(scan, np.ones((9, 9)), pose, (1, 400))[0]
    assert (line[:201] == 0).all()
    np.testing.assert_allclose(line[250:], (100 / (np.arange(250, 400) - 200)) ** 2, rtol=1e-4)


def test_what_is_subtracted_again_leaves_nothing() -> None:
    """Slices are kept up to date by differences."""
    projections, slots, matrices, weights, poses, shape = problem("cone", 3, 2, (30, 41))
    ring = ring_of(projections)
    added = cpu.backproject(ring, slots, matrices, weights, poses, shape)
    taken = cpu.backproject(ring, slots, matrices, -weights, poses, shape)
    assert added.any()
    np.testing.assert_array_equal(added + taken, 0)


def test_smaller_tiles_for_more_threads_change_nothing() -> None:
    threads = numba.get_num_threads()
    if threads < 2:
        pytest.skip("it needs two threads")
    projections, *rest = problem("cone", 1, 1, (128, 128))
    ring, results = ring_of(projections), []
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            assert (cpu._sides(1, (128, 128))[0] > 32) == (count == 1)
            results.append(cpu.backproject(ring, *rest))
    finally:
        numba.set_num_threads(threads)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4 * np.abs(results[0]).max())


def test_warm_up_compiles_for_rings_and_arrays() -> None:
    cpu.warm_up()
    compiled = len(cpu._backproject.signatures)
    for kind in ("cone", "fan"):
        projections, *rest = problem(kind, 0, 2, (8, 8))
        for views in (projections, ring_of(projections)):
            cpu.backproject(views, *rest)
    assert len(cpu._backproject.signatures) == compiled >= 2
