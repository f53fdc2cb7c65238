"""Corrections, calibration and the search for the centre as an operator meets them: over sockets, while frames come."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recon import backproject
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.services.center_search import CenterSearch
from tango_jit.services.service import State
from tango_jit.streams import Dark, Flat, Header, Image, Slice
from tests.events import wait_until
from tests.services.conftest import CONE, DARK, FAN, FLAT, VIEWS, Scan, pass_turns
from tests.services.test_detector_disturbed import came, pair, prepared, refused, settled, stepped
from tests.services.test_reconstructor_service import assert_anew, filled

__all__ = ["pair"]  # a fixture; pytest finds it here


def test_dark_and_flat_have_an_age_that_repeats_do_not_change(bench, clock):
    scan = Scan(FAN, counts=True)
    bench = bench(clock=clock)
    pass_turns(bench.service)
    assert math.isnan(bench.values["dark_age_s"])
    assert math.isnan(bench.values["flat_age_s"])
    bench.push(scan.header, scan.dark, scan.flat)
    bench.frames(scan, 0)
    bench.after(100)
    assert (bench.values["dark_age_s"], bench.values["flat_age_s"]) == pytest.approx((100, 100))
    bench.push(scan.mean(Flat, 1.01 * FLAT), scan.dark)
    bench.frames(scan, 1)
    bench.after(7)
    assert (bench.values["dark_age_s"], bench.values["flat_age_s"]) == pytest.approx((107, 7))
    other = Scan(FAN, "other", counts=True)
    bench.push(other.header, other.flat)
    bench.frames(other, 0)
    bench.after(2)
    assert math.isnan(bench.values["dark_age_s"])
    assert bench.values["flat_age_s"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("name", "value"), [("zinger_excess", 0.2), ("ring_turns", 3.0), ("air_region", "0 3 0 0"), ("delta_beta", 100.0)]
)
def test_a_correction_is_switched_while_frames_come_and_the_window_fills_anew(bench, name, value):
    scan = Scan(FAN, counts=True)
    bench = filled(bench(), scan)
    bench.service.write("energy_kev", 20.0)  # by itself it changes nothing
    bench.service.write(name, value)
    assert_anew(bench, scan)
    reached = getattr(bench.service._pipeline.options.corrections, name)
    assert reached == ((0, 3, 0, 0) if name == "air_region" else value)
    assert np.isfinite(bench.slices.all(Slice)[-1].data).all()


def test_a_zinger_does_not_reach_the_views(bench):
    """What is left of it is the curvature of the ball, between its neighbours; without the correction it makes 2."""
    scan, struck = Scan(FAN, counts=True), 5
    bench = bench()
    bench.service.write("zinger_excess", 0.2)
    bench.push(scan.header, scan.dark, scan.flat)
    for k in range(VIEWS + struck + 1):
        data = scan.image(k).data.copy()
        data[0, 12] += 15_000 * (k == VIEWS + struck)
        bench.push(scan.image(k, data=data))
    assert np.abs(view(bench, VIEWS + struck) - view(bench, struck)).max() < 0.15


def test_rings_are_learned_turn_by_turn(bench):
    """Two pixels of 128 see 3 % too little of the beam: in the second turn hardly anything is left of that."""
    scan = Scan(CONE, counts=True)
    shape = (2 * VIEWS, CONE.rows, CONE.cols)
    frames = DARK + (FLAT - DARK) * np.random.default_rng(0).normal(1, 0.005, shape)
    frames[:, [2, 6], [5, 9]] *= 0.97
    bench = bench()
    bench.service.write("ring_turns", 2.0)
    bench.push(scan.header, scan.dark, scan.flat)
    for k, frame in enumerate(frames):
        bench.push(scan.image(k, data=frame.astype(np.float32)))
    views = np.array([view(bench, k) for k in range(2 * VIEWS)])
    before, after = (turn.mean(0)[[2, 6], [5, 9]] for turn in np.split(views, 2))
    assert (before > 0.04).all()
    assert (np.abs(after) < 0.2 * before).all()


def view(bench, frame):
    """The filtered view (rows, cols) of this frame."""
    return bench.filtered.wait(Image, lambda image: image.frame == frame).data.astype(np.float64)


def test_flicker_of_the_source_is_taken_out(bench):
    """Frames of a third less light here and there: without the air region slices are wrong by much."""
    scan = Scan(FAN, counts=True)
    bench = bench()
    bench.service.write("update_every", VIEWS)
    bench.service.write("air_region", "0, 2, 0, 0")
    bench.push(scan.header, scan.dark, scan.flat)
    for turn, strength in ((0, np.ones(VIEWS)), (1, 1 - 0.33 * (np.arange(VIEWS) % 5 == 0))):
        for k in range(VIEWS):
            image = scan.image(turn * VIEWS + k)
            data = (DARK + (image.data - DARK) * strength[k]).astype(np.float32)
            bench.push(scan.image(turn * VIEWS + k, data=data))
    steady, flickering = (
        bench.slices.wait(Slice, lambda s, n=n: s.last_frame == n) for n in (VIEWS - 1, 2 * VIEWS - 1)
    )
    np.testing.assert_allclose(flickering.data, steady.data, atol=2e-3 * np.abs(steady.data).max())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0 3", "air_region: expected four pixel numbers"),
        ("0 32 0 0", "air_region: expected columns below 32 and rows below 1, got 0 32 0 0"),
        ("5 2 0 0", "air_region: expected first column <= last column"),
    ],
)
def test_an_air_region_that_cannot_be_is_refused_and_changes_nothing(bench, value, message):
    bench = filled(bench(), Scan(FAN, counts=True))
    refused(lambda: bench.service.write("air_region", value), message)
    assert bench.values["air_region"] == ""


def test_what_phase_retrieval_lacks_is_told(bench, clock):
    scan = Scan(FAN, counts=True)
    bench = filled(bench(clock=clock), scan)
    bench.service.write("delta_beta", 100.0)
    bench.push(scan.image(VIEWS))
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.ALARM, what="an alarm")
    assert "energy_kev: expected the photon energy" in bench.values["status"]
    bench.service.write("energy_kev", 20.0)
    bench.frames(scan, *range(VIEWS + 1, 2 * VIEWS + 1))
    wait_until(lambda: bench.after(0.3) or bench.values["state"] is State.RUNNING, what="slices")


def test_find_center_tells_how_sure_it_is(bench):
    """Of a ball alone, in few views, sharpness may be wrong, but says so."""
    bench = bench()
    bench.service.write("center_offset_px", 1.5)  # the centre is 0, where the search has to find back to
    bench = filled(bench, Scan(FAN))
    for method in ("OPPOSITE", "SHARPNESS"):
        bench.service.write("center_method", method)
        bench.service.find_center()
        wait_until(lambda: bench.values["progress"] == 100, 60, "the end of the search")
        confidence, found = bench.values["center_confidence"], bench.values["center_found_px"]
        assert 0.5 < confidence <= 1 if method == "OPPOSITE" else 0 <= confidence <= 1
        assert confidence < 0.5 or found == pytest.approx(0, abs=0.2)


@pytest.mark.skipif(bool(backproject.obstacle("astra")), reason=backproject.obstacle("astra"))
def test_what_the_backend_cannot_search_is_told_and_nothing_else_suffers(bench):
    """Of a tilted detector no horizontal slice falls on one row, all that ASTRA can do on the processor."""
    scan = Scan(
        ScanGeometry.cone(rows=8, cols=16, pixel_mm=0.2, source_axis_mm=200, source_detector_mm=300, roll_rad=0.2)
    )
    bench = bench(backend="astra")
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    bench.service.write("center_method", "SHARPNESS")
    bench.service.find_center()
    wait_until(lambda: "FindCenter: slice: expected one on" in bench.values["last_error"], what="the reason")
    pass_turns(bench.service)
    assert bench.values["state"] is not State.FAULT
    assert bench.values["backend"] == "astra"


def test_memory_that_does_not_suffice_for_a_search_costs_neither_window_nor_backend(bench, monkeypatch):
    scan = Scan(FAN)
    bench = filled(bench(backend="reference"), scan)

    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(bench.service._pipeline.window().projections, "copied", no_room)
    bench.service.find_center()
    wait_until(lambda: "FindCenter: no room" in bench.values["last_error"], what="the reason")
    bench.frames(scan, VIEWS)
    assert bench.slices.wait(Slice, lambda s: s.last_frame == VIEWS).first_frame == 1
    assert bench.values["backend"] == "reference"


def test_a_search_that_waits_for_a_window_lets_the_worker_sleep():
    scan, search = Scan(FAN), CenterSearch("cpu")
    pipeline = Pipeline(scan.header, None, None, Options(), "cpu")
    search.begin("opposite")
    assert search.step(pipeline) == {}
    assert not search.busy
    for number in range(VIEWS):
        image = scan.image(number)
        pipeline.add(image, pipeline.filter(image))
    assert search.step(pipeline)["progress"] > 0
    assert search.busy


def test_a_guess_at_the_centre_is_said_to_be_one(bench):
    scan = Scan(FAN)
    noise = np.random.default_rng(0)
    bench = bench()
    bench.push(scan.header)
    for k in range(VIEWS):
        bench.push(scan.image(k, data=noise.standard_normal((1, 32)).astype(np.float32)))
    wait_until(lambda: bench.slices.all(Slice), what="a picture")
    bench.service.write("center_method", "OPPOSITE")
    bench.service.find_center()
    wait_until(lambda: bench.values["progress"] == 100, 60, "the end of the search")
    wait_until(lambda: "FindCenter: do not trust" in bench.values["last_error"], what="a warning")
    assert bench.values["center_confidence"] < 0.5


# ---- fields that are taken again


def test_fields_taken_again_come_between_two_frames(detector, tap, tmp_path):
    raw = tap(prepared(detector, Scan(CONE, counts=True).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 3)
    detector.retake_fields()
    stepped(detector, raw, 2)
    came(raw, 5)
    tail = [m.frame if isinstance(m, Image) else type(m).__name__ for m in raw.seen]
    assert tail[-5:] == [2, "Dark", "Flat", 3, 4]
    (dark, new_dark), (flat, new_flat) = raw.all(Dark), raw.all(Flat)
    noise = (new_flat.mean - flat.mean).std()
    assert noise == pytest.approx(math.sqrt((FLAT - DARK) / flat.count), rel=0.3)  # 128 pixels
    assert 0 < (new_dark.mean - dark.mean).std() < 1
    late = tap(detector.values["monitor_endpoint"], "sub")
    np.testing.assert_array_equal(late.wait(Flat).mean, new_flat.mean)  # newcomers get that of now


def test_no_slice_is_made_with_two_flats(pair):
    detector, reconstructor, slices = pair()
    settled(detector, reconstructor, 2 * VIEWS)
    detector.retake_fields()
    settled(detector, reconstructor, 2 * VIEWS)
    slices.wait(Slice, lambda s: s.last_frame == 4 * VIEWS - 1)
    made = slices.all(Slice)
    assert min(s.first_frame for s in made if s.last_frame >= 2 * VIEWS) >= 2 * VIEWS
    assert any(s.last_frame < 2 * VIEWS for s in made)


def test_fields_are_retaken_only_where_there_are_some(detector, tap, tmp_path):
    refused(detector.retake_fields, "RetakeFields: expected a series that runs, got none")
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 1)
    refused(detector.retake_fields, "RetakeFields: expected a recording with a dark or a flat, got one without")
    assert raw.all(Header)
