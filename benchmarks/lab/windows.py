"""The slices of an experiment as time goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.experiment import Experiment
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window
from tango_jit.stacks import neighbours

Image = NDArray[np.float32]


class Windows:
    """The window and the slices at any frame. Cheap where the frames asked for go forward."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.reconstructor = Reconstructor(experiment.geometry)
        self._ring = ProjectionWindow(experiment.geometry)
        self._sent = 0

    def at(self, k: int) -> Window:
        """The window when the last of frames [k - views_a_turn - 1, k) has come; valid until the next call.

        Raises ValueError where these do not cover a turn.
        """
        first = max(k - self.experiment.views_a_turn - 1, 0)
        if not first <= self._sent <= k:
            self._ring.clear()
            self._sent = first
        for number in range(self._sent, k):
            self._ring.add(number, self.experiment.angle_rad(number), self.experiment.filtered(number))
        self._sent = k
        return _full(self._ring)

    def planes(self, k: int, depth: int = 1) -> dict[str, Image]:
        """Every place at that moment in mm^-1, (planes, depth, rows, cols): even half, odd half, and the full slice
        where it is not the mean of these; with so many neighbours, the place itself in the middle."""
        window = self.at(k)

        def stack(place: SliceGeometry) -> Image:
            return np.concatenate([self.reconstructor.reconstruct(window, one) for one in neighbours(place, depth)], 1)

        return {name: stack(place) for name, place in self.experiment.places.items()}

    def raw(self, k: int) -> dict[str, Image]:
        """The full slice of every place at that moment, (rows, cols) in mm^-1."""
        return {name: full_slice(planes) for name, planes in self.planes(k).items()}


def window_of(geometry: ScanGeometry, views: Iterable[tuple[float, NDArray[Any]]]) -> Window:
    """The window of views (rows, cols) at unwrapped angles in rad. Raises ValueError where they cover no turn."""
    ring = ProjectionWindow(geometry)
    for number, (angle_rad, view) in enumerate(views):
        ring.add(number, angle_rad, view)
    return _full(ring)


def _full(ring: ProjectionWindow) -> Window:
    window = ring.window()
    if window is None:
        raise ValueError(f"window: expected frames that cover a turn, got {ring.fill:.2f} of it")
    return window
