"""Backprojection on a CUDA device with views of 16 bits, interpolated by the texture unit: half the memory, and faster.

Texels are float16 in units of the largest value of their view (11 bits), positions are good to 1/256 of a pixel: the
numbers are those of the reference to 1e-3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.recon.backproject import cuda_device, memory
from tango_jit.recon.backproject.cuda import backproject_ring, in_ring, prove
from tango_jit.recon.backproject.cuda_ring import CudaRing

obstacle = cuda_device.obstacle


def device() -> str:
    """See `backproject.device`."""
    return cuda_device.DEVICE


def make_ring(capacity: int, rows: int, cols: int) -> CudaRing:
    """See `Backend`. Raises MemoryError."""
    return CudaRing.empty(capacity, rows, cols, memory.HALF)


def backproject(
    projections: CudaRing | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: Tensor | None = None,
) -> Tensor:
    """See `cuda.backproject`."""
    return backproject_ring(in_ring(projections, make_ring), slots, matrices, weights, poses, shape, out)


def warm_up() -> None:
    """See `Backend`. CuPy keeps what was compiled."""
    prove(make_ring)
