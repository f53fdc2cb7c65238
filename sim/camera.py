"""From transmission to stored counts: beam, quanta, light that spreads, gain, electronics, sixteen bits."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sim import counting
from sim.projector import Image32
from sim.scenario import Scenario

_PIXELS = 3000  # random stream
HOT_COUNTS = 40000.0
DARK_FRAME, FLAT_FRAME = 2**31, 2**31 + 2**30  # where the random numbers of darks and flats begin


class Camera:
    """The detector of a scenario, with its own good and bad pixels. Calls differ in nothing but their arguments."""

    def __init__(self, scenario: Scenario) -> None:
        scanner, beam, camera = scenario.scanner, scenario.beam, scenario.camera
        self._beam, self._camera, self._key, self._fast = beam, camera, np.uint64(scenario.seed), scenario.fast
        shape = (scanner.rows, scanner.cols)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
        self.open_beam: Image32 = (beam.photons * (1 - beam.fall_off * (x**2 + y**2) / 2)).astype(np.float32)
        random = np.random.Generator(np.random.Philox(key=np.array([scenario.seed, _PIXELS], np.uint64)))
        bad = random.permutation(shape[0] * shape[1])[: camera.dead + camera.hot]
        working = np.ones(shape, np.float32)
        working.flat[bad] = 0
        self._offset = np.full(shape, camera.offset, np.float32)
        self._offset.flat[bad[camera.dead :]] += HOT_COUNTS
        scale = working * np.float32(camera.counts_per_photon)
        self._gain = scale * (1 + np.float32(camera.pixel_gain) * random.standard_normal(shape).astype(np.float32))
        self._wander = scale * random.standard_normal(shape).astype(np.float32)

    def gain(self, time_s: float) -> Image32:
        """(rows, cols): counts for the light of a quantum `time_s` after the first frame; 0 in dead and hot pixels."""
        return np.asarray(self._gain + self._drift(time_s) * self._wander, np.float32)

    def _drift(self, time_s: float) -> np.float32:
        return np.float32(self._camera.drift * time_s / 60)

    def frame(self, transmission: Image32, number: int, time_s: float) -> NDArray[np.uint16]:
        """(rows, cols): what is stored; `number` chooses the random numbers, `time_s` says how far the gain drifted."""
        workers, rough = numba.get_num_threads(), self._fast
        mean = transmission * self.open_beam
        if self._beam.flicker:
            strength = 1 + self._beam.flicker * counting.normal(0, number, counting.FLICKER, self._key)
            mean *= np.float32(max(strength, 0))
        quanta, stored = np.empty_like(mean), np.empty(mean.shape, np.uint16)
        (counting.count_roughly if rough else counting.count)(workers, mean, number, self._key, quanta)
        counting.read_out(
            workers, quanta, self._gain, self._wander, self._drift(time_s), self._offset,
            np.float32(self._camera.readout), np.float32(self._camera.spread), number, self._key, rough, stored,
        )  # fmt: skip
        return stored

    def dark(self) -> Image32:
        """(rows, cols): the mean of the dark frames."""
        return self._mean(np.zeros_like(self.open_beam), DARK_FRAME, self._camera.darks)

    def flat(self) -> Image32:
        """(rows, cols): the mean of the flat frames."""
        return self._mean(np.ones_like(self.open_beam), FLAT_FRAME, self._camera.flats)

    def _mean(self, transmission: Image32, first: int, frames: int) -> Image32:
        total = np.zeros(transmission.shape)
        for number in range(first, first + frames):
            total += self.frame(transmission, number, 0.0)
        return (total / frames).astype(np.float32)

    def seen(self, transmission: Image32) -> Image32:
        """(rows, cols): the part of the beam that a pixel sees, without noise: the light of the quanta spreads."""
        return self._spread(transmission * self.open_beam) / self._spread(self.open_beam)

    def _spread(self, light: Image32) -> Image32:
        share = np.float32(self._camera.spread)
        for axis in (0, 1):
            edged = np.pad(light, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            low, high = (edged[:-2], edged[2:]) if axis == 0 else (edged[:, :-2], edged[:, 2:])
            light = np.asarray((1 - 2 * share) * light + share * (low + high), np.float32)
        return light
