"""Phase retrieval from one distance, for a sample of one material.

    T = F^-1 [ F[I / I0] / (1 + pi (delta/beta) lambda z/M |f|^2) ]      f in 1/mm at the object, M the magnification

D. Paganin, S. C. Mayo, T. E. Gureyev, P. R. Miller, S. W. Wilkins, "Simultaneous phase and amplitude extraction from a
single defocused image of a homogeneous object", Journal of Microscopy 206 (2002) 33-40, equation (10), with
delta/mu = (delta/beta) lambda / (4 pi) and |k| = 2 pi |f|. -log T is then the line integral of the attenuation.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from scipy.fft import next_fast_len

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess.corrections import Corrections

WAVELENGTH_MM_KEV = 1.23984198e-6  # h c
_REACH = 8  # decay lengths of the kernel by which frames are continued: exp(-8) is left


class Paganin:
    """Retrieves transmissions of one scanner. `propagation_mm` from sample to detector; 0: that of a cone geometry.

    Frames are continued beyond the detector by their edge, as far as the kernel reaches.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        *,
        delta_beta: float,
        energy_kev: float,
        propagation_mm: float = 0.0,
        device: str = "cpu",
    ) -> None:
        magnification, behind_mm = _distances(geometry)
        distance_mm = (propagation_mm or behind_mm) / magnification
        scale_mm2 = math.pi * delta_beta * (WAVELENGTH_MM_KEV / energy_kev) * distance_mm
        self._shape, self._pad, sizes, squares = (geometry.rows, geometry.cols), [], [], []
        for count, step in zip(self._shape, (geometry.v_mm, geometry.u_mm), strict=True):
            pixel_mm = float(np.linalg.norm(step)) / magnification
            reach = math.ceil(_REACH * math.sqrt(scale_mm2) / (2 * math.pi) / pixel_mm)
            pad = 0 if count == 1 else min(reach, count)  # a fan knows nothing of its other direction
            size = count if count == 1 else cast(int, next_fast_len(count + 2 * pad, real=True))
            self._pad.append(pad)
            sizes.append(size)
            squares.append((np.fft.fftfreq(size) / pixel_mm) ** 2)
        self._sizes = (sizes[0], sizes[1])
        filter = 1 / (1 + scale_mm2 * (squares[0][:, None] + squares[1][: sizes[1] // 2 + 1]))
        self._filter = torch.from_numpy(filter.astype(np.float32)).to(device)

    def __call__(self, transmission: torch.Tensor) -> torch.Tensor:
        """Retrieved transmissions (n, rows, cols) of measured ones, all finite."""
        (rows, cols), (up, left), (tall, wide) = self._shape, self._pad, self._sizes
        # What comes to reach a fast size is added behind.
        edges = (left, wide - cols - left, up, tall - rows - up)
        padded = torch.nn.functional.pad(transmission[:, None], edges, mode="replicate")[:, 0]
        spectrum = torch.fft.rfft2(padded).mul_(self._filter)
        return torch.fft.irfft2(spectrum, s=self._sizes)[:, up : up + rows, left : left + cols]


def phase_of(geometry: ScanGeometry, corrections: Corrections, device: str = "cpu") -> Paganin | None:
    """What the settings ask for; None: no phase retrieval."""
    if not corrections.delta_beta:
        return None
    return Paganin(
        geometry,
        delta_beta=corrections.delta_beta,
        energy_kev=corrections.energy_kev,
        propagation_mm=corrections.propagation_mm,
        device=device,
    )


def _distances(geometry: ScanGeometry) -> tuple[float, float]:
    """Magnification of the axis, and the distance (mm) from it to the detector; 1 and 0 for a parallel beam."""
    if geometry.beam == "parallel":
        return 1.0, 0.0
    source, centre = np.array(geometry.source_mm), np.array(geometry.detector_mm)
    normal = np.cross(geometry.u_mm, geometry.v_mm)
    normal /= np.linalg.norm(normal)
    whole, front = abs(normal @ (centre - source)), abs(normal @ source)
    return float(whole / front), float(whole - front)
