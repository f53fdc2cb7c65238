"""From raw frames to filtered views: flat field, logarithm, FDK weight, ramp filter.

Every factor that does not depend on the slice is in here, so that a slice is `sum of W / w**2 * sample` in mm^-1,
with angular weights W that sum to pi over any complete set of views. Derivation: docs/explanations/reconstruction.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len

from tango_jit.geometry import ScanGeometry

FILTERS = ("ram-lak", "shepp-logan", "hann", "cosine")
# Samples that are filtered in one go: a few MB, so that the buffers stay in the cache.
_AT_ONCE = 1 << 20
Array = NDArray[np.float64]
Image = NDArray[np.float32]


def fdk_gain(geometry: ScanGeometry) -> Array:
    """Factor of each detector pixel before the ramp filter, (rows, cols) in mm^-1.

    The FDK weight over the pixel pitch at the axis. With p the ray from the source s to the pixel, e the direction
    of the detector rows and m the magnification (all in the world frame, axis = z):

        weight = (-s . p)_xy / (|p| |(p x e)_z|)     times m for the real instead of the virtual detector at the axis

    which is distance/|p| for a centred source, has the right Jacobian for a source beside the beam axis, and is
    exact for a pitched or yawed detector. Parallel beams are the limit of a far source: 1/pitch across the ray.
    """
    source, centre, u, v = np.array([geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm])
    column = np.arange(geometry.cols) - (geometry.cols - 1) / 2
    row = np.arange(geometry.rows) - (geometry.rows - 1) / 2
    if geometry.beam == "parallel":
        ray, towards, scale = np.broadcast_to(source, (geometry.rows, geometry.cols, 3)), source, 1.0
    else:
        ray = centre - source + column[:, None] * u + row[:, None, None] * v
        towards = -source
        normal = np.cross(u, v)
        scale = (normal @ (centre - source)) / -(normal @ source)  # magnification
    length = np.linalg.norm(ray, axis=-1)
    across = np.abs(ray[..., 0] * u[1] - ray[..., 1] * u[0])
    return np.abs(ray[..., :2] @ towards[:2]) / (length * across) * scale**2


def ramp_response(size: int, filter: str) -> Array:
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


# Mean transmission of the lit detector below which a shutter was closed or the beam was lost: no object absorbs that
# much everywhere.
NO_BEAM = 1e-3
# Counts of the beam, as part of those of bright pixels, below which a pixel is dead: the noise of dark and flat leaves
# a pixel that sees nothing some counts above its dark as often as below.
DEAD = 0.01
_BRIGHT = 90  # percentile: a beam that lights a tenth of the detector is enough


class _Bridge(NamedTuple):
    """Pixels to be replaced by a linear interpolation between two others of the frame (flat indices)."""

    bad: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    part: Image  # of the right one

    def mend(self, frames: torch.Tensor) -> None:
        """Replace in place; frames (..., rows*cols)."""
        if self.bad.size:
            left, right, part = frames[..., self.left], frames[..., self.right], torch.from_numpy(self.part)
            frames[..., self.bad] = left + (right - left) * part


def _bridge(bad: NDArray[np.bool_]) -> _Bridge | None:
    """Nearest good pixels to the left and right of each bad one in its row; at the edge the nearest one; for a row
    without a good pixel those of the nearest row that has one. None if there is no good pixel at all."""
    rows, cols = bad.shape
    usable = np.flatnonzero(~bad.all(axis=1))
    if not usable.size:
        return None
    column = np.broadcast_to(np.arange(cols), bad.shape)
    left = np.maximum.accumulate(np.where(bad, -1, column), axis=1)
    right = np.minimum.accumulate(np.where(bad, cols, column)[:, ::-1], axis=1)[:, ::-1]
    left, right = np.where(left < 0, right, left), np.where(right == cols, left, right)
    part = (column - left) / np.maximum(right - left, 1)
    nearest = usable[np.abs(np.arange(rows)[:, None] - usable).argmin(axis=1)][:, None]  # itself if usable
    line, which = np.broadcast_to(nearest, bad.shape), np.nonzero(bad)
    row, source = which[0], line[which]
    at = (source, which[1])
    return _Bridge(
        row * cols + which[1], source * cols + left[at], source * cols + right[at], part[at].astype(np.float32)
    )


class Preprocessor:
    """Filters frames of one scanner with one set of darks and flats; immutable, so that windows never mix.

    Parameters
    ----------
    filter : one of `FILTERS`.
    linear : the frames are line integrals already; darks and flats are not used.
    dark, flat : (rows, cols) mean counts with beam off, and with beam but without object. `dark` None: zero.
    edge_extend : continue truncated objects beyond the detector (a smooth decay over half its width) instead of
        ending them abruptly, which would show as a bright rim.
    min_transmission : lower limit of (counts - dark)/(flat - dark); anything below, or negative, is taken as this.
    saturation_counts : counts at which a pixel is saturated; None: the top of an integer type, nothing for floats.

    Pixels are replaced by interpolation along their row where the flat does not exceed the dark, or is not
    finite or saturated (every frame), and where a frame is saturated or not finite (that frame).

    Raises ValueError for an unknown filter, wrong shapes, counts without a flat, or a flat without any good pixel.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        *,
        filter: str = "ram-lak",
        linear: bool = False,
        dark: ArrayLike | None = None,
        flat: ArrayLike | None = None,
        edge_extend: bool = False,
        min_transmission: float = 1e-4,
        saturation_counts: float | None = None,
    ) -> None:
        self.geometry, self.filter, self.linear = geometry, filter, linear
        shape = self.shape = (geometry.rows, geometry.cols)
        if not 0 < min_transmission < 1:
            raise ValueError(f"min_transmission: expected a number between 0 and 1, got {min_transmission!r}")
        self._min_transmission, self._saturation_counts = min_transmission, saturation_counts
        self._extend = geometry.cols // 2 if edge_extend else 0
        self._size = cast(int, next_fast_len(2 * (geometry.cols + self._extend), real=True))
        self._response = torch.from_numpy(ramp_response(self._size, filter).astype(np.float32))
        sign = 1 if linear else -1  # of -log
        self._gain = torch.from_numpy((sign * fdk_gain(geometry)).astype(np.float32))
        self._dead = np.zeros(shape, bool)
        if not linear:
            if flat is None:
                raise ValueError("flat: expected the mean flat field, or already linear frames, got None")
            dark = _field("dark", np.zeros(shape) if dark is None else dark, shape)
            flat = _field("flat", flat, shape)
            self._dead = _dead(flat, dark)
            if saturation_counts is not None:
                self._dead |= flat >= saturation_counts
            self._dark = torch.from_numpy(np.where(self._dead, 0, dark).astype(np.float32))
            light = np.where(self._dead, 0, flat - dark)  # pixels count by it: an unlit margin is all noise
            self._share = torch.from_numpy((light / max(light.sum(), 1e-30)).astype(np.float32).ravel())
            self._per_flat = torch.from_numpy((1 / np.where(self._dead, 1, flat - dark)).astype(np.float32))
        bridge = _bridge(self._dead)
        if bridge is None:
            raise ValueError("flat: expected more counts than in the dark, got no such pixel on the whole detector")
        self._bridge = bridge

    def __call__(self, frames: NDArray[Any]) -> Image:
        """Filtered views (n, rows, cols) of frames (n, rows, cols) of any real type: a new float32 array.

        Raises ValueError for the wrong shape, and for a frame that says nothing about the object: without a good
        pixel, without beam (mean transmission below `NO_BEAM`), or with numbers too large to filter. In a window
        such a frame has to be missing: the weights of its neighbours then stand in for it.
        """
        if frames.ndim != 3 or frames.shape[1:] != self.shape:
            raise ValueError(f"frames: expected shape (n, {self.shape[0]}, {self.shape[1]}), got {frames.shape}")
        views = np.empty(frames.shape, np.float32)
        few = max(1, _AT_ONCE // (self.shape[0] * self._size))
        for n in range(0, len(frames), few):
            views[n : n + few] = self._filtered(frames[n : n + few])
        if not np.isfinite(views.sum(axis=(1, 2))).all():
            raise ValueError(f"frame: expected numbers that can be filtered, got up to {np.nanmax(np.abs(frames)):.3g}")
        return views

    def _filtered(self, frames: NDArray[Any]) -> torch.Tensor:
        values = torch.from_numpy(frames.astype(np.float32))
        if not self.linear:
            values.sub_(self._dark).mul_(self._per_flat)
            self._refuse_no_beam(values)
            values.clamp_(min=self._min_transmission).log_()
        self._bridge.mend(values.flatten(1))
        for n, bad in self._spoilt(frames):
            bridge = _bridge(bad | self._dead)
            if bridge is None:
                raise ValueError("frame: expected a good pixel, got none: all are saturated, dead or no numbers")
            bridge.mend(values[n].view(-1))
        return self._ramp(values.mul_(self._gain))

    def _refuse_no_beam(self, transmission: torch.Tensor) -> None:
        values = transmission.flatten(1)
        means = values @ self._share
        if not bool(means.isfinite().all()):  # some pixels are no numbers: without them, at some cost
            good = values.isfinite()
            means = torch.where(good, values, 0) @ self._share / (good.float() @ self._share)  # none is good: NaN
        if bool((means < NO_BEAM).any()):
            raise ValueError(f"frame: expected some beam, got a mean transmission of {float(means.min()):.2g}")

    def _spoilt(self, frames: NDArray[Any]) -> list[tuple[int, NDArray[np.bool_]]]:
        """Frames with saturated or non-finite pixels: (index, mask)."""
        ceiling = self._saturation_counts
        if frames.dtype.kind in "ui":
            ceiling = np.iinfo(frames.dtype).max if ceiling is None else ceiling
            if self.linear or frames.max(initial=0) < ceiling:
                return []
            return [(n, frame >= ceiling) for n, frame in enumerate(frames) if frame.max() >= ceiling]
        bad = ~np.isfinite(frames)
        if ceiling is not None and not self.linear:
            bad |= frames >= ceiling
        return [(n, mask) for n, mask in enumerate(bad) if mask.any()]

    def _ramp(self, values: torch.Tensor) -> torch.Tensor:
        cols, extend = self.shape[1], self._extend
        if extend:
            values = _extended(values, extend)
        spectrum = torch.fft.rfft(values, n=self._size).mul_(self._response)
        return torch.fft.irfft(spectrum, n=self._size)[..., extend : extend + cols]


def _dead(flat: NDArray[np.float64], dark: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(rows, cols): pixels that see hardly any beam, or whose flat or dark is no number."""
    good = np.isfinite(flat) & np.isfinite(dark)
    light = np.where(good, flat, 0) - np.where(good, dark, 0)
    return ~good | (light <= max(DEAD * float(np.percentile(light, _BRIGHT)), 0.0))


def _field(name: str, value: ArrayLike, shape: tuple[int, int]) -> Array:
    field = np.asarray(value, np.float64)
    if field.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {field.shape}")
    return field


def _extended(values: torch.Tensor, extend: int) -> torch.Tensor:
    """Continue the columns on both sides by `extend` pixels that decay from the mean of the last four to zero."""
    decay = torch.from_numpy((0.5 + 0.5 * np.cos(np.pi * (np.arange(extend) + 1) / (extend + 1))).astype(np.float32))
    edge = min(4, values.shape[-1])
    before = values[..., :edge].mean(-1, keepdim=True) * decay.flip(0)
    after = values[..., -edge:].mean(-1, keepdim=True) * decay
    return torch.cat([before, values, after], -1)
