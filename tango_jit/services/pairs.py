"""Training pairs from the newest views of one scan, and which split of the views they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from tango_jit.cuda_streams import launching, on
from tango_jit.geometry import SliceGeometry
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.patches import PatchSampler, Sampling
from tango_jit.learn.settings import TrainerSettings
from tango_jit.recon.backproject import device
from tango_jit.recon.moments import moments_until
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import Arrival, ProjectionWindow, Window
from tango_jit.stacks import stacked
from tango_jit.streams import Header, Image

MOST_VIEWS = 8192  # in a turn
SPLITS = ("AUTO", "HALVES", "TURNS")
OFFERED, USELESS = 64, 0.75  # pairs of two turns that decide; the part of them that may be of no use
HALVES_S, LONGEST_HALVES_S = 20.0, 320.0  # how long halves serve before two turns are tried again: at first, at most


class Pairs(NamedTuple):
    """`images` (k, 2, rows, cols) in mm^-1, for a network of depth D (k, 2, D, rows, cols); `scored`: both are complete
    enough for an accuracy."""

    images: Any
    split: Split
    scored: bool


class Where(NamedTuple):
    """Where patches lie, see `PatchSampler`: of `size` pixels, with `depth` planes; `region` and `container` in mm. And
    at how many `moments`, each `interval` frames after the one before."""

    size: int
    depth: int
    sampling: Sampling
    region: tuple[float, ...] = ()
    container: tuple[float, ...] = ()
    moments: int = 1
    interval: int = 1

    @classmethod
    def of(cls, values: Mapping[str, Any], settings: TrainerSettings, depth: int) -> Where:
        """As the signals and the settings say."""
        region, container, network = tuple(values["region"]), tuple(values["container"]), settings.network
        place = settings.patch_size, depth, values["sampling"], region, container
        return cls(*place, network.frames, network.frame_interval)

    def announced(self, automatic: bool) -> tuple[object, ...]:
        """What differs once somebody has said that patches lie elsewhere. A container that is found automatically is a
        little different each time: only whether there is one counts."""
        return (*self._replace(container=()), bool(self.container) if automatic else self.container)


class PairSource:
    """Keeps the newest turns of one scan on one backend and reconstructs pairs of patches from them."""

    def __init__(self, header: Header, backend: str, seed: int) -> None:
        self._span_rad = 2 * math.pi if header.full_turn else None
        self._geometry, self._backend = header.geometry, backend
        self.window = self._ring(spans=2)
        self._engine = Reconstructor(header.geometry, backend)
        self._device = device(backend)
        self._seed = seed
        self._sampler: PatchSampler | None = None
        self._sampled: Where | None = None

    def _ring(self, spans: int) -> ProjectionWindow:
        return ProjectionWindow(
            self._geometry, self._span_rad, spans=spans, backend=self._backend, max_views=spans * MOST_VIEWS
        )

    def keep_one_turn(self) -> bool:
        """Two turns do not fit: begin anew with one, which gives halves. Returns whether that is any change."""
        if self.window.spans == 1:
            return False
        self.window = self._ring(spans=1)
        return True

    def add(self, image: Image) -> Arrival:
        """Take a filtered view. Raises ValueError and WindowOverflowError as the window does."""
        with launching("samples", self._device):
            return self.window.add(image.frame, image.angle_rad, image.data, image.pose)

    def make(
        self, number: int, window: Window, split: Split, where: Where, slices: Mapping[str, SliceGeometry]
    ) -> Pairs:
        """So many pairs from the present window, stacks of them for a depth above 1, and from the window before where
        the split asks for it and it is there. Raises ValueError, see `PatchSampler`.

        Pairs of several moments are always halves: what these show overlaps with the turn before.
        """
        if where.moments > 1:
            return self._at_moments(number, window, where, slices)
        size, depth = where.size, where.depth
        drawn = self._sampler_for(where).draw(number, slices, window.matrices)
        poses = drawn if depth == 1 else stacked(drawn, depth).reshape(-1, 3, 3)
        before = self.window.before() if split == "turns" else None
        turns = before is not None and before.nearly_complete

        def reconstruct() -> Any:
            if before is not None and turns:
                return self._engine.reconstruct_turns(window, before, poses, (size, size))
            return self._engine.reconstruct_pairs(window, poses, (size, size))

        images = on("samples", self._device, reconstruct)  # before the steps that are queued already
        if depth > 1:  # (k D, 2, rows, cols)
            images = images.reshape(number, depth, 2, size, size).swapaxes(1, 2)
        return Pairs(images, "turns" if turns else "halves", turns or window.complete)

    def _at_moments(self, number: int, now: Window, where: Where, slices: Mapping[str, SliceGeometry]) -> Pairs:
        """(k, 2, moments, rows, cols), the oldest first. Raises ValueError, see `moments_until`, too."""
        ring = self.window
        windows = moments_until(now, ring.before(), where.moments, where.interval, ring.span_rad)
        poses = self._sampler_for(where).draw(number, slices, now.matrices)

        def reconstruct() -> Any:
            each = (self._engine.reconstruct_pairs(window, poses, (where.size, where.size)) for window in windows)
            return torch.stack([torch.as_tensor(pairs) for pairs in each], 2)

        images = on("samples", self._device, reconstruct)
        return Pairs(images, "halves", all(window.complete for window in windows))

    def _sampler_for(self, where: Where) -> PatchSampler:
        if self._sampler is None or self._sampled != where:
            self._sampler = PatchSampler(
                self._geometry,
                where.size,
                where.sampling,
                where.region,
                self._seed,
                where.depth,
                container_mm=where.container,
            )
            self._sampled = where
        return self._sampler


class SplitChoice:
    """Two turns wherever that works; the halves of one where nearly everything moves from turn to turn, or nothing at
    all is new (a recording of one turn that is played in a loop).

    Halves serve until a trial finds pairs of two turns of use: pairs that are made beside them, and that nobody learns
    from, as another split empties the buffer. Each trial that fails doubles the time to the next one, up to
    `LONGEST_HALVES_S`; so do turns that served for less than `HALVES_S`.
    """

    def __init__(self) -> None:
        self._found: Split = "halves"
        self._offered = self._useless = 0
        self._wait_s, self._trial_at_s, self._turns_from_s = HALVES_S, -math.inf, -math.inf

    def wanted(self, setting: str) -> Split:
        """The split to learn from, by the setting AUTO, HALVES or TURNS."""
        if setting == "AUTO":
            return self._found
        return "turns" if setting == "TURNS" else "halves"

    def tries(self, setting: str, now_s: float) -> bool:
        """Are pairs of two turns to be made beside those of halves, to be looked at alone?"""
        return setting == "AUTO" and self._found == "halves" and now_s >= self._trial_at_s

    def seen(self, offered: int, useless: int, now_s: float) -> None:
        """So many pairs of two turns were made, and so many of them are of no use: they had moved, or were equal."""
        self._offered, self._useless = self._offered + offered, self._useless + useless
        if self._offered < OFFERED:
            return
        useful = self._useless <= USELESS * self._offered
        self._offered = self._useless = 0
        if useful and self._found == "halves":
            self._found, self._turns_from_s = "turns", now_s
        elif not useful and (self._found == "turns" or now_s >= self._trial_at_s):
            self._back_to_halves(now_s)

    def _back_to_halves(self, now_s: float) -> None:
        if self._found == "turns" and now_s - self._turns_from_s >= HALVES_S:
            self._wait_s = HALVES_S
        self._found, self._trial_at_s = "halves", now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_HALVES_S)
