"""What an experiment is: a stream of filtered views, and slices of which the answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry

Image = NDArray[np.float32]
PERCENTILES = (0.1, 99.9)
"""The peak of a PSNR is the range between these: a few outliers of a noisy reference do not count."""


class Stream(Protocol):
    """Filtered views by their number, from 0 on."""

    def filtered(self, k: int) -> NDArray[Any]:
        """(rows, cols) in mm^-1, float16 or float32. Raises IndexError where there is none."""
        ...

    def angle_rad(self, k: int) -> float:
        """Unwrapped."""
        ...


@dataclass(frozen=True, eq=False)
class Target:
    """A slice of which the answer is known."""

    place: SliceGeometry
    inside: NDArray[np.bool_]  # (rows, cols): the pixels that are compared
    references: Mapping[str, Image]  # (rows, cols) in mm^-1 each, the main one first

    def reference(self, name: str | None = None) -> Image:
        """The one of that name; None: the main one."""
        return self.references[next(iter(self.references)) if name is None else name]

    def peak(self, name: str | None = None) -> float:
        """Range of a reference in mm^-1."""
        low, high = np.percentile(self.reference(name)[self.inside], PERCENTILES)
        return float(high - low)

    def mse(self, image: Image, name: str | None = None) -> float:
        """Mean squared difference in mm^-2."""
        difference = image[self.inside].astype(np.float64) - self.reference(name)[self.inside]
        return float(np.mean(difference**2))

    def psnr_db(self, image: Image, name: str | None = None) -> float:
        error = self.mse(image, name)
        return 10 * math.log10(self.peak(name) ** 2 / error) if error > 0 else math.inf


@dataclass(frozen=True, eq=False)
class Experiment:
    """The references are those of the last turn before frame `frames`; of a sample that rests, of any turn."""

    name: str
    geometry: ScanGeometry
    views_a_turn: int  # where half a turn is complete (parallel beam): views of half a turn
    frames: int  # that differ
    endless: bool  # they come again and again, with angles that go on
    stream: Stream
    targets: Mapping[str, Target]

    @property
    def places(self) -> Mapping[str, SliceGeometry]:
        return {name: target.place for name, target in self.targets.items()}

    def filtered(self, k: int) -> NDArray[Any]:
        """View `k` (rows, cols) in mm^-1, float16 or float32. Raises IndexError where there is none."""
        if k < 0 or not (self.endless or k < self.frames):
            raise IndexError(f"{self.name}: expected a frame from 0 to {self.frames - 1}, got {k}")
        return self.stream.filtered(k)

    def angle_rad(self, k: int) -> float:
        """Unwrapped."""
        return self.stream.angle_rad(k)

    def score(self, place: str, image: Image) -> dict[str, float]:
        """PSNR in dB of a slice (rows, cols) in mm^-1 against every reference there is."""
        target = self.targets[place]
        return {name: target.psnr_db(image, name) for name in target.references}

    def mse(self, place: str, image: Image, reference: str | None = None) -> float:
        """Mean squared difference in mm^-2 from a reference; None: from the main one."""
        return self.targets[place].mse(image, reference)
