"""Scanners and slices: closed forms, conventions, round trips."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.geometry import (
    ScanGeometry,
    SliceGeometry,
    default_slices,
    projection_matrices,
)
from tango_jit.rotations import about_z

CONE: dict[str, Any] = dict(rows=64, cols=96, pixel_mm=(0.5, 0.4), source_axis_mm=200.0, source_detector_mm=320.0)
PARALLEL: dict[str, Any] = dict(rows=64, cols=96, pixel_mm=(0.5, 0.4))
small = st.floats(-0.2, 0.2)
angles = st.floats(-100, 100)


@st.composite
def scans(draw: st.DrawFn) -> ScanGeometry:
    """Scanners with every offset and tilt."""
    shared: dict[str, Any] = dict(
        axis_column=draw(st.floats(40, 55)),
        mid_row=draw(st.floats(20, 40)),
        roll_rad=draw(small),
        pitch_rad=draw(small),
        yaw_rad=draw(small),
    )
    if draw(st.booleans()):
        return ScanGeometry.parallel(**PARALLEL, **shared)
    shared["source_offset_mm"] = draw(st.tuples(st.floats(-20, 20), st.floats(-20, 20)))
    return ScanGeometry.cone(**CONE, **shared)


def project(matrix: np.ndarray, point: np.ndarray) -> tuple[float, float, float]:
    u, v, w = matrix @ [*point, 1.0]
    return u / w, v / w, w


def meets(scan: ScanGeometry, angle_rad: float, point: np.ndarray) -> tuple[float, float]:
    """Column and row where the ray through `point` meets the detector: by solving for the plane."""
    source, centre, u, v = scan.vectors(angle_rad).reshape(4, 3)
    ray = point - source if scan.beam == "cone" else source
    column, row, _ = np.linalg.solve(np.stack([u, v, -ray], axis=1), point - centre)
    return column + (scan.cols - 1) / 2, row + (scan.rows - 1) / 2


def test_at_angle_0_the_beam_travels_along_y_and_columns_run_along_x() -> None:
    scan = ScanGeometry.cone(**CONE)
    assert scan.source_mm == (0, -200, 0)
    np.testing.assert_allclose(scan.detector_mm, (0, 120, 0), atol=1e-12)
    assert scan.u_mm == (0.5, 0, 0)
    assert scan.v_mm == (0, 0, 0.4)
    assert scan.axis_column == pytest.approx(47.5)
    assert scan.voxel_mm == pytest.approx(0.5 * 200 / 320)


def test_the_scanner_turns_counter_clockwise() -> None:
    source = ScanGeometry.cone(**CONE).vectors(math.pi / 2)[0, :3]
    np.testing.assert_allclose(source, (200, 0, 0), atol=1e-12)


@given(scans(), angles, st.tuples(*[st.floats(-15, 15)] * 3))
def test_matrices_project_like_rays(scan: ScanGeometry, angle: float, point: tuple[float, float, float]) -> None:
    column, row, _ = project(scan.matrices(angle)[0], np.array(point))
    assert (column, row) == pytest.approx(meets(scan, angle, np.array(point)), abs=1e-8)


@given(scans(), angles)
def test_w_is_the_depth_relative_to_the_axis(scan: ScanGeometry, angle: float) -> None:
    matrix = scan.matrices(angle)[0]
    assert project(matrix, np.zeros(3))[2] == pytest.approx(1, abs=1e-12)
    if scan.beam == "parallel":
        assert (matrix[2] == (0, 0, 0, 1)).all()
    else:
        source = scan.vectors(angle)[0, :3]
        assert project(matrix, source / 2)[2] == pytest.approx(0.5, abs=1e-12)


@given(scans(), angles)
def test_axis_column_is_where_the_origin_falls_and_shifts_with_it(scan: ScanGeometry, angle: float) -> None:
    column, _, _ = project(scan.matrices(angle)[0], np.zeros(3))
    assert scan.axis_column == pytest.approx(column, abs=1e-8)
    assert scan.shifted(2.25).axis_column == pytest.approx(column + 2.25, abs=1e-8)


@given(small, small, small, st.floats(-20, 20), st.floats(-20, 20))
def test_axis_column_and_mid_row_are_where_the_origin_falls(
    roll: float, pitch: float, yaw: float, along: float, up: float
) -> None:
    place: dict[str, Any] = dict(axis_column=40.25, mid_row=30.5, roll_rad=roll, pitch_rad=pitch, yaw_rad=yaw)
    for scan in (
        ScanGeometry.cone(**CONE, **place, source_offset_mm=(along, up)),
        ScanGeometry.parallel(**PARALLEL, **place),
    ):
        assert project(scan.matrices(1.0)[0], np.zeros(3))[:2] == pytest.approx((40.25, 30.5))


@pytest.mark.parametrize("angle", [0.0, 0.7, 3.0, 5.5])
def test_the_convention_of_the_recorded_scans(angle: float) -> None:
    """t = x cos + y sin + cor; u = D (x cos + y sin)/(R - x sin + y cos)/du + cor."""
    x, y = 3.0, -5.0
    c, s = math.cos(angle), math.sin(angle)
    flat = ScanGeometry.parallel(rows=1, cols=160, pixel_mm=1.0, axis_column=85.7)
    assert project(flat.matrices(angle)[0], np.array([x, y, 0]))[0] == pytest.approx(x * c + y * s + 85.7)
    fan = ScanGeometry.cone(
        rows=1, cols=328, pixel_mm=0.35, source_axis_mm=110, source_detector_mm=300, axis_column=162.75
    )
    expected = 300 * (x * c + y * s) / (110 - x * s + y * c) / 0.35 + 162.75
    assert project(fan.matrices(angle)[0], np.array([x, y, 0]))[0] == pytest.approx(expected)


@given(scans(), angles)
def test_astra_vectors_go_in_and_out(scan: ScanGeometry, angle: float) -> None:
    vector = scan.vectors(angle)[0]
    again = ScanGeometry.from_astra(scan.beam, vector, rows=scan.rows, cols=scan.cols, angle_rad=angle)
    np.testing.assert_allclose(again.vectors(angle)[0], vector, atol=1e-9)
    expected = projection_matrices(scan.beam, vector, scan.rows, scan.cols)
    np.testing.assert_allclose(again.matrices(angle), expected, atol=1e-8)


@given(scans())
def test_many_turns_lose_no_precision(scan: ScanGeometry) -> None:
    np.testing.assert_allclose(scan.matrices(1.0 + 2 * math.pi * 10_000), scan.matrices(1.0), atol=1e-8)


@given(scans())
def test_a_scan_survives_json(scan: ScanGeometry) -> None:
    assert ScanGeometry.from_dict(json.loads(json.dumps(scan.to_dict()))) == scan


def test_a_tilt_turns_the_detector_about_its_own_axes() -> None:
    roll = ScanGeometry.cone(**CONE, roll_rad=0.1)
    np.testing.assert_allclose(roll.u_mm, 0.5 * np.array([math.cos(0.1), 0, -math.sin(0.1)]), atol=1e-12)
    yaw = ScanGeometry.cone(**CONE, yaw_rad=0.1)
    np.testing.assert_allclose(yaw.u_mm, 0.5 * np.array([math.cos(0.1), math.sin(0.1), 0]), atol=1e-12)
    pitch = ScanGeometry.cone(**CONE, pitch_rad=0.1)
    np.testing.assert_allclose(pitch.v_mm, 0.4 * np.array([0, -math.sin(0.1), math.cos(0.1)]), atol=1e-12)


@pytest.mark.parametrize(
    "scan",
    [
        ScanGeometry.cone(**CONE),
        ScanGeometry.cone(**CONE, axis_column=40.0),
        ScanGeometry.parallel(**PARALLEL, axis_column=50.0),
    ],
)
def test_radius_is_what_the_nearer_edge_sees_in_every_view(scan: ScanGeometry) -> None:
    def columns(radius: float) -> np.ndarray:
        point = np.array([radius, 0.0, 0.0])
        return np.array([project(m, point)[0] for m in scan.matrices(np.linspace(0, 2 * math.pi, 2000))])

    inside, outside = columns(0.999 * scan.radius_mm), columns(1.001 * scan.radius_mm)
    assert inside.min() >= -0.5
    assert inside.max() <= scan.cols - 0.5
    assert outside.min() < -0.5 or outside.max() > scan.cols - 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rows=0), "rows: expected a whole number from 1"),
        (dict(cols=2.5), "cols: expected a whole number"),
        (dict(rows=True), "rows: expected a whole number"),
        (dict(pixel_mm=0.0), "pixel_mm: expected a length above 0"),
        (dict(source_axis_mm=math.nan), "source_axis_mm: expected a length above 0"),
        (dict(source_detector_mm=100.0), "source_detector_mm: expected at least source_axis_mm"),
        (dict(source_offset_mm=(math.inf, 0.0)), "source_mm: expected 3 finite numbers"),
    ],
)
def test_what_is_no_scanner_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScanGeometry.cone(**{**CONE, **change})


def test_vectors_that_are_no_scanner_are_refused() -> None:
    good = ScanGeometry.cone(**CONE).to_dict()
    for change, message in (
        (dict(v_mm=good["u_mm"]), "two different directions"),
        (dict(source_mm=(0, 500, 0)), "source, axis and detector in this order"),
        (dict(source_mm=(0, 120, 10)), "source, axis and detector in this order"),
        (dict(beam="fan"), "beam: expected 'cone' or 'parallel'"),
        (dict(beam="parallel", source_mm=(1, 0, 0)), "a ray that meets the detector"),
        (dict(beam="parallel", source_mm=(0, 0, 0)), "a ray that meets the detector"),
        (dict(extra=1), "expected the fields"),
    ):
        with pytest.raises(ValueError, match=message):
            ScanGeometry.from_dict(good | change)
    del good["rows"]
    with pytest.raises(ValueError, match="expected the fields"):
        ScanGeometry.from_dict(good)


def test_rotation_is_right_handed_about_z() -> None:
    turned = about_z([(1, 0, 5), (0, 1, 0)], [math.pi / 2])
    np.testing.assert_allclose(turned[0], [(0, 1, 5), (-1, 0, 0)], atol=1e-12)


def test_a_slice_has_its_pixel_centres_half_a_step_from_its_corner() -> None:
    slice_ = SliceGeometry((1, 2, 3), (8, 0, 0), (0, 0, -6), rows=3, cols=4)
    np.testing.assert_allclose(slice_.pose, [(2, 2, 2), (2, 0, 0), (0, 0, -2)])
    assert slice_.pixel_mm == (2, 2)
    np.testing.assert_allclose(slice_.center_mm, (5, 2, 0))
    points = slice_.points()
    assert points.shape == (3, 4, 3)
    np.testing.assert_allclose(points[2, 3], (8, 2, -2))
    np.testing.assert_allclose(points.mean((0, 1)), slice_.center_mm)


@given(st.tuples(*[st.floats(-50, 50)] * 3), st.floats(0.01, 10), st.integers(1, 40), st.integers(1, 40))
def test_a_centred_slice_is_centred(center: tuple[float, float, float], pixel: float, rows: int, cols: int) -> None:
    slice_ = SliceGeometry.centered(center, (1, 1, 0), (0, 0, -3), pixel_mm=pixel, shape=(rows, cols))
    np.testing.assert_allclose(slice_.center_mm, center, atol=1e-9)
    assert slice_.pixel_mm == pytest.approx((pixel, pixel))
    assert slice_.shape == (rows, cols)
    assert slice_.with_nine(slice_.nine) == slice_
    assert SliceGeometry.from_dict(json.loads(json.dumps(slice_.to_dict()))) == slice_


def test_what_is_no_slice_is_refused() -> None:
    good: dict[str, Any] = dict(origin_mm=(0, 0, 0), u_mm=(1, 0, 0), v_mm=(0, 1, 0), rows=4, cols=4)
    for change, message in (
        (dict(v_mm=(2, 0, 0)), "span a plane"),
        (dict(u_mm=(0, 0, 0)), "span a plane"),
        (dict(u_mm=(math.nan, 0, 0)), "u_mm: expected 3 finite numbers"),
        (dict(origin_mm=(0, 0)), "origin_mm: expected 3 finite numbers"),
        (dict(rows=0), "rows: expected a whole number"),
        (dict(cols=20000), "cols: expected a whole number from 1 to 16384"),
        (dict(depth=1), "expected the fields"),
    ):
        with pytest.raises(ValueError, match=message):
            SliceGeometry.from_dict(good | change)
    with pytest.raises(ValueError, match="expected 9 numbers"):
        SliceGeometry(**good).with_nine([1, 2, 3])


def test_the_default_slices_cover_the_field_of_view() -> None:
    scan = ScanGeometry.cone(**CONE)
    slices = default_slices(scan)
    assert list(slices) == ["xy", "xz", "yz"]
    assert all(slice_.shape == (96, 96) for slice_ in slices.values())
    assert slices["xy"].pixel_mm[0] * 96 == pytest.approx(2 * scan.radius_mm)
    top_left = {name: slice_.points()[0, 0] for name, slice_ in slices.items()}
    assert top_left["xy"][0] < 0 < top_left["xy"][1]
    assert top_left["xz"][0] < 0 < top_left["xz"][2]
    assert top_left["yz"][1] < 0 < top_left["yz"][2]
    assert default_slices(scan, (20, 30))["xz"].shape == (20, 30)


def test_a_slice_stands_where_its_plane_cuts_its_normal() -> None:
    slices = default_slices(ScanGeometry.parallel(**PARALLEL))
    for name, axis in (("xy", 2), ("xz", 1), ("yz", 0)):
        assert slices[name].normal.tolist() == np.eye(3)[axis].tolist()
        moved = slices[name].moved_to(1.5)
        assert moved.offset_mm == 1.5
        assert (moved.center_mm - slices[name].center_mm).tolist() == (1.5 * np.eye(3)[axis]).tolist()
        assert (moved.u_mm, moved.v_mm, moved.shape) == (slices[name].u_mm, slices[name].v_mm, slices[name].shape)


def test_a_tilted_slice_moves_along_its_normal() -> None:
    tilted = SliceGeometry((1.0, 2.0, 3.0), (4.0, 0.0, 0.0), (0.0, 3.0, 3.0), 20, 30)
    assert tilted.normal == pytest.approx([0, -(0.5**0.5), 0.5**0.5])
    assert tilted.offset_mm == pytest.approx(0.5**0.5)  # (1, 2, 3) on that
    assert tilted.moved_to(0.0).origin_mm == pytest.approx((1.0, 2.5, 2.5))


def test_a_single_row_has_one_slice() -> None:
    assert list(default_slices(ScanGeometry.cone(**{**CONE, "rows": 1}))) == ["xy"]
