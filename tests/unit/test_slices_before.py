"""Slices of the window before the present one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon.incremental import IncrementalSlices
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow
from tests.phantom import ball
from tests.reconstructions import full_slice
from tests.windows import CONE, STEP, VIEWS, both


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("beam", ["cone", "parallel"])
def test_the_object_as_it_was_one_turn_ago(beam: str, direction: int) -> None:
    """A ball that gets twice as dense with every span: 0.01, 0.02, 0.04 per mm."""
    scan = (
        ScanGeometry.cone(rows=12, cols=64, pixel_mm=1.5, source_axis_mm=200.0, source_detector_mm=300.0)
        if beam == "cone"
        else ScanGeometry.parallel(rows=12, cols=64, pixel_mm=1.0)
    )
    views = 120 if beam == "cone" else 60  # in a span
    angles = direction * 2 * math.pi / 120 * np.arange(3 * views)
    center, radius = (3.0, -4.0, 0.0), 8.0
    filtered = Preprocessor(scan, linear=True)(ball(scan, angles, center, radius, 0.01))
    inside = SliceGeometry.centered(center, (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(11, 11))
    ring = ProjectionWindow(scan, spans=2)
    for k, angle in enumerate(angles):
        ring.add(k, angle, 2 ** (k // views) * filtered[k])
        if k % views == views - 1 and k > views:
            dense, denser = (full_slice(scan, made, inside).mean() for made in both(ring))
            assert dense == pytest.approx(0.01 * 2 ** (k // views - 1), rel=0.01)
            assert denser == pytest.approx(0.01 * 2 ** (k // views), rel=0.01)


def test_a_slice_of_the_span_before_may_be_updated_by_the_difference() -> None:
    """The views that leave it stay readable for a third of a turn."""
    rng = np.random.default_rng(0)
    ring, engine, place = ProjectionWindow(CONE, spans=2), Reconstructor(CONE), default_slices(CONE)["xy"]
    slices, count = IncrementalSlices(engine), 0
    for k in range(5 * VIEWS):
        ring.add(k, k * STEP, rng.standard_normal((1, 2)).astype(np.float32))
        before = ring.before()
        if before is not None and k % 4 == 0:
            expected = engine.reconstruct(before, place)
            got = slices.reconstruct(before, place)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
            count += 1
    assert slices.views_used == VIEWS + (count - 1) * 8  # four came and four left
