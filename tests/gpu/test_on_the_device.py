"""From frames to trained networks without leaving the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.learn import PRODUCT, PatchSampler, Trainer
from tango_jit.recon import backproject
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.streams import Flat, Header, Image

SCAN = ScanGeometry.cone(rows=96, cols=128, pixel_mm=0.6, source_axis_mm=100, source_detector_mm=150)


@pytest.fixture(autouse=True)
def able() -> None:
    if why := backproject.obstacle("cuda"):
        pytest.skip(f"backend cuda: {why}")


def pipelines(*backends: str) -> list[Pipeline]:
    """Each fed with the same frames of more than one turn: counts behind a noisy, absorbing disk."""
    flat = Flat("noise", np.full((SCAN.rows, SCAN.cols), 30_000, np.float32), 1)
    made = [Pipeline(Header("noise", "raw", SCAN, False), None, flat, Options(), backend) for backend in backends]
    rng = np.random.default_rng(0)
    disk = np.abs(np.arange(SCAN.cols) - SCAN.axis_column) < 30
    for frame in range(100):
        counts = rng.poisson(np.where(disk, 9_000, 28_000), (SCAN.rows, SCAN.cols)).astype(np.uint16)
        image = Image("noise", frame, frame * np.pi / 40, 0.0, counts, None)
        for pipeline in made:
            pipeline.add(image, pipeline.filter(image))
    return made


@pytest.mark.parametrize(("backend", "tolerance"), [("cuda", 2e-3), ("cuda_half", 1e-2)])
def test_a_pipeline_gives_the_slices_of_the_reference(backend: str, tolerance: float) -> None:
    """The views are rounded to float16 on their way, on either side."""
    ours, theirs = pipelines(backend, "reference")
    for place in default_slices(SCAN, (64, 64)).values():
        windows = ours.window(), theirs.window()
        assert windows[0] is not None
        assert windows[1] is not None
        got, expected = ours.reconstruct(windows[0], place), theirs.reconstruct(windows[1], place)
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


def test_filtered_views_stay_on_the_device() -> None:
    (pipeline,) = pipelines("cuda")
    image = Image("noise", 100, 100 * np.pi / 40, 0.0, np.full((96, 128), 9_000, np.uint16), None)
    filtered = pipeline.filter(image)
    assert isinstance(filtered, torch.Tensor)
    assert filtered.is_cuda


def test_filtering_in_batches_is_filtering_one_by_one() -> None:
    frames = np.random.default_rng(0).random((7, 96, 128)).astype(np.float32)
    here, there = Preprocessor(SCAN, linear=True), Preprocessor(SCAN, linear=True, device="cuda")
    expected, got = here(frames), there(frames)
    assert isinstance(got, torch.Tensor)
    assert got.is_cuda
    np.testing.assert_allclose(got.cpu().numpy(), expected, atol=2e-6 * np.abs(expected).max())
    alone = torch.cat([there(frame[None]) for frame in frames])
    np.testing.assert_allclose(alone.cpu().numpy(), expected, atol=2e-6 * np.abs(expected).max())


def test_pairs_go_into_the_trainer_without_the_host() -> None:
    """And it learns from them: the loss falls. (In a CUDA graph, so that nothing waits for the device.)"""
    (pipeline,) = pipelines("cuda")
    window = pipeline.window()
    assert window is not None
    engine, size = Reconstructor(SCAN, "cuda"), PRODUCT.patch_size
    sampler, trainer = PatchSampler(SCAN, size), Trainer(PRODUCT, device="cuda")
    for _ in range(8):
        pairs = engine.reconstruct_pairs(window, sampler.draw(16, {}, window.matrices), (size, size))
        assert isinstance(pairs, torch.Tensor)
        assert pairs.is_cuda
        trainer.add(pairs)
    assert trainer.trouble == ""
    losses = np.array([trainer.step() for _ in range(150)])  # of some steps ago: the first ones are none
    assert np.isfinite(losses[-20:]).all()
    assert np.mean(losses[-20:]) < 0.8 * np.nanmean(losses[:20])
    assert trainer.steps_rejected == 0
    assert trainer.patch_accuracy is not None
