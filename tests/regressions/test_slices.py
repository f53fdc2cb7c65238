"""Slices: names that come and go, places that a scan cannot show, and values near the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry, default_slices
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.services.service import State
from tango_jit.streams import Slice
from tests.events import wait_until
from tests.reconstructions import window_of
from tests.services import scans
from tests.services.conftest import CONE, FAN, MU_PER_MM, STEP_RAD, VIEWS, Scan
from tests.services.scans import see
from tests.services.trainers import training


def filled(bench, scan):
    bench.service.write("update_every", 1)
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS - 1)
    return bench


@pytest.mark.parametrize("name", ["xz", "yz"])
def test_a_fan_has_no_upright_slice(bench, name):
    """It would lie in the plane xy, under a name that says otherwise."""
    bench = filled(bench(), Scan(FAN))
    with pytest.raises(ValueError, match=f"slice {name}: expected another name, a detector of one row"):
        bench.service.add_slice(name)
    assert f"slice_{name}" not in bench.service.signals
    bench.service.add_slice("mine")
    assert "slice_mine" in bench.service.signals


def test_a_default_slice_may_go_and_come_back_before_the_scan_is_known(bench):
    bench = bench()
    bench.service.remove_slice("xz")
    assert "slice_xz" not in bench.service.signals
    bench.service.add_slice("xz")
    filled(bench, Scan(CONE))
    shown = bench.slices.wait(Slice, lambda slice: slice.slice == "xz")
    assert shown.geometry == default_slices(CONE)["xz"]


def test_a_slice_outside_the_field_of_view_is_told_until_it_is_back(bench, clock):
    scan = Scan(CONE)
    bench = filled(bench(clock=clock), scan)
    place = default_slices(CONE)["xy"]
    bench.service.move_slice("xy", replace(place, origin_mm=(*place.origin_mm[:2], 50.0)).nine)
    bench.frames(scan, VIEWS)
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.ALARM, what="the alarm")
    assert "xy: " in bench.values["status"]
    assert "outside the field of view" in bench.values["status"]
    assert not bench.values["slice_xy"].any()
    bench.service.move_slice("xy", place.nine)
    bench.frames(scan, VIEWS + 1)
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.RUNNING, what="the end of the alarm")
    assert bench.values["slice_xy"].max() > 0.5 * MU_PER_MM


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("geometry", [CONE, FAN], ids=["cone", "fan"])
def test_a_slice_through_the_source_has_no_huge_values(backend, geometry):
    """The weight 1 / w**2 grows without bound towards the source: one pixel there would hide the whole picture."""
    scan = Scan(geometry)
    window = window_of(geometry, range(VIEWS), STEP_RAD * np.arange(VIEWS), scan.views)
    orbit = geometry.source_mm  # of the view at angle 0
    # Pixels of 0.05 mm about that place, and a coarse slice that reaches far behind all sources.
    near = SliceGeometry.centered((*orbit[:2], 0.0), (1, 0, 0), (0, -1, 0), pixel_mm=0.05, shape=(65, 65))
    wide = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=5.0, shape=(129, 129))
    engine = Reconstructor(geometry, backend)
    filtered = max(np.abs(window.projections.read(slot)).max() for slot in window.slots)
    inside = np.abs(engine.reconstruct(window, default_slices(geometry)["xy"])).max()
    for place in (near, wide):
        planes = engine.reconstruct(window, place)
        assert np.isfinite(planes).all()
        assert np.abs(planes).max() <= np.pi * 4**2 * filtered  # all views, each with the largest weight
        assert np.abs(planes).max() < 20 * inside


def test_a_slice_that_is_a_line_or_a_point_is_refused_and_nothing_moves(bench):
    bench = filled(bench(), Scan(CONE))
    before = bench.values["geometry_xy"]
    for nine in ([0, 0, 0, 1, 0, 0, 2, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 1, 0, -1, -1, 0]):
        with pytest.raises(ValueError, match="span a plane"):
            bench.service.move_slice("xy", nine)
    np.testing.assert_array_equal(bench.values["geometry_xy"], before)


@pytest.mark.parametrize(("sampling", "state"), [("MIXED", State.ALARM), ("UNIFORM", State.RUNNING)])
def test_slices_smaller_than_a_patch_are_told_or_patches_lie_elsewhere(make_trainer, feed, sampling, state):
    trainer = make_trainer(feed)
    trainer.write("sampling", sampling)
    feed.view({"small": SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=0.1, shape=(10, 10))})
    feed.frames()
    values = see(trainer, state=state, frames_received=scans.VIEWS, fill=1.0)
    if state is State.ALARM:
        assert "small 10 x 10" in values["status"]
        feed.view(default_slices(scans.FAN))
    assert training(trainer)["state"] is State.RUNNING
