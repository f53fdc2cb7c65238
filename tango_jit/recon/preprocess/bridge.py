"""Bad pixels, marked by NaN, are replaced by what is beside them: once for the processor, once for any device.

Interpolated linearly in the row, between the nearest good pixels to the left and right; at the edge the nearest
one; a row without a good pixel is that of the nearest row that has one.
"""

from __future__ import annotations

import torch
from numba import njit


@njit(error_model="numpy", nogil=True, cache=True)
def mend(values, good):
    """Replace in place in one frame (rows, cols). `good` (rows,): the number of good pixels of each row.

    Returns whether there is a good pixel at all.
    """
    rows, cols = values.shape
    usable = -1
    for r in range(rows):
        if good[r] > 0:
            usable = r
            if good[r] < cols:
                _mend_row(values[r])
    if usable < 0:
        return False
    for r in range(rows):
        if good[r] == 0:
            values[r] = values[_nearest(good, r)]
    return True


@njit(error_model="numpy", nogil=True, cache=True)
def _mend_row(row):
    left = -1
    for c in range(row.size):
        if row[c] != row[c]:
            continue
        for k in range(left + 1, c):
            row[k] = row[c] if left < 0 else row[left] + (row[c] - row[left]) * (k - left) / (c - left)
        left = c
    row[left + 1 :] = row[left]


@njit(error_model="numpy", nogil=True, cache=True)
def _nearest(good, r):
    for distance in range(1, good.size):
        if r >= distance and good[r - distance] > 0:
            return r - distance
        if r + distance < good.size and good[r + distance] > 0:
            return r + distance
    return r


def tensor_mend(values: torch.Tensor) -> torch.Tensor:
    """A new tensor (n, rows, cols) without NaN, except for frames that have no good pixel at all."""
    cols, rows = values.shape[-1], values.shape[-2]
    bad = values.isnan()
    column = torch.arange(cols, device=values.device)
    left = torch.where(bad, -1, column).cummax(-1).values
    right = torch.where(bad, cols, column).flip(-1).cummin(-1).values.flip(-1)
    left, right = torch.where(left < 0, right, left), torch.where(right == cols, left, right)
    part = (column - left) / (right - left).clamp(min=1)
    low, high = (values.gather(-1, at.clamp(0, cols - 1)) for at in (left, right))
    mended = torch.where(bad, low + (high - low) * part, values)
    empty = bad.all(-1)  # (n, rows)
    row = torch.arange(rows, device=values.device)
    far = (row[:, None] - row).abs() + torch.where(empty, 2 * rows, 0)[:, None]  # (n, rows, rows)
    return mended.gather(1, far.argmin(-1)[..., None].expand_as(mended))
