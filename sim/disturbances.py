"""What may change about the experiment itself while it runs: the dose, and where the axis of rotation stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from sim.faults import DOSE_STREAM, FIELDS_STREAM, random
from sim.scenario import Camera, parse
from tango_jit.recordings import Recording
from tango_jit.streams import Dark, Flat, Image

Array = NDArray[Any]


@dataclass(frozen=True)
class Disturbance:
    """`dose`: part of the recorded one. `center_shift_px`: columns by which frames are shifted, to higher ones.
    `counts_per_photon`: of the recording. `seed`: of the noise that a lower dose brings. `spread`: part of a photon's
    light that each neighbour gets in the recording, so that the noise is alike in neighbours."""

    dose: float = 1.0
    center_shift_px: int = 0
    counts_per_photon: float = 1.0
    seed: int = 0
    spread: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any], camera: Camera | None = None) -> Disturbance:
        """That of the values of a detector; `camera`: of a simulated recording, it says how light spreads."""
        told = (values["dose"], values["center_shift_px"], values["counts_per_photon"], values["fault_seed"])
        return cls(*told, 0.0 if camera is None else camera.spread)


def camera_of(source: Recording) -> Camera | None:
    """The camera of a simulated recording; None: nobody says. Raises ScenarioError for a scenario that is none."""
    return None if source.scenario is None else parse(source.scenario, "scenario of the recording").camera


class Disturber:
    """Frames as they would have been, from those of a recording with this dark and flat (None: it has none)."""

    def __init__(self, how: Disturbance, dark: Dark | None, flat: Flat | None, *, linear: bool) -> None:
        """Raises ValueError for a lower dose of what is -log already: its photons cannot be told."""
        check_dose(how.dose, linear)
        self.how = how
        self._dark = np.float32(0) if dark is None else dark.mean
        self._flat = flat
        self._beam: Array | None = None if linear or flat is None else flat.mean - self._dark

    @property
    def flat(self) -> Flat | None:
        """The flat that goes with the frames: that of the recording at this dose."""
        if self._flat is None or self.how.dose == 1:
            return self._flat
        mean = self._dark + np.float32(self.how.dose) * (self._flat.mean - self._dark)
        return replace(self._flat, mean=mean)

    def __call__(self, image: Image) -> Image:
        """The frame after the disturbance; unchanged if there is none. The type stays, saturated pixels stay so."""
        how, data = self.how, image.data
        if how.center_shift_px:
            data = shifted(data, how.center_shift_px, self._dark, self._beam)
        if how.dose < 1:
            noise = random(how.seed, DOSE_STREAM, image.frame).standard_normal(data.shape, np.float32)
            data = thinned(data, self._dark, how.dose, how.counts_per_photon, noise, how.spread)
        return image if data is image.data else replace(image, data=data)


def retaken(dark: Dark | None, flat: Flat | None, how: Disturbance, time: int) -> tuple[Dark | None, Flat | None]:
    """Both as if they were taken again, for the `time`-th time: the same means with the noise of as many new frames,
    that of the light in the flat, and of a count in the dark."""
    random_numbers = random(how.seed, FIELDS_STREAM, time)
    new_dark, new_flat = dark, flat
    if dark is not None:
        noise = random_numbers.standard_normal(dark.mean.shape, np.float32)
        new_dark = replace(dark, mean=dark.mean + noise / np.float32(np.sqrt(dark.count)))
    if flat is not None:
        light = np.maximum(flat.mean - (0 if dark is None else dark.mean), 0)
        noise = random_numbers.standard_normal(flat.mean.shape, np.float32)
        new_flat = replace(flat, mean=flat.mean + noise * np.sqrt(how.counts_per_photon * light / flat.count))
    return new_dark, new_flat


def check_dose(dose: float, linear: bool) -> None:
    """Raises ValueError for a lower dose of line integrals."""
    if linear and dose != 1:
        raise ValueError(f"dose: expected 1 for a recording that is -log already (no counts to thin), got {dose:g}")


def thinned(
    counts: Array, dark: Any, dose: float, counts_per_photon: float, noise: Array, spread: float = 0.0
) -> Array:
    """Counts (rows, cols) as of a lower dose: c' = dark + f (c - dark) + noise of variance f (1 - f) (c - dark) k.

    With f = `dose` and k = `counts_per_photon` these are mean and variance of binomially thinned photons, so that
    frames of Poisson noise stay such; with `spread`, each neighbour gets that part of the noise, as of the light. An
    approximation: the noise is normal (`noise`: standard normal numbers), the readout noise is scaled with the signal,
    and the value in place of the mean sets the variance.
    """
    signal = counts.astype(np.float32) - dark
    factor = np.float32(dose * (1 - dose) * counts_per_photon)
    with np.errstate(invalid="ignore"):  # pixels that are no numbers stay so
        added = np.sqrt(factor * np.maximum(signal, 0)) * noise
        for axis in (0, 1) if spread else ():
            added = convolve1d(added, [spread, 1 - 2 * spread, spread], axis, mode="nearest")
        value = dark + np.float32(dose) * signal + added
    return _typed(value, counts)


def shifted(data: Array, columns: int, dark: Any, beam: Array | None) -> Array:
    """The picture (rows, cols) moved by whole columns; edge columns repeat. `beam`: flat - dark, None: not counts.

    The transmission moves, not the detector: each pixel keeps its own gain. Pixels without one stay as they are.
    """
    cols = data.shape[1]
    origin = np.clip(np.arange(cols) - columns, 0, cols - 1)
    moved = data[:, origin]
    if beam is None:
        return moved
    darks = np.broadcast_to(np.asarray(dark, np.float32), data.shape)
    good = (beam > 0) & (beam[:, origin] > 0)
    gain = np.divide(beam, beam[:, origin], out=np.zeros_like(beam), where=good)
    value = np.where(good, darks + (moved.astype(np.float32) - darks[:, origin]) * gain, data)
    return _typed(value, moved)


def _typed(value: Array, before: Array) -> Array:
    """Values (float) in the type of `before`; what was saturated there stays saturated."""
    if before.dtype.kind != "u":
        return value.astype(before.dtype)
    top = np.iinfo(before.dtype).max
    return np.where(before == top, top, np.clip(np.rint(value), 0, top)).astype(before.dtype)
