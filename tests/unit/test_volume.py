"""The volume of the whole field of view: right values at the right place, in parts, from a window that goes on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.volume import StaleWindowError, VolumeGeometry, field_of_view, in_parts, volume
from tango_jit.recon.window import ProjectionWindow
from tests.phantom import ball, turn
from tests.reconstructions import full_slice, window_of

CENTER, RADIUS, MU = (5.0, -8.0, 4.0), 9.0, 0.05  # mm, mm, 1/mm
CONE = ScanGeometry.cone(rows=160, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300)
PARALLEL = ScanGeometry.parallel(rows=130, cols=200, pixel_mm=0.32)
OFFSET = ScanGeometry.cone(
    rows=160, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300, axis_column=88.2, mid_row=70
)
FAN = ScanGeometry.cone(rows=1, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300)


def window(scan: ScanGeometry, center_mm: tuple[float, float, float] = CENTER, views: int = 120) -> Any:
    angles = turn(views)
    return window_of(scan, range(views), angles, ball(scan, angles, center_mm, RADIUS, MU))


def centres(place: VolumeGeometry) -> NDArray[np.float64]:
    """(slices, rows, cols, 3) in mm."""
    return place.first.points() + np.arange(place.slices)[:, None, None, None] * np.array(place.step_mm)


@pytest.mark.parametrize("scan", [CONE, PARALLEL, OFFSET], ids=["cone", "parallel", "offset"])
def test_a_ball_is_where_it_is(scan: ScanGeometry) -> None:
    """Its values to 1 %, its middle to a tenth of a voxel; around it nothing to 2 % of it."""
    place = field_of_view(scan, 64)
    data = volume(window(scan), scan, place)
    assert data.shape == place.shape == (64, 64, 64)
    away = centres(place) - np.array(CENTER)
    distance = np.linalg.norm(away, axis=-1)
    assert data[distance < 0.7 * RADIUS].mean() == pytest.approx(MU, rel=0.01)
    assert abs(data[(distance > 1.4 * RADIUS) & (distance < 1.8 * RADIUS)].mean()) < 0.02 * MU
    near = distance < 1.4 * RADIUS
    centroid = (data[near, None] * away[near]).sum(axis=0) / data[near].sum()
    assert np.linalg.norm(centroid) < 0.1 * abs(place.step_mm[2])


def test_slices_lie_like_the_default_slices() -> None:
    """A slice of the volume like xy, a cut through its rows like xz."""
    place = field_of_view(CONE, 64)
    first, xy, xz = place.first, default_slices(CONE, (64, 64))["xy"], default_slices(CONE, (64, 64))["xz"]
    for edge, like in ((first.u_mm, xy.u_mm), (first.v_mm, xy.v_mm), (place.step_mm, xz.v_mm)):
        assert np.dot(edge, like) == pytest.approx(np.linalg.norm(edge) * np.linalg.norm(like))
    assert first.pixel_mm == pytest.approx((abs(place.step_mm[2]),) * 2)
    middle = (place.poses[31, 0] + place.poses[32, 0])[2] / 2
    assert middle == pytest.approx(0, abs=1e-9)
    assert place.twelve.tolist() == [*first.origin_mm, *first.u_mm, *first.v_mm, *place.step_mm]


def test_the_cube_holds_what_the_detector_sees_of_the_axis() -> None:
    high = ScanGeometry.parallel(rows=101, cols=41, pixel_mm=0.5, mid_row=30)
    place = field_of_view(high, 50)
    height = centres(place)[:, 0, 0, 2]
    assert (height.max(), height.min()) == pytest.approx(((101 - 0.5 - 30) * 0.5 - 0.505, (-0.5 - 30) * 0.5 + 0.505))
    wide = field_of_view(CONE, 50)
    assert wide.first.pixel_mm == pytest.approx((CONE.radius_mm / 25,) * 2)


def test_voxels_like_pixels_are_what_slices_show() -> None:
    """No averaging where voxels are no larger than pixels: the same numbers as slices, one by one."""
    scan = ScanGeometry.cone(rows=24, cols=40, pixel_mm=2.4, source_axis_mm=200, source_detector_mm=300)
    seen = window(scan, views=41)  # odd: the full slice has weights of its own
    place = field_of_view(scan, 60)
    data = volume(seen, scan, place)
    for k in (0, 17, 31):
        (x, y, z), u, v = place.first.origin_mm, place.first.u_mm, place.first.v_mm
        slice_ = SliceGeometry((x, y, z + k * place.step_mm[2]), u, v, 60, 60)
        expected = full_slice(scan, seen, slice_)
        np.testing.assert_allclose(data[k], expected, atol=2e-4 * MU)


def test_averaged_views_show_less_noise_than_samples() -> None:
    angles, rng = turn(60), np.random.default_rng(0)
    noise = rng.standard_normal((60, PARALLEL.rows, PARALLEL.cols)).astype(np.float32)
    seen = window_of(PARALLEL, range(60), angles, noise)
    place = field_of_view(PARALLEL, 32)
    inside = np.s_[12:20, 8:24, 8:24]
    samples = Reconstructor(PARALLEL).reconstruct_pairs(seen, place.poses, (32, 32)).mean(axis=1)
    assert volume(seen, PARALLEL, place)[inside].std() < 0.3 * samples[inside].std()


def test_a_fan_has_one_slice() -> None:
    place = field_of_view(FAN, 64)
    assert place.shape == (1, 64, 64)
    data = volume(window(FAN, (5.0, -8.0, 0.0)), FAN, place)
    distance = np.linalg.norm(centres(place) - np.array((5.0, -8.0, 0.0)), axis=-1)
    assert data[distance < 0.7 * RADIUS].mean() == pytest.approx(MU, rel=0.01)
    tall = VolumeGeometry(place.first, (0, 0, -1), 3)
    with pytest.raises(ValueError, match="expected the plane z = 0 mm"):
        volume(window(FAN), FAN, tall)


def test_every_backend_makes_the_same() -> None:
    scan = ScanGeometry.cone(rows=40, cols=50, pixel_mm=1.9, source_axis_mm=200, source_detector_mm=300)
    place, angles = field_of_view(scan, 20), turn(30)
    views = Preprocessor(scan, linear=True)(ball(scan, angles, CENTER, RADIUS, MU))
    made = []
    for backend in ("cpu", "reference"):
        ring = ProjectionWindow(scan, backend=backend)
        for k in range(30):
            ring.add(k, angles[k], views[k])
        seen = ring.window()
        assert seen is not None
        made.append(volume(seen, scan, place, backend))
    np.testing.assert_allclose(made[0], made[1], atol=1e-3 * MU)


def test_parts_grow_to_a_whole_while_the_window_goes_on() -> None:
    """Once the views are read, frames may come and overwrite them."""
    ring, angles = ProjectionWindow(CONE), turn(130)
    views = Preprocessor(CONE, linear=True)(ball(CONE, angles, CENTER, RADIUS, MU))
    step = 2 * math.pi / 120
    for k in range(120):
        ring.add(k, k * step, views[k])
    seen = ring.window()
    assert seen is not None
    place = field_of_view(CONE, 48)
    expected = volume(seen, CONE, place)
    progress, last, frame = [], None, 120
    for part in in_parts(seen, CONE, place, part_pixels=10 * CONE.rows * CONE.cols):
        progress.append(part.progress)
        assert (part.data is None) == (part.progress < 1)
        last = part.data
        if part.progress >= 0.25:
            for k in range(frame, frame + 20):
                ring.add(k, k * step, np.full(views.shape[1:], 9, np.float32))
            frame += 20
    assert progress == sorted(progress)
    assert len(progress) > 12
    assert not np.isin(seen.serials, seen.occupants).all()
    assert last is not None
    np.testing.assert_array_equal(last, expected)


def test_views_that_were_overwritten_before_they_were_read_are_noticed() -> None:
    ring, step = ProjectionWindow(CONE), 2 * math.pi / 60
    blank = np.zeros((CONE.rows, CONE.cols), np.float32)
    for k in range(60):
        ring.add(k, k * step, blank)
    seen = ring.window()
    assert seen is not None
    parts = in_parts(seen, CONE, field_of_view(CONE, 16), part_pixels=1)
    next(parts)
    for k in range(60, 180):
        ring.add(k, k * step, blank)
    with pytest.raises(StaleWindowError, match="some are gone"):
        for _ in parts:
            pass


def test_nonsense_is_refused() -> None:
    place = default_slices(CONE, (8, 8))["xy"]
    with pytest.raises(ValueError, match="step_mm: expected one that leaves the plane"):
        VolumeGeometry(place, (1.0, 1.0, 0.0), 3)
    with pytest.raises(ValueError, match="slices: expected at least 1, got 0"):
        VolumeGeometry(place, (0.0, 0.0, 1.0), 0)
    with pytest.raises(ValueError, match="size: expected at least 2 voxels a side, got 1"):
        field_of_view(CONE, 1)
