"""FindCenter: the given centres of real scans are found again from a wrong start."""

from dataclasses import replace

import numpy as np
import pytest

from sim.record import record
from sim.scenario import load
from tango_jit.geometry import ScanGeometry
from tango_jit.recon import backproject
from tango_jit.recon.backproject.ring import HostRing
from tango_jit.recon.center import TRUSTED, Search, both, find_center, sharpness
from tango_jit.recon.center.plane import copied_band, mid_plane_z_mm, mid_row
from tango_jit.recon.center.search import confidence
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.window import ProjectionWindow, Window
from tango_jit.recordings import open_recording
from tests.phantom import ball
from tests.real_scans import dendrite, htc_geometry, htc_stream, savu, tooth, walnut
from tests.reconstructions import window_of as window_of_views


def window_of(path, shift_px: float, views: int | None = None):
    """The first full window of a recording, with the axis `shift_px` columns beside its place."""
    with open_recording(path) as source:
        header = source.header
        geometry = header.geometry.shifted(shift_px)
        dark, flat = (None if field is None else field.mean for field in (source.dark, source.flat))
        preprocess = Preprocessor(geometry, linear=header.linear, dark=dark, flat=flat)
        window = ProjectionWindow(geometry)
        for index in range(views or len(source)):
            image = source.frame(index)
            window.add(image.frame, image.angle_rad, preprocess(np.asarray(image.data)[None])[0])
    full = window.window()
    assert full is not None
    return full, geometry


@pytest.mark.parametrize(("scan", "views"), [(htc_stream, 180), (walnut, None), (tooth, None)])
@pytest.mark.parametrize(("method", "tolerance_px"), [("auto", 0.3), ("opposite", 0.5)])
def test_the_given_centre_is_found_again(shared_data, tmp_path, scan, views, method, tolerance_px):
    window, geometry = window_of(scan(tmp_path), -6.3, views)
    *_, last = find_center(window, geometry, reach_px=8, method=method)
    assert last.progress == 1
    assert last.shift_px == pytest.approx(6.3, abs=tolerance_px)
    assert last.confidence > 0.9


def test_a_scan_in_three_dimensions_is_centred_by_its_mid_rows(shared_data, tmp_path):
    window, geometry = window_of(savu(tmp_path), -6.3)
    *_, last = find_center(window, geometry, method="opposite")
    assert last.shift_px == pytest.approx(6.3, abs=0.5)
    assert last.confidence > 0.9


def test_where_noise_hides_the_object_the_answer_is_a_guess_and_said_to_be_one(shared_data, tmp_path):
    """Sharpness finds nothing in it and says so; opposite views still come near."""
    window, geometry = window_of(dendrite(tmp_path), -6.3)
    opposite, sharpest = (
        list(find_center(window, geometry, method=method))[-1] for method in ("opposite", "sharpness")
    )
    assert sharpest.confidence < 0.1
    assert opposite.shift_px == pytest.approx(6.3, abs=1.0)
    answer = both(opposite, sharpest, whole_turn=True)
    assert answer.shift_px == opposite.shift_px
    assert answer.confidence < TRUSTED


@pytest.mark.parametrize("geometry", [htc_geometry(), ScanGeometry.parallel(rows=1, cols=400, pixel_mm=1.0)])
def test_pure_noise_is_not_trusted(geometry):
    span = geometry.full_turn_rad
    for seed in range(3):
        frames = np.random.default_rng(seed).standard_normal((160, 1, geometry.cols)).astype(np.float32)
        ring = ProjectionWindow(geometry)
        for k, view in enumerate(Preprocessor(geometry, linear=True)(frames)):
            ring.add(k, span * k / 160, view)
        window = ring.window()
        assert window is not None
        *_, last = find_center(window, geometry, method="opposite" if seed else "auto")
        assert last.confidence < 0.2


def test_what_makes_an_answer_sure():
    peak = {float(s): 1 / (1 + (s - 2) ** 2) for s in range(-10, 11)}
    beside = {s: peak.get(s - 3, 0.0) for s in peak}
    assert confidence(peak, peak, peak) == 1
    assert confidence(peak, peak, beside) == pytest.approx(0.1)  # 3 pixels apart
    assert confidence({s: s for s in peak}, peak, peak) == 0  # at the end of the range
    two = {s: max(peak[s], peak.get(-s - 4, 0.0) * 0.99) for s in peak}
    assert confidence(two, two, two) < 0.1


def test_two_methods_confirm_or_contradict_each_other():
    one, near, far = Search(1, 2.0, 0.6), Search(1, 2.4, 0.5), Search(1, 9.0, 0.5)
    assert both(one, near, whole_turn=False) == Search(1, 2.4, 1 - 0.4 * 0.5)
    assert both(one, near, whole_turn=True) == Search(1, 2.0, 1 - 0.4 * 0.5)
    for whole_turn in (False, True):
        assert both(one, far, whole_turn=whole_turn) == Search(1, 2.0, 0.3)
        assert both(far, one, whole_turn=whole_turn) == Search(1, 2.0, 0.3)


def test_an_unknown_method_is_refused(shared_data, tmp_path):
    window, geometry = window_of(walnut(tmp_path), 0.0)
    with pytest.raises(ValueError, match="method: expected one of auto, sharpness, opposite, got 'eye'"):
        find_center(window, geometry, method="eye")


@pytest.mark.parametrize("shift_px", [8.0, -3.0, 15.0])
def test_moving_balls_are_centred_from_far_away(tmp_path, shift_px):
    """Their side lobes, 3.5 pixels away, are nearly as sharp."""
    path = tmp_path / "balls.nxs"
    record(load("balls").with_(seed=1), path, frames=150)
    window, geometry = window_of(path, shift_px)
    *_, last = find_center(window, geometry)
    assert last.shift_px == pytest.approx(-shift_px, abs=0.05)  # sharpness alone: 0.1
    assert last.confidence > TRUSTED


def test_progress_grows_and_the_window_may_go_on(shared_data, tmp_path):
    window, geometry = window_of(walnut(tmp_path), 1.0)
    search = find_center(window, geometry, reach_px=4)
    first = next(search)
    newer = np.full(window.projections.shape[1:], 1e3, np.float32)
    for slot in window.slots:
        window.projections.put(slot, newer)  # the ring is used for newer frames meanwhile
    rest = list(search)
    progress = [first.progress, *(s.progress for s in rest)]
    assert progress == sorted(progress)
    assert rest[-1].shift_px == pytest.approx(-1.0, abs=0.3)


OFF_MIDDLE = ScanGeometry.cone(
    rows=40, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200, mid_row=15, source_offset_mm=(0, 0.5)
)


def of_a_ball(geometry: ScanGeometry) -> Window:
    """A ball off the axis, in 48 views."""
    angles = 2 * np.pi / 48 * np.arange(48)
    views = ball(geometry, angles, (1.0, -0.5, mid_plane_z_mm(geometry)), 2.0, 0.5)
    return window_of_views(geometry, range(48), angles, views)


def test_the_plane_that_is_searched_is_that_of_the_source():
    assert mid_plane_z_mm(OFF_MIDDLE) == 0.5
    seen = OFF_MIDDLE.matrices(np.linspace(0, 6, 7)) @ (2.0, -1.0, 0.5, 1.0)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2], mid_row(OFF_MIDDLE), atol=0.5)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2], seen[0, 1] / seen[0, 2])  # one row in every view
    below = ScanGeometry.cone(rows=9, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200, mid_row=-20)
    assert mid_row(below) == 0  # not seen: the nearest row


@pytest.mark.skipif(bool(backproject.obstacle("astra")), reason=backproject.obstacle("astra"))
def test_the_plane_of_the_source_is_one_that_astra_can_show_without_a_gpu():
    window, _ = copied_band(of_a_ball(OFF_MIDDLE), OFF_MIDDLE)
    host = HostRing(np.stack([window.projections.read(int(slot)) for slot in window.slots]))
    by_astra = sharpness(replace(window, projections=host), OFF_MIDDLE, 0.0, "astra")
    assert by_astra == pytest.approx(sharpness(window, OFF_MIDDLE, 0.0), rel=0.1)


@pytest.mark.parametrize(("roll_rad", "most"), [(0.0, 8), (0.05, 16)])
def test_only_the_rows_that_show_the_plane_are_copied_and_tell_the_same(roll_rad, most):
    geometry = ScanGeometry.cone(
        rows=200, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200, mid_row=80, roll_rad=roll_rad
    )
    window = of_a_ball(geometry)
    band, first = copied_band(window, geometry)
    assert first > 60
    assert 5 <= band.projections.shape[1] <= most
    for shift_px in (0.0, 2.0):
        of_all = sharpness(window, geometry, shift_px)
        assert sharpness(band, geometry, shift_px) == pytest.approx(of_all, rel=1e-4)
