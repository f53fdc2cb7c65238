"""The median of nine: of whole tensors at once, and of nine in a line, once for the processor, once for any device.

Of three sorted triples it is the median of: the largest low one, the median middle one, the smallest high one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

REACH = 4  # to each side of the middle one
_FAST = {"nnan", "ninf", "nsz"}  # minimum and maximum are then single instructions


def median_in_line(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Of each element and its eight neighbours along an axis (-1 or -2) of (n, rows, cols) float32 without NaN; beyond
    the edge is the edge. An axis of one is left as it is."""
    size = values.shape[axis]
    if size == 1:
        return values
    index = torch.arange(-REACH, size + REACH, device=values.device).clamp(0, size - 1)
    padded = values.index_select(axis, index)
    if values.device.type != "cpu":
        return median_of_nine([padded.narrow(axis, k, size) for k in range(2 * REACH + 1)])
    out = torch.empty(values.shape)
    for picture, made in zip(padded.numpy(), out.numpy(), strict=True):
        (_along_rows if axis == -1 else _along_columns)(picture, made)
    return out


def median_of_nine(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Element by element, of nine tensors of one shape."""
    lows, middles, highs = zip(*(_sorted(*values[i : i + 3]) for i in (0, 3, 6)), strict=True)
    lowest = torch.maximum(torch.maximum(lows[0], lows[1]), lows[2])
    highest = torch.minimum(torch.minimum(highs[0], highs[1]), highs[2])
    return _sorted(lowest, _sorted(*middles)[1], highest)[1]


def _sorted(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    return torch.minimum(a, b), torch.maximum(a, b), c


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True, inline="always")
def _middle(a, b, c):
    return max(min(a, b), min(max(a, b), c))


@njit(fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def _nine(v0, v1, v2, v3, v4, v5, v6, v7, v8, out):
    for k in range(out.size):
        a, b, c, d, e, f, g, h, i = v0[k], v1[k], v2[k], v3[k], v4[k], v5[k], v6[k], v7[k], v8[k]
        low = max(min(a, b, c), min(d, e, f), min(g, h, i))
        high = min(max(a, b, c), max(d, e, f), max(g, h, i))
        out[k] = _middle(low, _middle(_middle(a, b, c), _middle(d, e, f), _middle(g, h, i)), high)


@njit(error_model="numpy", nogil=True, cache=True)
def _along_rows(padded: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    n = out.shape[1]
    for r in range(out.shape[0]):
        p = padded[r]
        _nine(
            p[:n], p[1 : n + 1], p[2 : n + 2], p[3 : n + 3], p[4 : n + 4],
            p[5 : n + 5], p[6 : n + 6], p[7 : n + 7], p[8 : n + 8], out[r],
        )  # fmt: skip


@njit(error_model="numpy", nogil=True, cache=True)
def _along_columns(padded: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    p = padded
    for r in range(out.shape[0]):
        _nine(p[r], p[r + 1], p[r + 2], p[r + 3], p[r + 4], p[r + 5], p[r + 6], p[r + 7], p[r + 8], out[r])
