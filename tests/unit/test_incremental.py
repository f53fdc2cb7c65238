"""Slices that are updated by differences are those made anew, and cost what the differences cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon import incremental
from tango_jit.recon.incremental import IncrementalSlices
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window

CONE = ScanGeometry.cone(rows=12, cols=24, pixel_mm=1.0, source_axis_mm=200.0, source_detector_mm=300.0)
FAN = ScanGeometry.cone(rows=1, cols=24, pixel_mm=1.0, source_axis_mm=200.0, source_detector_mm=300.0)
PARALLEL = ScanGeometry.parallel(rows=12, cols=24, pixel_mm=1.0)
VIEWS = 30
STEP = 2 * math.pi / VIEWS
TOLERANCE = 1e-5  # of the largest value


def windows(scan: ScanGeometry, frames: Any, every: int, step: float = STEP, jitter: float = 0.0) -> Iterator[Window]:
    """Random views in the order of `frames`, one of `every` windows once it is full."""
    rng = np.random.default_rng(0)
    ring = ProjectionWindow(scan, 2 * math.pi)
    for n, frame in enumerate(frames):
        angle = (frame + jitter * rng.uniform(-0.5, 0.5)) * step
        ring.add(frame, angle, rng.standard_normal((scan.rows, scan.cols)).astype(np.float32))
        window = ring.window()
        if window is not None and n % every == 0:
            yield window


def check(engine: Reconstructor, slices: IncrementalSlices, window: Window, place: SliceGeometry) -> None:
    got, expected = slices.reconstruct(window, place), engine.reconstruct(window, place)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("scan", [CONE, FAN, PARALLEL], ids=["cone", "fan", "parallel"])
@pytest.mark.parametrize(("step", "jitter"), [(STEP, 0.0), (STEP * 0.97, 0.0), (STEP, 0.8)])
@pytest.mark.parametrize("every", [1, 4])
def test_slices_are_those_made_anew(scan: ScanGeometry, step: float, jitter: float, every: int) -> None:
    engine = Reconstructor(scan)
    slices, place = IncrementalSlices(engine), default_slices(scan)["xy"]
    count = 0
    for window in windows(scan, range(5 * VIEWS), every, step, jitter):
        check(engine, slices, window, place)
        count += 1
    assert count >= 25


def test_late_and_lost_frames_make_no_difference() -> None:
    """Whole views come between others, weights change all around the gaps, planes come and go."""
    rng = np.random.default_rng(1)
    frames = [k for k in range(6 * VIEWS) if rng.random() > 0.1]
    for k in range(0, len(frames) - 1, 7):
        frames[k], frames[k + 1] = frames[k + 1], frames[k]
    engine, place = Reconstructor(CONE), default_slices(CONE)["xz"]
    slices, planes = IncrementalSlices(engine), set()
    for window in windows(CONE, frames, 1):
        check(engine, slices, window, place)
        planes.add(len(slices.reconstruct(window, place)))
    assert planes == {2, 3}


def test_a_new_view_costs_two() -> None:
    """The one that came and the one that left."""
    engine, place = Reconstructor(CONE), default_slices(CONE)["xy"]
    slices = IncrementalSlices(engine)
    used = []
    for window in windows(CONE, range(3 * VIEWS), 1):
        before = slices.views_used
        slices.reconstruct(window, place)
        used.append(slices.views_used - before)
    assert used[0] == VIEWS
    assert set(used[2:]) == {2}


def test_many_new_views_are_a_new_slice() -> None:
    engine, place = Reconstructor(CONE), default_slices(CONE)["xy"]
    slices = IncrementalSlices(engine)
    every = VIEWS * 2 // 3
    for n, window in enumerate(windows(CONE, range(6 * VIEWS), every), 1):
        check(engine, slices, window, place)
        assert slices.views_used == n * VIEWS


def test_a_view_that_was_overwritten_is_not_subtracted() -> None:
    """A difference would cost less here, but two of the views that left are no longer in the ring."""
    engine, place = Reconstructor(CONE), default_slices(CONE)["xy"]
    slices, views, every = IncrementalSlices(engine), 150, 60
    for window in windows(CONE, range(6 * views), every, 2 * math.pi / views):
        before = slices.views_used
        check(engine, slices, window, place)
        assert slices.views_used - before == views


def test_rounding_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over thousands of updates the slice stays within the tolerance, because it is made anew now and then."""
    engine, place = (
        Reconstructor(FAN),
        SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=2.0, shape=(8, 8)),
    )
    slices = IncrementalSlices(engine)
    full, worst = 0, 0.0
    for window in windows(FAN, range(3 * incremental.LONGEST + 3 * VIEWS), 1):
        before = slices.views_used
        got = slices.reconstruct(window, place)
        full += slices.views_used - before == VIEWS
        expected = engine.reconstruct(window, place)
        worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    assert full == 4  # the first, and one after every LONGEST
    assert worst < TOLERANCE


def test_small_changes_of_weights_add_up_until_they_matter() -> None:
    """A stage that slows down by a millionth a frame."""
    ring = ProjectionWindow(FAN, 2 * math.pi)
    rng = np.random.default_rng(2)
    engine, place = Reconstructor(FAN), default_slices(FAN)["xy"]
    slices, angle = IncrementalSlices(engine), 0.0
    for frame in range(20 * VIEWS):
        angle += STEP * (1 - 1e-6 * frame)
        ring.add(frame, angle, rng.standard_normal((1, 24)).astype(np.float32))
        window = ring.window()
        if window is not None:
            got, expected = slices.reconstruct(window, place), engine.reconstruct(window, place)
            np.testing.assert_allclose(got, expected, rtol=0, atol=5e-5 * np.abs(expected).max())


def test_another_place_is_made_anew_and_the_earlier_planes_stay_as_they_were() -> None:
    engine, places = Reconstructor(CONE), default_slices(CONE)
    slices, shown = IncrementalSlices(engine), []
    for n, window in enumerate(windows(CONE, range(2 * VIEWS), 1)):
        place = places["xy" if n % 6 < 3 else "xz"]
        slices.keep([place])
        before = slices.views_used
        check(engine, slices, window, place)
        if n and n % 3 == 0:  # nothing of its earlier turn on display was kept
            assert slices.views_used - before == VIEWS
        planes = slices.reconstruct(window, place)
        shown.append((planes, planes.copy()))
    for planes, copy in shown:
        np.testing.assert_array_equal(planes, copy)


def test_a_slice_off_the_plane_of_a_fan_is_refused() -> None:
    window = next(windows(FAN, range(2 * VIEWS), 1))
    slices = IncrementalSlices(Reconstructor(FAN))
    with pytest.raises(ValueError, match="expected the plane z = 0 mm"):
        slices.reconstruct(window, default_slices(CONE)["xz"])
