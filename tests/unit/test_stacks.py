"""A slice and its neighbours: where they lie, and which of them a network sees."""

from __future__ import annotations

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.learn.patches import PatchSampler
from tango_jit.stacks import StackError, neighbours, normals, seen, stacked
from tango_jit.streams.wishes import depth_wish, depth_wished

SCAN = ScanGeometry.cone(rows=24, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200)
TILTED = SliceGeometry((1.0, 2.0, 3.0), (8.0, 0.0, 6.0), (0.0, 5.0, 0.0), 10, 20)  # pixels of 0.5 mm


def test_planes_are_a_pixel_apart_along_the_normal() -> None:
    stack = neighbours(TILTED, 5)
    assert stack[2] is TILTED
    starts = np.array([geometry.pose[0] for geometry in stack])
    np.testing.assert_allclose(np.diff(starts, axis=0), np.tile([-0.3, 0.0, 0.4], (4, 1)), atol=1e-12)
    for geometry in stack:
        assert (geometry.u_mm, geometry.v_mm, geometry.shape) == (TILTED.u_mm, TILTED.v_mm, TILTED.shape)


def test_pixels_that_are_not_square_count_by_their_area() -> None:
    flat = SliceGeometry((0, 0, 0), (4, 0, 0), (0, 9, 0), 3, 4)  # 1 x 3 mm
    np.testing.assert_allclose(normals(flat.pose[None]), [[0, 0, np.sqrt(3)]])


@pytest.mark.parametrize("depth", [3, 5])
def test_poses_of_patches_are_those_of_slices(depth: int) -> None:
    poses = stacked(np.stack([TILTED.pose, TILTED.pose + 1.0]), depth)
    assert poses.shape == (2, depth, 3, 3)
    for plane, geometry in enumerate(neighbours(TILTED, depth)):
        np.testing.assert_allclose(poses[0, plane], geometry.pose, atol=1e-12)


def test_a_network_sees_the_middle_of_what_came() -> None:
    planes = np.arange(7)
    for depth in (1, 3, 5, 7):
        assert planes[seen(7, depth)].tolist() == list(range(3 - depth // 2, 4 + depth // 2))
    with pytest.raises(StackError, match="expected stacks of 5 planes, as the network sees them, got 3"):
        seen(3, 5)


def test_patches_are_drawn_where_all_their_planes_are_seen() -> None:
    """A region of four pixels: stacks of three fit in, and hardly any of five turned ones."""
    matrices, pixel = SCAN.matrices(np.linspace(0, 2 * np.pi, 12)), SCAN.voxel_mm
    slices = {"xy": default_slices(SCAN)["xy"]}
    region = [-2.0, -2.0, -1.4 * pixel, 2.0, 2.0, 1.4 * pixel]
    sampler = PatchSampler(SCAN, 8, "NEAR_SLICES", region, 0, 3)
    assert (sampler.draw(16, slices, matrices)[:, 1:, 2] == 0).all()
    with pytest.raises(ValueError, match="patches: expected room"):
        PatchSampler(SCAN, 8, "NEAR_SLICES", region, 0, 5).draw(16, slices, matrices)


def test_a_detector_of_one_row_has_no_stacks() -> None:
    fan = ScanGeometry.cone(rows=1, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=200)
    with pytest.raises(ValueError, match="depth: expected 1, a detector of one row sees a single plane, got 3"):
        PatchSampler(fan, 8, depth=3)


def test_the_deepest_wish_counts_and_nonsense_is_none() -> None:
    assert depth_wish(1) == b""
    assert depth_wished([]) == 1
    assert depth_wished([b"", depth_wish(3), depth_wish(7), depth_wish(5)]) == 7
    for nonsense in (b"depth 3", depth_wish(4), depth_wish(65), depth_wish(3)[:-1], b"\xff\x00", depth_wish(3) + b"\n"):
        assert depth_wished([nonsense]) == 1, nonsense
