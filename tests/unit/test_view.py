"""Placing slices, the camera, the picture of slices in space."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.geometry import SliceGeometry
from tango_jit.view import Camera, Haze, Placement, Plane, hit, placing, render
from tango_jit.view.display import bar_length, even_levels, levels, log_ticks
from tango_jit.view.scene import textured

XY = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(40, 60))
XZ = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 0, -1), pixel_mm=0.1, shape=(40, 60))
GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
number = st.floats(-5, 5)
angle = st.floats(-170, 170)
size = st.floats(0.5, 20)
slices = st.builds(
    lambda x, y, z, a, e, r, w, h: Placement(x, y, z, a, e, r, w, h).place(XY),
    number, number, number, angle, st.floats(-85, 85), angle, size, size,
)  # fmt: skip


# ---- placing


def test_normal_is_across_both_edges() -> None:
    assert np.allclose(placing.normal(XY), (0, 0, -1))
    assert np.allclose(placing.normal(XZ), (0, 1, 0))


@given(slices, number, number, number)
def test_through_a_point_moves_along_the_normal_alone(place: SliceGeometry, x: float, y: float, z: float) -> None:
    moved = placing.through(place, (x, y, z))
    shift = moved.center_mm - place.center_mm
    across = placing.normal(place)
    assert np.allclose(shift, across * (across @ shift), atol=1e-9)
    assert abs(placing.normal(moved) @ (np.array((x, y, z)) - moved.center_mm)) < 1e-9


@given(slices, angle)
def test_turning_keeps_center_and_edges(place: SliceGeometry, degrees: float) -> None:
    turned = placing.turned(place, (1, 2, 3), math.radians(degrees))
    assert np.allclose(turned.center_mm, place.center_mm, atol=1e-9)
    assert np.linalg.norm(turned.u_mm) == pytest.approx(np.linalg.norm(place.u_mm))
    back = placing.turned(turned, (1, 2, 3), -math.radians(degrees))
    assert np.allclose(back.nine, place.nine, atol=1e-9)


def test_turning_is_right_handed() -> None:
    assert np.allclose(placing.turned(XY, (0, 0, 1), math.pi / 2).u_mm, (0, 6, 0))
    with pytest.raises(ValueError, match="axis: expected a direction"):
        placing.turned(XY, (0, 0, 0), 1.0)


@given(slices, st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1))
def test_zooming_keeps_a_point_in_its_pixel(place: SliceGeometry, factor: float, column: float, row: float) -> None:
    point = placing.at(place, column, row)
    zoomed = placing.zoomed(place, factor, point)
    assert np.allclose(placing.fractions(zoomed, point), (column, row), atol=1e-6)
    assert np.linalg.norm(zoomed.v_mm) == pytest.approx(factor * np.linalg.norm(place.v_mm))
    assert zoomed.shape == place.shape


def test_cutting_out_keeps_pixels_and_their_aspect() -> None:
    part = placing.cut_out(XY, 0.25, 0.25, 0.5, 0.4)  # wider than high: the width decides
    assert part.shape == XY.shape
    assert part.pixel_mm == pytest.approx((0.025, 0.025))
    assert np.allclose(part.center_mm, placing.at(XY, 0.375, 0.325))
    with pytest.raises(ValueError, match="part: expected right of left"):
        placing.cut_out(XY, 0.5, 0.1, 0.4, 0.2)


@given(slices)
def test_numbers_give_the_same_slice_back(place: SliceGeometry) -> None:
    assert np.allclose(Placement.of(place).place(XY.with_nine(place.nine)).nine, place.nine, atol=1e-6)


@pytest.mark.parametrize("place", [XY, XZ], ids=["xy", "xz"])
def test_numbers_of_level_and_upright_slices(place: SliceGeometry) -> None:
    there = Placement.of(place)
    assert np.allclose(there.place(place).nine, place.nine, atol=1e-9)
    with pytest.raises(ValueError, match="width_mm: expected a positive number, got -1"):
        Placement(0, 0, 0, 0, 0, 0, -1, 1).place(place)


def test_numbers_turn_a_slice_as_they_say() -> None:
    tilted = Placement(0, 0, 0, 30.0, 0.0, 0.0, 6, 4).place(XY)
    assert np.allclose(placing.normal(tilted), (math.cos(math.radians(30)), 0.5, 0))
    assert tilted.u_mm[2] == pytest.approx(0)  # roll 0: columns run level


def test_crossing_of_slices() -> None:
    ends = placing.crossing(XY, placing.shifted(XZ, (0, 1, 0)))
    assert ends is not None
    assert np.allclose(sorted(ends[:, 0]), (0, 1))
    assert np.allclose(ends[:, 1], 0.25)  # row 0 has the largest y
    assert placing.crossing(XY, placing.shifted(XY, (0, 0, 1))) is None
    assert placing.crossing(XY, placing.shifted(XZ, (0, 3, 0))) is None  # beyond the edge
    assert placing.crossing(XY, placing.shifted(XZ, (0, 0, 5))) is None  # its rectangle ends above


def test_a_short_slice_crosses_as_far_as_it_reaches() -> None:
    short = placing.zoomed(XZ, 0.5)
    ends = placing.crossing(XY, short)
    assert ends is not None
    assert np.allclose(sorted(ends[:, 0]), (0.25, 0.75))


def test_region_is_the_box_that_was_drawn() -> None:
    around = (-5.0, -5.0, -4.0, 5.0, 5.0, 4.0)
    box = placing.region_of(XY, 0.25, 0.25, 0.5, 0.75, around)
    assert box == pytest.approx((-1.5, -1, -4, 0, 1, 4))
    drawn = placing.cut_of_box(XY, box)
    assert drawn is not None
    assert np.allclose(drawn.min(axis=0), (0.25, 0.25))
    assert np.allclose(drawn.max(axis=0), (0.5, 0.75))
    assert np.allclose(drawn[0], drawn[-1])
    for a, b in pairwise(drawn):  # along the edges, not across
        assert np.count_nonzero(np.abs(a - b) > 1e-9) == 1
    assert placing.region_of(XY, -1, -1, 2, 2, around)[:2] == (-5, -5)
    with pytest.raises(ValueError, match="inside of the box"):
        placing.region_of(XY, 2, 2, 3, 3, around)
    assert placing.cut_of_box(placing.shifted(XY, (0, 0, 9)), box) is None


# ---- camera


@given(st.floats(-3, 3), st.floats(-1.4, 1.4), number, number, number)
def test_a_ray_goes_through_what_is_seen_there(azimuth: float, elevation: float, x: float, y: float, z: float) -> None:
    camera = Camera((0.5, -0.5, 1.0), azimuth, elevation, 40.0)
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)
    column, row, depth = camera.project((x, y, z), 300, 200)[0]
    assert np.allclose(camera.eye_mm + depth * camera.ray(column, row, 300, 200), (x, y, z), atol=1e-6)


def test_up_is_up_and_the_target_in_the_middle() -> None:
    camera = Camera(distance_mm=50)
    assert np.allclose(camera.project((0, 0, 0), 300, 200), (150, 100, 50))
    assert camera.project((0, 0, 5), 300, 200)[0, 1] < 100
    assert camera.orbited(0, 10).elevation_rad < math.pi / 2
    with pytest.raises(ValueError, match="factor"):
        camera.nearer(0)


def test_a_ball_is_seen_whole() -> None:
    camera = Camera.around((1, 2, 3), 4.0)
    for direction in np.random.default_rng(0).normal(size=(200, 3)):
        column, row, depth = camera.project(np.array((1, 2, 3)) + 4 * direction / np.linalg.norm(direction), 200, 200)[
            0
        ]
        assert 0 < column < 200
        assert 0 < row < 200
        assert depth > 0


# ---- the picture


def plane(place: SliceGeometry, colour: tuple[int, int, int]) -> Plane:
    return Plane(place, np.full((4, 4, 3), colour, np.uint8), (255, 255, 255))


def test_the_nearer_slice_hides_the_other() -> None:
    front = Camera((0, 0, 0), 0.0, 0.0, 60.0)  # looks along +y
    near, far = placing.shifted(XZ, (0, -2, 0)), placing.zoomed(placing.shifted(XZ, (0, 2, 0)), 1.5)
    planes = [plane(far, (0, 200, 0)), plane(near, (200, 0, 0))]
    picture = render(planes, None, front, (200, 160))
    assert tuple(picture[80, 100]) == (200, 0, 0, 255)
    edge = front.project(placing.at(far, 0.06, 0.5), 200, 160)[0]
    assert tuple(picture[int(edge[1]), int(edge[0])]) == (0, 200, 0, 255)
    assert tuple(picture[2, 2]) == (0, 0, 0, 0)


def test_slices_that_cross_hide_each_other_in_part() -> None:
    upright = SliceGeometry.centered((0, 0, 0), (0, 1, 0), (0, 0, -1), pixel_mm=0.1, shape=(40, 60))
    camera = Camera((0, 0, 0), math.radians(-45), math.radians(20), 60.0)
    planes = [plane(XZ, (200, 0, 0)), plane(upright, (0, 0, 200))]
    picture = render(planes, None, camera, (200, 200))
    kinds = {tuple(c) for c in picture.reshape(-1, 4)}
    assert {(200, 0, 0, 255), (0, 0, 200, 255)} <= kinds
    for row, column in ((100, 70), (100, 130), (90, 85)):
        found = hit([p.place for p in planes], camera, column + 0.5, row + 0.5, (200, 200))
        expected = (0, 0, 0, 0) if found is None else (*planes[found.index].colours[0, 0], 255)
        assert tuple(int(x) for x in picture[row, column]) == tuple(int(x) for x in expected)


def test_an_image_lies_as_its_slice_does() -> None:
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0], colours[1, 1] = (255, 0, 0), (0, 255, 0)
    camera = Camera((0, 0, 0), 0.0, 0.0, 60.0)
    picture = render([Plane(XZ, colours, (9, 9, 9))], None, camera, (200, 160))
    for column, row, channel in ((0.1, 0.1, 0), (0.9, 0.9, 1)):
        at = camera.project(placing.at(XZ, column, row), 200, 160)[0]
        assert picture[int(at[1]), int(at[0]), channel] == 255
    border = camera.project(placing.at(XZ, 0.0, 0.5), 200, 160)[0]
    assert tuple(picture[int(border[1]), int(np.ceil(border[0]))]) == (9, 9, 9, 255)


def test_what_is_under_the_mouse_is_on_the_slice() -> None:
    camera = Camera(distance_mm=60)
    planes = [plane(XY, (1, 1, 1)), plane(XZ, (2, 2, 2))]
    point = placing.at(XY, 0.8, 0.7)
    column, row, _ = camera.project(point, 320, 240)[0]
    found = hit([p.place for p in planes], camera, column, row, (320, 240))
    assert found is not None
    assert found.index == 0
    assert np.allclose(found.point_mm, point, atol=1e-9)
    assert hit([p.place for p in planes], camera, 0, 0, (320, 240)) is None


def haze(opacity: float = 0.9) -> Haze:
    brightness = np.zeros((16, 16, 16), np.uint8)
    brightness[4:12, 4:12, 4:12] = 200
    return Haze(brightness, np.array([-4, 4, 3.75, 8, 0, 0, 0, -8, 0, 0, 0, -0.5]), opacity)


def test_haze_is_where_the_volume_is() -> None:
    assert np.allclose(haze().corners_mm.min(axis=0), -4)
    assert np.allclose(haze().corners_mm.max(axis=0), 4)
    camera = Camera((0, 0, 0), 0.0, 0.0, 60.0)
    picture = render([], haze(), camera, (200, 200))
    inside, outside = (camera.project((x, 0, 0), 200, 200)[0] for x in (1.8, 2.4))
    assert picture[100, int(inside[0]), 3] > 150
    assert picture[100, int(outside[0]), 3] == 0
    assert picture[100, 100, 0] == pytest.approx(200 * int(picture[100, 100, 3]) / 255, abs=2)


def test_haze_thickens_with_its_depth_and_hides_what_is_behind() -> None:
    camera = Camera((0, 0, 0), 0.0, 0.0, 60.0)
    thin = haze(0.05)
    alone = int(render([], thin, camera, (100, 100))[50, 50, 3])
    middle = render([plane(XZ, (0, 0, 0))], thin, camera, (100, 100))[50, 50]
    assert middle[3] == 255
    light = int(render([], thin, camera, (100, 100))[50, 50, 0])
    # Half of the haze is in front of the slice: 1 - sqrt(1 - opacity) of its light, Beer-Lambert.
    assert int(middle[0]) == pytest.approx(200 * (1 - math.sqrt(1 - alone / 255)), abs=3)
    assert light > int(middle[0])


@pytest.mark.parametrize(
    ("brightness", "twelve", "what"),
    [
        (np.zeros((2, 2, 2)), np.zeros(12), "brightness: expected uint8"),
        (np.zeros((2, 2, 2), np.uint8), 3, "12 numbers"),
    ],
)
def test_haze_that_is_none_is_refused(brightness: Any, twelve: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Haze(brightness, twelve)


# ---- display


def test_colours_of_an_image() -> None:
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(textured(image, (0, 1), GREY)[..., 0].ravel(), np.rint(255 * image.ravel()))
    assert textured(np.full((3, 3), np.nan), (0, 1), GREY).max() == 0
    assert textured(np.array([[-9.0, 9.0]]), (0, 1), GREY)[0, :, 0].tolist() == [0, 255]


def test_large_images_are_averaged_not_thinned() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.1, (1000, 900))
    small = textured(noise, (0, 1), GREY, longest=100)
    assert small.shape == (100, 90, 3)
    assert small[..., 0].std() < 0.15 * 255 * 0.1


def test_levels_leave_out_the_few() -> None:
    values = np.concatenate([np.linspace(0, 1, 1000), [50.0, -50.0, np.nan]])
    low, high = levels([values]) or (0, 0)
    assert (low, high) == pytest.approx((0, 1), abs=0.02)
    assert levels([]) is None
    assert levels([np.full(3, np.nan)]) is None
    low, high = levels([np.full((4, 4), 2.0)]) or (0, 0)
    assert low < 2 < high
    low, high = even_levels([np.linspace(-1, 0.2, 500)]) or (0, 0)
    assert low == -high
    assert high == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("width", "length"), [(10, 2), (7, 2), (100, 20), (0.02, 0.005), (1, 0.2), (3.4, 1)])
def test_scale_bars_are_round(width: float, length: float) -> None:
    assert bar_length(width) == pytest.approx(length)
    with pytest.raises(ValueError, match="width"):
        bar_length(0)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.7, 130, 20, [1, 2, 5, 10, 20, 50, 100]),
        (0.7, 130, 5, [1, 3, 10, 30, 100]),
        (0.7, 1300, 4, [1, 10, 100, 1000]),
        (1e-9, 1e9, 4, [1e-9, 1e-4, 1e1, 1e6]),
        (0.0112, 0.0131, 4, [0.0115, 0.012, 0.0125, 0.013]),
        (7.0, 45.0, 3, [10, 20]),
        (3.0, 3.0, 5, []),
        (3.0, 3.0000000000000004, 5, None),
        (1e-300, 1e300, 0, None),
    ],
)
def test_a_logarithmic_axis_has_numbers_that_are_read(low, high, most, expected):
    found = log_ticks(low, high, most)
    if expected is not None:
        assert found == pytest.approx(expected)
    assert len(found) <= max(most, 2) + 1
    assert all(low <= one <= high * (1 + 1e-12) for one in found)
