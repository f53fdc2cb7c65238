"""Dark and flat of a scan: which pixels see the beam, and how much of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Counts of the beam, as part of those of bright pixels, below which a pixel is dead: the noise of dark and flat leaves
# a pixel that sees nothing some counts above its dark as often as below.
DEAD = 0.01
_BRIGHT = 90  # percentile: a beam that lights a tenth of the detector is enough


def beam(
    dark: ArrayLike | None, flat: ArrayLike | None, shape: tuple[int, int], saturation_counts: float | None
) -> tuple[Array, Array]:
    """Dark and flat - dark (rows, cols) in counts, both with NaN where a pixel is dead.

    Raises ValueError without a flat, for wrong shapes, and for a detector without any good pixel.
    """
    if flat is None:
        raise ValueError("flat: expected the mean flat field, or already linear frames, got None")
    dark = _field("dark", np.zeros(shape) if dark is None else dark, shape)
    flat = _field("flat", flat, shape)
    dead = _dead(flat, dark)
    if saturation_counts is not None:
        dead |= flat >= saturation_counts
    if dead.all():
        raise ValueError("flat: expected more counts than in the dark, got no such pixel on the whole detector")
    return np.where(dead, np.nan, dark), np.where(dead, np.nan, flat - dark)


def _dead(flat: Array, dark: Array) -> NDArray[np.bool_]:
    """(rows, cols): pixels that see hardly any beam, or whose flat or dark is no number."""
    good = np.isfinite(flat) & np.isfinite(dark)
    light = np.where(good, flat, 0) - np.where(good, dark, 0)
    return ~good | (light <= max(DEAD * float(np.percentile(light, _BRIGHT)), 0.0))


def _field(name: str, value: ArrayLike, shape: tuple[int, int]) -> Array:
    field = np.asarray(value, np.float64)
    if field.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {field.shape}")
    return field
