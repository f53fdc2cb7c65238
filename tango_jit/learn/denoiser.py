"""The denoiser: weights in, slices through, and a guard that shows the reconstruction where the network is worse."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from tango_jit.cuda_streams import launching
from tango_jit.learn import noise2inverse
from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.precision import Precision
from tango_jit.learn.weights import Weights, unpack

Image = NDArray[np.float32]
Mode = Literal["halves", "full"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Accuracy of a slice from which on it is guarded, and below which it no longer is. With noise power s in each half, an
# accuracy a leaves a denoised half the error (2 a - 1) s, and their mean up to as much (what the network gets wrong, it
# gets wrong in both); the raw slice, the mean of both halves, has s/2. So below 3/4 the denoised slice is the better.
GUARD_ON, GUARD_OFF = 0.75, 0.72


@dataclass(frozen=True)
class Result:
    """One denoised slice; images are (rows, cols) float32 in mm^-1.

    `accuracy` is |A(u)-v|^2 / |u-v|^2, the mean of both directions between this slice's halves; None without network,
    for incomplete halves, or where the halves are equal. `errors` (n, 2) are its parts, n = 2 or 0, for sums over
    slices. `guarded`: the guard put the raw image in place of the denoised one. `weights_version`: of the network that
    was asked; 0: there is none, and the image is the raw one.
    """

    image: Image
    raw: Image
    accuracy: float | None
    errors: noise2inverse.Errors
    guarded: bool
    weights_version: int


class _Active(NamedTuple):
    """All that belongs to one version; replaced as a whole, so that no slice ever sees parts of two."""

    weights: Weights
    predictor: Predictor


class Denoiser:
    """Denoises slices with the newest weights it was given.

    `load`, `rollback` and `freeze` may be called from any thread while another one denoises. `guard` can be switched at
    any time. `keep` versions are remembered. `device` is "cpu" or "cuda"; there all is launched on the live
    stream, see `cuda_streams`.
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
        self._waiting: _Active | None = None  # the newest weights that came while frozen
        self._guarded: set[str] = set()

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
                self._waiting = active
                return False
            self._use(active)
        return True

    def freeze(self, frozen: bool = True) -> None:
        """Keep the weights in use, or let new ones in again: the newest that came meanwhile at once."""
        with self._lock:
            self._frozen = frozen
            if not frozen and self._waiting is not None:
                self._use(self._waiting)
                self._waiting = None

    def rollback(self) -> int:
        """Return to the weights used before these, and freeze: the next version would undo it. Returns the version.

        Raises RuntimeError if there are none.
        """
        with self._lock:
            if not self._earlier:
                raise RuntimeError("rollback: expected weights used before these, got none")
            self._active = self._earlier.pop()
            self._frozen = True
            return self._active.weights.version

    def _use(self, active: _Active) -> None:
        if self._active is not None:
            self._earlier.append(self._active)
        self._active = active

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
        mode: Mode = "halves",
        name: str = "",
        complete: bool = True,
    ) -> Result:
        """Denoise one slice.

        Parameters
        ----------
        even, odd : (rows, cols) in mm^-1, reconstructed from disjoint views; for a network that sees D images
            (D, rows, cols): neighbouring slices, or moments, the oldest first. The middle one is denoised.
        full : from all views with weights of their own; None: the mean of the halves.
        mode : "halves": the mean of both denoised halves, what the network was trained on; "full": the denoised whole.
        name : which slice this is; the guard judges each by itself.
        complete : False: the halves do not cover the angles, so the accuracy would mean nothing.

        Raises ValueError for shapes that differ or an unknown mode.
        """
        active = self._active
        images = active.predictor.config.images if active is not None else 1 if even.ndim == 2 else len(even)
        planes, middle = _planes(even, odd, full, images), images // 2
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        whole = planes[2] if full is not None else planes[:2].mean(axis=0)
        raw = whole[middle].copy()
        if active is None:
            return Result(raw, raw, None, np.empty((0, 2)), False, 0)
        if mode == "full":
            planes = np.concatenate([planes[:2], whole[None]])
        with torch.inference_mode(), launching("live", self._device.type):
            inputs = torch.from_numpy(planes[: 3 if mode == "full" else 2]).to(self._device)  # (n, images, rows, cols)
            outputs = active.predictor(inputs / active.weights.scale) * active.weights.scale
            halves = inputs[:2, middle, None]
            errors = np.empty((0, 2))
            if complete and bool(noise2inverse.distinct(halves.movedim(0, 1)).all()):
                errors = noise2inverse.errors(outputs[:2], halves, halves.flip(0))
            image = (outputs[2, 0] if mode == "full" else outputs[:2, 0].mean(0)).cpu().numpy()
        accuracy = noise2inverse.accuracy(errors)
        guarded = self._judge(name, accuracy, bool(np.isfinite(image).all()))
        return Result(raw if guarded else image, raw, accuracy, errors, guarded, active.weights.version)

    def forget(self, name: str) -> None:
        """This slice is no more: its verdict is not that of a later one of the same name."""
        self._guarded.discard(name)

    def _judge(self, name: str, accuracy: float | None, finite: bool) -> bool:
        """Whether to show the raw slice; without an accuracy the last verdict stands."""
        if accuracy is not None and (accuracy >= GUARD_ON or accuracy < GUARD_OFF):
            (self._guarded.add if accuracy >= GUARD_ON else self._guarded.discard)(name)
        return self.guard and (not finite or name in self._guarded)


def _planes(even: Image, odd: Image, full: Image | None, images: int) -> Image:
    """(2 or 3, images, rows, cols): even, odd and, if it is given, the whole."""
    given = [even, odd] if full is None else [even, odd, full]
    fits = even.ndim == 2 if images == 1 else even.ndim == 3 and len(even) == images
    if not fits or any(image.shape != even.shape for image in given):
        shape = "(rows, cols)" if images == 1 else f"({images}, rows, cols)"
        raise ValueError(
            f"slice: expected halves (and a whole) of one shape {shape}, got {[image.shape for image in given]}"
        )
    return np.stack(given).astype(np.float32, copy=False).reshape(len(given), images, *even.shape[-2:])
