"""What may be corrected on the way from counts to line integrals; all of it is off unless asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tango_jit.geometry import ScanGeometry

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Corrections:
    """Settings of the corrections; 0 or None switches one off.

    zinger_excess : part of the local transmission by which a single pixel of a single frame must be brighter than its
        neighbours and than in the frame before to be replaced (see `zingers`).
    ring_turns : turns over which the bias of each pixel is learned (see `rings`).
    air_region : first and last column, first and last row (pixels, inclusive) where only air is in the beam: frames
        are scaled so that its mean transmission is 1.
    delta_beta, energy_kev, propagation_mm : delta/beta of the sample, photon energy, and distance from sample to
        detector for phase retrieval (see `phase`); `delta_beta` switches it, a distance of 0 is that of the geometry.

    Raises ValueError for numbers that cannot be.
    """

    zinger_excess: float = 0.0
    ring_turns: float = 0.0
    air_region: Region | None = None
    delta_beta: float = 0.0
    energy_kev: float = 0.0
    propagation_mm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("zinger_excess", "ring_turns", "delta_beta", "energy_kev", "propagation_mm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a number from 0 on, got {value!r}")
        if self.air_region is not None:
            left, right, low, high = self.air_region
            if not (0 <= left <= right and 0 <= low <= high):
                raise ValueError(
                    "air_region: expected first column <= last column and first row <= last row, "
                    f"got {' '.join(map(str, self.air_region))}"
                )

    @property
    def of_counts(self) -> bool:
        """Is there one that works on transmissions? Frames that are line integrals are then taken back to those."""
        return bool(self.zinger_excess or self.air_region or self.delta_beta)

    def check(self, geometry: ScanGeometry) -> None:
        """Raises ValueError in words where they do not fit this scanner, or each other."""
        self.check_region(geometry)
        if self.delta_beta and not self.energy_kev:
            raise ValueError("energy_kev: expected the photon energy for phase retrieval (delta_beta), got 0")
        if self.delta_beta and geometry.beam == "parallel" and not self.propagation_mm:
            raise ValueError(
                "propagation_mm: expected the distance from sample to detector for phase retrieval, which the "
                "geometry of a parallel beam does not tell, got 0"
            )

    def check_region(self, geometry: ScanGeometry) -> None:
        """Raises ValueError for an air region that is not on this detector."""
        if self.air_region is None:
            return
        _, right, _, high = self.air_region
        if right >= geometry.cols or high >= geometry.rows:
            raise ValueError(
                f"air_region: expected columns below {geometry.cols} and rows below {geometry.rows}, "
                f"got {' '.join(map(str, self.air_region))}"
            )
