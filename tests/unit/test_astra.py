"""Our reconstruction against the ASTRA toolbox, which shares nothing with it but the geometry.

ASTRA's values are means over the area of a pixel, so ours are compared as means of 5 x 5 samples in each pixel. Runs
where the extra `astra` is installed, as in CI; the geometry that is handed to ASTRA is tested everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, projection_matrices
from tango_jit.recon import backproject
from tango_jit.recon.backproject import astra as ours
from tango_jit.recon.backproject import astra_geometry, cpu, reference
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.volume import field_of_view, volume
from tango_jit.recon.window import Window
from tests import real_scans
from tests.phantom import ball, turn
from tests.reconstructions import whole_window, window_of

FINE = 5  # samples a side of each pixel
needs_astra = pytest.mark.skipif(bool(backproject.obstacle("astra")), reason=backproject.obstacle("astra"))
Image = NDArray[np.float32]

PARALLEL = ScanGeometry.parallel(rows=9, cols=160, pixel_mm=0.5, axis_column=70.3)
CONE = ScanGeometry.cone(rows=9, cols=160, pixel_mm=0.75, source_axis_mm=200, source_detector_mm=300, axis_column=72)
FAN = ScanGeometry.cone(
    rows=1, cols=160, pixel_mm=0.75, source_axis_mm=200, source_detector_mm=300, source_offset_mm=(3, 0), yaw_rad=0.05
)


def averaged(window: Window, place: SliceGeometry) -> Image:
    """The full slice by our kernel, the mean of FINE**2 samples in each pixel."""
    rows, cols = place.shape
    fine = SliceGeometry(place.origin_mm, place.u_mm, place.v_mm, FINE * rows, FINE * cols)
    weights = np.ascontiguousarray(window.weights[2:])
    samples = cpu.backproject(window.projections, window.slots, window.matrices, weights, fine.pose[None], fine.shape)[
        0, 0
    ]
    return samples.reshape(rows, FINE, cols, FINE).mean(axis=(1, 3))


def by_astra(window: Window, place: SliceGeometry) -> Image:
    views = [window.projections.read(int(slot)) for slot in window.slots]
    weights = np.ascontiguousarray(window.weights[2:])
    slots = np.arange(len(views))
    return ours.backproject(np.stack(views), slots, window.matrices, weights, place.pose[None], place.shape)[0, 0]


def check(window: Window, place: SliceGeometry, rms: float) -> None:
    """The root mean square of the difference relative to that of the slice itself, and the means to 0.1 % of it."""
    expected, got = averaged(window, place).astype(np.float64), by_astra(window, place).astype(np.float64)
    size = float(expected.std())
    assert float(np.sqrt(((got - expected) ** 2).mean())) / size < rms
    assert float(got.mean() - expected.mean()) / size == pytest.approx(0, abs=1e-3)


# --- simulated scans


@needs_astra
@pytest.mark.parametrize("scan", [PARALLEL, CONE, FAN], ids=["parallel", "cone, mid-plane", "fan"])
@pytest.mark.parametrize(("noise", "rms"), [(0.0, 0.01), (0.02, 0.02)])
@pytest.mark.parametrize("pixel_mm", [0.5, 0.15])
def test_slices_of_a_ball_agree(scan: ScanGeometry, noise: float, rms: float, pixel_mm: float) -> None:
    """To 1 %; to 2 % with noise, which shows every error of place or weight but is drawn in steps by ASTRA's strips."""
    angles = turn(90)
    views = ball(scan, angles, (4, -6, 0), 9, 0.05)
    views += np.random.default_rng(0).normal(0, 1, views.shape).astype(np.float32) * np.float32(noise)
    window = window_of(scan, range(90), angles, views)
    place = SliceGeometry.centered((4, -5, 0), (1, 0.3, 0), (0.3, -1, 0), pixel_mm=pixel_mm, shape=(120, 150))
    check(window, place, rms)


@needs_astra
def test_planes_have_weights_of_their_own() -> None:
    angles = turn(30)
    views = Preprocessor(CONE, linear=True)(ball(CONE, angles, (4, -6, 0), 9, 0.05))
    weights = np.zeros((2, 30), np.float32)
    weights[0, ::2] = weights[1, 1::2] = 0.2
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=1.0, shape=(40, 30))
    arguments = views, np.arange(30), CONE.matrices(angles)
    both = ours.backproject(*arguments, weights, place.pose[None], place.shape)[0]
    for plane in range(2):
        alone = ours.backproject(*arguments, weights[plane : plane + 1].copy(), place.pose[None], place.shape)
        np.testing.assert_allclose(both[plane], alone[0, 0], atol=1e-6)


@needs_astra
def test_our_whole_chain_agrees_with_their_filtered_backprojection() -> None:
    """ASTRA's own ramp filter and scaling, parallel beam: a ball to 0.5 % of its value (the mean of its inside)."""
    astra: Any = import_module("astra")
    scan = ScanGeometry.parallel(rows=1, cols=200, pixel_mm=0.5)
    angles = turn(180, 0.5)
    views = ball(scan, angles, (8, -12, 0), 20, 0.05)
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(200, 200))
    window = window_of(scan, range(180), angles, views)
    expected = averaged(window, place)

    volume_geometry = astra.create_vol_geom(200, 200)
    projector = astra.create_projector("strip", astra.create_proj_geom("parallel", 1.0, 200, angles), volume_geometry)
    sinogram = astra.data2d.create("-sino", astra.projector.projection_geometry(projector), views[:, 0])
    result = astra.data2d.create("-vol", volume_geometry)
    config = astra.astra_dict("FBP") | {
        "ProjectorId": projector,
        "ProjectionDataId": sinogram,
        "ReconstructionDataId": result,
    }
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm)
    theirs = astra.data2d.get(result) / 0.5  # per pixel of 0.5 mm
    astra.clear()

    y, x = np.mgrid[:200, :200]
    distance = np.hypot((x - 99.5) * 0.5 - 8, (99.5 - y) * 0.5 + 12)
    inside = distance < 18
    assert theirs[inside].mean() == pytest.approx(0.05, rel=0.005)
    assert expected[inside].mean() == pytest.approx(theirs[inside].mean(), rel=0.005)
    assert np.sqrt(((theirs - expected)[distance < 45] ** 2).mean()) < 0.03 * 0.05


# --- real scans


@needs_astra
@pytest.mark.parametrize(
    ("scan", "rms"),
    [
        pytest.param(real_scans.htc, 0.02, id="fan disc"),
        pytest.param(real_scans.walnut, 0.02, id="fan walnut"),
        pytest.param(real_scans.tooth, 0.02, id="parallel tooth"),
        pytest.param(real_scans.dendrite, 0.04, id="parallel dendrite"),  # nearly all of it is noise
    ],
)
def test_slices_of_real_scans_agree(shared_data: Path, tmp_path: Path, scan: Callable[..., Path], rms: float) -> None:
    """The middle of the object, with its noise, at the pixel size of the detector."""
    geometry, window = whole_window(scan(tmp_path))
    at_row_0 = -geometry.matrices(0.0)[0, 1, 3] / geometry.matrices(0.0)[0, 1, 2] if geometry.rows > 1 else 0.0
    pixel_mm = geometry.voxel_mm
    place = SliceGeometry.centered((0, 0, at_row_0), (1, 0, 0), (0, -1, 0), pixel_mm=pixel_mm, shape=(120, 120))
    check(window, place, rms)


# --- whole volumes, and what is refused


@needs_astra
def test_a_volume_of_a_parallel_beam() -> None:
    scan = ScanGeometry.parallel(rows=40, cols=60, pixel_mm=0.6)
    angles = turn(45)
    window = window_of(scan, range(45), angles, ball(scan, angles, (3, -2, 2), 7, 0.05))
    place = field_of_view(scan, 24)
    expected, got = volume(window, scan, place), volume(window, scan, place, "astra")
    assert np.sqrt(((got - expected) ** 2).mean()) < 0.1 * expected.std()  # means over voxels, and samples
    assert got.sum() == pytest.approx(expected.sum(), rel=0.01)


@needs_astra
@pytest.mark.parametrize("name", ["xz", "tilted", "above"])
def test_slices_off_one_detector_row_are_refused_in_words(name: str) -> None:
    """Without a CUDA device, which does them all."""
    if import_module("astra").use_cuda():
        pytest.skip("ASTRA has a CUDA device")
    scan = ScanGeometry.cone(rows=40, cols=60, pixel_mm=0.6, source_axis_mm=60, source_detector_mm=100)
    angles = turn(20)
    window = window_of(scan, range(20), angles, np.zeros((20, 40, 60), np.float32))
    directions: dict[str, Any] = {"xz": ((1, 0, 0), (0, 0, -1)), "tilted": ((1, 0, 0.1), (0, -1, 0))}
    u, v = directions.get(name, ((1, 0, 0), (0, -1, 0)))
    height = 3.0 if name == "above" else 0.0
    place = SliceGeometry.centered((0, 0, height), u, v, pixel_mm=0.5, shape=(20, 20))
    with pytest.raises(
        ValueError, match=r"expected one on a single detector row .* without a CUDA device, but its points"
    ):
        by_astra(window, place)


@needs_astra
def test_warm_up_notices_an_astra_that_weighs_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ours.warm_up()
    monkeypatch.setattr(reference, "backproject", lambda *arguments: 1.1 * cpu.backproject(*arguments))
    with pytest.raises(
        RuntimeError, match=r"ASTRA: expected the values of the reference .* got up to 0\.\d+ of the largest off"
    ):
        ours.warm_up()


def test_astra_that_is_not_installed_is_an_obstacle_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astra", None)  # importing it now raises ImportError
    assert backproject.obstacle("astra").startswith("it needs the ASTRA toolbox (the extra astra)")
    with pytest.raises(RuntimeError, match="backend astra: it needs the ASTRA toolbox"):
        ours.warm_up()


# --- the geometry that is handed over; these need no ASTRA

TILTED = ScanGeometry.cone(
    rows=31, cols=47, pixel_mm=(0.7, 0.5), source_axis_mm=90, source_detector_mm=150, axis_column=20.3, roll_rad=0.1,
    pitch_rad=-0.07, yaw_rad=0.12, source_offset_mm=(4, -3),
)  # fmt: skip
TILTED_PARALLEL = ScanGeometry.parallel(
    rows=31, cols=47, pixel_mm=(0.7, 0.5), roll_rad=0.1, pitch_rad=-0.07, yaw_rad=0.12, axis_column=20.3
)


@pytest.mark.parametrize("scan", [TILTED, TILTED_PARALLEL], ids=["cone", "parallel"])
def test_vectors_of_a_volume_project_where_the_matrices_do(scan: ScanGeometry) -> None:
    """Back from ASTRA's vectors to matrices: voxels of a stack fall on the same pixels, with the same w."""
    base = SliceGeometry.centered((1, -2, 3), (1, 0.2, 0.1), (-0.1, -1, 0.3), pixel_mm=0.4, shape=(8, 10)).pose
    poses = np.repeat(base[None], 4, axis=0)
    poses[:, 0] += np.arange(4)[:, None] * np.array((0.05, 0.1, -0.6))
    composed = astra_geometry.centred_volume(scan.matrices(turn(7)), poses, (8, 10))
    kind, vectors = astra_geometry.vectors(composed, scan.rows, scan.cols)
    assert kind == ("cone_vec" if scan.beam == "cone" else "parallel3d_vec")
    back = projection_matrices(scan.beam, vectors, scan.rows, scan.cols)
    if scan.beam == "cone":
        back *= composed[:, 2:, 3:]  # made 1 at the middle of the volume; ours is 1 at the axis
    np.testing.assert_allclose(back, composed, atol=1e-9 * np.abs(composed).max())

    k, i, j = 3, 6, 2  # a voxel, in ASTRA's coordinates and in mm
    point = poses[k, 0] + j * poses[k, 1] + i * poses[k, 2]
    x, y, z = j - 4.5, i - 3.5, k - 1.5
    direct = scan.matrices(turn(7)) @ np.append(point, 1)
    np.testing.assert_allclose(composed @ np.array((x, y, z, 1)), direct, atol=1e-9 * np.abs(direct).max())


def test_a_flat_view_keeps_its_columns_and_depths() -> None:
    place = SliceGeometry.centered((4, -5, 0), (1, 0.3, 0), (0.3, -1, 0), pixel_mm=0.5, shape=(12, 15))
    matrices = FAN.matrices(turn(5))
    (view, *_) = astra_geometry.flattened(astra_geometry.centred(matrices, place.pose, place.shape), 1, place.shape)
    assert view is not None
    fan = astra_geometry.Fan.of(view, FAN.cols)
    u, _, w = matrices[0] @ np.append(place.points()[2, 11], 1)
    x, y = 11 - 7.0, 5.5 - 2
    assert view.plane @ (x, y, 1) == pytest.approx((u, w))
    # Along the ray of one bin, ASTRA's way: from the source through the bin at the foot, with its angle.
    forward = np.array((-np.sin(fan.angle_rad), np.cos(fan.angle_rad)))
    along = np.array((np.cos(fan.angle_rad), np.sin(fan.angle_rad)))
    bin_ = 37
    point = fan.foot + along * (bin_ + 0.5 - len(fan.columns) / 2) * fan.pitch
    np.testing.assert_allclose(fan.foot - forward * fan.distance, view.source, atol=1e-9 * fan.distance)
    for t in (0.7, 1.0, 1.3):
        u, w = view.plane @ (*(view.source + t * (point - view.source)), 1)
        assert (u / w, w) == pytest.approx((fan.columns[bin_], t))


def test_stacks_are_found() -> None:
    base = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=1, shape=(4, 4)).pose
    up, poses = np.array((0, 0, 0.5)), np.repeat(base[None], 7, axis=0)
    poses[:4, 0] += np.arange(4)[:, None] * up
    poses[4:6, 0] += (np.arange(2)[:, None] + 10) * up
    poses[6, 1] *= 2
    assert list(ours._stacks(poses)) == [(0, 4), (4, 6), (6, 7)]
    assert list(ours._stacks(poses[:0])) == []
