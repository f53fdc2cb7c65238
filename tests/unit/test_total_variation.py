"""Total variation: the right minimum, by loops and by operations of PyTorch, seen from no further than it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numba.core import config
from numpy.typing import NDArray
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from tango_jit.learn.total_variation import ITERATIONS, LEAST, REACH, SHARED, _by_tensors, total_variation
from tests.training import scene

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _threads() -> Iterator[None]:
    """Puts numba's number of threads back."""
    threads = numba.get_num_threads()
    yield
    numba.set_num_threads(threads)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def noisy(size: int = 64) -> NDArray[np.float32]:
    """One image of a disc with noise."""
    return scene(1, seed=4, size=size)[0][0, 0]


def objective(x: NDArray[np.floating], f: NDArray[np.floating], strength: float) -> float:
    x = np.asarray(x, np.float64)
    down, across = np.zeros_like(x), np.zeros_like(x)
    down[:-1], across[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
    return float(((x - f) ** 2).sum() / 2 + strength * np.hypot(down, across).sum())


@pytest.mark.parametrize(
    ("strength", "first", "closest"), [(0.03, 2e-5, 1e-4), (0.1, 1e-3, 1e-3), (0.3, 0.03, 0.01), (1.0, 0.15, 0.02)]
)
def test_it_is_the_minimum_that_another_algorithm_finds(strength: float, first: float, closest: float):
    """`first`: how much of the objective is left above the minimum after the iterations that there are; after 500 it is
    at least as low as where Chambolle's algorithm is after 3000, and the image is the same to `closest`."""
    f = noisy()
    other = denoise_tv_chambolle(f.astype(np.float64), weight=strength, eps=1e-12, max_num_iter=3000)
    lowest = objective(other, f, strength)
    here = {n: total_variation(torch.from_numpy(f), strength, n).numpy() for n in (ITERATIONS, 500)}
    assert objective(f, f, strength) > 1.1 * lowest
    assert lowest * (1 - 3e-3) < objective(here[ITERATIONS], f, strength) < lowest * (1 + first)
    assert lowest * (1 - 3e-3) < objective(here[500], f, strength) < lowest * (1 + 1e-6)
    assert np.abs(here[500] - other).max() < closest


@pytest.mark.parametrize("strength", [0.0, 0.02, 0.3, 5.0])
@pytest.mark.parametrize("shape", [(2, 3, 40, 33), (1, 1, 8, 8), (31, 64), (3, 65, 9), (1, 9), (9, 1)])
def test_loops_and_tensors_do_the_same(shape: tuple[int, ...], strength: float):
    x = images(*shape)
    for n in (1, 2, ITERATIONS):
        by_tensors = _by_tensors(x, strength, n)
        assert by_tensors.shape == x.shape
        torch.testing.assert_close(total_variation(x, strength, n), by_tensors, rtol=0, atol=1e-5)
    torch.testing.assert_close(_by_tensors(x, torch.tensor(strength), 3), _by_tensors(x, strength, 3), rtol=0, atol=0)


def test_each_image_is_smoothed_by_itself():
    x = images(3, 2, 40, 33)
    alone = torch.stack([torch.stack([total_variation(x[n, m], 0.3) for m in range(2)]) for n in range(3)])
    assert torch.equal(total_variation(x, 0.3), alone)
    turned = total_variation(x.transpose(2, 3), 0.3)  # not contiguous
    torch.testing.assert_close(turned, _by_tensors(x.transpose(2, 3), 0.3, ITERATIONS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, -1.0])
def test_without_strength_it_is_the_identity(strength: float):
    x = images(1, 1, 50, 40)
    assert float((total_variation(x, strength) - x).abs().max()) <= 4 * LEAST  # four duals of at most 1 a pixel
    assert float((_by_tensors(x, strength, ITERATIONS) - x).abs().max()) <= 4 * LEAST


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_a_pixel_sees_as_far_as_there_are_iterations(iterations: int):
    """Exactly so far: each of them adds one pixel at each side."""
    assert REACH == ITERATIONS
    x = images(41, 41)
    other = x.clone()
    other[20, 20] += 1
    before, after = (total_variation(image, 0.2, iterations) for image in (x, other))
    rows, cols = (torch.nonzero((after != before).any(1 - axis))[:, 0] for axis in (0, 1))
    for seen in (rows, cols):
        assert (int(seen.min()), int(seen.max())) == (20 - iterations, 20 + iterations)


def test_pixels_further_than_its_reach_do_not_matter():
    x = images(3, 100, 90)
    other = torch.rand(3, 100, 90) * 1e3
    inner = slice(40, 60), slice(35, 55)
    near = slice(40 - REACH, 60 + REACH), slice(35 - REACH, 55 + REACH)
    other[:, near[0], near[1]] = x[:, near[0], near[1]]
    for strength in (0.1, 10.0):
        whole, changed = (total_variation(image, strength)[:, inner[0], inner[1]] for image in (x, other))
        assert torch.equal(whole, changed)


@pytest.mark.usefixtures("_threads")
def test_many_threads_give_the_bits_of_one():
    few, many = images(3, 150, 70), images(2, 370, 400)
    assert few.numel() < SHARED < many.numel()
    results = []
    for threads in (1, config.NUMBA_NUM_THREADS):  # pyright: ignore[reportAttributeAccessIssue]
        numba.set_num_threads(threads)
        results += [(total_variation(few, 0.3), total_variation(many, 0.3)) for _ in range(2)]
        assert numba.get_num_threads() == threads
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[0], strict=True))


def test_the_threads_of_pytorch_stay_as_they_were_set():
    """numba, starting its own, sets those of the OpenMP that PyTorch runs on; in a new process, as it does so once."""
    program = (
        "import torch\n"
        "from tango_jit.learn.total_variation import total_variation\n"
        "torch.set_num_threads(1)\n"
        "total_variation(torch.rand(1, 600, 600), 0.3)\n"
        "print(torch.get_num_threads())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "1\n"


def test_the_unit_does_not_matter():
    x = images(2, 40, 40)
    assert torch.equal(total_variation(1024 * x, 1024 * 0.3), 1024 * total_variation(x, 0.3))
    torch.testing.assert_close(total_variation(x - 7, 0.3), total_variation(x, 0.3) - 7, rtol=0, atol=1e-5)


def test_it_keeps_the_mean_and_leaves_what_is_constant():
    x = images(2, 64, 48)
    smooth = total_variation(x, 0.5)
    torch.testing.assert_close(smooth.mean((1, 2)), x.mean((1, 2)), rtol=1e-5, atol=0)
    assert float(smooth.std()) < 0.2 * float(x.std())
    constant = torch.full((1, 20, 20), 3.25)
    assert torch.equal(total_variation(constant, 0.5), constant)


def test_it_takes_noise_away_and_leaves_edges():
    pairs, truth = scene(8, seed=1, size=48, noise=0.2)
    smooth = total_variation(torch.from_numpy(pairs[:, 0]), 0.2).numpy()
    error, noise = (np.mean((image - truth[:, 0]) ** 2) for image in (smooth, pairs[:, 0]))
    assert error < 0.2 * noise
    row = truth[:, 0, :, :-1] != truth[:, 0, :, 1:]
    assert np.abs(np.diff(smooth, axis=2))[row].mean() > 0.5  # of 1


def test_it_has_no_gradient():
    x, strength = images(1, 1, 16, 16).requires_grad_(), torch.tensor(0.3, requires_grad=True)
    assert not total_variation(x, strength).requires_grad


def test_numbers_that_are_not_finite_stay_so_and_spoil_no_more_than_they_reach():
    for bad in (np.nan, np.inf):
        x = images(1, 80, 80)
        x[0, 10, 10] = bad
        smooth = total_variation(x, 0.3)
        assert not torch.isfinite(smooth[0, 10, 10])
        assert torch.isfinite(smooth[0, 11 + REACH :]).all()
        assert torch.isfinite(smooth[0, :, 11 + REACH :]).all()


def test_the_image_given_stays_as_it_is():
    x = images(1, 40, 40)
    kept = x.clone()
    total_variation(x, 0.3)
    assert torch.equal(x, kept)
