"""Backprojection on a CUDA device: one launch for all rectangles, planes and views (see backproject.cu).

Views are kept in 32 bits and interpolated in single precision: the numbers are those of the reference to 1e-5. With
`cuda_half` they take half the memory, and the texture unit interpolates.

All work is queued on torch's current stream, so that whoever calls chooses its priority (cuda_streams.py); nothing
waits for the device. Results are torch tensors on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.recon.backproject import cuda_device
from tango_jit.recon.backproject.arguments import check_views
from tango_jit.recon.backproject.cuda_device import PLANES, TILE
from tango_jit.recon.backproject.cuda_ring import CudaRing

# As View and Run in backproject.cu.
VIEW = np.dtype([("matrix", "f8", (3, 4)), ("weights", "f4", PLANES), ("layer", "i4"), ("slot", "i4")])
RUN = np.dtype([("texture", "u8"), ("first", "i4"), ("end", "i4")])

obstacle = cuda_device.obstacle


def device() -> str:
    """See `backproject.device`."""
    return cuda_device.DEVICE


def make_ring(capacity: int, rows: int, cols: int) -> CudaRing:
    """See `Backend`. Raises MemoryError."""
    return CudaRing.empty(capacity, rows, cols)


def backproject(
    projections: CudaRing | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: Tensor | None = None,
) -> Tensor:
    """See `Backend`; an array of projections is copied to the device first. `out` may be a slot of a larger tensor.

    Raises MemoryError too.
    """
    return backproject_ring(in_ring(projections, make_ring), slots, matrices, weights, poses, shape, out)


def backproject_ring(
    ring: CudaRing,
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: Tensor | None = None,
) -> Tensor:
    """The same for views of any precision."""
    full = check_views(ring.shape, slots, matrices, weights, poses, shape)
    _, rows, cols = ring.shape
    with cuda_device.in_words(f"{full[0]} slices or patches of {full[2]} x {full[3]} pixels", 4 * math.prod(full)):
        out = _checked(out, full)
        used = np.flatnonzero(weights.any(axis=0))
        slots, matrices, weights = slots[used], matrices[used], weights[:, used]
        blocks = full[0] * -(-full[2] // TILE) * -(-full[3] // TILE)
        kernel = cuda_device.kernel("backproject", f"backproject_{'exact' if ring.units is None else 'half'}")
        for plane in range(0, full[1] if blocks else 0, PLANES):
            some = weights[plane : plane + PLANES]
            views, runs = packed(ring, slots, matrices, some)
            with ring.reading():
                views_, runs_, poses_ = _upload(views, runs, poses)
                where = (plane, len(some), full[1])
                cuda_device.launch(
                    kernel,
                    (blocks,),
                    (TILE * TILE,),
                    *(views_, runs_, len(runs), ring.units, rows, cols, poses_, *full[2:], *where, out),
                )
    return out


def warm_up() -> None:
    """See `Backend`. CuPy keeps what was compiled."""
    prove(make_ring)


def in_ring(projections: Any, make_ring: Callable[[int, int, int], CudaRing]) -> CudaRing:
    """The ring itself, or a new one with the views of an array (n, rows, cols). Raises TypeError for anything else."""
    if isinstance(projections, CudaRing):
        return projections
    if not isinstance(projections, np.ndarray) or projections.ndim != 3 or projections.dtype != np.float32:
        raise TypeError(f"projections: expected a ring on a CUDA device or float32 views, got {type(projections)}")
    ring = make_ring(*projections.shape)
    for slot, view in enumerate(projections):
        ring.put(slot, view)
    return ring


def prove(make_ring: Callable[[int, int, int], CudaRing]) -> None:
    """Compile all there is, and see it work: one view of ones onto one pixel. Raises RuntimeError if that fails."""
    ring = make_ring(1, 2, 2)
    ring.put(0, np.ones((2, 2), np.float32))
    matrix = np.zeros((1, 3, 4))
    matrix[0, 2, 3] = 1  # every point falls on pixel (0, 0), at the distance of the axis
    one = np.ones((1, 1), np.float32)
    pixel = backproject_ring(ring, np.zeros(1, int), matrix, one, np.zeros((1, 3, 3)), (1, 1)).item()
    if not abs(pixel - 1) < 1e-3 or not np.array_equal(ring.read(0), np.ones((2, 2))):
        raise RuntimeError(f"CUDA: expected 1 from a view of ones, got {pixel} and {ring.read(0).tolist()}")


def packed(
    ring: CudaRing, slots: NDArray[np.integer], matrices: NDArray[np.float64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Views (n,) of type VIEW, and the RUNs of those that lie in one texture."""
    banks, layers = ring.located(slots)
    order = np.argsort(banks, kind="stable")
    views = np.zeros(len(slots), VIEW)
    views["matrix"], views["layer"], views["slot"] = matrices[order], layers[order], slots[order]
    views["weights"][:, : len(weights)] = weights.T[order]
    first = np.flatnonzero(np.diff(banks[order], prepend=-1))
    runs = np.zeros(len(first), RUN)
    runs["texture"] = [ring.texture(bank) for bank in banks[order][first]]
    runs["first"], runs["end"] = first, np.append(first[1:], len(slots))[: len(first)]
    return views, runs


def _upload(*arrays: NDArray[Any]) -> tuple[Tensor, ...]:
    """The bytes of each array on the device, by one copy."""
    sizes = [-(-array.nbytes // 16) * 16 for array in arrays]  # so that each begins where its numbers may
    staged = np.zeros(sum(sizes), np.uint8)
    for end, size, array in zip(np.cumsum(sizes), sizes, arrays, strict=True):
        staged[end - size :][: array.nbytes] = np.ascontiguousarray(array).ravel().view(np.uint8)
    return cuda_device.upload(staged, torch.uint8).split(sizes)


def _checked(out: Tensor | None, full: tuple[int, int, int, int]) -> Tensor:
    if out is None:
        return cuda_device.empty(full)
    if not isinstance(out, Tensor) or not cuda_device.is_here(out) or out.dtype != torch.float32:
        got = f"{out.dtype} on {out.device}" if isinstance(out, Tensor) else str(type(out))
        raise TypeError(f"out: expected a tensor of float32 on a CUDA device, got {got}")
    if out.shape != full or not out.is_contiguous():
        raise ValueError(f"out: expected shape {full}, contiguous, got {tuple(out.shape)} with strides {out.stride()}")
    return out
