"""From counts to line integrals times the FDK gain, in one pass: once for the processor, once for any device.

    line = gain * -log(max((counts - dark) / (flat - dark) * scale, least))

and NaN where a pixel is dead, saturated or no number, until `bridge` replaces it. Both give the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]
# Everything but "nnan" and "ninf": bad pixels are NaN on purpose.
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_ZERO, _ONE, _HALF, _NAN, _LOG2 = (np.float32(x) for x in (0, 1, 0.5, np.nan, np.log(2)))
# Minimax polynomial of (log(1 + m) - m + m^2 / 2) / m^3 for m from sqrt(1/2) - 1 to sqrt(2) - 1, highest power first.
_P = tuple(
    np.float32(x)
    for x in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
_ROOT_HALF_BITS, _EXPONENT = np.int32(0x3F3504F3), np.int32(23)


class Field(NamedTuple):
    """What turns the counts of a detector into line integrals; arrays (rows, cols) float32."""

    dark: Any
    per_flat: Any  # 1 / (flat - dark); NaN: a dead pixel
    gain: Any  # negative, for -log
    least: float  # transmission
    ceiling: float  # counts from which on a pixel is saturated; inf: none is


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True, inline="always")
def _log(x):
    """Natural logarithm of a normal float32 above 0, relative error below 1e-6: from its exponent and mantissa."""
    bits = np.float32(x).view(np.int32)
    exponent = (bits - _ROOT_HALF_BITS) >> _EXPONENT
    m = np.int32(bits - (exponent << _EXPONENT)).view(np.float32) - _ONE
    y = _P[0]
    y = y * m + _P[1]
    y = y * m + _P[2]
    y = y * m + _P[3]
    y = y * m + _P[4]
    y = y * m + _P[5]
    y = y * m + _P[6]
    y = y * m + _P[7]
    y = y * m + _P[8]
    square = m * m
    return (y * m * square - _HALF * square + m) + np.float32(exponent) * _LOG2


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _row(counts, dark, per_flat, gain, scale, least, ceiling, out):
    """One row; returns the light of the good pixels (counts above the dark) and their number."""
    light, number = _ZERO, _ZERO  # both floats: a sum of integers would keep the loop from being vectorised
    for c in range(out.size):
        x = np.float32(counts[c])
        above = x - dark[c]
        transmission = above * per_flat[c]
        good = _ONE if (transmission == transmission) & (abs(x) < ceiling) else _ZERO
        light += above if good > _ZERO else _ZERO
        number += good
        value = gain[c] * _log(max(transmission * scale, least))
        out[c] = value if good > _ZERO else _NAN
    return light, number


@njit(error_model="numpy", nogil=True, cache=True)
def _frame(counts, dark, per_flat, gain, scale, least, ceiling, padded, start, good):
    total, cols = 0.0, counts.shape[1]
    for r in range(counts.shape[0]):
        # Cut here and not by the caller: the compiler then knows that the pixels of a row are neighbours.
        out = padded[r, start : start + cols]
        light, number = _row(counts[r], dark[r], per_flat[r], gain[r], scale, least, ceiling, out)
        total += light
        good[r] = number
    return total


@njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)
def _scaled_row(values, gain, out):
    number = _ZERO
    for c in range(out.size):
        value = np.float32(values[c])
        good = _ONE if abs(value) < np.float32(np.inf) else _ZERO
        number += good
        out[c] = value * gain[c] if good > _ZERO else _NAN
    return number


@njit(error_model="numpy", nogil=True, cache=True)
def _scaled(values, gain, padded, start, good):
    cols = values.shape[1]
    for r in range(values.shape[0]):
        good[r] = _scaled_row(values[r], gain[r], padded[r, start : start + cols])


def lines_of_counts(counts: NDArray[Any], field: Field, scale: float, padded: Image, start: int, good: Image) -> float:
    """Write the lines of one frame (rows, cols), uint16 or float32, into `padded` (rows, size) from column `start` on.

    `good` (rows,) becomes the number of good pixels of each row. Returns their light: the sum of counts above the dark.
    """
    dark, per_flat, gain, least, ceiling = field
    limits = np.float32(scale), np.float32(least), np.float32(ceiling)
    return float(_frame(counts, dark, per_flat, gain, *limits, padded, start, good))


def scaled_lines(values: NDArray[Any], gain: Image, padded: Image, start: int, good: Image) -> None:
    """The same for a frame that is line integrals already: times the gain."""
    _scaled(values, gain, padded, start, good)


def tensor_lines_of_counts(
    counts: torch.Tensor, field: Field, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lines of frames (n, rows, cols) float32 as a new tensor, and the light (n,) of their good pixels.

    `scale` (n,); the field's arrays are tensors on the same device.
    """
    above = counts - field.dark
    lines = above * field.per_flat
    good = (lines == lines) & (counts.abs() < field.ceiling)
    light = torch.where(good, above, 0).sum((1, 2), dtype=torch.float64)
    lines.mul_(scale[:, None, None]).clamp_(min=field.least).log_().mul_(field.gain)
    return torch.where(good, lines, torch.nan), light


def tensor_scaled_lines(values: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """The same for frames that are line integrals already."""
    return torch.where(values.isfinite(), values * gain, torch.nan)
