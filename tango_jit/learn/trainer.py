"""The trainer: pairs in, steps, weights out. No thread, no clock: who calls it decides when.

`add` takes new pairs: each is scored once, before it can be trained on, then enters the buffer. `step` is one step of
Adam on a random batch of the buffer. `weights` gives the next version: the averaged network with scale and figures.
"""

from __future__ import annotations

import logging
import math
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.cuda_streams import launching
from tango_jit.learn import noise2inverse
from tango_jit.learn.inference import folded
from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.precision import arithmetic
from tango_jit.learn.settings import PRODUCT, TrainerSettings
from tango_jit.learn.step import Step
from tango_jit.learn.unet import NetworkConfig, UNet, build
from tango_jit.learn.vector import Layout
from tango_jit.learn.weights import Weights, from_checkpoint, pack, to_checkpoint, unpack

log = logging.getLogger(__name__)
SCORED_PAIRS = 512  # how many of the last scored pairs `patch_accuracy` looks back on
SCORED_AT_ONCE = 64


class Trainer:
    """Trains one network on the newest pairs of halves.

    `seed` decides the first weights and all draws: the same seed and the same calls give the same weights (on one
    machine, with one number of threads). `device` is "cpu" or "cuda"; there all is launched on the stream of
    training, see `cuda_streams`. `keep` versions can be rolled back to.
    """

    def __init__(
        self,
        settings: TrainerSettings = PRODUCT,
        *,
        seed: int = 0,
        device: str = "cpu",
        keep: int = 8,
    ) -> None:
        self._settings, self._device = settings, torch.device(device)
        self._buffer = self._empty_buffer()
        self._kept: deque[Weights] = deque(maxlen=keep)
        self.version = 0
        """Number of the last version of the weights; counts on through resets, loads and rollbacks."""
        self.generation = 0
        """The generation of the pairs in the buffer."""
        self.pairs_refused = 0
        """Pairs that said nothing (equal halves, numbers that are not finite) since the start."""
        self.reset_network(seed)

    # ---- figures

    @property
    def settings(self) -> TrainerSettings:
        return self._settings

    @property
    def scale(self) -> float | None:
        """What pairs are divided by, in their unit (mm^-1); None until the first ones came."""
        return self._scale

    @property
    def ready(self) -> bool:
        """Does the buffer hold a batch?"""
        return len(self._buffer) >= self._settings.batch_size

    @property
    def pairs(self) -> int:
        """Pairs in the buffer."""
        return len(self._buffer)

    @property
    def buffer_fill(self) -> float:
        """Part of the buffer in use, 0 to 1."""
        return self._buffer.fill

    @property
    def reuse(self) -> float:
        """How often a pair was drawn on average, since the buffer was last empty. 0 before the first step."""
        return self._drawn / self._buffer.seen if self._buffer.seen else 0.0

    @property
    def steps(self) -> int:
        """Steps since the network was reset, loaded, rolled back or moved."""
        return self._step.progress.taken

    @property
    def steps_rejected(self) -> int:
        """Steps not taken because they were not finite, since the same moment."""
        return self._step.progress.rejected

    @property
    def loss(self) -> float:
        """Loss of the last step that was taken; NaN before."""
        return self._step.progress.loss

    @property
    def trouble(self) -> str:
        """Why steps on a GPU are slower than they should be; empty: they are not."""
        return self._step.trouble

    @property
    def _dtype(self) -> torch.dtype:
        return arithmetic(self._settings.precision, self._device)

    @property
    def patch_accuracy(self) -> float | None:
        """Mean of |A(u)-v|^2 / |u-v|^2 over the last scored pairs (1: no denoising, 0.5: perfect); None: none yet."""
        return noise2inverse.accuracy(self._recent())

    @property
    def patch_ratio_of_means(self) -> float | None:
        """The same as ratio of the two means."""
        return noise2inverse.ratio_of_means(self._recent())

    def _recent(self) -> noise2inverse.Errors:
        return np.array(self._scored, np.float64).reshape(-1, 2)

    # ---- the work

    def add(
        self, pairs: NDArray[np.float32] | Tensor, generation: int = 0, *, scored: bool = True
    ) -> NDArray[np.float64]:
        """Score new pairs (n, 2, rows, cols) in mm^-1 once, then keep them for training.

        For a network that sees D images they are (n, 2, D, rows, cols): neighbouring slices, or moments, the oldest
        first.

        Returns the |A(u)-v|^2 / |u-v|^2 (m,) of those that were scored, each in one direction drawn at random. Pairs of
        equal halves or with numbers that are not finite are left out and counted. A higher `generation` empties
        the buffer first (what came before no longer fits: another filter, dose or centre); pairs of a lower one
        are too late and ignored. `scored` False: the halves are not quite complete, so that a score would mean
        nothing. Raises ValueError for the wrong shape.
        """
        pairs = torch.as_tensor(pairs, dtype=torch.float32, device=self._device)
        expected = (2, *self._buffer.shape)
        if tuple(pairs.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"pairs: expected shape (n, {shape}), got {tuple(pairs.shape)}")
        if generation < self.generation:
            return np.empty(0)
        if generation > self.generation:
            self.generation = generation
            self._forget_pairs()
        with launching("training", self._device.type, pairs):
            pairs = self._telling(pairs)
            if self._scale is None:
                return np.empty(0)
            errors = self._score(pairs, self._scale) if scored else np.empty((0, 2))
            self._scored.extend(map(tuple, errors))
            self._buffer.add(pairs)
        return errors[:, 0] / errors[:, 1]

    def _telling(self, pairs: Tensor) -> Tensor:
        """The pairs that say something; the first of them decide the scale."""
        good = noise2inverse.distinct(pairs, self._settings.halo)
        if self._scale is None and good.any():
            scale = noise2inverse.robust_scale(pairs[good])
            if scale > 0:
                self._scale = scale
                self._prepare()
            else:
                good[:] = False
        self.pairs_refused += int((~good).sum())
        return pairs[good]

    def _score(self, pairs: Tensor, scale: float) -> noise2inverse.Errors:
        """Errors (n, 2) of the averaged network, in units of the scale."""
        parts = [np.empty((0, 2))]
        with torch.inference_mode():
            network = folded(self._settings.network, self._layout.tensors(self._step.average), self._dtype)
            for chunk in pairs.split(SCORED_AT_ONCE):
                u, v = noise2inverse.draw_directions(chunk / scale, self._generator)
                parts.append(noise2inverse.errors(network(u), u, v, self._settings.halo))
        return np.concatenate(parts)

    def step(self) -> float:
        """One step on one batch; returns its loss (mean squared error in units of the scale).

        If loss or gradient are not finite, the step is not taken, `steps_rejected` counts it and the loss is
        returned as it is. On a GPU the loss and the counters are those of some steps ago: nothing waits. Raises
        RuntimeError while the buffer holds less than a batch (see `ready`).
        """
        if not self.ready or self._scale is None:
            raise RuntimeError(f"step: expected {self._settings.batch_size} pairs in the buffer, got {self.pairs}")
        with launching("training", self._device.type):
            self._step()
        self._drawn += self._settings.batch_size
        return self._step.progress.last

    # ---- versions

    def averaged(self) -> UNet:
        """The averaged network, which is scored and published: a copy in float32 on the CPU."""
        with launching("training", self._device.type):
            return self._layout.network(self._step.average)

    def weights(self) -> Weights:
        """The next version: averaged weights, scale, `patch_accuracy`. Raises RuntimeError before the first pairs."""
        if self._scale is None:
            raise RuntimeError("weights: expected a scale, got no pairs yet to take it from")
        self.version += 1
        weights = pack(
            self.averaged(),
            version=self.version,
            scale=self._scale,
            patch_accuracy=self.patch_accuracy,
            generation=self.generation,
        )
        self._kept.append(weights)
        return weights

    def save(self) -> bytes:
        """A checkpoint (safetensors) of a new version."""
        return to_checkpoint(self.weights())

    def load(self, source: Weights | bytes) -> None:
        """Go on from weights or a checkpoint: its network, tensors and scale; the buffer and all settings stay.

        Training starts from the averaged weights with fresh moments. Raises ValueError, and changes nothing, for
        what is no network of this kind.
        """
        self._take(from_checkpoint(source) if isinstance(source, bytes) else source)

    def rollback(self) -> int:
        """Return to the best (by `patch_accuracy`) of the kept versions before the last; returns its number.

        Its network is trained from then on, also where it is of another shape than the present one. That version and
        the later ones are given up, so that the next rollback goes further back; what is published next has a new
        number. Raises RuntimeError if there is none.
        """
        earlier = list(self._kept)[:-1]
        if not earlier:
            raise RuntimeError("rollback: expected an earlier version of the weights, got none since the last reset")
        best = min(earlier, key=lambda w: math.inf if w.patch_accuracy is None else w.patch_accuracy)
        self._take(best)
        while self._kept and self._kept[-1].version >= best.version:
            self._kept.pop()
        return best.version

    def reset_network(self, seed: int = 0, network: NetworkConfig | None = None) -> None:
        """Start anew with untrained weights, of another shape if `network` is given. The pairs stay.

        The scale is taken anew, from the buffer if it holds pairs.
        """
        if network is not None:
            self._follow_network(network)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        with launching("training", self._device.type):
            pairs = self._buffer.newest_last()
            scale = noise2inverse.robust_scale(pairs) if len(pairs) else None
        self._start(build(self._settings.network, seed), scale)
        self._kept.clear()

    def configure(self, settings: TrainerSettings) -> None:
        """Change settings while training. A new size of the buffer keeps the newest pairs that still fit in; another
        size of patch empties it.

        Raises ValueError, and changes nothing, if the network has another shape: that needs `reset_network`.
        """
        old, new = self._settings.network, settings.network
        if new.shape != old.shape:
            present, wanted = (
                f"form {n.form}, {n.features} features, depth {n.depth}, frames {n.frames}" for n in (old, new)
            )
            raise ValueError(
                f"network: expected the present shape ({present}), got {wanted}: "
                "another shape needs a reset of the network"
            )
        cleared = settings.patch_size != self._settings.patch_size
        self._settings = settings
        if cleared:
            self._buffer = self._empty_buffer()
            self._forget_pairs()
        elif settings.buffer_size != self._buffer.capacity:
            with launching("training", self._device.type):
                self._buffer = self._buffer.resized(settings.buffer_size)
            self._drawn = 0
        self._prepare()

    def move(self, device: str) -> None:
        """Go on, on another device ("cpu", "cuda"), as after `load` of the present weights; the pairs come along.

        From a device that gives nothing back any more: with the last version of the weights (a new network where there
        is none of this shape) and without pairs.
        """
        if torch.device(device) == self._device:
            return
        old, generator, held = self._device, self._generator, self._buffer
        self._device = torch.device(device)
        try:
            self._move_from(old)
        except BaseException:  # no room there: not half here and half there
            self._device, self._generator, self._buffer = old, generator, held
            raise

    # ---- parts

    def _move_from(self, old: torch.device) -> None:
        try:
            network, scale, buffer = self.averaged(), self._scale, self._buffer.moved(self._device)
        except RuntimeError as error:
            network, scale = self._last_network()
            buffer = self._empty_buffer()
            log.warning("%s gives nothing back (%s): training goes on from the last version of the weights", old, error)
        self._generator = torch.Generator(self._device).manual_seed(self._generator.initial_seed())
        self._buffer = buffer
        self._start(network, scale)

    def _last_network(self) -> tuple[UNet, float | None]:
        """The last version and its scale, from the memory of the host; a new network where none fits the settings."""
        for kept in reversed(self._kept):
            if (network := unpack(kept)).config.shape == self._settings.network.shape:
                return network, kept.scale
        return build(self._settings.network, self._generator.initial_seed()), self._scale

    def _take(self, weights: Weights) -> None:
        """Train this network, of whatever shape, from now on. Raises ValueError, and changes nothing, for none."""
        network = unpack(weights)
        self._follow_network(network.config)
        self._start(network, weights.scale)

    def _start(self, network: UNet, scale: float | None) -> None:
        """Train this network from now on."""
        self._scale = scale
        self._layout = Layout(network.config)
        seed = int(torch.randint(1 << 62, (), generator=self._generator, device=self._device))
        self._step = Step(self._settings, self._layout, self._layout.vector(network).to(self._device), seed)
        self._scored: deque[tuple[float, ...]] = deque(maxlen=SCORED_PAIRS)
        self._drawn = 0
        self._prepare()

    def _prepare(self) -> None:
        """Steps are from now on done with the present settings, buffer and scale."""
        if self._scale is not None:
            self._step.use(self._settings, self._buffer, self._scale)

    def _follow_network(self, network: NetworkConfig) -> None:
        """Train a network of another shape; pairs of as many images as it sees stay."""
        kept = network.images == self._settings.network.images
        self._settings = self._settings.edited(network=network)
        if not kept:
            self._buffer = self._empty_buffer()
            self._forget_pairs()

    def _empty_buffer(self) -> PairBuffer:
        images, size = self._settings.network.images, self._settings.patch_size
        shape = (size, size) if images == 1 else (images, size, size)
        return PairBuffer(self._settings.buffer_size, shape, self._device)

    def _forget_pairs(self) -> None:
        with launching("training", self._device.type):
            self._buffer.clear()
        self._scored.clear()
        self._drawn = 0
