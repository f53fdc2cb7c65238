"""Where patches are drawn: inside the field of view, at the right pitch, in the right planes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.learn.patches import SAMPLINGS, PatchSampler

Array = NDArray[np.float64]
ANGLES = np.linspace(0, 2 * math.pi, 60, endpoint=False)
SIZE = 20

FAN = ScanGeometry.cone(rows=1, cols=256, pixel_mm=0.2, source_axis_mm=400, source_detector_mm=550, axis_column=124.0)
CONE = ScanGeometry.cone(rows=200, cols=256, pixel_mm=0.4, source_axis_mm=120, source_detector_mm=240)
TILTED = ScanGeometry.cone(
    rows=160,
    cols=200,
    pixel_mm=(0.3, 0.4),
    source_axis_mm=150,
    source_detector_mm=300,
    axis_column=105.0,
    mid_row=70.0,
    source_offset_mm=(1.0, -2.0),
    roll_rad=0.02,
    pitch_rad=0.05,
    yaw_rad=-0.04,
)
PARALLEL = ScanGeometry.parallel(rows=90, cols=160, pixel_mm=0.5, axis_column=85.0)
SCANS = {"fan": FAN, "cone": CONE, "tilted": TILTED, "parallel": PARALLEL}


def points(poses: Array, size: int = SIZE) -> Array:
    """All pixel centres (n, size * size, 3) in mm."""
    col, row = np.meshgrid(np.arange(size), np.arange(size))
    at = np.stack([np.ones(size**2), col.ravel(), row.ravel()], 1)
    return at @ poses


def on_detector(scan: ScanGeometry, matrices: Array, where: Array) -> NDArray[np.bool_]:
    """(n,) are all points (n, k, 3) on the detector in all views, in front of the source?"""
    u, v, w = np.moveaxis(
        np.concatenate([where, np.ones((*where.shape[:2], 1))], 2)[:, None] @ np.swapaxes(matrices, 1, 2), -1, 0
    )
    good = (w > 0) & (u / w >= -0.5) & (u / w <= scan.cols - 0.5)
    if scan.rows > 1:
        good &= (v / w >= -0.5) & (v / w <= scan.rows - 0.5)
    return good.all(axis=(1, 2))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("name", SCANS)
def test_patches_are_square_and_seen_by_all_views(name, sampling):
    scan = SCANS[name]
    slices, matrices = default_slices(scan, (128, 128)), scan.matrices(ANGLES)
    poses = PatchSampler(scan, SIZE, sampling, seed=1).draw(64, slices, matrices)
    assert poses.shape == (64, 3, 3)
    assert on_detector(scan, matrices, points(poses)).all()
    pitch = slices["xy"].pixel_mm[0]
    np.testing.assert_allclose(np.linalg.norm(poses[:, 1:], axis=2), pitch, rtol=1e-9)
    np.testing.assert_allclose((poses[:, 1] * poses[:, 2]).sum(1), 0, atol=1e-9)
    if scan.rows == 1:
        np.testing.assert_allclose(poses[:, :, 2], 0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    sampling=st.sampled_from(SAMPLINGS),
    axis=st.floats(70, 130),
    cone_deg=st.floats(2, 25),
    start=st.floats(0, 7),
    views=st.integers(1, 30),
)
def test_any_scanner_any_views(seed, sampling, axis, cone_deg, start, views):
    far = 100 / math.tan(math.radians(cone_deg))
    scan = ScanGeometry.cone(
        rows=120, cols=200, pixel_mm=0.5, source_axis_mm=far, source_detector_mm=1.6 * far, axis_column=axis
    )
    matrices = scan.matrices(start + np.linspace(0, 2 * math.pi, views, endpoint=False))
    poses = PatchSampler(scan, 12, sampling, seed=seed).draw(16, default_slices(scan, (100, 120)), matrices)
    assert on_detector(scan, matrices, points(poses, 12)).all()


def test_the_edge_of_the_field_of_view_is_used():
    matrices = FAN.matrices(ANGLES)
    poses = PatchSampler(FAN, SIZE, "UNIFORM", seed=2).draw(2000, {}, matrices)
    reach = np.linalg.norm(points(poses), axis=2).max()
    assert 0.98 * FAN.radius_mm < reach < 1.001 * FAN.radius_mm  # between views a little more
    # Uniform in the area: a quarter of the centres lies within half the radius they can have.
    centers = np.linalg.norm(points(poses).mean(axis=1), axis=1)
    assert (centers < (FAN.radius_mm - 0.5 * SIZE * FAN.voxel_mm * math.sqrt(2)) / 2).mean() == pytest.approx(
        0.25, abs=0.04
    )


def test_near_slices_lie_inside_them():
    slices = {
        "xy": SliceGeometry.centered((3, 2, 4), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(40, 60)),
        "oblique": SliceGeometry.centered((0, 0, 0), (1, 1, 0.2), (-0.3, 0.5, -1), pixel_mm=0.2, shape=(30, 50)),
        "stretched": SliceGeometry(
            (-5, -5, -3), (8, 0, 0), (0, 9, 0), 60, 40
        ),  # pitch 0.2 along columns, 0.15 along rows
    }
    matrices = CONE.matrices(ANGLES)
    poses = PatchSampler(CONE, SIZE, "NEAR_SLICES", seed=3).draw(300, slices, matrices)
    inside = []
    for geometry in slices.values():
        start, *grid = geometry.pose
        place = (points(poses) - start) @ np.linalg.pinv(np.array(grid))  # (n, k, 2): column, row
        off = np.abs(points(poses) - start - place @ np.array(grid)).max(axis=(1, 2))
        within = (place >= -0.5 - 1e-9) & (place <= np.array([geometry.cols, geometry.rows]) - 0.5 + 1e-9)
        inside.append((off < 1e-9) & within.all(axis=(1, 2)))
    assert (np.sum(inside, axis=0) == 1).all()
    assert (np.sum(inside, axis=1) > 70).all()
    pitches = np.linalg.norm(poses[:, 1:], axis=2)
    for lies, geometry in zip(inside, slices.values(), strict=True):
        np.testing.assert_allclose(pitches[lies], np.tile(geometry.pixel_mm, (lies.sum(), 1)), rtol=1e-9)


def test_patches_in_slices_are_turned_and_mirrored():
    slices = {"xy": default_slices(CONE, (128, 128))["xy"]}
    poses = PatchSampler(CONE, SIZE, "NEAR_SLICES", seed=4).draw(400, slices, CONE.matrices(ANGLES))
    angles = np.arctan2(poses[:, 1, 1], poses[:, 1, 0])
    assert np.histogram(angles, 4, (-math.pi, math.pi))[0].min() > 60
    handed = np.sign(np.cross(poses[:, 1], poses[:, 2])[:, 2])
    assert 120 < (handed > 0).sum() < 280


def test_uniform_patches_have_any_orientation():
    poses = PatchSampler(CONE, 8, "UNIFORM", seed=5).draw(1500, {}, CONE.matrices(ANGLES))
    normals = np.cross(poses[:, 1], poses[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # Uniform on the sphere: each coordinate is uniform in -1..1, with the second moments 1/3.
    np.testing.assert_allclose(normals.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(normals.T @ normals / len(normals), np.eye(3) / 3, atol=0.06)


def test_mixed_takes_both_kinds():
    slices = {"xy": default_slices(CONE, (128, 128))["xy"]}
    poses = PatchSampler(CONE, SIZE, "MIXED", seed=6).draw(400, slices, CONE.matrices(ANGLES))
    flat = np.abs(points(poses)[..., 2]).max(axis=1) < 1e-9
    assert 150 < flat.sum() < 250


def test_stay_in_the_region():
    region = (-6, 0, -4, 6, 8, 5)
    poses = PatchSampler(CONE, SIZE, "MIXED", region, seed=7).draw(
        200, default_slices(CONE, (200, 200)), CONE.matrices(ANGLES)
    )
    where = points(poses)
    assert (where >= np.array(region[:3]) - 1e-9).all()
    assert (where <= np.array(region[3:]) + 1e-9).all()


CONTAINER = (4.0, -3.0, 6.0, -5.0, 4.0)


def centers(poses: Array, size: int = SIZE) -> Array:
    """(n, 3) in mm."""
    return poses[:, 0] + (size - 1) / 2 * poses[:, 1:].sum(axis=1)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("depth", [1, 3])
def test_centers_stay_in_the_container_and_patches_reach_over_its_rim(sampling, depth):
    slices, matrices = default_slices(CONE, (200, 200)), CONE.matrices(ANGLES)
    sampler = PatchSampler(CONE, SIZE, sampling, seed=7, depth=depth, container_mm=CONTAINER)
    poses = sampler.draw(300, slices, matrices)
    middle = centers(poses)
    away = np.hypot(middle[:, 0] - 4, middle[:, 1] + 3)
    assert away.max() <= 6
    assert middle[:, 2].min() >= -5
    assert middle[:, 2].max() <= 4
    assert away.max() > 5.5
    corners = points(poses)
    assert np.hypot(corners[..., 0] - 4, corners[..., 1] + 3).max() > 6.2
    assert on_detector(CONE, matrices, corners).all()


def test_a_container_is_filled_evenly():
    sampler = PatchSampler(CONE, 8, "UNIFORM", seed=7, container_mm=CONTAINER)
    middle = centers(sampler.draw(3000, {}, CONE.matrices(ANGLES)), 8)
    away = np.hypot(middle[:, 0] - 4, middle[:, 1] + 3)
    assert (away < 3).mean() == pytest.approx(0.25, abs=0.03)
    assert (middle[:, 2] < -0.5).mean() == pytest.approx(0.5, abs=0.03)


def test_container_and_region_both_count():
    sampler = PatchSampler(CONE, SIZE, "MIXED", (-8, -8, -8, 4, 8, 8), seed=7, container_mm=CONTAINER)
    poses = sampler.draw(200, default_slices(CONE, (200, 200)), CONE.matrices(ANGLES))
    assert points(poses)[..., 0].max() <= 4 + 1e-9
    middle = centers(poses)
    assert np.hypot(middle[:, 0] - 4, middle[:, 1] + 3).max() <= 6


def test_fan_beam_container_needs_no_height():
    poses = PatchSampler(FAN, SIZE, seed=8, container_mm=(2, 1, 5, 7, 8)).draw(50, {}, FAN.matrices(ANGLES))
    middle = centers(poses)
    assert np.hypot(middle[:, 0] - 2, middle[:, 1] - 1).max() <= 5
    assert (middle[:, 2] == 0).all()


def test_no_container_changes_no_draw():
    def drawn(container: object) -> Array:
        sampler = PatchSampler(CONE, SIZE, seed=3, container_mm=container)  # pyright: ignore[reportArgumentType]
        return sampler.draw(20, default_slices(CONE, (64, 64)), CONE.matrices(ANGLES))

    np.testing.assert_array_equal(drawn(None), drawn([]))
    assert not np.allclose(drawn(None), drawn(CONTAINER))
    np.testing.assert_array_equal(drawn(CONTAINER), drawn(CONTAINER))


def test_fan_beam_region_needs_no_height():
    poses = PatchSampler(FAN, SIZE, "UNIFORM", (0, 0, 5, 10, 10, 6), seed=8).draw(50, {}, FAN.matrices(ANGLES))
    where = points(poses)
    assert (where[..., :2] >= -1e-9).all()
    assert (where[..., 2] == 0).all()


def test_fan_beam_at_a_height():
    high = ScanGeometry.parallel(rows=1, cols=100, pixel_mm=0.5, mid_row=-8.0)  # the row is 4 mm above the origin
    for sampling in SAMPLINGS:
        slices = {"xy": SliceGeometry.centered((0, 0, 4), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(90, 90))}
        poses = PatchSampler(high, SIZE, sampling).draw(20, slices, high.matrices(ANGLES))
        np.testing.assert_allclose(points(poses)[..., 2], 4)


def test_without_slices_patches_have_the_pitch_of_the_detector():
    for sampling in SAMPLINGS:
        poses = PatchSampler(CONE, SIZE, sampling).draw(10, {}, CONE.matrices(ANGLES))
        np.testing.assert_allclose(np.linalg.norm(poses[:, 1:], axis=2), CONE.voxel_mm)


def test_seed_decides_the_poses():
    def draws(seed: int) -> Array:
        sampler = PatchSampler(CONE, SIZE, seed=seed)
        return np.concatenate(
            [sampler.draw(8, default_slices(CONE, (64, 64)), CONE.matrices(ANGLES)) for _ in range(3)]
        )

    np.testing.assert_array_equal(draws(1), draws(1))
    assert not np.allclose(draws(1), draws(2))


def test_a_slice_that_is_hardly_larger_than_a_patch():
    slices = {"xy": SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.2, shape=(SIZE, SIZE + 4))}
    poses = PatchSampler(CONE, SIZE, "NEAR_SLICES").draw(32, slices, CONE.matrices(ANGLES))
    assert np.abs(points(poses)[..., 1]).max() <= 0.2 * SIZE / 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampling": "NEAR"}, "sampling: expected one of MIXED, NEAR_SLICES, UNIFORM, got 'NEAR'"),
        ({"patch_size": 1}, "patch_size: expected a whole number from 2"),
        ({"region_mm": (0, 0, 0, 1, 1)}, "region: expected 6 numbers in mm"),
        ({"region_mm": (0, 0, 0, 1, math.nan, 1)}, "region: expected 6 numbers in mm"),
        ({"region_mm": (0, 0, 0, 1, -1, 1)}, "region: expected each end above its beginning"),
        ({"container_mm": (0, 0, 1, 0)}, "container: expected 5 numbers in mm"),
        ({"container_mm": (0, 0, math.nan, 0, 1)}, "container: expected 5 numbers in mm"),
        ({"container_mm": (0, 0, 0, 0, 1)}, "container: expected a radius above 0 mm, got 0"),
        ({"container_mm": (0, 0, 1, 2, 2)}, "container: expected z from below z to, got 2 and 2 mm"),
        ({"container_mm": (900, 0, 1, 0, 1)}, "container: expected a cylinder that meets the field of view"),
        ({"region_mm": (900, 900, 0, 901, 901, 1)}, "region: expected a box in mm that meets the field of view"),
    ],
)
def test_wrong_settings_are_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        PatchSampler(CONE, **{"patch_size": SIZE, **arguments})


def test_no_room_is_said_and_not_searched_for_ever():
    matrices = CONE.matrices(ANGLES)
    with pytest.raises(
        ValueError, match="expected room for 400 x 400 pixels in the region and the field of view, got 0 of 8"
    ):
        PatchSampler(CONE, 400, "UNIFORM").draw(8, {}, matrices)
    with pytest.raises(ValueError, match="got 0 of 8"):
        PatchSampler(CONE, SIZE, "UNIFORM", (0, 0, 0, 1, 1, 1)).draw(8, {}, matrices)
    outside = SliceGeometry.centered((500, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=0.2, shape=(64, 64))
    with pytest.raises(ValueError, match="got 0 of 8"):
        PatchSampler(CONE, SIZE, "NEAR_SLICES").draw(8, {"xy": outside}, matrices)
    small = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=0.2, shape=(64, 16))
    with pytest.raises(ValueError, match="slices: expected one of 20 x 20 pixels or more, got small 64 x 16"):
        PatchSampler(CONE, SIZE, "MIXED").draw(8, {"small": small}, matrices)
    slices = {"small": small, "xy": default_slices(CONE)["xy"]}
    poses = PatchSampler(CONE, SIZE, "NEAR_SLICES").draw(8, slices, matrices)
    assert poses.shape == (8, 3, 3)  # a slice too small for patches stops nobody
