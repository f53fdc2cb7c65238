"""Changes of an experiment: those that are announced, and those that only the new pairs show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from tango_jit.geometry import SliceGeometry
from tango_jit.learn.jumps import Jumps
from tango_jit.learn.unet import NetworkConfig
from tango_jit.services.pairs import Pairs
from tango_jit.streams import Header

Pitch = tuple[float, float]  # along columns and rows, in mm
SAME_ZOOM = 0.01


class Adaptation:
    """Follows what kind of pairs there are, and watches them round by round."""

    def __init__(self) -> None:
        self._jumps = Jumps()
        self._header: Header | None = None
        self._zooms: frozenset[Pitch] = frozenset()
        self._kinds = 0
        self._watched: object = None
        self._steps = 0
        self.count = 0
        """Jumps so far."""
        self.last, self.at_s = "", -1e9
        """What jumped last, and when."""

    def kind(self, header: Header | None, slices: Mapping[str, SliceGeometry]) -> int:
        """A number that grows when pairs become unlike the earlier ones: another scan, filter, dose, centre or zoom.

        (A change of filter, dose or centre begins a new filtered series.)
        """
        zooms = self._zoomed(slices)
        if (header, zooms) != (self._header, self._zooms):
            self._header, self._zooms = header, zooms
            self._kinds += 1
        return self._kinds

    def _zoomed(self, slices: Mapping[str, SliceGeometry]) -> frozenset[Pitch]:
        """The pitches of slices, each as it was before where it is about the same: a slice that is turned has one that
        differs by the rounding."""
        pitches: list[Pitch] = []
        for pitch in (geometry.pixel_mm for geometry in slices.values()):
            alike = (known for known in (*self._zooms, *pitches) if np.allclose(pitch, known, rtol=SAME_ZOOM, atol=0))
            pitches.append(next(alike, pitch))
        return frozenset(pitches)

    def jumped(
        self, pairs: Pairs, scores: np.ndarray, now_s: float, network: NetworkConfig, steps: int, place: object
    ) -> bool:
        """Do these pairs of the present kind, with the scores (m,) of a round by this network, show a jump?

        `steps`: of the network; fewer than before: it is another one (reset, loaded, rolled back), with other scores.
        `place`: where somebody has them lie. Elsewhere figures are others, which is no jump, and pairs are of the same
        kind: what was learned goes on.
        """
        watched = self._kinds, pairs.split, network.task, place
        if watched != self._watched or steps < self._steps:
            self._watched = watched
            self._jumps.forget()
        self._steps = steps
        images = torch.as_tensor(pairs.images)
        found = self._jumps.watch(
            accuracy=float(scores.mean()) if len(scores) else None,
            noise=float((images[:, 0] - images[:, 1]).square().mean()),
            level=float(images.mean()),
        )
        if found:
            self.count, self.last, self.at_s = self.count + 1, found, now_s
        return bool(found)
