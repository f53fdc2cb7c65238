"""What every backend checks before it touches memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango_jit.recon.backproject.ring import Ring

# Points nearer to the source than this fraction of the distance source-axis, or behind it, are outside the field of
# view: no sample can turn there, and 1/w**2 would drown everything else. 1/4 leaves fans of up to 97 degrees whole.
MIN_DEPTH = 0.25


def _array(name: str, value: object, dtype: type, shape: tuple[int | None, ...]) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        raise TypeError(f"{name}: expected an array of {np.dtype(dtype)}, got {getattr(value, 'dtype', type(value))}")
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {value.shape}")


def check(
    projections: Ring | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
    out: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Check the arguments of `Backend.backproject` against each other; returns `out`, made if it is None."""
    if isinstance(projections, np.ndarray):
        _array("projections", projections, np.float32, (None, None, None))
        if not projections.flags.c_contiguous:
            raise ValueError("projections: expected a C-contiguous array")
    full = check_views(projections.shape, slots, matrices, weights, poses, shape)
    if out is None:
        return np.empty(full, np.float32)
    _array("out", out, np.float32, full)
    if not out.flags.c_contiguous:
        raise ValueError("out: expected a C-contiguous array")
    return out


def check_views(
    held: tuple[int, ...],
    slots: NDArray[np.integer],
    matrices: NDArray[np.float64],
    weights: NDArray[np.float32],
    poses: NDArray[np.float64],
    shape: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Check all but the projections, of shape `held`, and `out`, whose shape is returned."""
    if held[1] < 1 or held[2] < 2:
        raise ValueError(f"projections: expected at least 1 row and 2 columns, got shape {held}")
    if not isinstance(slots, np.ndarray) or slots.dtype.kind not in "iu" or slots.ndim != 1:
        raise TypeError(f"slots: expected a one-dimensional array of integers, got {slots!r}")
    views = len(slots)
    if views and not (slots.min() >= 0 and slots.max() < held[0]):
        raise ValueError(f"slots: expected 0 to {held[0] - 1}, got {slots.min()} to {slots.max()}")
    _array("matrices", matrices, np.float64, (views, 3, 4))
    _array("weights", weights, np.float32, (None, views))
    _array("poses", poses, np.float64, (None, 3, 3))
    if not (np.isfinite(matrices).all() and np.isfinite(poses).all()):
        raise ValueError("matrices, poses: expected finite numbers, got inf or nan: they would lead anywhere in memory")
    rows, cols = shape
    if rows < 1 or cols < 1:
        raise ValueError(f"shape: expected at least 1 row and 1 column, got {shape}")
    return len(poses), len(weights), int(rows), int(cols)
