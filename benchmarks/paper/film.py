"""A stretch of an experiment whose views all lie in memory: windows from any of its moments on, pairs and slices."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.experiment import Experiment
from benchmarks.lab.simulated import simulated
from tango_jit.geometry import SliceGeometry, projection_matrices
from tango_jit.learn import NetworkConfig
from tango_jit.recon.backproject import get
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.weights import split_weights
from tango_jit.recon.window import Window

Image = NDArray[np.float32]
Array = NDArray[np.float64]
VIEW_S = 0.012  # an exposure of both experiments


class Part(NamedTuple):
    """Frames from 0 to before `until` of a simulated experiment that has been going on for `start_s`."""

    name: str
    start_s: float
    until: int
    turns: int = 10  # that are simulated
    binning: int = 2


class Film:
    """Views one after another; their numbers go on from part to part.

    Frame n of a window is read where the service would have it in its ring; nothing is copied. A window is named by its
    first frame.
    """

    def __init__(self, parts: list[Experiment], counts: list[int]) -> None:
        """The first `counts` frames of each part; the angle goes on from one to the next."""
        whole = parts[0]
        self.geometry, self.views_a_turn, self.frames = whole.geometry, whole.views_a_turn, sum(counts)
        self.engine = Reconstructor(self.geometry)
        self._ring = get("cpu").make_ring(self.frames, self.geometry.rows, self.geometry.cols)
        slots = np.arange(self.frames)
        self._slots, self._angles_rad = slots, whole.angle_rad(0) + 2 * math.pi * slots / self.views_a_turn
        at = 0
        for part, count in zip(parts, counts, strict=True):
            told = np.array([part.angle_rad(k) for k in range(count)]) - self._angles_rad[at : at + count]
            if np.abs(np.exp(1j * told) - 1).max() > 1e-6:
                raise ValueError(f"film: expected {part.name} to go on at the angle of frame {at}")
            for k in range(count):
                self._ring.put(at + k, part.filtered(k))
            at += count
        vectors = self.geometry.vectors(self._angles_rad)
        self._matrices = projection_matrices(self.geometry.beam, vectors, self.geometry.rows, self.geometry.cols)

    def window(self, first: int) -> Window:
        """One turn of views from frame `first` on. Raises ValueError where the film does not hold it."""
        if not 0 <= first <= self.frames - self.views_a_turn:
            raise ValueError(f"window: expected a first frame from 0 to {self.frames - self.views_a_turn}, got {first}")
        part = slice(first, first + self.views_a_turn)
        weights, complete, equal = split_weights(self._slots[part], self._angles_rad[part], 2 * math.pi)
        return Window(
            self._ring,
            self._slots[part],
            self._slots[part],
            self._slots[part],
            self._angles_rad[part],
            self._matrices[part],
            weights,
            complete,
            equal,
            self._slots,
        )

    @property
    def matrices(self) -> Array:
        """Of one turn, (views, 3, 4): all that a patch has to be seen by."""
        return self._matrices[: self.views_a_turn]

    def pairs(self, network: NetworkConfig, first: int, poses: Array, shape: tuple[int, int]) -> Image:
        """Even and odd half of patches at poses (k, 3, 3): (k, 2, rows, cols), of stacks (k, 2, D, rows, cols).

        `first`: the window of the image that the network puts out; further moments come before and after it.
        """
        if network.images == 1:
            return self.engine.reconstruct_pairs(self.window(first), poses, shape)
        if network.frames > 1:
            moments = [first + steps * network.frame_interval for steps in around(network)]
            made = [self.engine.reconstruct_pairs(self.window(moment), poses, shape) for moment in moments]
            return np.stack(made, 2)
        stacked = beside(poses, network)  # (k, D, 3, 3)
        made = self.engine.reconstruct_pairs(self.window(first), stacked.reshape(-1, 3, 3), shape)
        return made.reshape(len(poses), network.depth, 2, *shape).swapaxes(1, 2)

    def slice(self, network: NetworkConfig, first: int, place: SliceGeometry) -> Image:
        """Both halves of a slice with what the network sees beside it: (2, D, rows, cols)."""
        found = self.pairs(network, first, place.pose[None], place.shape)[0]
        return found[:, None] if network.images == 1 else found


def around(network: NetworkConfig) -> range:
    """The images that a network sees, in steps from the one it puts out."""
    return range(-network.shown, network.images - network.shown)


def beside(poses: Array, network: NetworkConfig) -> Array:
    """Neighbouring slices of each pose (k, 3, 3), as far apart as its pixels are: (k, D, 3, 3)."""
    along, down = poses[:, 1], poses[:, 2]
    across = np.cross(along, down)
    across *= (np.linalg.norm(along, axis=1) / np.linalg.norm(across, axis=1))[:, None]
    steps = np.array(around(network))
    stacked = np.repeat(poses[:, None], network.depth, 1)
    stacked[:, :, 0] += steps[:, None] * across[:, None]
    return stacked


@cache
def film(*parts: Part) -> Film:
    """A simulated film; its views are made once and kept in the user's cache, see `benchmarks.lab.simulated`."""
    made = [simulated(part.name, turns=part.turns, binning=part.binning, start_s=part.start_s) for part in parts]
    return Film(made, [part.until for part in parts])
