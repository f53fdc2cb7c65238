"""The cylinder around the sample: found where it is, not found where there is none, the same each time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.lab.real import real
from benchmarks.lab.windows import Windows
from tango_jit.geometry import ScanGeometry
from tango_jit.recon import volume
from tango_jit.recon.container import coarse, container, enclosing, found, otsu, searched
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.volume import StaleWindowError, field_of_view
from tango_jit.recon.window import ProjectionWindow
from tests.phantom import ball, turn
from tests.reconstructions import window_of

CONE = ScanGeometry.cone(rows=160, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300)
OFFSET = ScanGeometry.cone(
    rows=160, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300, axis_column=88.2, mid_row=70
)
PARALLEL = ScanGeometry.parallel(rows=130, cols=200, pixel_mm=0.32)
FAN = ScanGeometry.cone(rows=1, cols=200, pixel_mm=0.48, source_axis_mm=200, source_detector_mm=300)
CENTER, RADIUS, MU = (5.0, -8.0, 4.0), 9.0, 0.05  # mm, mm, 1/mm
FLAT = (5.0, -8.0, 0.0)
VIEWS = 90


def window(scan: ScanGeometry, *balls: tuple[tuple[float, float, float], float, float], noise: float = 0.0) -> Any:
    """Of balls (centre, radius, attenuation), with noise in the line integrals."""
    angles = turn(VIEWS)
    lines = noise * np.random.default_rng(0).normal(size=(VIEWS, scan.rows, scan.cols)).astype(np.float32)
    for center, radius, mu in balls:
        lines += ball(scan, angles, center, radius, mu)
    return window_of(scan, range(VIEWS), angles, lines)


def assert_holds(cylinder: NDArray[np.float64] | None, scan: ScanGeometry, center: Any = CENTER) -> None:
    """The cylinder of a ball, to a voxel and a half of the coarse volume; never less than the ball."""
    assert cylinder is not None
    voxel = coarse(scan).first.pixel_mm[0]
    x, y, radius, bottom, top = cylinder
    apart = math.hypot(x - center[0], y - center[1])
    assert apart < 0.5 * voxel
    assert RADIUS - 0.25 * voxel <= radius < RADIUS + 2 * voxel
    if scan.rows > 1:
        assert abs(bottom - (center[2] - RADIUS)) < 2 * voxel
        assert abs(top - (center[2] + RADIUS)) < 2 * voxel


@pytest.mark.parametrize("scan", [CONE, OFFSET, PARALLEL], ids=["cone", "offset", "parallel"])
def test_a_ball_off_the_axis_is_found(scan: ScanGeometry) -> None:
    assert_holds(found(window(scan, (CENTER, RADIUS, MU)), scan).cylinder, scan)


def test_a_ball_is_found_in_the_single_slice_of_a_fan() -> None:
    result = found(window(FAN, (FLAT, RADIUS, MU)), FAN)
    assert_holds(result.cylinder, FAN, FLAT)
    assert result.why.startswith("radius ")
    assert "of the field of view" in result.why


def test_noise_does_not_move_it() -> None:
    """As much noise in a single pixel of a view as a third of what the middle of the ball takes away."""
    seen = window(CONE, (CENTER, RADIUS, MU), noise=0.3)
    assert_holds(found(seen, CONE).cylinder, CONE)


def test_a_dense_core_is_not_all_there_is() -> None:
    """Otsu's cut alone would part the core from all else."""
    core = (CENTER[0] + 2, CENTER[1], CENTER[2]), 2.5, 5 * MU
    assert_holds(found(window(CONE, (CENTER, RADIUS, MU), core, noise=0.05), CONE).cylinder, CONE)


def test_pieces_of_a_sample_are_in_one_container() -> None:
    left, right = (-12.0, 0.0, 0.0), (12.0, 0.0, 0.0)
    cylinder = found(window(CONE, (left, 6.0, MU), (right, 6.0, MU)), CONE).cylinder
    assert cylinder is not None
    assert math.hypot(*cylinder[:2]) < 1.0
    assert 18.0 <= cylinder[2] < 22.0


@pytest.mark.parametrize("scan", [CONE, FAN], ids=["cone", "fan"])
def test_nothing_is_found_in_noise(scan: ScanGeometry) -> None:
    result = found(window(scan, noise=0.1), scan)
    assert result.cylinder is None
    assert result.why == "nothing stands out from the noise"


def test_a_real_disc_is_found(shared_data: Path) -> None:
    """An acrylic disc of 70 mm, a little off the axis, with holes; 180 views."""
    experiment = real("htc-ta", 180)
    cylinder = found(Windows(experiment).at(181), experiment.geometry).cylinder
    assert cylinder is not None
    x, y, radius, bottom, top = cylinder
    assert math.hypot(x, y) < 1.5
    assert 35.0 < radius < 37.0
    assert bottom < 0 < top


def test_nothing_is_found_in_nothing() -> None:
    assert found(window(FAN), FAN).cylinder is None
    place = field_of_view(FAN, 16)
    for value in (0.0, 0.3, np.nan):
        assert container(np.full(place.shape, value, np.float32), place).cylinder is None
    assert container(np.ones(place.shape, np.float32), place, np.zeros(place.shape, bool)).cylinder is None


def test_a_sample_that_fills_the_field_of_view_has_no_container() -> None:
    result = found(window(FAN, ((0.0, 0.0, 0.0), 0.97 * FAN.radius_mm, MU)), FAN)
    assert result.cylinder is None
    assert result.why.startswith("the sample fills the field of view")


def test_lone_noisy_voxels_do_not_count() -> None:
    place = field_of_view(FAN, 64)
    data = np.zeros(place.shape, np.float32)
    data[0, 20:40, 20:40] = 1.0
    clean = container(data, place).cylinder
    data[0, 2, 2] = data[0, 60, 30] = 4.0
    np.testing.assert_array_equal(container(data, place).cylinder, clean)


def test_it_comes_in_parts_and_is_the_same_each_time() -> None:
    seen = window(CONE, (CENTER, RADIUS, MU), noise=0.1)
    *parts, last = searched(seen, CONE, part_pixels=1_000_000)
    assert len(parts) > 3
    assert parts == [None] * len(parts)
    assert last is not None
    np.testing.assert_array_equal(last.cylinder, found(seen, CONE).cylinder)


def test_views_that_are_overwritten_are_told() -> None:
    ring, angles = ProjectionWindow(FAN), turn(VIEWS)
    lines = Preprocessor(FAN, linear=True)(ball(FAN, angles, FLAT, RADIUS, MU))
    for number in range(VIEWS + 1):
        ring.add(number, number * 2 * math.pi / VIEWS, lines[number % VIEWS])
    seen = ring.window()
    assert seen is not None
    parts = searched(seen, FAN, part_pixels=FAN.cols)
    next(parts)
    for number in range(VIEWS + 1, 3 * VIEWS):
        ring.add(number, number * 2 * math.pi / VIEWS, lines[number % VIEWS])
    with pytest.raises(StaleWindowError):
        list(parts)


def test_a_circle_holds_all_points_and_is_hardly_larger_than_it_has_to_be() -> None:
    random = np.random.default_rng(2)
    angle, away = random.uniform(0, 2 * math.pi, 300), random.uniform(0, 7, 300)
    rim = 7 * np.stack([np.cos(2.1 * np.arange(3)), np.sin(2.1 * np.arange(3))], 1)
    points = np.concatenate([np.stack([away * np.cos(angle), away * np.sin(angle)], 1), rim]) + np.array([3, -4])
    x, y, radius = enclosing(points)
    assert np.hypot(points[:, 0] - x, points[:, 1] - y).max() <= radius + 1e-9
    assert 7 - 1e-9 <= radius < 1.01 * 7
    assert enclosing(np.array([[2.0, 3.0]])) == (2.0, 3.0, 0.0)


def test_the_cut_lies_between_two_materials() -> None:
    random = np.random.default_rng(3)
    values = np.concatenate([random.normal(0, 0.1, 3000), random.normal(1, 0.1, 1000)]).astype(np.float32)
    cut, step, within = otsu(values)
    assert 0.3 < cut < 0.7
    assert step == pytest.approx(1.0, abs=0.02)
    assert within == pytest.approx(0.1, abs=0.01)


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    volume.warm_up()
