"""Total variation: the image whose gradient is sparse and that is still near to the one given.

    argmin over x of |x - f|^2 / 2 + strength * sum |grad x|        (isotropic, differences to the next row and column)

by the fast gradient projection on the dual of Beck and Teboulle, IEEE Trans. Image Process. 18 (2009), algorithm FGP.
The number of iterations is fixed: they are layers of a network here (see unet.py, form "guided"), and each of them lets
a pixel see one further; that many already give what a slice of a scan gains by it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

ITERATIONS = 20
REACH = ITERATIONS  # pixels that one pixel of the result can depend on, at each side
LEAST = 1e-6  # of the strength: without any there would be nothing to divide by
CHUNK = 32  # rows that one thread does at a time
SHARED = 1 << 18  # pixels from which on threads share them: each iteration they wait for each other, on busy cores long

Images = NDArray[np.float32]


def total_variation(images: Tensor, strength: Tensor | float, iterations: int = ITERATIONS) -> Tensor:
    """(..., H, W) float32 -> the same, without gradients. `strength` in the unit of the images; not below 0."""
    with torch.no_grad():
        if images.is_cuda:
            return _by_tensors(images, strength, iterations)
        flat = images.detach().reshape(-1, *images.shape[-2:]).contiguous().numpy()
        threads = _threads()
        numba.set_num_threads(threads if flat.size >= SHARED else 1)
        try:
            smooth = _descend(flat, np.float32(max(float(strength), LEAST)), _momenta(iterations))
        finally:
            numba.set_num_threads(threads)
        return torch.from_numpy(smooth).view(images.shape)


def _threads() -> int:
    """Those of numba. Starting them it sets those of PyTorch, on the same OpenMP, too: back to what they were."""
    of_torch = torch.get_num_threads()
    threads = numba.get_num_threads()
    if torch.get_num_threads() != of_torch:
        torch.set_num_threads(of_torch)
    return threads


def warm_up() -> None:
    """Compile it, or load it from numba's cache; later calls take no extra time."""
    total_variation(torch.zeros(1, 8, 8), 1.0)


def _momenta(iterations: int) -> Images:
    """How far each iteration goes on beyond its step."""
    momenta, t = np.empty(iterations, np.float32), 1.0
    for n in range(iterations):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momenta[n], t = (t - 1) / following, following
    return momenta


def _by_tensors(images: Tensor, strength: Tensor | float, iterations: int) -> Tensor:
    """The same in operations of PyTorch; nothing in it waits for the device."""
    strength = torch.as_tensor(strength, dtype=images.dtype, device=images.device).clamp(min=LEAST)
    step = 1 / (8 * strength)
    p = q = (torch.zeros_like(images[..., 1:, :]), torch.zeros_like(images[..., 1:]))
    for momentum in _momenta(iterations).tolist():
        x = images - strength * _divergence(*q)
        down, across = q[0] - step * x.diff(dim=-2), q[1] - step * x.diff(dim=-1)
        length = (pad(down, (0, 0, 0, 1)).square() + pad(across, (0, 1)).square()).sqrt().clamp(min=1)
        new = down / length[..., :-1, :], across / length[..., :-1]
        q = (torch.lerp(p[0], new[0], 1 + momentum), torch.lerp(p[1], new[1], 1 + momentum))
        p = new
    return images - strength * _divergence(*p)


def _divergence(down: Tensor, across: Tensor) -> Tensor:
    """(..., H - 1, W) and (..., H, W - 1) -> (..., H, W)."""
    return pad(down, (0, 0, 0, 1)) - pad(down, (0, 0, 1, 0)) + pad(across, (0, 1)) - pad(across, (1, 0))


_FAST: Any = {"reassoc", "contract", "arcp", "nsz"}  # numbers that are not finite stay what they are


@numba.njit(parallel=True, fastmath=_FAST, nogil=True, cache=True)
def _descend(images: Images, strength: np.float32, momenta: Images) -> Images:  # pragma: no cover - compiled
    """(n, H, W) -> (n, H, W). Duals of pixel (i, j) towards the next row and column are kept at (i + 1, j + 1)."""
    count, rows, cols = images.shape
    one, zero = np.float32(1), np.float32(0)
    step = one / (np.float32(8) * strength)
    p = np.zeros((count, 2, rows + 1, cols + 1), np.float32)
    q = np.zeros((count, 2, rows + 1, cols + 1), np.float32)
    other = np.zeros((count, 2, rows + 1, cols + 1), np.float32)
    chunks = (rows + CHUNK - 1) // CHUNK
    for momentum in momenta:
        for job in numba.prange(count * chunks):
            n, first = job // chunks, job % chunks * CHUNK
            here, below = np.empty(cols + 1, np.float32), np.zeros(cols + 1, np.float32)
            _row(images[n], q[n], strength, first, here)
            for i in range(first, min(first + CHUNK, rows)):
                last = i == rows - 1
                if not last:
                    _row(images[n], q[n], strength, i + 1, below)
                here[cols] = here[cols - 1]
                drop = zero if last else step
                for j in range(cols):
                    down = q[n, 0, i + 1, j + 1] + drop * (here[j] - below[j])
                    across = q[n, 1, i + 1, j + 1] + step * (here[j] - here[j + 1])
                    scale = one / max(one, np.sqrt(down * down + across * across))
                    down, across = down * scale, across * scale
                    other[n, 0, i + 1, j + 1] = down + momentum * (down - p[n, 0, i + 1, j + 1])
                    other[n, 1, i + 1, j + 1] = across + momentum * (across - p[n, 1, i + 1, j + 1])
                    p[n, 0, i + 1, j + 1], p[n, 1, i + 1, j + 1] = down, across
                here, below = below, here
        q, other = other, q
    result = np.empty((count, rows, cols), np.float32)
    for job in numba.prange(count * rows):
        row = np.empty(cols + 1, np.float32)
        _row(images[job // rows], p[job // rows], strength, job % rows, row)
        result[job // rows, job % rows] = row[:cols]
    return result


@numba.njit(fastmath=_FAST, nogil=True, cache=True, inline="always")
def _row(image: Images, q: Images, strength: np.float32, i: int, row: Images) -> None:  # pragma: no cover - compiled
    """Row `i` of the image that belongs to the dual `q`, into `row`."""
    for j in range(image.shape[1]):
        row[j] = image[i, j] - strength * (q[0, i + 1, j + 1] - q[0, i, j + 1] + q[1, i + 1, j + 1] - q[1, i + 1, j])
