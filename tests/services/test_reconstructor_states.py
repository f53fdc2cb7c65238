"""What a reconstructor says of itself: states, alarms, and places that cannot be shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.pipeline import Pipeline
from tango_jit.services.service import State
from tango_jit.services.slices import SliceTable
from tango_jit.streams import Dark, Header, Image, SeriesEnd, Slice
from tests.events import wait_until
from tests.services.conftest import CONE, FAN, PARALLEL, VIEWS, Scan, pass_turns
from tests.services.test_reconstructor_service import OFF_PLANE, filled


def test_losses_alarm_for_a_while(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan)
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    bench.frames(scan, VIEWS, VIEWS + 3)
    bench.after(0.3)
    assert bench.values["frames_lost"] == 2
    assert bench.values["state"] is State.ALARM
    assert "2 frames lost" in bench.values["status"]
    clock.now += 5
    bench.frames(scan, VIEWS + 4)
    bench.after(0.3)
    assert bench.values["state"] is State.ALARM
    clock.now += 6
    bench.frames(scan, VIEWS + 5)
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    assert bench.values["frames_lost"] == 2


def test_the_end_of_a_series_and_silence_are_standby(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan)
    bench.after(3)
    assert bench.values["state"] is State.STANDBY
    assert "no frame for 3 s" in bench.values["status"]
    bench.frames(scan, VIEWS)
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    bench.push(SeriesEnd(scan.series, VIEWS + 1))
    assert bench.filtered.wait(SeriesEnd) == SeriesEnd("scan#1", VIEWS + 1)
    bench.after(0.3)
    assert bench.values["state"] is State.STANDBY
    assert f"{scan.series} ended after {VIEWS + 1} frames" in bench.values["status"]


def test_a_slice_that_the_scan_cannot_show_alarms_and_the_others_go_on(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock, slices=SliceTable({"off": OFF_PLANE, "xy": None})), scan)
    bench.after(0.3)
    assert bench.values["state"] is State.ALARM
    assert "off: slice: expected the plane z = 0 mm" in bench.values["status"]
    assert {slice.slice for slice in bench.slices.all(Slice)} == {"xy"}
    bench.service.remove_slice("off")
    bench.frames(scan, VIEWS)
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    assert bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS).slice == "xy"


def test_a_place_that_the_scan_cannot_show_is_refused(bench):
    bench = filled(bench(), Scan(FAN))
    before = bench.values
    with pytest.raises(ValueError, match="geometry_xy: slice: expected the plane z = 0 mm"):
        bench.service.move_slice("xy", OFF_PLANE.nine)
    assert bench.values["geometry_xy"] is before["geometry_xy"]
    assert bench.values["generation"] == before["generation"]


def test_counts_wait_for_their_flat_field(bench, clock):
    scan = Scan(FAN, counts=True)
    bench = bench(clock=clock)
    bench.push(scan.header, scan.dark, *(scan.image(n) for n in range(3)))
    wait_until(lambda: bench.after(0.3) or bench.values["frames_refused"] == 3, 5, "3 refused frames")
    assert bench.values["state"] is State.ALARM
    assert "expected a flat field" in bench.values["status"]
    assert not bench.filtered.all(Image)
    bench.push(scan.flat)
    bench.frames(scan, *range(3, 3 + VIEWS))
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    assert bench.slices.wait(Slice).first_frame == 3


def test_another_scanner_shape_refuses_the_frames_of_the_old(bench, clock):
    wide = ScanGeometry.parallel(rows=1, cols=40, pixel_mm=0.1)
    bench = filled(bench(clock=clock), Scan(PARALLEL))
    bench.push(Scan(wide, "wide").header, Scan(PARALLEL).image(VIEWS))
    bench.frames(Scan(wide, "wide"), 0)
    bench.after(0.3)
    assert (bench.values["frames_received"], bench.values["frames_refused"]) == (1, 1)


def test_a_slice_removed_while_it_is_reconstructed_leaves_no_alarm(bench, monkeypatch):
    scan = Scan(CONE)
    bench = filled(bench(), scan)
    away = SliceGeometry((99, 99, 99), (2, 0, 0), (0, 2, 0), 16, 16)
    coverage = Pipeline.coverage

    def removing(pipeline, window, geometry):
        if geometry == away and "slice_far" in bench.service.signals:
            bench.service.remove_slice("far")
        return coverage(pipeline, window, geometry)

    monkeypatch.setattr(Pipeline, "coverage", removing)
    bench.service.add_slice("far")
    bench.service.write("geometry_far", away.nine)
    bench.service.write("shape_far", np.array(away.shape))
    wait_until(lambda: "slice_far" not in bench.service.signals, what="the removed slice")
    wait_until(lambda: bench.values["shown_generation"] == bench.values["generation"], what="pictures without it")
    pass_turns(bench.service)
    assert bench.service.health()[0] is State.RUNNING


def test_a_header_without_frames_is_standby(bench, clock):
    bench = bench(clock=clock)
    bench.push(Scan(FAN).header)
    bench.filtered.wait(Header)
    bench.after(60)
    assert (bench.values["state"], bench.values["status"]) == (State.STANDBY, "series scan: no frame yet")


def test_frames_that_are_refused_renew_nothing(bench, clock):
    """No beam: the pictures, their count and their age stay those of the last view that was taken."""
    scan = Scan(FAN, counts=True)
    bench = bench(clock=clock)
    bench.service.write("update_every", 1)
    bench.push(scan.header, scan.dark, scan.flat)
    bench.frames(scan, *range(VIEWS + 1))
    bench.after(0.3)
    before, pictures = bench.values, len(bench.slices.all(Slice))
    clock.now += 5
    bench.push(*(scan.image(n, data=np.full((1, 32), 100, np.float32)) for n in range(VIEWS + 1, VIEWS + 6)))
    wait_until(lambda: bench.after(0.3) or bench.values["frames_refused"] == 5, 5, "5 refused frames")
    assert len(bench.slices.all(Slice)) == pictures
    for name in ("slices_reconstructed", "latency_ms", "frame_number_xy"):
        assert bench.values[name] == before[name], name
    assert bench.values["state"] is State.ALARM


def test_a_scan_whose_axis_is_beside_the_detector_is_told_and_the_next_one_shown(bench, clock):
    beside = ScanGeometry.parallel(rows=1, cols=32, pixel_mm=0.1, axis_column=-3)
    assert beside.radius_mm == 0
    bench = bench(clock=clock)
    bench.push(replace(Scan(PARALLEL, "beside").header, geometry=beside))
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.ALARM, 5, "an alarm")
    assert "axis of rotation: expected in front of the 32 columns" in bench.values["status"]
    filled(bench, Scan(PARALLEL))


def test_a_field_with_dead_pixels_that_comes_again_changes_nothing(bench):
    scan = Scan(FAN, counts=True)
    mean = np.full((1, 32), 100.0, np.float32)
    mean[0, 3] = np.nan
    dark = Dark(scan.series, mean, 10)
    bench = bench()
    bench.push(scan.header, dark, scan.flat)
    bench.service.write("update_every", 1)
    bench.frames(scan, *range(VIEWS))
    bench.push(Dark(scan.series, mean.copy(), 10))
    bench.frames(scan, VIEWS)
    assert bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS).first_frame == 1


def test_frames_that_are_mostly_made_up_are_an_alarm(bench, clock):
    scan = Scan(FAN, counts=True)
    bench = filled(bench(clock=clock), scan)
    bright = scan.image(0).data.copy()
    bright[0, :8] = 60_000
    bench.service.write("saturation_counts", 50_000.0)
    bench.frames(scan, *range(VIEWS, 2 * VIEWS))
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.RUNNING, 5, "a window that is full anew")
    assert bench.values["pixels_replaced_percent"] == 0
    bench.push(scan.image(2 * VIEWS, data=bright))
    wait_until(lambda: bench.after(0.3) or bench.values["pixels_replaced_percent"] == 25, 5, "the part")
    assert bench.values["state"] is State.ALARM
    assert "25 % of the pixels are dead, saturated or no numbers" in bench.values["status"]
    bench.frames(scan, 2 * VIEWS + 1)
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.RUNNING, 5, "the end of the alarm")
