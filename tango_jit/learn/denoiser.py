"""The denoiser: weights in, slices through, and a guard that shows the reconstruction where the network is worse.

What a picture is follows from the task of the weights. Of one that does not restore the slice (see tasks) there is no
blend: the guard shows what the task simply makes of the slice as reconstructed, or the picture as it is.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.cuda_streams import launching
from tango_jit.learn import noise2inverse
from tango_jit.learn.blend import Blend, blend, blended
from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.one_slice import OneSlice
from tango_jit.learn.precision import Precision
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.weights import Weights, unpack
from tango_jit.stacks import StackError, seen

Image = NDArray[np.float32]
Mode = Literal["trained", "halves", "full"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Part of the raw slice's noise that the shown one may have at worst, from which on it is guarded, and below which it no
# longer is; where nothing is blended, the accuracy.
GUARD = 1.0, 0.9


@dataclass(frozen=True)
class Result:
    """One denoised slice; images are (rows, cols) float32, in mm^-1 where the task restores the slice.

    `accuracy` is that of the task, for DENOISE |A(u)-v|^2 / |u-v|^2: between this slice and the one of a turn before,
    or the mean of both directions between its halves; `evidence` says which. None without network, for incomplete
    halves, where both are equal or most has moved. `errors` (n, 2) are its parts, n = 2, 1 or 0, for sums over slices.
    `weights_version` and `task`: of the network that was asked; 0: there is none, and the image is the raw one.

    `blend` says how much of the network's change the image holds, and how good that is; None without evidence.
    `guarded`: the guard put the raw image in its place, or what the task simply makes of it. `streaks`: the part, 0 to
    1, of the power by which the halves differ that is no noise; None: not known. `uncertainty` is the standard
    deviation of the error of each pixel of what the network makes of the slice, NaN where nothing tells it; None: not
    asked for, no evidence, or not shown. A task that does not restore the slice has neither `blend` nor `uncertainty`.
    `mode`: which pass the picture is of, None without network. `shares`: how much of the change it holds in each band,
    see `Blend.bands`, with evidence or as the last time; empty: all.
    """

    image: Image
    raw: Image
    accuracy: float | None
    errors: noise2inverse.Errors
    guarded: bool
    weights_version: int
    task: str = "DENOISE"
    evidence: Split | None = None
    blend: Blend | None = None
    streaks: float | None = None
    uncertainty: Image | None = None
    mode: Literal["halves", "full"] | None = None
    shares: tuple[float, ...] = ()

    @property
    def quality_db(self) -> float | None:
        """By so many dB at least the image has less noise than the raw one; None: not known."""
        if self.image is self.raw:
            return 0.0
        return None if self.blend is None else self.blend.quality_db


class _Verdict(NamedTuple):
    """`shares`: what part of the change is shown in each band; None: all of it."""

    guarded: bool
    shares: Tensor | None
    blend: Blend | None
    errors: noise2inverse.Errors


class _Active(NamedTuple):
    """All that belongs to one version; replaced as a whole, so that no slice ever sees parts of two."""

    weights: Weights
    predictor: Predictor


class Denoiser:
    """Denoises slices with the newest weights it was given.

    `load`, `rollback` and `freeze` may be called from any thread while another one denoises. `guard` can be switched at
    any time; without it the picture is what the network makes of a slice, good or bad. `keep` versions are remembered.
    `device` is "cpu" or "cuda"; there all is launched on the live stream, see `cuda_streams`.
    """

    def __init__(
        self,
        *,
        precision: Precision = "auto",
        device: str = "cpu",
        guard: bool = True,
        keep: int = 8,
    ) -> None:
        self.guard = guard
        self._precision: Precision = precision
        self._device = torch.device(device)
        self._passes = Passes()
        self._lock = threading.Lock()
        self._active: _Active | None = None
        self._earlier: deque[_Active] = deque(maxlen=keep)
        self._frozen = False
        self._left: deque[_Active] = deque()  # by rollbacks, the oldest first
        self._waiting: _Active | None = None  # the newest weights that came while frozen
        self._guarded: set[str] = set()
        self._shares: dict[str, Tensor] = {}  # of the last blend of each slice
        self._judged: set[str] = set()  # slices without a blend of which the accuracy was known

    # ---- weights

    @property
    def weights(self) -> Weights | None:
        """The weights in use; None: none came yet."""
        active = self._active
        return None if active is None else active.weights

    @property
    def frozen(self) -> bool:
        """Do the weights stay as they are?"""
        return self._frozen

    def load(self, weights: Weights) -> bool:
        """Use these weights from the next slice on; returns whether they are in use and new.

        The same weights again change nothing. While frozen the newest ones are kept until thawed. Raises ValueError in
        words for weights that fit no network or are not finite, and goes on with those in use.
        """
        current = self._active
        if current is not None and current.weights == weights:
            return False
        active = _Active(weights, self._predictor(weights))
        with self._lock:
            if self._frozen and self._active is not None:
                if not (self._left and self._left[-1].weights == weights):  # sent again: it waits already
                    self._waiting = active
                return False
            self._use(active)
        return True

    @property
    def versions(self) -> list[int]:
        """Numbers of the weights that are remembered, the oldest first. The last one is in use, or waits while frozen,
        as do those that a rollback has left."""
        return [active.weights.version for active in self._remembered()]

    def remembered(self, version: int) -> Weights:
        """The newest weights of that number. Raises ValueError if they are not remembered."""
        for active in reversed(self._remembered()):
            if active.weights.version == version:
                return active.weights
        raise ValueError(f"version: expected one of {self.versions or 'none yet'}, got {version}")

    def _remembered(self) -> list[_Active]:
        with self._lock:
            kept = [*self._earlier, self._active, *self._left, self._waiting]
        return [active for active in kept if active is not None]

    def freeze(self, frozen: bool = True) -> None:
        """Keep the weights in use (before any came: the first ones), or let new ones in again: the newest that there
        are at once, which came meanwhile or were left by a rollback."""
        with self._lock:
            self._frozen = frozen
            newer = [*self._left, *([] if self._waiting is None else [self._waiting])]
            if frozen or not newer or self._active is None:
                return
            self._left.clear()
            self._waiting = None
            self._use(newer.pop())
            self._earlier.extend(newer)

    def rollback(self) -> int:
        """Return to the weights used before these, and freeze: the next version would undo it. Returns the version.

        Raises RuntimeError if there are none.
        """
        with self._lock:
            if not self._earlier:
                raise RuntimeError("rollback: expected weights used before these, got none")
            if self._active is not None:
                self._left.appendleft(self._active)
            self._active = self._earlier.pop()
            self._forget_verdicts()
            self._frozen = True
            return self._active.weights.version

    def _use(self, active: _Active) -> None:
        before = self._active
        if before is not None:
            self._earlier.append(before)
            if active.weights.patch_accuracy is None or active.weights.network != before.weights.network:
                self._forget_verdicts()
        self._active = active

    def _forget_verdicts(self) -> None:
        """Another network altogether follows: what was seen of this one says nothing about it."""
        self._guarded, self._judged, self._shares = set(), set(), {}

    def move(self, device: str) -> None:
        """Go on, on another device ("cpu", "cuda"), with all weights that are remembered."""
        with self._lock:
            self._device = torch.device(device)
            self._passes = Passes()

            def moved(active: _Active) -> _Active:
                return _Active(active.weights, self._predictor(active.weights))

            self._active = None if self._active is None else moved(self._active)
            self._waiting = None if self._waiting is None else moved(self._waiting)
            self._earlier = deque(map(moved, self._earlier), self._earlier.maxlen)
            self._left = deque(map(moved, self._left))

    def _predictor(self, weights: Weights) -> Predictor:
        with launching("live", self._device.type):
            return Predictor(unpack(weights), self._precision, self._device, self._passes)

    @property
    def precision(self) -> str:
        """The arithmetic of the network, "bfloat16" or "float32"; empty: there is none yet."""
        active = self._active
        return "" if active is None else active.predictor.precision

    @property
    def trouble(self) -> str:
        """Why slices on a GPU take longer than they should; empty: they do not."""
        return self._passes.trouble

    # ---- slices

    def __call__(
        self,
        even: Image,
        odd: Image,
        full: Image | None = None,
        *,
        mode: Mode = "trained",
        name: str = "",
        complete: bool = True,
        before: Image | None = None,
        with_uncertainty: bool = False,
        made_for: Weights | None = None,
    ) -> Result:
        """Denoise one slice.

        Parameters
        ----------
        even, odd : (rows, cols) in mm^-1, reconstructed from disjoint views; for a network that sees D images
            (D, rows, cols): neighbouring slices, or moments, the oldest first. The one that it puts out is denoised.
            There may be more slices than it sees: those farthest off are left out.
        full : from all views with weights of their own; None: the mean of the halves.
        mode : "halves": the mean of both denoised halves; "full": the denoised whole; "trained": what the network was
            trained for, halves or the whole of a turn.
        name : which slice this is; the guard judges each by itself.
        complete : False: the halves do not cover the angles, so an accuracy between them would mean nothing.
        before : the whole slice at the same place from the views of a turn before, none in common, (rows, cols), or
            with its neighbours (depth, rows, cols), which the map of uncertainty needs; None: not known.
        made_for : the weights whose stack this is; None: whatever are in use.
        with_uncertainty : make the map of `Result.uncertainty` as well, with up to two passes more.

        Raises StackError for fewer slices than the network sees, or another network than they were made for,
        ValueError for shapes that differ or an unknown mode.
        """
        active = self._active
        if made_for is not None and (active is None or active.weights is not made_for):
            raise StackError(f"weights: expected version {made_for.version}, others were taken meanwhile")
        planes = _planes(even, odd, full, None if active is None else active.predictor.config)
        images = planes.shape[1]
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        if before is not None and (before.ndim not in (2, 3) or before.shape[-2:] != planes.shape[2:]):
            raise ValueError(f"before: expected shape {planes.shape[2:]}, or a stack of them, got {before.shape}")
        if full is None:
            planes = np.concatenate([planes, planes.mean(axis=0, keepdims=True)])
        raw = planes[2, images // 2 if active is None else active.predictor.config.shown].copy()
        if active is None:
            return Result(raw, raw, None, np.empty((0, 2)), False, 0)
        if mode == "trained":
            mode = "full" if active.weights.split == "turns" else "halves"
        with torch.inference_mode(), launching("live", self._device.type):
            # Copied: what is given may be locked.
            target = None if before is None else torch.from_numpy(before.astype(np.float32)).to(self._device)
            given = torch.from_numpy(planes).to(self._device)
            one = OneSlice(active.predictor, active.weights.scale, given, target, complete)
            return self._denoised(name, active, one, raw, mode, with_uncertainty)

    def _denoised(
        self,
        name: str,
        active: _Active,
        one: OneSlice,
        raw: Image,
        mode: Literal["halves", "full"],
        with_uncertainty: bool,
    ) -> Result:
        """What the network makes of a slice, and as much of it as is to be shown."""
        denoised, task = one.denoised(mode), active.predictor.config.learns
        if task.restores:
            verdict = self._judge(name, one, denoised)
            shown = raw if verdict.guarded else _shown(one.raw, denoised, verdict.shares)
        else:
            verdict = self._judge_picture(name, one, denoised)
            shown = (one.simple if verdict.guarded else one.picture(denoised)).cpu().numpy()
        wanted = with_uncertainty and task.restores and not verdict.guarded
        doubt = one.uncertainty(denoised, mean=mode == "halves") if wanted else None
        return Result(
            image=shown,
            raw=raw,
            accuracy=noise2inverse.accuracy(verdict.errors),
            errors=verdict.errors,
            guarded=verdict.guarded,
            weights_version=active.weights.version,
            task=task.name,
            evidence=None if one.pair is None else one.pair.split,
            blend=verdict.blend,
            streaks=one.streaks,
            uncertainty=None if doubt is None else doubt.cpu().numpy(),
            mode=mode,
            shares=() if verdict.shares is None else tuple(verdict.shares.tolist()),
        )

    def forget(self, name: str) -> None:
        """This slice is no more, or elsewhere: its verdict is not that of a later one of the same name."""
        self._guarded.discard(name)
        self._judged.discard(name)
        self._shares.pop(name, None)

    def _judge(self, name: str, one: OneSlice, denoised: Tensor) -> _Verdict:
        """What is shown of a denoised slice: without evidence as the last time, and nothing before there was any."""
        pair, errors, found = one.pair, np.empty((0, 2)), None
        finite = bool(denoised.isfinite().all())
        if pair is not None:
            errors = one.errors(denoised)
        if pair is not None and finite:
            found = blend(one.raw, denoised, one.evidence(denoised), all_of_it=not self.guard)
            worse, better = GUARD
            if not found.worst < worse * found.noise:
                self._guarded.add(name)
            elif found.worst < better * found.noise:
                self._guarded.discard(name)
            self._shares[name] = found.bands
        if not self.guard:
            return _Verdict(False, None, found, errors)
        shares = self._shares.get(name)
        guarded = not finite or name in self._guarded or shares is None
        return _Verdict(guarded, shares, found, errors)

    def _judge_picture(self, name: str, one: OneSlice, denoised: Tensor) -> _Verdict:
        """The same for a task that does not restore the slice: its picture, or the simple one, by the accuracy."""
        errors = np.empty((0, 2)) if one.pair is None else one.errors(denoised)
        accuracy, finite = noise2inverse.accuracy(errors), bool(denoised.isfinite().all())
        worse, better = GUARD
        if accuracy is not None and finite:
            self._judged.add(name)
            if not accuracy < worse:
                self._guarded.add(name)
            elif accuracy < better:
                self._guarded.discard(name)
        guarded = not finite or name in self._guarded or name not in self._judged
        return _Verdict(self.guard and guarded, None, None, errors)


def _shown(raw: Tensor, denoised: Tensor, shares: Tensor | None) -> Image:
    """(rows, cols); shares None: all of the change."""
    if shares is None or bool((shares == 1).all()):
        return denoised.cpu().numpy()
    return blended(raw, denoised, shares).cpu().numpy()


def _planes(even: Image, odd: Image, full: Image | None, network: NetworkConfig | None) -> Image:
    """(2 or 3, images, rows, cols): even, odd and, if it is given, the whole, as many images as the network sees; None:
    all that were given. Raises ValueError, StackError."""
    given = [even, odd] if full is None else [even, odd, full]
    sent = 1 if even.ndim == 2 else len(even)
    moments = 1 if network is None else network.frames
    fits = even.ndim in (2, 3) and moments in (1, sent)
    if not fits or any(image.shape != even.shape for image in given):
        shape = f"({moments}, rows, cols)" if moments > 1 else "(rows, cols), or stacks"
        raise ValueError(
            f"slice: expected halves (and a whole) of one shape {shape}, got {[image.shape for image in given]}"
        )
    planes = np.stack(given).astype(np.float32, copy=False).reshape(len(given), sent, *even.shape[-2:])
    if network is None or moments > 1:
        return planes
    return planes[:, seen(sent, network.depth)]
