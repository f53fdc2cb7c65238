"""The stream of Fig. 10: patches from the top of the container, and after a jump from its bottom; slices and truth.

The clock is that of the paper's replay, 24 ms a frame; its 9 batches of pairs and 141 steps a second go by the frame,
so that nothing depends on how fast this computer is. What a moment is made of has come by then (in the paper's software
a window lay up to 6.5 s in the future).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.simulated import noise_free_views, scenario_of
from benchmarks.paper.family import NEXT_S, A
from benchmarks.paper.film import Film, Part, around, film
from benchmarks.paper.places import BOTTOM, TOP, Box
from sim.experiment import Experiment
from tango_jit.geometry import SliceGeometry
from tango_jit.learn import NetworkConfig
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow

Image = NDArray[np.float32]
FRAME_S = 0.024
PARTS = (Part(A, 0.0, 1050), Part(A, NEXT_S, 1500))  # 12.6 s are 7 turns, 1050 frames


@dataclass(frozen=True)
class Story:
    """Training begins at frame `start`, slices and samples jump at frame `jump`, all ends before frame `end`."""

    parts: tuple[Part, ...] = PARTS
    start: int = 900
    jump: int = 1400
    end: int = 2000
    soon: int = 42  # frames, a second: the windows of test samples end so soon after the moment
    top: Box = TOP
    bottom: Box = BOTTOM
    batches_s: float = 9.0  # a second, as on the paper's GPUs
    steps_s: float = 141.0
    every: int = 50  # frames after which the network is looked at
    side: int = 288  # pixels of a slice
    heights_mm: tuple[float, float] = (5.0, -27.0)  # of the slice, before and after

    @property
    def film(self) -> Film:
        return film(*self.parts)

    @property
    def frames(self) -> list[int]:
        """At which networks are looked at."""
        return list(range(self.start + self.every, self.end - self.soon, self.every))

    @property
    def moments(self) -> tuple[int, int]:
        """The two that are pictured: the last before the jump, and the last of all."""
        return max(frame for frame in self.frames if frame < self.jump), self.frames[-1]

    def box(self, frame: int) -> Box:
        return self.top if frame < self.jump else self.bottom

    def time_s(self, frame: int) -> float:
        """From the jump on."""
        return round((frame - self.jump) * FRAME_S, 3)

    def first(self, network: NetworkConfig, frame: int) -> int:
        """The window of the shown image when all that the network sees has come by `frame`."""
        later = around(network)[-1] * network.frame_interval if network.frames > 1 else 0
        return frame - self.film.views_a_turn - later

    def place(self, frame: int) -> SliceGeometry:
        """The slice on display."""
        height = self.heights_mm[int(frame >= self.jump)]
        pixel, shape = self.top.pixel_mm, (self.side, self.side)
        return SliceGeometry.centered((0, 0, height), (1, 0, 0), (0, -1, 0), pixel_mm=pixel, shape=shape)

    def inside(self, frame: int) -> NDArray[np.bool_]:
        """The pixels of that slice that are compared."""
        return self.box(frame).holds(self.place(frame))

    def cut(self, image: Image) -> Image:
        """What is pictured of a slice: the inner half of its rows and columns."""
        inner = slice(self.side // 4, self.side - self.side // 4)
        return image[inner, inner]

    def samples(self, network: NetworkConfig, frame: int, size: int, count: int, windows: int = 16) -> Image:
        """Pairs (count, 2, ...) from windows that end soon after a moment: nothing has learned from them yet."""
        random, made = np.random.default_rng(frame), []
        for share in np.array_split(np.arange(count), min(windows, count)):
            first = self.first(network, frame + int(random.integers(1, self.soon + 1)))
            poses = self.box(frame).draw(random, len(share), size)
            made.append(self.film.pairs(network, first, poses, (size, size)))
        return np.concatenate(made)

    def truths(self, network: NetworkConfig, cache: Path) -> dict[int, Image]:
        """Noise-free slices (rows, cols) in mm^-1 of what is on display at `frames`; made once."""
        frames = self.frames
        story = f"{self.parts[0].name}-{self.jump}-{self.side}-{self.first(network, 0)}"
        path = cache / f"truths-{story}-{frames[0]}-{frames[-1]}-{len(frames)}.npz"
        if not path.exists():
            with TemporaryDirectory(dir=cache) as private:
                made = Path(private) / path.name
                np.savez(made, truths=self._made(network, frames))
                made.replace(path)
        with np.load(path) as stored:
            return dict(zip(frames, stored["truths"], strict=True))

    def _made(self, network: NetworkConfig, frames: list[int]) -> Image:
        part, turn = self.parts[0], self.film.views_a_turn
        simulation = Experiment(scenario_of(part.name, binning=part.binning, start_s=part.start_s))
        engine, ring = Reconstructor(simulation.geometry), ProjectionWindow(simulation.geometry)
        ends = {self.first(network, frame) + turn: frame for frame in frames}  # when the last view of each has come
        found, number = [], min(ends) - turn
        for angle_rad, view in noise_free_views(simulation, range(number, max(ends))):
            ring.add(number, angle_rad, view.astype(np.float32))
            number += 1
            if number in ends:
                window = ring.window()
                assert window is not None, "a whole turn has come"
                found.append(full_slice(engine.reconstruct(window, self.place(ends[number]))))
        return np.stack(found)


STORY = Story()
