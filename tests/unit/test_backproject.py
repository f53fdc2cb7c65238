"""Every backend against the reference in float64, and the reference against arithmetic done by hand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon import backproject
from tango_jit.recon.backproject import cpu, reference
from tango_jit.threads import use_safe_layer
from tests.backprojections import KINDS, on_the_edge, problem

# astra averages, see test_astra.py; cuda_half has fewer bits, and cuda is a tensor's affair: see tests/gpu.
ON_THE_HOST = ("cpu", "reference")
EXACT = ("cpu", "cuda")
Project = Callable[..., Any]


def running(name: str) -> Any:
    """The backend as a parameter of a test, which is skipped where it cannot run."""
    why = backproject.obstacle(name)
    return pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=f"backend {name}: {why}"))


@pytest.mark.parametrize("backend", [running(name) for name in EXACT])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("patches", "shape"), [(5, (20, 20)), (3, (7, 45)), (1, (70, 33))])
def test_backends_agree_with_the_reference(
    backend: str, kind: str, seed: int, patches: int, shape: tuple[int, int]
) -> None:
    """To 2e-5 of the largest value, for white noise: the position on the detector is good to 1e-4 pixels."""
    arguments = problem(kind, seed, patches, shape, planes=1 + seed % 3)
    expected = reference.backproject(*arguments)
    got = np.asarray(torch.as_tensor(backproject.get(backend).backproject(*arguments)).cpu())
    clear = ~on_the_edge(arguments)[:, None].repeat(expected.shape[1], 1)
    assert clear.mean() > 0.9
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got[clear], expected[clear], atol=2e-5 * np.abs(expected).max() + 2e-6, rtol=0)


@pytest.fixture(params=ON_THE_HOST)
def project(request: pytest.FixtureRequest) -> Project:
    return backproject.get(request.param).backproject


def pixel_by_pixel(scan: ScanGeometry) -> NDArray[np.float64]:
    """Pose (1, 3, 3) of a rectangle whose pixel (i, j) falls on row i and column j of the detector at angle 0."""
    x = (np.arange(2) - scan.axis_column) * scan.voxel_mm
    z = -scan.matrices(0.0)[0, 1, 3] / scan.matrices(0.0)[0, 1, 2]
    return np.array([[(x[0], 0, z), (x[1] - x[0], 0, 0), (0, 0, 1 / scan.matrices(0.0)[0, 1, 2])]])


def one_view(project: Project, scan: ScanGeometry, picture: Any, pose: Any, shape: Any) -> Any:
    projections = np.asarray(picture, np.float32).reshape(1, scan.rows, scan.cols)
    return project(projections, np.zeros(1, int), scan.matrices(0.0), np.ones((1, 1), np.float32), pose, shape)[0, 0]


def test_pixels_are_found_where_they_are(project: Project) -> None:
    scan = ScanGeometry.parallel(rows=5, cols=7, pixel_mm=0.5, axis_column=2.0, mid_row=1.0)
    picture = np.arange(35).reshape(5, 7)
    np.testing.assert_allclose(one_view(project, scan, picture, pixel_by_pixel(scan), (5, 7)), picture, atol=1e-5)


def test_samples_are_bilinear(project: Project) -> None:
    scan = ScanGeometry.parallel(rows=2, cols=2, pixel_mm=1.0)
    pose = pixel_by_pixel(scan)
    pose[:, 0] += 0.25 * pose[:, 1] + 0.5 * pose[:, 2]
    value = one_view(project, scan, [[1, 2], [10, 20]], pose, (1, 1))
    assert value[0, 0] == pytest.approx(0.5 * (0.75 * 1 + 0.25 * 2) + 0.5 * (0.75 * 10 + 0.25 * 20))


def test_the_field_of_view_ends_half_a_pixel_outside(project: Project) -> None:
    """And the outer half pixel repeats the edge."""
    scan = ScanGeometry.parallel(rows=3, cols=4, pixel_mm=1.0)
    picture = np.full((3, 4), 2.0)
    picture[:, 0], picture[2] = 5.0, 7.0
    columns = np.array([-0.6, -0.4, 0.0, 3.4, 3.6])
    rows = np.array([-0.6, -0.4, 2.4, 2.6])
    base = pixel_by_pixel(scan)[0]
    found = np.array(
        [
            [
                one_view(project, scan, picture, np.array([[base[0] + c * base[1] + r * base[2], *base[1:]]]), (1, 1))[
                    0, 0
                ]
                for c in columns
            ]
            for r in rows
        ]
    )
    np.testing.assert_allclose(found, [[0, 0, 0, 0, 0], [0, 5, 5, 2, 0], [0, 7, 7, 7, 0], [0, 0, 0, 0, 0]], atol=1e-6)


def test_the_distance_weighs_by_its_square(project: Project) -> None:
    scan = ScanGeometry.cone(rows=3, cols=3, pixel_mm=50.0, source_axis_mm=100, source_detector_mm=200)
    poses = np.zeros((2, 3, 3))
    poses[0, 0], poses[1, 0] = (0, -50, 0), (0, 100, 0)  # half as far from the source as the axis, and twice
    project_all = project(
        np.ones((1, 3, 3), np.float32), np.zeros(1, int), scan.matrices(0.0), np.ones((1, 1), np.float32), poses, (1, 1)
    )
    np.testing.assert_allclose(project_all.ravel(), [4, 0.25], rtol=1e-6)


def test_points_at_and_behind_the_source_are_outside(project: Project) -> None:
    scan = ScanGeometry.cone(rows=9, cols=9, pixel_mm=1.0, source_axis_mm=100, source_detector_mm=200)
    pose = np.array([[(0.0, -300.0, 0.0), (0.0, 1.0, 0.0), (0.001, 0.0, 0.0)]])  # columns run through the source
    line = one_view(project, scan, np.ones((9, 9)), pose, (1, 400))[0]
    assert np.isfinite(line).all()
    assert (line[:201] == 0).all()
    np.testing.assert_allclose(line[250:], (100 / (np.arange(250, 400) - 200)) ** 2, rtol=1e-5)


def test_a_single_row_ignores_the_height(project: Project) -> None:
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((1, 11))
    flat, tall = (ScanGeometry.parallel(rows=1, cols=11, pixel_mm=p) for p in ((1.0, 1.0), (1.0, 1e-6)))
    pose = np.array([[(-4.3, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]])
    expected = np.interp(np.arange(9) + 0.7, np.arange(11), picture[0])
    for scan in (flat, tall):
        np.testing.assert_allclose(one_view(project, scan, picture, pose, (2, 9)), [expected] * 2, atol=1e-5)


def test_planes_have_weights_of_their_own(project: Project) -> None:
    projections, slots, matrices, weights, poses, shape = problem("cone", 3, 2, (9, 9), planes=3)
    together = project(projections, slots, matrices, weights, poses, shape)
    for plane in range(3):
        row = weights[plane : plane + 1].copy()
        alone = project(projections, slots, matrices, row, poses, shape)
        np.testing.assert_allclose(together[:, plane], alone[:, 0], atol=1e-6)


def test_views_without_weight_are_not_read(project: Project) -> None:
    projections, slots, matrices, weights, poses, shape = problem("cone", 1, 2, (9, 9))
    weights[:, 4] = 0
    before = project(projections, slots, matrices, weights, poses, shape)
    projections[slots[4]] = np.nan
    np.testing.assert_array_equal(project(projections, slots, matrices, weights, poses, shape), before)


def test_out_is_overwritten_and_returned(project: Project) -> None:
    arguments = problem("cone", 2, 3, (8, 12))
    out = np.full((3, 2, 8, 12), np.nan, np.float32)
    assert project(*arguments, out=out) is out
    np.testing.assert_array_equal(out, project(*arguments))


def test_nothing_in_view_is_zero(project: Project) -> None:
    projections, slots, matrices, weights, poses, shape = problem("cone", 2, 3, (8, 12))
    poses[:, 0] = (0, 0, 1e4)
    assert not project(projections, slots, matrices, weights, poses, shape).any()
    none = project(projections, slots[:0], matrices[:0], weights[:, :0], poses, shape)
    assert none.shape == (3, 2, 8, 12)
    assert not none.any()
    assert project(projections, slots, matrices, weights, poses[:0], shape).shape == (0, 2, 8, 12)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("projections", lambda x: x.astype(np.float64), "projections: expected an array of float32, got float64"),
        ("projections", lambda x: x[:, ::2], "projections: expected a C-contiguous array"),
        ("projections", lambda x: x[..., :1].copy(), "projections: expected at least 1 row and 2 columns"),
        ("projections", lambda x: x[0], r"projections: expected shape \(any, any, any\)"),
        ("slots", lambda x: x + 5, "slots: expected 0 to 19, got"),
        ("slots", lambda x: x - 19, "slots: expected 0 to 19, got"),
        ("slots", lambda x: x.astype(float), "slots: expected a one-dimensional array of integers"),
        ("matrices", lambda x: x[1:], r"matrices: expected shape \(17, 3, 4\), got \(16, 3, 4\)"),
        ("matrices", lambda x: x.astype(np.float32), "matrices: expected an array of float64"),
        ("weights", lambda x: x[:, 1:], r"weights: expected shape \(any, 17\)"),
        ("weights", lambda x: x.tolist(), "weights: expected an array of float32"),
        ("poses", lambda x: x[0], r"poses: expected shape \(any, 3, 3\)"),
        ("matrices", lambda x: x * np.nan, "matrices, poses: expected finite numbers"),
        ("poses", lambda x: x + np.inf, "matrices, poses: expected finite numbers"),
        ("shape", lambda x: (0, 3), "shape: expected at least 1 row"),
        ("out", lambda x: np.zeros((3, 2, 8, 11), np.float32), r"out: expected shape \(3, 2, 8, 12\)"),
        ("out", lambda x: np.zeros((3, 2, 12, 8), np.float32).swapaxes(2, 3), "out: expected a C-contiguous array"),
        ("out", lambda x: np.zeros((3, 2, 8, 12)), "out: expected an array of float32"),
    ],
)
def test_wrong_arguments_are_refused_in_words(project: Project, name: str, change: Any, message: str) -> None:
    keys = ("projections", "slots", "matrices", "weights", "poses", "shape")
    arguments: dict[str, Any] = dict(zip(keys, problem("cone", 2, 3, (8, 12)), strict=True)) | {"out": None}
    arguments["slots"] = np.arange(17)
    arguments[name] = change(arguments[name])
    with pytest.raises((TypeError, ValueError), match=message):
        project(**arguments)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend: expected one of cpu, cuda, .*got 'gpu'"):
        backproject.get("gpu")


def test_two_threads_may_reconstruct_at_once() -> None:
    """numba's fallback threading layer would abort the process here."""
    use_safe_layer()
    arguments = problem("cone", 5, 4, (40, 40))
    expected = cpu.backproject(*arguments)
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda _: cpu.backproject(*arguments), range(20)):
            np.testing.assert_array_equal(got, expected)


def test_warm_up_compiles_all_there_is() -> None:
    cpu.warm_up()
    compiled = len(cpu._backproject.signatures)
    for kind in ("cone", "fan"):
        cpu.backproject(*problem(kind, 0, 2, (8, 8)))
    assert len(cpu._backproject.signatures) == compiled > 0


def test_read_only_projections_are_welcome() -> None:
    arguments = problem("cone", 0, 2, (8, 8))
    expected = cpu.backproject(*arguments)
    for array in arguments[:5]:
        array.flags.writeable = False
    np.testing.assert_array_equal(cpu.backproject(*arguments), expected)
