"""The CUDA kernels and what surrounds them, on an emulated device, against the reference in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.recon.backproject import cuda, cuda_device, cuda_half, memory, reference
from tango_jit.recon.backproject.cuda_ring import CudaRing
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.recon.window import ProjectionWindow, WindowOverflowError
from tango_jit.streams import Header, Image
from tests.backprojections import KINDS, on_the_edge, problem
from tests.cuda_emulator import COMPILER, Device

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ on this machine: nothing to emulate a device with")
TEXELS = (memory.EXACT, memory.HALF)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def device(built: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """With texture arrays of 6 layers at most, so that most rings have several."""
    built.reset(layers=6)
    built.put_in_place(monkeypatch)
    return built


def differences(got: torch.Tensor, arguments: tuple[Any, ...]) -> NDArray[np.float64]:
    """From the reference, in parts of its largest value, where rounding does not decide whether a pixel is seen."""
    expected = reference.backproject(*arguments)
    clear = ~on_the_edge(arguments)[:, None].repeat(expected.shape[1], 1)
    assert got.shape == expected.shape
    assert clear.mean() > 0.9
    assert np.abs(expected).max() > 0.1
    return (got.numpy() - expected)[clear] / np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seed", "patches", "shape"), [(0, 5, (20, 20)), (1, 3, (7, 45)), (2, 1, (70, 33))])
def test_exact_texels_agree_with_the_reference(
    device: Device, kind: str, seed: int, patches: int, shape: tuple[int, int]
) -> None:
    """To 1e-5 of the largest value, for white noise; partly outside the field of view, at any orientation."""
    arguments = problem(kind, seed, patches, shape, planes=1 + seed)
    assert np.abs(differences(cuda.backproject(*arguments), arguments)).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_texels_of_16_bits_agree_with_the_reference(device: Device, kind: str) -> None:
    """White noise is the worst there is for positions of 1/256 pixel; real views are smoother."""
    arguments = problem(kind, 3, 3, (20, 20))
    error = differences(cuda_half.backproject(*arguments), arguments)
    assert np.abs(error).max() < 5e-3
    assert np.sqrt(np.square(error).mean()) < 2e-3


def test_views_of_any_size_keep_their_digits_in_16_bits(device: Device) -> None:
    """Each is kept in units of its largest value, so that neither 1e-9 nor 1e+9 mm^-1 leaves the range of float16."""
    arguments = problem("cone", 3, 2, (12, 12))
    for factor in (1e-9, 1e9):
        scaled = (arguments[0] * np.float32(factor), *arguments[1:])
        error = differences(cuda_half.backproject(*scaled) / factor, arguments)
        assert np.sqrt(np.square(error).mean()) < 1e-3


def test_the_position_is_as_good_on_a_large_detector(device: Device) -> None:
    """Counted from its edge, float32 would leave 2e-4 pixels at column 4000, and errors of 1e-4."""
    rng = np.random.default_rng(0)
    scan = ScanGeometry.cone(rows=3, cols=5000, pixel_mm=0.02, source_axis_mm=100, source_detector_mm=150)
    views = rng.standard_normal((2, 3, 5000)).astype(np.float32)
    poses = np.array([[(25.0, 3.0, -0.01), (0.0131, 0.0017, 0.0003), (0.0021, -0.0113, 0.0004)]])
    weights = np.ones((1, 2), np.float32)
    arguments = (views, np.arange(2), scan.matrices([0.0, 3.0]), weights, poses, (40, 40))
    assert np.abs(differences(cuda.backproject(*arguments), arguments)).max() < 2e-6


def test_more_views_than_a_block_looks_at_together(device: Device) -> None:
    """300 views in 50 arrays, in any order, with five planes: the layers, the runs and the launches fit together."""
    rng = np.random.default_rng(1)
    scan = ScanGeometry.cone(rows=5, cols=9, pixel_mm=10.0, source_axis_mm=100, source_detector_mm=150)
    views = rng.standard_normal((310, 5, 9)).astype(np.float32)
    weights = (rng.random((5, 300)) * rng.integers(0, 2, (5, 300))).astype(np.float32)
    poses = rng.uniform(-0.8, 0.8, (2, 3, 3))
    angles = rng.uniform(-50, 50, 300)
    arguments = (views, rng.permutation(310)[:300], scan.matrices(angles), weights, poses, (9, 17))
    ring = cuda.in_ring(views, cuda.make_ring)
    device.launches = 0
    assert np.abs(differences(cuda.backproject(ring, *arguments[1:]), arguments)).max() < 1e-5
    assert device.launches == 2  # planes 0 to 3, and 4


def test_one_array_of_views_beyond_a_chunk(device: Device) -> None:
    device.reset()
    rng = np.random.default_rng(2)
    scan = ScanGeometry.parallel(rows=4, cols=8, pixel_mm=10.0)
    views, weights = rng.standard_normal((270, 4, 8)).astype(np.float32), np.ones((1, 270), np.float32)
    poses = rng.uniform(-0.8, 0.8, (2, 3, 3))
    arguments = (views, np.arange(270), scan.matrices(rng.uniform(-9, 9, 270)), weights, poses, (18, 5))
    assert np.abs(differences(cuda.backproject(*arguments), arguments)).max() < 1e-5


@pytest.mark.parametrize("backend", [cuda, cuda_half])
def test_the_order_of_the_threads_does_not_matter(device: Device, backend: Any) -> None:
    arguments = problem("tilted", 4, 2, (20, 33))
    expected = backend.backproject(*arguments)
    for device.order in (1, 2, 3):
        assert torch.equal(backend.backproject(*arguments), expected)


def test_the_emulator_notices_a_missing_barrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, {"backproject": {"__syncthreads();": ";"}})
    device.reset(order=1)
    device.put_in_place(monkeypatch)
    arguments = problem("cone", 4, 1, (20, 33))
    assert not np.allclose(cuda.backproject(*arguments).numpy(), reference.backproject(*arguments), atol=1e-3)


def test_points_at_and_behind_the_source_are_outside(device: Device) -> None:
    scan = ScanGeometry.cone(rows=9, cols=9, pixel_mm=1.0, source_axis_mm=100, source_detector_mm=200)
    pose = np.array([[(0.0, -300.0, 0.0), (0.0, 1.0, 0.0), (0.001, 0.0, 0.0)]])  # columns run through the source
    one = np.ones((1, 1), np.float32)
    for backend in (cuda, cuda_half):
        views = np.ones((1, 9, 9), np.float32)
        line = backend.backproject(views, np.zeros(1, int), scan.matrices(0.0), one, pose, (1, 400))[0, 0, 0].numpy()
        assert (line[:201] == 0).all()
        np.testing.assert_allclose(line[250:], (100 / (np.arange(250, 400) - 200)) ** 2, rtol=1e-5)


def test_views_without_weight_are_not_read(device: Device) -> None:
    projections, *rest = problem("cone", 1, 2, (9, 9))
    slots, weights = rest[0], rest[2]
    weights[:, 4] = 0
    before = cuda.backproject(projections, *rest)
    projections[slots[4]] = np.nan
    assert torch.equal(cuda.backproject(projections, *rest), before)


def test_results_go_straight_into_a_slot_of_a_larger_tensor(device: Device) -> None:
    arguments = problem("cone", 2, 3, (8, 12))
    buffer = torch.full((10, 2, 8, 12), torch.nan)
    out = cuda.backproject(*arguments, out=buffer[4:7])
    assert out.data_ptr() == buffer[4].data_ptr()
    assert torch.equal(buffer[4:7], cuda.backproject(*arguments))
    assert buffer[:4].isnan().all()
    assert buffer[7:].isnan().all()


def test_nothing_in_view_is_zero(device: Device) -> None:
    projections, slots, matrices, weights, poses, shape = problem("cone", 2, 3, (8, 12))
    poses[:, 0] = (0, 0, 1e4)
    assert not cuda.backproject(projections, slots, matrices, weights, poses, shape).any()
    none = cuda.backproject(projections, slots[:0], matrices[:0], weights[:, :0], poses, shape)
    assert none.shape == (3, 2, 8, 12)
    assert not none.any()
    assert cuda.backproject(projections, slots, matrices, weights, poses[:0], shape).shape == (0, 2, 8, 12)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((3, 2, 8, 12), np.float32), "out: expected a tensor of float32 on a CUDA device, got .*ndarray"),
        (torch.zeros((3, 2, 8, 12), dtype=torch.float64), "out: expected a tensor of float32 .*, got torch.float64 on"),
        (torch.zeros((3, 2, 8, 11)), r"out: expected shape \(3, 2, 8, 12\), contiguous, got \(3, 2, 8, 11\)"),
        (torch.zeros((3, 2, 12, 8)).mT, r"out: expected shape \(3, 2, 8, 12\), contiguous, got .* strides"),
    ],
)
def test_a_wrong_place_for_the_result_is_refused(device: Device, out: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        cuda.backproject(*problem("cone", 2, 3, (8, 12)), out=out)


def test_wrong_views_are_refused(device: Device) -> None:
    projections, slots, *rest = problem("cone", 2, 3, (8, 12))
    with pytest.raises(TypeError, match="projections: expected a ring on a CUDA device or float32 views"):
        cuda.backproject(projections.astype(np.float64), slots, *rest)
    with pytest.raises(ValueError, match="slots: expected 0 to 19"):
        cuda.backproject(projections, slots + 10, *rest)


def test_warm_up_proves_that_it_works(device: Device) -> None:
    for backend in (cuda, cuda_half):
        backend.warm_up()


def test_warm_up_tells_of_a_kernel_that_does_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(source: str, name: str) -> Any:
        return device.kernel(source, name) if source == "texels" else lambda *arguments, **stream: None

    monkeypatch.setattr(cuda_device, "kernel", kernel)
    with pytest.raises(RuntimeError, match="CUDA: expected 1 from a view of ones, got nan"):
        cuda.warm_up()


@pytest.mark.parametrize(("backend", "tolerance"), [("cuda", 1e-5), ("cuda_half", 5e-3)])
def test_a_pipeline_gives_the_slices_of_the_reference(device: Device, backend: str, tolerance: float) -> None:
    """With growing rings, and slices that follow the window by differences; results come to the host."""
    scan = ScanGeometry.cone(rows=12, cols=16, pixel_mm=5.0, source_axis_mm=100, source_detector_mm=150)
    place = default_slices(scan, (16, 16))["xz"]
    made = [
        Pipeline(Header("noise", "raw", scan, True), None, None, Options(), name) for name in (backend, "reference")
    ]
    rng = np.random.default_rng(0)
    for frame in range(80):
        image = Image("noise", frame, frame * np.pi / 30, 0.0, rng.random((12, 16)).astype(np.float32), None)
        for pipeline in made:
            pipeline.add(image, pipeline.filter(image))
        windows = [pipeline.window() for pipeline in made]
        if frame in (62, 64, 79):
            got, expected = (pipeline.reconstruct(w, place) for pipeline, w in zip(made, windows) if w)
            np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


# ---- the ring


@pytest.mark.parametrize("texel", TEXELS)
def test_a_ring_gives_back_what_was_put(device: Device, texel: int) -> None:
    rng = np.random.default_rng(0)
    views = rng.standard_normal((14, 5, 7)).astype(np.float32) * rng.uniform(0.01, 100, (14, 1, 1)).astype(np.float32)
    ring = CudaRing.empty(14, 5, 7, texel)
    for slot in rng.permutation(14):
        view = views[slot]
        ring.put(int(slot), torch.from_numpy(view) if slot % 2 else view)
    for slot, view in enumerate(views):
        tolerance = 0 if texel == memory.EXACT else 2**-11 * np.abs(view).max()
        np.testing.assert_allclose(ring.read(slot), view, rtol=0, atol=tolerance)


@pytest.mark.parametrize("texel", TEXELS)
def test_a_larger_ring_has_the_same_views_without_copying_them(device: Device, texel: int) -> None:
    views = np.random.default_rng(0).standard_normal((16, 5, 7)).astype(np.float32)
    ring = CudaRing.empty(4, 5, 7, texel)
    for slot in range(4):
        ring.put(slot, views[slot])
    held = [ring.read(slot) for slot in range(4)]
    device.launches = 0
    larger = ring.grown(16)
    assert device.launches == 0
    assert larger.shape == (16, 5, 7)
    assert larger.nbytes == 4 * ring.nbytes
    for slot in range(4, 16):
        larger.put(slot, views[slot])
    for slot in range(4):
        np.testing.assert_array_equal(larger.read(slot), held[slot])
    np.testing.assert_allclose(larger.read(15), views[15], atol=1e-2)


@pytest.mark.parametrize("texel", TEXELS)
def test_a_copy_stays_as_it_is(device: Device, texel: int) -> None:
    views = np.random.default_rng(0).standard_normal((9, 5, 7)).astype(np.float32)
    ring = CudaRing.empty(9, 5, 7, texel)
    for slot, view in enumerate(views):
        ring.put(slot, view)
    held = [ring.read(slot) for slot in (8, 0, 3)]
    copy, band = ring.copied(np.array([8, 0, 3])), ring.copied(np.array([8, 0, 3]), slice(1, 4))
    for slot in range(9):
        ring.put(slot, np.zeros((5, 7), np.float32))
    assert copy.shape == (3, 5, 7)
    for slot in range(3):
        np.testing.assert_array_equal(copy.read(slot), held[slot])
        np.testing.assert_allclose(band.read(slot), held[slot][1:4], atol=0 if texel == memory.EXACT else 2e-3)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.uint16])
def test_a_ring_takes_any_real_numbers_even_read_only(device: Device, kind: type) -> None:
    view = np.arange(35).reshape(5, 7).astype(kind)
    view.flags.writeable = False
    ring = cuda.make_ring(1, 5, 7)
    ring.put(0, view)
    np.testing.assert_array_equal(ring.read(0), view.astype(np.float32))


def test_what_does_not_fit_a_ring_is_refused(device: Device) -> None:
    ring = cuda.make_ring(3, 5, 7)
    with pytest.raises(ValueError, match=r"view: expected shape \(5, 7\), got \(7, 5\)"):
        ring.put(0, np.zeros((7, 5), np.float32))
    for slot in (-1, 3):
        with pytest.raises(IndexError, match=f"slot: expected 0 to 2, got {slot}"):
            ring.read(slot)
    with pytest.raises(ValueError, match="views: expected at most 32768 x 32768 pixels on this device, got 5 x 40000"):
        cuda.make_ring(1, 5, 40000)
    with pytest.raises(ValueError, match="capacity: expected at least 1 view, got 0"):
        cuda.make_ring(0, 5, 7)


def test_a_ring_that_does_not_fit_is_refused_before_anything_is_taken(device: Device) -> None:
    view, rest = memory.ring_bytes(1, 500, 700), memory.beside_bytes(500, 700)
    device.free = 10 * view + rest
    ring = cuda.make_ring(10, 500, 700)
    with pytest.raises(MemoryError, match=r"11 views of 500 x 700 pixels of 32 bits .*: expected .* got .* free"):
        cuda.make_ring(11, 500, 700)
    with pytest.raises(MemoryError, match="11 views of 500 x 700 pixels of 32 bits"):
        ring.grown(21)
    assert cuda_half.make_ring(20, 500, 700).nbytes <= 10 * view


def test_a_window_that_does_not_fit_says_so(device: Device) -> None:
    """1000 views in half a turn where 100 have room, after the 16 that it begins with."""
    scan = ScanGeometry.parallel(rows=50, cols=70, pixel_mm=1.0)
    window = ProjectionWindow(scan, backend="cuda")
    device.free = memory.ring_bytes(100, 50, 70) + memory.beside_bytes(50, 70)
    view = np.zeros((50, 70), np.float32)
    words = (
        r"memory: expected room for 256 views in 180 degrees, got a scan with about 999: .*240 views of 50 x 70 .*free"
    )
    with pytest.raises(WindowOverflowError, match=words):
        any(window.add(frame, frame * np.pi / 1000, view) == "stale" for frame in range(1000))
    assert len(window) == 0


def test_a_window_for_which_memory_is_short_keeps_no_spare_views(device: Device) -> None:
    scan = ScanGeometry.parallel(rows=50, cols=70, pixel_mm=1.0)
    window = ProjectionWindow(scan, backend="cuda")
    device.free = memory.ring_bytes(100, 50, 70) + memory.beside_bytes(50, 70)
    for frame in range(130):
        window.add(frame, frame * np.pi / 100, np.full((50, 70), frame, np.float32))
    made = window.window()
    assert made is not None
    assert made.projections.shape[0] == 113
    assert [made.projections.read(slot)[0, 0] for slot in made.slots] == list(range(30, 130))
