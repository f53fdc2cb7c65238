"""The ramp filter along the rows of the detector."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

FILTERS = ("ram-lak", "shepp-logan", "hann", "cosine")
# Samples that are transformed in one go: their spectrum stays in the cache until it is transformed back.
_AT_ONCE = 1 << 18
_EDGE = 4  # columns whose mean is continued


def ramp_response(size: int, filter: str) -> NDArray[np.float64]:
    """Frequency response (size//2 + 1,) of the ramp filter for unit pixels, apodised by name.

    Built from the taps in space (1/4, -1/(pi k)^2 for odd k), so that the mean of a padded view comes out right.
    """
    k = np.minimum(np.arange(size), size - np.arange(size))
    taps = np.where(k % 2 == 1, -1 / (np.pi * np.maximum(k, 1)) ** 2, 0.0)
    taps[0] = 0.25
    frequency = np.fft.rfftfreq(size) * 2  # 1 = Nyquist
    window = {
        "ram-lak": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency / 2),
        "hann": 0.5 + 0.5 * np.cos(np.pi * frequency),
        "cosine": np.cos(np.pi * frequency / 2),
    }
    if filter not in window:
        raise ValueError(f"filter: expected one of {', '.join(FILTERS)}, got {filter!r}")
    return np.fft.rfft(taps).real * window[filter]


class Ramp:
    """Filters views that were written into padded rows: their columns begin at `start`, the rest of a row is zero.

    `edge_extend` continues the columns on both sides, over half their number, by a smooth decay to zero.
    """

    def __init__(self, cols: int, filter: str, *, edge_extend: bool, device: str = "cpu") -> None:
        self.cols, self.start = cols, cols // 2 if edge_extend else 0
        self.size = cast(int, next_fast_len(2 * (cols + self.start), real=True))
        response = ramp_response(self.size, filter).astype(np.float32)
        self._response = torch.from_numpy(response.repeat(2)).to(device)  # for real and imaginary parts
        far = (np.arange(self.start) + 1) / (self.start + 1)
        self._decay = torch.from_numpy((0.5 + 0.5 * np.cos(np.pi * far)).astype(np.float32)).to(device)

    def __call__(self, padded: torch.Tensor, out: torch.Tensor, largest: float | None = None) -> None:
        """Padded rows (n, size) float32 into `out` (n, cols) of any float type, cut off beyond `largest` (None: not).

        Overwrites what is beside the columns.
        """
        if self.start:
            self._continue(padded)
        parts = max(1, round(padded.numel() / _AT_ONCE)) if padded.device.type == "cpu" else 1
        step = -(-len(padded) // parts)
        for n in range(0, len(padded), step):
            rows = padded[n : n + step]
            spectrum = torch.fft.rfft(rows)  # `out=` would be a copy more, and a third slower
            # As pairs of real numbers: twice as fast as complex times real.
            torch.view_as_real(spectrum).flatten(1).mul_(self._response)
            filtered = torch.fft.irfft(spectrum, n=self.size)
            columns = filtered[:, self.start : self.start + self.cols]
            out[n : n + step].copy_(columns if largest is None else columns.clamp_(-largest, largest))

    def _continue(self, padded: torch.Tensor) -> None:
        start, end = self.start, self.start + self.cols
        edge = min(_EDGE, self.cols)
        padded[:, :start] = padded[:, start : start + edge].mean(1, keepdim=True) * self._decay.flip(0)
        padded[:, end : end + start] = padded[:, end - edge : end].mean(1, keepdim=True) * self._decay
