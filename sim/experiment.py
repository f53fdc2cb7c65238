"""A simulated experiment: every frame by its number, and the truth at any time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from sim import consistency
from sim.camera import Camera
from sim.projector import Image32, Projector, paint
from sim.sample import Sample
from sim.scenario import Scenario
from sim.solids import Array
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams.messages import Dark, Flat, Header, Image


class Experiment:
    """`frame(n)` for any n from 0, in any order: the same scenario gives the same frames to the bit.

    Frame n is open from n times the frame period on; its angle and time are those of the middle of its exposure, over
    which rotation and motion are averaged.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Raises ScenarioError for a sample that cannot be: see `consistency.check`."""
        self.scenario = scenario
        scanner = scenario.scanner
        self.geometry: ScanGeometry = scanner.geometry
        self.period_s = scanner.frame_period_s
        self.sample, self.camera = Sample(scenario), Camera(scenario)
        consistency.check(self.sample)
        self._projector = Projector(self.geometry)
        self.header = Header(
            f"{scenario.name}-{scenario.seed}",
            "raw",
            self.geometry,
            False,
            exposure_s=scanner.frame_period_s * scanner.open if scanner.open else scanner.frame_period_s,
            name=scenario.title,
        )

    def time_s(self, frame: int) -> float:
        """The middle of an exposure, after the beginning of frame 0."""
        return (frame + self.scenario.scanner.open / 2) * self.period_s

    def angle_rad(self, frame: int) -> float:
        return self._angle_rad(self.time_s(frame))

    def _angle_rad(self, time_s: float) -> float:
        return 2 * math.pi * time_s / (self.scenario.scanner.views_a_turn * self.period_s)

    def transmission(self, frame: int) -> Image32:
        """(rows, cols): the part of the beam that gets through, averaged over the exposure."""
        scanner, middle = self.scenario.scanner, self.time_s(frame)
        parts = (np.arange(scanner.moments) + 0.5) / scanner.moments - 0.5
        times = middle + parts * scanner.open * self.period_s
        moments = [self.sample.at(time) for time in times.tolist()]
        angles = [self._angle_rad(time) for time in times.tolist()]
        return self._projector.transmission(moments, angles, self.scenario.beam.weights)

    def frame(self, frame: int) -> Image:
        """What the detector stores: uint16 (rows, cols)."""
        data = self.camera.frame(self.transmission(frame), frame, self.time_s(frame))
        return self._image(frame, data)

    def frames(self, numbers: Iterable[int], *, workers: int | None = None) -> Iterator[Image]:
        """Those frames in their order, made by so many threads at once (None: one for each core)."""
        return self._made(self.frame, numbers, workers or numba.get_num_threads())

    def noise_free_frames(self, numbers: Iterable[int], *, workers: int | None = None) -> Iterator[Image]:
        """The same views without noise, see `noise_free`."""
        return self._made(self.noise_free, numbers, workers or numba.get_num_threads())

    @staticmethod
    def _made(make: Callable[[int], Image], numbers: Iterable[int], workers: int) -> Iterator[Image]:
        # Whole frames side by side keep the cores busier than the parts of one frame.
        with ThreadPoolExecutor(workers, "frames", lambda: numba.set_num_threads(1)) as pool:
            ahead: deque[Future[Image]] = deque()
            try:
                for number in numbers:
                    ahead.append(pool.submit(make, number))
                    if len(ahead) > 2 * workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def noise_free(self, frame: int) -> Image:
        """The same view without noise and bad pixels: -log of what is seen of the beam, float32 (rows, cols)."""
        return self._image(frame, -np.log(self.camera.seen(self.transmission(frame))))

    def _image(self, frame: int, data: NDArray[np.uint16] | Image32) -> Image:
        return Image(self.header.series, frame, self.angle_rad(frame), self.time_s(frame), data, None)

    def dark(self) -> Dark:
        return Dark(self.header.series, self.camera.dark(), self.scenario.camera.darks)

    def flat(self) -> Flat:
        return Flat(self.header.series, self.camera.flat(), self.scenario.camera.flats)

    def truth(self, place: SliceGeometry, time_s: float, *, oversampling: int = 2) -> Array:
        """Attenuation (rows, cols) in 1/mm of the object in a slice, `time_s` after the beginning of frame 0.

        A pixel is the mean over `oversampling`^2 points. With several energies: their mean, weighted as the beam is.
        """
        fine = SliceGeometry(
            place.origin_mm, place.u_mm, place.v_mm, place.rows * oversampling, place.cols * oversampling
        )
        picture = paint(self.sample.at(time_s), fine, self.scenario.beam.weights)
        return picture.reshape(place.rows, oversampling, place.cols, oversampling).mean(axis=(1, 3))

    def mean_truth(
        self, place: SliceGeometry, frames: Sequence[int], *, moments: int = 50, oversampling: int = 2
    ) -> Array:
        """The same, averaged over the time that `frames` took: what a reconstruction from them can show at best."""
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(moments, len(frames))).round().astype(int))
        times = [self.time_s(frames[i]) for i in chosen]
        return np.mean([self.truth(place, time, oversampling=oversampling) for time in times], axis=0)
