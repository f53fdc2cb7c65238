"""What both chains are made from, and what they refuse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess.corrections import Corrections

Image = NDArray[np.float32]
# Mean transmission of the lit detector below which a shutter was closed or the beam was lost: no object absorbs that
# much everywhere.
NO_BEAM = 1e-3
HALF_MAX = float(np.finfo(np.float16).max)


class Plan(NamedTuple):
    """Arrays (rows, cols) float32."""

    geometry: ScanGeometry
    filter: str
    edge_extend: bool
    corrections: Corrections
    plain: bool  # the frames are line integrals, and stay so
    dark: Image  # counts; NaN: a dead pixel
    light: Image  # flat - dark; NaN: a dead pixel
    gain: Image  # 1/mm
    least: float  # transmission
    half: bool  # views are float16

    @property
    def shape(self) -> tuple[int, int]:
        return self.geometry.rows, self.geometry.cols

    @property
    def may_overflow(self) -> bool:
        """Can a view of counts be too large for float16? The absolute taps of the ramp add up to 1/2."""
        return self.half and (self.plain or 0.5 * -np.log(self.least) * float(self.gain.max()) > HALF_MAX)


def refuse_no_beam(transmission: float) -> None:
    """Raises ValueError for a frame of this mean transmission, if it is that of a closed shutter."""
    if transmission < NO_BEAM:
        raise ValueError(f"frame: expected some beam, got a mean transmission of {transmission:.2g}")


def air_scale(transmission: float) -> float:
    """What frames are multiplied by. Raises ValueError where there is no beam, or no good pixel, in the air region."""
    if not transmission >= NO_BEAM:  # also NaN
        raise ValueError(f"frame: expected beam in air_region, got a mean transmission of {transmission:.2g}")
    return 1 / transmission


NO_GOOD_PIXEL = "frame: expected a good pixel, got none: all are saturated, dead or no numbers"
LARGEST = 1e30  # of lines: their sums in the Fourier transform must stay numbers
TOO_LARGE = "frame: expected numbers that can be filtered, got up to {:.3g}"
