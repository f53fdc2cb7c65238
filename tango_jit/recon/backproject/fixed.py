"""Filtered views as 16-bit whole numbers with a scale for each view: half the memory, and twice as fast to read."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tango_jit.recon.backproject.ring import ALL
from tango_jit.recon.backproject.samples import LARGEST, MAX_SIDE

_NOTHING = 1e-33  # mm^-1: smaller peaks are taken as 0; LARGEST / this still is a float32


@njit(error_model="numpy", nogil=True, cache=True)
def _largest(bits, plain):
    """The largest |value| of floats seen as whole numbers, in bits: `plain` takes the sign away, nan is the largest."""
    largest = plain & 0
    for k in range(bits.size):
        largest = max(largest, bits[k] & plain)
    return largest


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def _round(values, factor, out):
    for k in range(values.size):
        out[k] = np.int16(np.int32(np.rint(values[k] * factor)))


@njit(fastmath={"contract", "nsz"}, error_model="numpy", nogil=True, cache=True)
def _round_halves(bits, factor, out):
    """`_round` of float16 seen as int16, five times as fast as numpy widens them.

    Shifted into the bits of a float32, exponent and fraction mean 2**-112 of the value. (Two multiplications, which may
    not be drawn together: 2**112 times the factor is beyond float32 for peaks below 0.5.)
    """
    widen = np.float32(2.0**112)
    for k in range(bits.size):
        number = np.int32(bits[k])
        value = np.int32((number & np.int32(0x7FFF)) << np.int32(13)).view(np.float32) * widen * factor
        out[k] = np.int16(np.int32(np.rint(-value if number < 0 else value)))


class FixedRing:
    """A `Ring` of 16-bit views: the largest |value| of each is its `peak`, and 32767 of its whole numbers.

    Values are off by 1/65534 of the peak at most. The views of one scan differ little in their peaks, and noise hides
    the rounding. `array` (capacity, rows, cols) int16, `peaks` (capacity,) float32 in mm^-1.
    """

    def __init__(self, array: NDArray[np.int16], peaks: NDArray[np.float32]) -> None:
        self.array, self.peaks = array, peaks

    @classmethod
    def empty(cls, capacity: int, rows: int, cols: int) -> Self:
        """Pages that are never touched cost nothing. Raises MemoryError if there is no room, ValueError."""
        if max(rows, cols) > MAX_SIDE:
            raise ValueError(f"rows, cols: expected at most {MAX_SIDE} pixels a side, got {rows} x {cols}")
        return cls(np.empty((capacity, rows, cols), np.int16), np.zeros(capacity, np.float32))

    @property
    def shape(self) -> tuple[int, int, int]:
        capacity, rows, cols = self.array.shape
        return capacity, rows, cols

    @property
    def nbytes(self) -> int:
        return self.array.nbytes + self.peaks.nbytes

    def put(self, slot: int, view: Any) -> None:
        """See `Ring`. Raises ValueError for another shape and for values that are not finite."""
        view = np.asarray(view)
        half = view.dtype == np.float16
        values = np.ascontiguousarray(view, np.float16 if half else np.float32)
        if values.shape != self.array.shape[1:]:
            raise ValueError(f"view: expected shape {self.array.shape[1:]}, got {values.shape}")
        bits = values.reshape(-1).view(np.int16 if half else np.int32)
        bits.flags.writeable = False  # views from a socket are: one type for all, compiled once
        largest = bits.dtype.type(_largest(bits, np.iinfo(bits.dtype).max))
        peak = np.float32(largest.view(values.dtype))
        if not np.isfinite(peak):
            raise ValueError("view: expected finite values, got inf or nan")
        self.peaks[slot] = peak
        factor = np.float32(LARGEST / peak if peak > _NOTHING else 0)
        out = self.array[slot].reshape(-1)
        if half:
            _round_halves(bits, factor, out)
        else:
            _round(values.reshape(-1), factor, out)

    def grown(self, capacity: int) -> Self:
        larger, held = self.empty(capacity, *self.shape[1:]), len(self.array)
        larger.array[:held], larger.peaks[:held] = self.array, self.peaks
        return larger

    def copied(self, slots: NDArray[np.integer], rows: slice = ALL) -> Self:
        return type(self)(self.array[:, rows][slots], self.peaks[slots])

    def read(self, slot: int) -> NDArray[np.float32]:
        return self.array[slot] / np.float32(LARGEST) * self.peaks[slot]
