"""How much of what a network changed is shown: in each band of frequencies as much as the evidence supports.

A network may know edges better than levels, or the other way round. Let r be the raw slice, m the denoised one, n and E
the powers of their errors in a band (an octave) of frequencies, and S that of the change m - r. The error of the blend
r + w (m - r) is least for

    w = (n - E + S) / (2 S),    where it is    n - w (n - E + S) + w^2 S,

never more than n or E. What n and E are is told by two noisy images of the same thing, without truth or noise level:

* Two whole slices r and b with independent noise ("turns"): n = |r - b|^2 / 2 and E = |m - b|^2 - n, so that w is the
  number that predicts b best from r: Noise2Inverse with a single weight (Hendriksen et al. 2020).
* Two halves u and v, denoised as p and q ("halves"): n = |u - v|^2 / 4 for their mean, E = V / 2 + B for the mean of p
  and q, with the variance V = |p - q|^2 / 2 and the squared bias B = <p - u, q - v>: what p and q get wrong alike. A
  network that is shown the whole has no more of either. Streaks, of opposite sign in u and v, count as noise here.

Where a band has few frequencies the evidence is weak, and w is drawn towards 1, what the network says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

BANDS = 9  # octaves from the highest frequency down; the last one holds all that is lower
LIKELY = 0.5  # standard deviation of w around 1, before there is evidence
BLOCK = 32  # pixels; what blocks of this side tell is taken as independent
SURE = 1.96  # standard errors to each side that hold 95 of 100
TINY = 1e-300


@dataclass(frozen=True)
class Evidence:
    """What tells the errors of a raw slice and of a denoised one: fields (H, W) of which the sums are their powers.

    Each is given by its factors, so that it can be taken apart by frequencies: `raw` squared, and the sum of all
    `denoised` (sign, one, other).
    """

    raw: Tensor
    denoised: tuple[tuple[float, Tensor, Tensor], ...]
    pixels: Tensor
    """1 where an image counts, otherwise 0."""


def of_turns(raw: Tensor, before: Tensor, denoised: Tensor, pixels: Tensor) -> Evidence:
    """From the whole slice of the turn before; `pixels` is 1 where the two show the same. All (H, W) in one unit."""
    noise, left = (raw - before) * pixels * math.sqrt(0.5), (denoised - before) * pixels
    return Evidence(noise, ((1.0, left, left), (-1.0, noise, noise)), pixels)


def of_halves(u: Tensor, v: Tensor, p: Tensor, q: Tensor) -> Evidence:
    """From both halves and what the network makes of them. All (H, W) in one unit."""
    apart = (p - q) / 2
    return Evidence((u - v) / 2, ((1.0, apart, apart), (1.0, p - u, q - v)), torch.ones_like(u))


@dataclass(frozen=True)
class Blend:
    """How a slice is shown, and how good it then is.

    `bands` (BANDS,) is the part of the change that is shown in each band, the highest frequencies first, 0 to 1;
    `share` that part of the whole change, by power. `noise` and `error` are the powers of the error of the raw slice
    and of the one shown; `error` is right within `sure`, 95 times of 100. `doubt`: twice what a squared bias came out
    below zero, of the whole change.
    """

    bands: Tensor
    share: float
    noise: float
    error: float
    sure: float
    doubt: float = 0.0

    @property
    def worst(self) -> float:
        """The largest error that the evidence leaves room for.

        Squares that come out below zero tell by how much the noise was not independent, and that is doubtful twice: it
        is missing in the error, and may be one.
        """
        return max(abs(self.error), self.error + self.doubt) + self.sure

    @property
    def quality_db(self) -> float:
        """By so many dB at least there is less noise in the slice shown than in the raw one."""
        return 10 * math.log10(self.noise / max(self.worst, 1e-6 * self.noise))


def blend(raw: Tensor, denoised: Tensor, evidence: Evidence, *, all_of_it: bool = False) -> Blend:
    """How to show a slice (H, W) with noise in it; `all_of_it`: the denoised one as it is, good or bad."""
    spectra: dict[int, Tensor] = {}

    def powers(one: Tensor, other: Tensor) -> Tensor:
        """The sum of a product (H, W), taken apart by bands: (BANDS,) float64."""
        for image in (one, other):
            if id(image) not in spectra:
                spectra[id(image)] = torch.fft.rfft2(image)
        return _by_band((spectra[id(one)] * spectra[id(other)].conj()).real, one.shape)

    noise = powers(evidence.raw, evidence.raw)
    parts = [sign * powers(one, other) for sign, one, other in evidence.denoised]
    error = torch.stack(parts).sum(0)
    # Only halves have a product of two fields, the squared bias; chance alone leaves it above minus what is sure.
    bias = sum(
        float(part.sum()) for part, (_, one, other) in zip(parts, evidence.denoised, strict=True) if one is not other
    )
    change = (denoised - raw) * evidence.pixels
    size = powers(change, change)
    agreed = noise - error + size
    counts = _bands(raw.shape, raw.device).counts * evidence.pixels.double().mean()
    weak = 2 * noise / (counts * LIKELY**2).clamp_min(1e-9)  # variance of the evidence's w, times `size`
    told = size + weak > 0  # small slices have bands without frequencies
    bands = torch.where(told, (agreed / 2 + weak) / (size + weak).clamp_min(TINY), 1.0).clamp(0, 1)
    if all_of_it:
        bands = torch.ones_like(bands)
    left = noise - bands * agreed + bands.square() * size
    return Blend(
        bands,
        float((bands * size).sum() / size.sum().clamp_min(TINY)),
        float(noise.sum()),
        float(left.sum()),
        SURE * _standard_error(torch.stack([sign * one * other for sign, one, other in evidence.denoised]).sum(0)),
        2 * max(0.0, -bias),
    )


def blended(raw: Tensor, denoised: Tensor, bands: Tensor) -> Tensor:
    """The picture (H, W) that is shown, with these shares of the change (see `Blend.bands`)."""
    transfer = _between(bands, raw.shape).to(raw.dtype)
    return raw + torch.fft.irfft2(torch.fft.rfft2(denoised - raw) * transfer, s=tuple(raw.shape))


class _Bands(NamedTuple):
    """The coefficients of `rfft2`: the band (n,) of each and how many of the whole spectrum it stands for (n,); and how
    many there are in each band (BANDS,)."""

    band: Tensor
    copies: Tensor
    counts: Tensor


@lru_cache(maxsize=16)
def _bands(shape: torch.Size, device: torch.device) -> _Bands:
    rows, cols = shape
    copies = torch.full((rows, cols // 2 + 1), 2.0, device=device)
    copies[:, 0] = 1
    if cols % 2 == 0:
        copies[:, -1] = 1
    band = _octaves(shape, device).flatten().floor().long().clamp(0, BANDS - 1)
    counts = torch.zeros(BANDS, dtype=torch.float64, device=device).index_add_(0, band, copies.flatten().double())
    return _Bands(band, copies.flatten(), counts)


def _by_band(products: Tensor, shape: torch.Size) -> Tensor:
    band, copies, counts = _bands(shape, products.device)
    found = torch.zeros_like(counts).index_add_(0, band, (products.flatten() * copies).double())
    return found / (shape[0] * shape[1])


def _octaves(shape: torch.Size, device: torch.device) -> Tensor:
    """How many octaves below the highest frequency a coefficient of `rfft2` is, (rows, cols // 2 + 1)."""
    down = torch.fft.fftfreq(shape[0], device=device)[:, None]
    along = torch.fft.rfftfreq(shape[1], device=device)
    return -torch.log2(torch.hypot(down, along).clamp_min(1e-9) * math.sqrt(2))


def _between(bands: Tensor, shape: torch.Size) -> Tensor:
    """The shares of all coefficients of `rfft2`: in straight lines from one middle of a band to the next, because jumps
    would ring in the picture."""
    place = (_octaves(shape, bands.device) - 0.5).clamp(0, BANDS - 1)
    below = place.floor().long().clamp_max(BANDS - 2)
    return torch.lerp(bands[below], bands[below + 1], (place - below).to(bands.dtype))


def _standard_error(field: Tensor) -> float:
    """Of the sum of a field (H, W), from the scatter of its blocks."""
    side = max(1, min(BLOCK, *(length // 4 for length in field.shape)))
    blocks = avg_pool2d(field[None, None], side).flatten().double()
    return float(blocks.std() / math.sqrt(len(blocks))) * field.numel() if len(blocks) > 1 else math.inf
