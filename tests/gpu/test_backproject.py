"""The CUDA backends on a real device, against the reference in float64 on random geometries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon import backproject
from tango_jit.recon.backproject import cuda, cuda_device, cuda_half, memory, reference
from tango_jit.recon.backproject.cuda_ring import CudaRing
from tests.backprojections import KINDS, on_the_edge, problem

TEXELS = (memory.EXACT, memory.HALF)


@pytest.fixture(autouse=True)
def able() -> None:
    if why := backproject.obstacle("cuda"):
        pytest.skip(f"backend cuda: {why}")


def differences(got: torch.Tensor, arguments: tuple[Any, ...]) -> NDArray[np.float64]:
    """From the reference, in parts of its largest value, where rounding does not decide whether a pixel is seen."""
    expected = reference.backproject(*arguments)
    clear = ~on_the_edge(arguments)[:, None].repeat(expected.shape[1], 1)
    assert cuda_device.is_here(got)
    assert got.shape == expected.shape
    assert clear.mean() > 0.9
    return (got.cpu().numpy() - expected)[clear] / np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("patches", "shape"), [(5, (20, 20)), (3, (7, 45)), (1, (70, 133))])
def test_exact_texels_agree_with_the_reference(kind: str, seed: int, patches: int, shape: tuple[int, int]) -> None:
    """To 1e-5 of the largest value, for white noise; partly outside the field of view, at any orientation."""
    arguments = problem(kind, seed, patches, shape, planes=1 + seed)
    assert np.abs(differences(cuda.backproject(*arguments), arguments)).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_texels_of_16_bits_agree_with_the_reference(kind: str, seed: int) -> None:
    """White noise is the worst there is for positions of 1/256 pixel; real views are smoother."""
    arguments = problem(kind, seed, 3, (20, 20))
    error = differences(cuda_half.backproject(*arguments), arguments)
    assert np.abs(error).max() < 5e-3
    assert np.sqrt(np.square(error).mean()) < 2e-3


@pytest.mark.parametrize("backend", [cuda, cuda_half])
def test_more_views_than_one_texture_array_has_layers(backend: Any) -> None:
    """2048 of them: the ring has two arrays, and a launch goes over both."""
    rng = np.random.default_rng(1)
    scan = ScanGeometry.cone(rows=5, cols=9, pixel_mm=10.0, source_axis_mm=100, source_detector_mm=150)
    views = rng.standard_normal((2500, 5, 9)).astype(np.float32)
    weights = rng.random((2, 2400)).astype(np.float32)
    poses = rng.uniform(-0.8, 0.8, (2, 3, 3))
    matrices = scan.matrices(rng.uniform(-50, 50, 2400))
    arguments = (views, rng.permutation(2500)[:2400], matrices, weights, poses, (9, 17))
    assert cuda_device.largest()[0] < 2500
    error = differences(backend.backproject(*arguments), arguments)
    assert np.abs(error).max() < (2e-5 if backend is cuda else 2e-2)


def test_a_large_slice_of_a_large_detector() -> None:
    """Against the reference at some of its pixels: whole tiles, whole rows, and both ends."""
    rng = np.random.default_rng(2)
    scan = ScanGeometry.cone(rows=700, cols=2000, pixel_mm=0.05, source_axis_mm=200, source_detector_mm=300)
    views = rng.standard_normal((12, 700, 2000)).astype(np.float32)
    matrices, weights = scan.matrices(np.arange(12) * 0.5), np.full((1, 12), 0.25, np.float32)
    pose = np.array([[(-20.0, 5.0, 3.0), (0.03, 0.002, 0.0), (0.001, -0.02, -0.01)]])
    got = cuda.backproject(views, np.arange(12), matrices, weights, pose, (1000, 1300)).cpu().numpy()
    for i, j in ((0, 0), (500, 640), (990, 1280)):
        part = pose.copy()
        part[:, 0] += i * pose[:, 2] + j * pose[:, 1]
        arguments = (views, np.arange(12), matrices, weights, part, (10, 20))
        expected = reference.backproject(*arguments)
        clear = ~on_the_edge(arguments)[:, None]
        piece = got[:, :, i : i + 10, j : j + 20]
        np.testing.assert_allclose(piece[clear], expected[clear], atol=1e-5 * max(np.abs(expected).max(), 1))


def test_results_go_straight_into_a_slot_of_a_larger_tensor() -> None:
    arguments = problem("cone", 2, 3, (8, 12))
    buffer = torch.full((10, 2, 8, 12), torch.nan, device=cuda_device.DEVICE)
    out = cuda.backproject(*arguments, out=buffer[4:7])
    assert out.data_ptr() == buffer[4].data_ptr()
    assert torch.equal(buffer[4:7], cuda.backproject(*arguments))
    assert buffer[:4].isnan().all()
    assert buffer[7:].isnan().all()


def test_a_result_on_the_host_is_refused() -> None:
    with pytest.raises(TypeError, match=r"out: expected a tensor of float32 on a CUDA device, got .* on cpu"):
        cuda.backproject(*problem("cone", 2, 3, (8, 12)), out=torch.zeros(3, 2, 8, 12))


def test_nothing_in_view_is_zero() -> None:
    projections, slots, matrices, weights, poses, shape = problem("cone", 2, 3, (8, 12))
    poses[:, 0] = (0, 0, 1e4)
    assert not cuda.backproject(projections, slots, matrices, weights, poses, shape).any()
    none = cuda.backproject(projections, slots[:0], matrices[:0], weights[:, :0], poses, shape)
    assert not none.any()
    assert cuda.backproject(projections, slots, matrices, weights, poses[:0], shape).shape == (0, 2, 8, 12)


def test_both_backends_warm_up() -> None:
    for name in ("cuda", "cuda_half"):
        backproject.get(name).warm_up()
        assert backproject.device(name) == "cuda"


# ---- the ring


@pytest.mark.parametrize("texel", TEXELS)
def test_a_ring_gives_back_what_was_put(texel: int) -> None:
    rng = np.random.default_rng(0)
    views = rng.standard_normal((14, 50, 333)).astype(np.float32)
    views *= rng.uniform(0.01, 100, (14, 1, 1)).astype(np.float32)
    ring = CudaRing.empty(5, 50, 333, texel)
    for slot in range(5):
        ring.put(slot, torch.from_numpy(views[slot]).to(cuda_device.DEVICE) if slot % 2 else views[slot])
    larger = ring.grown(14)
    for slot in range(5, 14):
        larger.put(slot, views[slot])
    copy = larger.copied(np.array([13, 0, 7]))
    held = [larger.read(slot) for slot in (13, 0, 7)]
    for slot, view in enumerate(views):
        tolerance = 0 if texel == memory.EXACT else 2**-11 * np.abs(view).max()
        np.testing.assert_allclose(larger.read(slot), view, rtol=0, atol=tolerance)
    larger.put(13, np.zeros((50, 333), np.float32))
    for slot in range(3):
        np.testing.assert_array_equal(copy.read(slot), held[slot])


@pytest.mark.parametrize("texel", TEXELS)
def test_the_estimate_of_a_ring_is_near_the_truth(texel: int) -> None:
    """Never more is taken than said, but for 32 MB of whatever else, and not much less."""
    torch.cuda.synchronize()
    before = torch.cuda.mem_get_info()[0]
    ring = CudaRing.empty(300, 647, 768, texel)
    taken = before - torch.cuda.mem_get_info()[0]
    assert 0.75 * ring.nbytes < taken < ring.nbytes + (32 << 20)
    del ring
    torch.cuda.synchronize()
    assert abs(torch.cuda.mem_get_info()[0] - before) < 32 << 20


def test_what_does_not_fit_is_refused_in_words() -> None:
    _, rows, cols = cuda_device.largest()
    with pytest.raises(ValueError, match=f"views: expected at most {rows} x {cols} pixels on this device"):
        cuda.make_ring(1, 5, cols + 1)
    with pytest.raises(MemoryError, match=r"1000000 views of 2000 x 2000 pixels of 32 bits .*: expected .* MB .* free"):
        cuda.make_ring(1_000_000, 2000, 2000)
    projections, slots, matrices, weights, poses, _ = problem("cone", 0, 1, (20, 20))
    poses = np.repeat(poses, 1_000_000, axis=0)
    with pytest.raises(MemoryError, match=r"1000000 slices or patches of 2000 x 2000 pixels: expected .* MB"):
        cuda.backproject(projections, slots, matrices, weights, poses, (2000, 2000))


# ---- streams


@pytest.mark.parametrize("backend", [cuda, cuda_half])
def test_a_ring_orders_streams_that_share_it(backend: Any) -> None:
    """Views are put on one stream and overwritten at once, slices made on another: each is of its own views."""
    rng = np.random.default_rng(3)
    scan = ScanGeometry.parallel(rows=64, cols=512, pixel_mm=0.1)
    ring, matrices = backend.make_ring(30, 64, 512), scan.matrices(np.arange(30) * 0.1)
    weights, pose = np.ones((1, 30), np.float32), np.array([[(-20.0, -20, 0), (0.1, 0, 0), (0, 0.1, 0)]])
    putting, making = torch.cuda.Stream(), torch.cuda.Stream()
    values, slices = rng.uniform(1, 2, 20), []
    for value in values:
        with torch.cuda.stream(putting):
            view = torch.full((64, 512), float(value), device=cuda_device.DEVICE)
            for slot in range(30):
                ring.put(slot, view)
        with torch.cuda.stream(making):
            slices.append(backend.backproject(ring, np.arange(30), matrices, weights, pose, (400, 400)))
    torch.cuda.synchronize()
    for value, made in zip(values, slices, strict=True):
        assert made[0, 0, 150:250, 150:250].cpu().numpy() == pytest.approx(30 * value, rel=1e-3)


def test_a_ring_that_nobody_has_any_more_outlives_its_kernels() -> None:
    projections, *rest = problem("cone", 0, 3, (200, 200))
    expected = cuda.backproject(projections, *rest)
    for _ in range(20):
        ring = cuda.in_ring(projections, cuda.make_ring)
        got = cuda.backproject(ring, *rest)
        del ring
        others = cuda.in_ring(np.full_like(projections, 9), cuda.make_ring)  # may take its memory
        assert torch.equal(got, expected)
        del others
