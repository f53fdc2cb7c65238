"""The reconstructor as a service: what it must never mix, what it counts, what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry, default_slices
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.services.service import State
from tango_jit.streams import Flat, Header, Image, Slice, View
from tests.events import wait_until
from tests.reconstructions import window_of
from tests.services.conftest import CONE, FAN, FLAT, MU_PER_MM, PARALLEL, STEP_RAD, VIEWS, Scan, pass_turns

OFF_PLANE = SliceGeometry((-1, -1, 5), (2, 0, 0), (0, 2, 0), 16, 16)


def filled(bench, scan, *, every=1):
    """A bench with a full window of the frames 0 to 23 and its first slices."""
    bench.service.write("update_every", every)
    bench.push(scan.header)
    if scan.counts:
        bench.push(scan.dark, scan.flat)
    bench.frames(scan, *range(VIEWS))
    bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS - 1)
    return bench


def series_of(bench):
    """The filtered series so far, in their order."""
    return [header.series for header in bench.filtered.all(Header)]


def assert_anew(bench, scan, *, views=VIEWS):
    """The window is empty, under a new name; slices come again from new frames alone, under a new generation."""
    bench.filtered.wait(Header, lambda header: header.series == f"{scan.series}#2")
    before = bench.slices.all(Slice)
    bench.frames(scan, *range(VIEWS, VIEWS + views - 2))
    assert bench.slices.all(Slice) == before, "slices from a window that is not full"
    bench.frames(scan, *range(VIEWS + views - 2, VIEWS + views))
    first = bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS + views - 1)
    after = bench.slices.all(Slice)[len(before) :]
    assert min(slice.first_frame for slice in after) == VIEWS
    assert first.generation > max(slice.generation for slice in before)
    assert series_of(bench) == [f"{scan.series}#1", f"{scan.series}#2"]
    assert {image.series for image in bench.filtered.all(Image) if image.frame >= VIEWS} == {f"{scan.series}#2"}


# ---- what begins anew, and what does not


@pytest.mark.parametrize(("name", "value"), [("filter", "HANN"), ("center_offset_px", 1.5)])
def test_another_filter_or_centre_begins_anew(bench, name, value):
    scan = Scan(FAN)
    bench = filled(bench(), scan)
    bench.service.write(name, value)
    assert_anew(bench, scan)
    header = bench.filtered.all(Header)[-1]
    assert header.filter == ("hann" if name == "filter" else "ram-lak")
    assert header.geometry == (FAN if name == "filter" else FAN.shifted(1.5))


def test_a_full_turn_begins_anew_with_twice_the_span(bench):
    scan = Scan(PARALLEL)
    bench = filled(bench(), scan)
    half = bench.slices.all(Slice)[-1]
    assert (half.first_frame, half.last_frame) == (VIEWS // 2, VIEWS - 1)
    bench.service.write("full_turn", True)
    assert_anew(bench, scan)
    whole = bench.slices.all(Slice)[-1]
    assert (whole.first_frame, whole.last_frame) == (VIEWS, 2 * VIEWS - 1)


def test_reset_begins_anew(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan)
    bench.frames(scan, VIEWS - 1 + 3)  # two lost
    bench.push(scan.image(0, series="another"))
    bench.after(0.3)
    wait_until(lambda: bench.after(0.3) or bench.values["frames_refused"] == 1, what="a refused frame")
    assert (bench.values["frames_lost"], bench.values["fill"]) == (2, 1.0)
    bench.service.reset()
    bench.after(0.3)
    for name in ("frames_received", "frames_lost", "frames_refused", "fill"):
        assert bench.values[name] == 0, name
    before = len(bench.slices.all(Slice))
    bench.frames(scan, *range(30, 30 + VIEWS))
    new = bench.slices.wait(Slice, lambda slice: slice.last_frame == 29 + VIEWS)
    assert new.first_frame == 30
    assert len(bench.slices.all(Slice)) == before + 1
    assert series_of(bench) == ["scan#1", "scan#2"]


def test_a_new_flat_field_begins_anew_with_the_new_dose(bench):
    scan = Scan(FAN, counts=True)
    bench = filled(bench(), scan)
    old = bench.slices.all(Slice)[-1]
    bench.push(scan.mean(Flat, 2 * FLAT))
    assert_anew(bench, scan)
    new = bench.slices.all(Slice)[-1]
    assert new.data[:, 0, 16, 16].mean() > 1.1 * old.data[:, 0, 16, 16].mean()  # twice the flat: log 2 more everywhere


def test_repeated_headers_darks_and_flats_change_nothing(bench):
    scan = Scan(FAN, counts=True)
    bench = filled(bench(), scan)
    before = bench.slices.all(Slice)[-1]
    bench.push(scan.header, scan.dark, scan.flat)
    bench.frames(scan, VIEWS)
    after = bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS)
    assert after.first_frame == 1
    assert after.generation == before.generation
    assert series_of(bench) == ["scan#1"]


def test_a_new_series_begins_anew_and_default_slices_follow_it(bench):
    scan, other = Scan(CONE), Scan(replace(CONE, u_mm=(0.3, 0, 0), cols=20), "other")
    bench = filled(bench(), scan)
    placed = SliceGeometry((-0.5, -0.5, 0.1), (1, 0, 0), (0, 1, 0), 12, 10)
    bench.service.write("shape_xz", np.array(placed.shape))
    bench.service.move_slice("xz", placed.nine)
    bench.push(other.header)
    bench.frames(other, *range(100, 100 + VIEWS))
    bench.slices.wait(Slice, lambda slice: slice.series == "other" and slice.slice == "yz")
    new = {slice.slice: slice for slice in bench.slices.all(Slice) if slice.series == "other"}
    defaults = default_slices(other.geometry)
    assert {name: slice.geometry for name, slice in new.items()} == defaults | {"xz": placed}
    assert {slice.first_frame for slice in new.values()} == {100}
    assert bench.values["series"] == "other"
    assert series_of(bench)[-1].startswith("other#")


# ---- the slices


def test_slices_are_what_the_reconstructor_makes_of_the_frames(bench):
    scan = Scan(CONE)
    bench = filled(bench(), scan)
    window = window_of(CONE, range(VIEWS), STEP_RAD * np.arange(VIEWS), scan.views)
    pass_turns(bench.service)
    slices = {slice.slice: slice for slice in bench.slices.all(Slice)}
    assert set(slices) == {"xy", "xz", "yz"}
    for name, slice in slices.items():
        expected = Reconstructor(CONE).reconstruct(window, default_slices(CONE)[name])
        np.testing.assert_allclose(slice.data, expected, atol=5e-4 * MU_PER_MM)
        np.testing.assert_allclose(bench.values[f"slice_{name}"], expected[:, 0].mean(0), atol=5e-4 * MU_PER_MM)
        assert bench.values[f"frame_number_{name}"] == VIEWS - 1
    place = slices["xy"].geometry
    rows, cols = np.indices(place.shape) + 0.5
    x = place.origin_mm[0] + cols / place.cols * place.u_mm[0]
    y = place.origin_mm[1] + rows / place.rows * place.v_mm[1]
    inside = np.hypot(x - scan.ball_mm[0], y - scan.ball_mm[1]) < 0.6 * scan.ball_radius_mm
    assert slices["xy"].data[:, 0].mean(0)[inside].mean() == pytest.approx(MU_PER_MM, rel=0.1)


def test_whole_halves_are_complete_and_missing_views_are_told(bench):
    scan = Scan(FAN)
    bench = filled(bench(), scan, every=VIEWS)
    whole = bench.slices.all(Slice)[-1]
    assert whole.complete
    assert whole.data.shape[0] == 2
    turn = range(VIEWS, 2 * VIEWS)
    bench.frames(scan, *(n for n in turn if n not in (30, 32)), 2 * VIEWS, 2 * VIEWS + 1)
    torn = bench.slices.wait(Slice, lambda slice: slice.last_frame > VIEWS)
    assert not torn.complete
    assert torn.data.shape[0] == 3
    pass_turns(bench.service)
    np.testing.assert_array_equal(bench.values["slice_xy"], torn.data[2, 0])


def test_slices_come_every_so_many_frames(bench):
    scan = Scan(FAN)
    bench = filled(bench(), scan, every=5)
    bench.frames(scan, *range(VIEWS, VIEWS + 12))
    last = [slice.last_frame for slice in bench.slices.all(Slice)]
    assert last == [VIEWS - 1, VIEWS + 4, VIEWS + 9]
    assert bench.values["slices_reconstructed"] == 3
    bench.service.write("update_every", 2)
    pass_turns(bench.service)
    bench.frames(scan, *range(VIEWS + 12, VIEWS + 16))
    last = [slice.last_frame for slice in bench.slices.all(Slice)][3:]
    assert last == [VIEWS + 11, VIEWS + 13, VIEWS + 15]  # two frames had come since the last one


def test_the_view_names_the_slices_on_both_streams(bench):
    scan = Scan(CONE)
    bench = filled(bench(), scan)
    for stream in (bench.slices, bench.filtered):
        view = stream.all(View)[-1]
        assert dict(view.slices) == default_slices(CONE)
        assert view.filter == "ram-lak"
    assert {slice.generation for slice in bench.slices.all(Slice)} == {view.generation}
    bench.service.add_slice("mine")
    bench.service.remove_slice("yz")
    for stream in (bench.slices, bench.filtered):
        new = stream.wait(View, lambda view: set(view.slices) == {"xy", "xz", "mine"})
        assert new.generation > view.generation
    moved = bench.slices.wait(Slice, lambda slice: slice.slice == "mine")  # without a new frame
    assert moved.last_frame == VIEWS - 1
    assert "slice_mine" in bench.service.signals
    wait_until(lambda: bench.values["shown_generation"] == bench.values["generation"], what="pictures as wished")
    bench.service.write("filter", "HANN")  # the window fills anew: the pictures are those of before
    pass_turns(bench.service)
    assert bench.values["shown_generation"] < bench.values["generation"]
    assert "slice_yz" not in bench.service.signals


# ---- what is counted


def test_repeats_are_counted_and_skipped(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan)
    bench.push(scan.image(20), scan.image(VIEWS - 1))
    bench.frames(scan, VIEWS)
    bench.after(0.3)
    assert bench.values["frames_duplicate"] == 2
    assert bench.values["frames_received"] == VIEWS + 1
    assert [image.frame for image in bench.filtered.all(Image)] == list(range(VIEWS + 1))
    assert [slice.last_frame for slice in bench.slices.all(Slice)] == [VIEWS - 1, VIEWS]


def test_frames_without_use_are_counted_and_left_out(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan)
    bench.push(scan.image(VIEWS, series="unknown"), scan.image(VIEWS, data=np.zeros((1, 31), np.float32)))
    bench.frames(scan, VIEWS + 1)
    bench.after(0.3)
    assert bench.values["frames_refused"] == 2
    assert (bench.values["frames_received"], bench.values["frames_lost"]) == (VIEWS + 2, 0)
    assert [image.frame for image in bench.filtered.all(Image)] == [*range(VIEWS), VIEWS + 1]


@pytest.mark.parametrize("blind", [np.nan, 3e38])
def test_a_frame_that_says_nothing_is_told_and_its_neighbours_stand_in(bench, clock, blind):
    scan = Scan(FAN)
    bench = bench(clock=clock)
    bench.service.write("update_every", 1)
    bench.push(scan.header, *(scan.image(number) for number in range(10)))
    bench.push(scan.image(10, data=np.full((1, 32), blind, np.float32)))
    bench.frames(scan, *range(11, VIEWS))
    bench.after(0.3)
    assert (bench.values["frames_refused"], bench.values["frames_lost"]) == (1, 0)
    assert bench.values["state"] is State.ALARM
    assert bench.values["status"].startswith("1 frames refused: frame 10: frame: expected")
    picture = bench.slices.wait(Slice)
    assert not picture.complete
    start, along, down = picture.geometry.pose
    row, col = np.mgrid[: picture.data.shape[-2], : picture.data.shape[-1]][..., None]
    inside = np.linalg.norm(start + col * along + row * down - scan.ball_mm, axis=-1) < 0.6 * scan.ball_radius_mm
    assert picture.data[2, 0][inside].mean() == pytest.approx(MU_PER_MM, rel=0.02)
    clock.now += 11
    bench.frames(scan, VIEWS)
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING


def test_numbers_that_start_anew_in_mid_series_are_followed(bench, clock):
    scan = Scan(FAN)
    bench = filled(bench(clock=clock), scan, every=1)
    bench.frames(scan, *range(VIEWS, 4 * VIEWS))
    assert bench.slices.wait(Slice, lambda slice: slice.last_frame == 4 * VIEWS - 1)
    for number in range(3 * VIEWS):  # the angles go on
        bench.push(replace(scan.image(number), angle_rad=STEP_RAD * (4 * VIEWS + number)))
    wait_until(lambda: bench.slices.all(Slice)[-1].last_frame == 3 * VIEWS - 1, what="pictures of the new numbers")
    assert bench.slices.all(Slice)[-1].first_frame == 2 * VIEWS


def test_late_frames_are_used_in_their_place(bench, clock):
    scan = Scan(FAN)
    bench = bench(clock=clock)
    bench.push(scan.header)
    bench.frames(scan, *range(10), 11, 10, *range(12, VIEWS))
    bench.after(0.3)
    assert (bench.values["frames_late"], bench.values["frames_lost"]) == (1, 0)
    assert bench.slices.wait(Slice).complete


def test_latency_is_from_the_last_frame_to_the_slices(bench, clock):
    scan = Scan(FAN)
    clock.lag = 0.05
    bench = filled(bench(clock=clock), scan)
    wait_until(lambda: bench.values["latency_ms"] == pytest.approx(50), what="a latency of 50 ms")
    clock.lag = 0.2
    bench.frames(scan, VIEWS)
    wait_until(lambda: bench.values["latency_ms"] == pytest.approx(200), what="a latency of 200 ms")
    assert {slice.timestamp_s for slice in bench.slices.all(Slice)} == {clock.now}
