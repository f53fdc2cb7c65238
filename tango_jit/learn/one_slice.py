"""One slice and one network: what it makes of the whole and of the halves, and what these tell of its errors.

Each picture passes through the network once, and only if somebody asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.blend import Evidence, of_halves, of_turns
from tango_jit.learn.inference import Predictor
from tango_jit.learn.motion import LEAST_STILL, still
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.uncertainty import uncertainty
from tango_jit.stacks import seen

EVEN, ODD, WHOLE = range(3)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images (rows, cols) of the slice with noise of their own, and 1 in `pixels` where they show the same."""

    split: Split
    first: Tensor
    second: Tensor
    pixels: Tensor

    @property
    def power(self) -> float:
        """Of what they differ by, where they show the same."""
        return float(((self.first - self.second) * self.pixels).square().sum(dtype=torch.float64))


class OneSlice:
    """`planes` (3, D, rows, cols) in mm^-1: even half, odd half and whole, each with the neighbours that the network
    sees; `before` (rows, cols), or a stack of neighbours with it in the middle: the whole of a turn before, None: not
    known; `complete`: can the halves be compared?"""

    def __init__(
        self, predictor: Predictor, scale: float, planes: Tensor, before: Tensor | None, complete: bool
    ) -> None:
        self._predictor, self._scale, self._planes = predictor, scale, planes
        self._task = predictor.config.learns
        self._numbers = {name: number * scale for name, number in predictor.numbers.items()}  # in mm^-1
        self._shown = planes[:, predictor.config.shown]  # (3, rows, cols): the images that are put out
        self._passed: dict[int, Tensor] = {}
        self._before = None if before is None else before.reshape(-1, *before.shape[-2:])
        self.turns = None if self._before is None else self._turns(self._before[len(self._before) // 2])
        self.halves = self._halves() if complete else None

    @property
    def raw(self) -> Tensor:
        """(rows, cols) in mm^-1."""
        return self._shown[WHOLE]

    @property
    def simple(self) -> Tensor:
        """The picture (rows, cols) that there is without the network."""
        return self._task.simple(self.raw[None, None], self._numbers)[0, 0]

    def picture(self, denoised: Tensor) -> Tensor:
        """What the task makes of what the network put out (rows, cols)."""
        return self._task.picture(denoised[None, None], self._numbers)[0, 0]

    def denoised(self, mode: Literal["halves", "full"]) -> Tensor:
        """(rows, cols) in mm^-1: the mean of what the network makes of both halves, or what it makes of the whole."""
        return self._output(WHOLE) if mode == "full" else (self._output(EVEN) + self._output(ODD)) / 2

    def _output(self, plane: int) -> Tensor:
        if plane not in self._passed:
            self._passed[plane] = self._through(self._planes[plane])
        return self._passed[plane]

    def _through(self, images: Tensor) -> Tensor:
        """A stack (D, rows, cols) -> the image that is put out, denoised (rows, cols)."""
        return self._predictor(images[None] / self._scale)[0, 0] * self._scale

    # ---- what tells the errors

    @property
    def pair(self) -> Pair | None:
        """The two images that tell most: of two turns if they are known, otherwise the halves; None: nothing does."""
        return self.turns or self.halves

    @property
    def streaks(self) -> float | None:
        """The part of what the halves differ by that is no noise, 0 to 1: what is left of its power without that of two
        turns, where noise is half as strong. None without both."""
        if self.turns is None or self.halves is None:
            return None
        apart = ((self.halves.first - self.halves.second) * self.turns.pixels).square().sum(dtype=torch.float64)
        return float((1 - 2 * self.turns.power / apart).clamp(0, 1)) if apart > 0 else None

    def errors(self, denoised: Tensor) -> noise2inverse.Errors:
        """Those of the task: (1, 2) for turns, (2, 2) for halves, each as the input once. DENOISE: |A(u)-v|^2 and
        |u-v|^2 in mm^-2, summed. Fewer rows where the simple way is right everywhere."""
        pair = self._told
        if pair.split == "turns":
            return self._errors(denoised, pair.first, pair.second, pair.pixels)
        even, odd = self._output(EVEN), self._output(ODD)
        both = (even, pair.first, pair.second), (odd, pair.second, pair.first)
        return np.concatenate([self._errors(made, u, v, pair.pixels) for made, u, v in both])

    def _errors(self, denoised: Tensor, first: Tensor, second: Tensor, counts: Tensor) -> noise2inverse.Errors:
        made, u, v, pixels = (image[None, None] for image in (denoised, first, second, counts))
        target = self._task.target(v, self._numbers)
        return self._task.errors(made, u, target, pixels, 0, self._numbers)

    def evidence(self, denoised: Tensor) -> Evidence:
        """What the pair says of the errors of the raw and of the denoised slice."""
        pair = self._told
        if pair.split == "turns":
            return of_turns(pair.first, pair.second, denoised, pair.pixels)
        return of_halves(pair.first, pair.second, self._output(EVEN), self._output(ODD))

    def uncertainty(self, denoised: Tensor, *, mean: bool) -> Tensor | None:
        """Standard deviation of the error of each pixel (rows, cols) in mm^-1, NaN: not known; None: nothing tells it.
        `mean`: the denoised slice is the mean of its halves.

        The slice of a turn before is denoised for it; where the network needs neighbours that are not known, the halves
        tell.
        """
        turns, halves, before = self.turns, self.halves, self._before_seen
        if turns is not None and before is not None and not mean:
            other = self._through(before)
            return uncertainty(turns.first, turns.second, denoised, other, turns.pixels, mean=False)
        if halves is None:
            return None
        even, odd = self._output(EVEN), self._output(ODD)
        return uncertainty(halves.first, halves.second, even, odd, halves.pixels, mean=True)

    @property
    def _before_seen(self) -> Tensor | None:
        """The stack of a turn before as the network sees it; None where there are fewer neighbours than that."""
        network = self._predictor.config
        if self._before is None or network.frames > 1 or len(self._before) < network.depth:
            return None
        return self._before[seen(len(self._before), network.depth)]

    @property
    def _told(self) -> Pair:
        pair = self.pair
        if pair is None:
            raise RuntimeError("slice: expected two images that tell its errors, got none (see `pair`)")
        return pair

    def _turns(self, before: Tensor) -> Pair | None:
        pixels = still(self.raw[None], before[None])[0]
        pair = Pair("turns", self.raw, before, pixels)
        return pair if float(pixels.mean()) >= LEAST_STILL and _tells(pair) else None

    def _halves(self) -> Pair | None:
        even, odd = self._shown[EVEN], self._shown[ODD]
        pair = Pair("halves", even, odd, torch.ones_like(even))
        return pair if _tells(pair) else None


def _tells(pair: Pair) -> bool:
    """Do the two differ by more than rounding, and are all numbers finite?"""
    return bool(noise2inverse.distinct(torch.stack([pair.first, pair.second, pair.pixels])[None])[0])
