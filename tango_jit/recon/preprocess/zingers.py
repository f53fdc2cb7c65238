"""Zingers: single pixels, or a few together, that a stray photon made too bright in a single frame.

A pixel is replaced by the median of the 3 x 3 pixels around it if it is brighter than that median AND than itself in
the frame before, both by a part of the transmission there and by `SURE` standard deviations of the noise. An edge
that moves is no brighter than its own side of the edge; a bright spot that stays was there before. The noise is that
of the light, its strength measured between the two frames. Nothing after the frame is needed; the first frame of all
passes as it is, and so does one that cannot be compared: without a number in it, it is not remembered either. Once for
the processor, once for any device, with the same result but for rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from tango_jit.recon.preprocess.lines import FAST, Field
from tango_jit.recon.preprocess.median import median_of_nine

SURE = 8.0  # standard deviations: of 10^9 pixels of pure noise none
_FLOOR = 1e-3  # of the mean beam: noise that does not come from light
_SAMPLES = 10_000  # pixels from which the noise is measured
_ONE, _ZERO = np.float32(1), np.float32(0)


class HostZingers:
    """Cleans frames one after the other; remembers the one before."""

    def __init__(self, field: Field, excess: float) -> None:
        self._dark, self._per_flat = field.dark, field.per_flat
        self._excess, self._floor = np.float32(excess), np.float32(_floor(field.per_flat))
        self._step = max(1, field.dark.size // _SAMPLES)
        self._before: NDArray[Any] | None = None

    def __call__(self, counts: NDArray[Any]) -> NDArray[Any]:
        """The frame (rows, cols), uint16 or float32, without zingers: itself, or a float32 copy."""
        dark, per_flat, step = self._dark, self._per_flat, self._step
        if not np.isfinite(counts.ravel()[::step] - dark.ravel()[::step]).any():
            return counts
        before, self._before = self._before, counts.copy()
        if before is None or before.dtype != counts.dtype:
            return counts
        spreads = _spreads(counts.ravel(), before.ravel(), dark.ravel(), self._floor, step)
        spreads = spreads[np.isfinite(spreads)]
        if not spreads.size:
            return counts
        most = np.float32(SURE / (0.6745 * np.sqrt(2)) * _lower_median(spreads))
        found = np.empty(len(counts), np.float32)
        _suspects(counts, before, dark, self._excess, most, self._floor, found)
        if not found.any():
            return counts
        cleaned = counts.astype(np.float32)  # what replaces a pixel is no whole number
        _clean(counts, before, dark, per_flat, self._excess, most, self._floor, found, cleaned)
        return cleaned


class TensorZingers:
    """The same for tensors, as many frames at once as there are."""

    def __init__(self, field: Field, excess: float) -> None:
        self._field, self._excess = field, excess
        self._floor = float(_floor(field.per_flat.cpu().numpy()))
        self._step = max(1, field.dark.numel() // _SAMPLES)
        self._before: torch.Tensor | None = None

    def __call__(self, counts: torch.Tensor) -> torch.Tensor:
        """Frames (n, rows, cols) float32, one after the other in time, without zingers."""
        before = self._those_before(counts)
        above, above_before = counts - self._field.dark, before - self._field.dark
        most = SURE / (0.6745 * 2**0.5) * self._spread(above, above_before)
        around = median_of_nine(_neighbours(above * self._field.per_flat)) / self._field.per_flat
        is_one = self._stands_out(above, above_before, most) & self._stands_out(above, around, most)
        return torch.where(is_one, self._field.dark + around, counts)

    def _those_before(self, counts: torch.Tensor) -> torch.Tensor:
        """Of each frame the newest one before it that has a number in it; the last such one is remembered."""
        frames = torch.cat([counts[:1] if self._before is None else self._before, counts])
        numbers = self._sampled(frames - self._field.dark).isfinite().any(1)
        newest = torch.where(numbers, torch.arange(len(frames), device=frames.device), 0).cummax(0).values
        self._before = frames[newest[-1:]]
        return frames[newest[:-1]]

    def _sampled(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.flatten(1)[:, :: self._step]

    def _spread(self, above: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        change = self._sampled(above - before).abs()
        light = self._sampled(0.5 * (above + before)).clamp(min=0) + self._floor
        spreads = change / light.sqrt()
        return torch.where(spreads.isfinite(), spreads, torch.nan).nanmedian(1).values[:, None, None]

    def _stands_out(self, above: torch.Tensor, light: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
        lit = light.clamp(min=0)
        return above - light > torch.maximum(self._excess * lit, most * (lit + self._floor).sqrt())


def _floor(per_flat: NDArray[np.float32]) -> float:
    return _FLOOR * float(np.nanmean(1 / per_flat))


def _lower_median(values: NDArray[np.float32]) -> float:
    """As that of torch."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])


def _neighbours(frames: torch.Tensor) -> list[torch.Tensor]:
    """The pixels of the 3 x 3 around each one; at the edge the edge is repeated."""
    rows, cols = frames.shape[1:]
    padded = torch.nn.functional.pad(frames[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return [padded[:, i : i + rows, j : j + cols] for i in range(3) for j in range(3)]


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _spreads(counts, before, dark, floor, step):
    """How much each `step`-th pixel changed, over the square root of its light."""
    spreads = np.empty((counts.size + step - 1) // step, np.float32)
    for k in range(spreads.size):
        now, then = np.float32(counts[k * step]), np.float32(before[k * step])
        light = max(np.float32(0.5) * (now + then) - dark[k * step], _ZERO) + floor
        spreads[k] = abs(now - then) / np.sqrt(light)
    return spreads


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True, inline="always")
def _most(light, excess, most, floor):
    """By how many counts a good pixel may be brighter than this light."""
    lit = max(light, _ZERO)
    return max(excess * lit, most * np.sqrt(lit + floor))


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _suspects_in_row(counts, before, dark, excess, most, floor):
    number = _ZERO
    for c in range(counts.size):
        then = np.float32(before[c])
        number += _ONE if np.float32(counts[c]) - then > _most(then - dark[c], excess, most, floor) else _ZERO
    return number


@njit(error_model="numpy", nogil=True, cache=True)
def _suspects(counts, before, dark, excess, most, floor, found):
    """Number of pixels in each row that are brighter than in the frame before."""
    for r in range(counts.shape[0]):
        found[r] = _suspects_in_row(counts[r], before[r], dark[r], excess, most, floor)


@njit(error_model="numpy", nogil=True, cache=True)
def _clean(counts, before, dark, per_flat, excess, most, floor, found, out):
    rows, cols = counts.shape
    nine = np.empty(9, np.float32)
    for r in range(rows):
        if found[r] == 0:
            continue
        for c in range(cols):
            now, then = np.float32(counts[r, c]), np.float32(before[r, c])
            if not now - then > _most(then - dark[r, c], excess, most, floor):
                continue
            for k in range(9):
                i, j = min(max(r + k // 3 - 1, 0), rows - 1), min(max(c + k % 3 - 1, 0), cols - 1)
                nine[k] = (np.float32(counts[i, j]) - dark[i, j]) * per_flat[i, j]
            light = _median(nine) / per_flat[r, c]  # NaN beside a dead pixel: nothing is replaced there
            if now - dark[r, c] - light > _most(light, excess, most, floor):
                out[r, c] = dark[r, c] + light


@njit(error_model="numpy", nogil=True, cache=True)
def _median(nine):
    """Sorts in place; NaN if there is one."""
    total = _ZERO
    for k in range(9):
        total += nine[k]
    if total != total:
        return total
    for k in range(1, 9):
        value, at = nine[k], k
        while at > 0 and nine[at - 1] > value:
            nine[at] = nine[at - 1]
            at -= 1
        nine[at] = value
    return nine[4]
