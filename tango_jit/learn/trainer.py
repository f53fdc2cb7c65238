"""The trainer: pairs in, steps, weights out. No thread, no clock: who calls it decides when.

`add` takes new pairs: each is scored once, before it can be trained on, then enters the buffer. `step` is one step of
Adam on a random batch of the buffer. `weights` gives the next version: the averaged network with scale and figures.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.cuda_streams import launching
from tango_jit.learn import noise2inverse
from tango_jit.learn.measured import Measured
from tango_jit.learn.motion import weighted
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.precision import arithmetic
from tango_jit.learn.regimes import Regimes, score
from tango_jit.learn.scores import Scores
from tango_jit.learn.settings import PRODUCT, TrainerSettings
from tango_jit.learn.step import Step
from tango_jit.learn.unet import NetworkConfig, UNet, build
from tango_jit.learn.vector import Layout
from tango_jit.learn.versions import Versions
from tango_jit.learn.weights import Weights, from_checkpoint, pack, to_checkpoint, unpack

log = logging.getLogger(__name__)


class Trainer:
    """Trains one network on the newest pairs of halves.

    `seed` decides the first weights and all draws: the same seed and the same calls give the same weights (on one
    machine, with one number of threads). `device` is "cpu" or "cuda"; there all is launched on the stream of
    training, see `cuda_streams`. `keep` versions can be rolled back to.
    """

    def __init__(
        self, settings: TrainerSettings = PRODUCT, *, seed: int = 0, device: str = "cpu", keep: int = 8
    ) -> None:
        self._settings, self._device = settings, torch.device(device)
        self._buffer = self._settings.empty_buffer(self._device)
        self.versions = Versions(keep)
        self.version = 0
        """Number of the last version of the weights; counts on through resets, loads and rollbacks."""
        self.generation = 0
        """The generation of the pairs in the buffer."""
        self.split: Split = "halves"
        """What the pairs in the buffer are: halves of one turn, or two whole turns."""
        self.pairs_refused = 0
        """Pairs that said nothing (equal images, numbers that are not finite) since the start."""
        self.pairs_moving = 0
        """Pairs of two turns in which most had moved, since the start."""
        self._measured, self.regimes, self._undecided = Measured(), Regimes(), False
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
        """Of the last step that was taken; NaN before."""
        return self._step.progress.loss

    @property
    def trouble(self) -> str:
        """Why steps on a GPU are slower than they should be; empty: they are not."""
        return self._step.trouble

    @property
    def patch_accuracy(self) -> float | None:
        """Mean accuracy (see tasks) of the last scored pairs; 1: no better than the simple way; None: none yet."""
        return self.scores.accuracy

    # ---- the work

    def add(
        self,
        pairs: NDArray[np.float32] | Tensor,
        generation: int = 0,
        *,
        scored: bool = True,
        split: Split = "halves",
    ) -> NDArray[np.float64]:
        """Score new pairs (n, 2, rows, cols) in mm^-1 once, then keep them for training.

        For a network that sees D images they are (n, 2, D, rows, cols): neighbouring slices, or moments, the oldest
        first. Pairs of equal images or with numbers that are not finite are left out and counted.

        generation : a higher one empties the buffer first (what came before no longer fits: another filter, dose or
            centre), and the best of the networks there are goes on, see `jumped`; pairs of a lower one are too late and
            ignored.
        scored : False: the halves are not quite complete, so that a score would mean nothing.
        split : "turns": whole images of two turns; what moved between them does not count, and pairs of which most
            moved are left out and counted. The first good pair of another split than before empties the buffer.

        Returns the accuracies (m,) of those that were scored, each in one direction drawn at random. Raises ValueError
        for the wrong shape.
        """
        pairs = torch.as_tensor(pairs, dtype=torch.float32, device=self._device)
        expected = (2, *self._buffer.shape)
        if tuple(pairs.shape[1:]) != expected:
            raise ValueError(f"pairs: expected shape (n, {', '.join(map(str, expected))}), got {tuple(pairs.shape)}")
        if generation < self.generation:
            return np.empty(0)
        if generation > self.generation:
            self.jumped()
            self.generation = generation
        with launching("training", self._device.type, pairs):
            samples, moving = weighted(pairs, split, self._settings.network.shown)
            self.pairs_moving += moving
            samples = self._telling(samples)
            if self._scale is None or not len(samples):
                return np.empty(0)
            if split != self.split:
                self.split = split
                self._forget_experiment()
            measured = self._undecided and self._decide(samples, self._scale)
            scored &= self._measured.complete(self._settings.network)
            errors = self._score(samples, self._scale) if scored else np.empty((0, 2))
            self.scores.add(errors)
            self._buffer.add(samples)
            if not measured:
                self._measure(samples)
        return errors[:, 0] / errors[:, 1]

    def jumped(self) -> None:
        """The experiment is another one from now on: forget its pairs, keep the weights for when it comes back, and go
        on with the best of the networks there are, an untrained one among them, when the first new pairs have come."""
        if self.steps and self._scale is not None:
            self.regimes.keep(self._packed(self.version))
        self.versions.jumped(self.version)
        self._forget_experiment()
        self.reconsider()

    def reconsider(self) -> None:
        """Go on with the best of the networks there are when the next new pairs have come: more were offered."""
        self._undecided = True

    def _decide(self, samples: Tensor, scale: float) -> bool:
        """Which network does best on the first samples after a jump? Its moments and its average begin anew.
        False: there was no contest, and no measurement for it."""
        self._undecided = False
        if not self.steps and (self._learned or not self.regimes.offered):  # what was loaded just now goes on
            return False
        self._measured.measure(samples, self._settings.halo, self._settings.network)
        present = self.averaged() if self.steps else None
        untrained = build(self._settings.network, self._generator.initial_seed())
        winner = self.regimes.contest(present, untrained, samples, scale, self._numbers(), self._settings)
        self._start(winner, scale, self._settings)
        return True

    def _forget_experiment(self) -> None:
        """Pairs of another kind follow. What was offered is judged on them, too."""
        self._undecided |= bool(self.regimes.offered)
        self._measured.forget()
        self._forget_pairs()

    def _telling(self, samples: Tensor) -> Tensor:
        """The samples that say something; the first of them decide the scale."""
        good = noise2inverse.distinct(samples, self._settings.halo, self._settings.network.shown)
        if self._scale is None and good.any():
            scale = noise2inverse.robust_scale(samples[good, :2])
            if scale > 0:
                self._scale = scale
                self._prepare()
            else:
                good[:] = False
        self.pairs_refused += int((~good).sum())
        return samples[good]

    def _score(self, samples: Tensor, scale: float) -> noise2inverse.Errors:
        """Errors (n, 2) of the averaged network, in units of the scale."""
        tensors = self._layout.tensors(self._step.average)
        first = torch.randint(2, (len(samples),), generator=self._generator, device=self._device)
        dtype = arithmetic(self._settings.precision, self._device)
        return score(self._settings, tensors, samples, scale, dtype, first)

    def known(self, n: int, after: int = 0) -> noise2inverse.Errors:
        """Errors (2 n, 2) of `n` pairs before the newest `after`, then of the `n` oldest; else ValueError."""
        with launching("training", self._device.type):
            pairs = torch.cat([self._buffer.aged(first, n) for first in (self.pairs - after - n, 0)])
            return self._score(pairs, self._scale or 1.0)

    def step(self) -> float:
        """One step on one batch; returns its loss (DENOISE: mean squared error in units of the scale).

        If loss or gradient are not finite, the step is not taken, `steps_rejected` counts it and the loss is
        returned as it is. On a GPU the loss and the counters are those of some steps ago: nothing waits. Raises
        RuntimeError while the buffer holds less than a batch (see `ready`).
        """
        if not self.ready or self._scale is None:
            raise RuntimeError(f"step: expected {self._settings.batch_size} pairs in the buffer, got {self.pairs}")
        with launching("training", self._device.type):
            self._step()
        self._drawn, self._learned = self._drawn + self._settings.batch_size, self.split
        return self._step.progress.last

    # ---- versions

    def averaged(self) -> UNet:
        """The averaged network, which is scored and published: a copy in float32 on the CPU."""
        with launching("training", self._device.type):
            return self._layout.network(self._step.average)

    def weights(self) -> Weights:
        """The next version: averaged weights, scale, `patch_accuracy`. Raises RuntimeError before the first pairs."""
        weights = self._packed(self.version + 1)
        self.version = weights.version
        self.versions.keep(weights)
        return weights

    def _packed(self, version: int) -> Weights:
        if self._scale is None:
            raise RuntimeError("weights: expected a scale, got no pairs yet to take it from")
        accuracy, seen, split = self.patch_accuracy, self.generation, self._learned or self.split
        return pack(
            self.averaged(), version=version, scale=self._scale, patch_accuracy=accuracy, generation=seen, split=split
        )

    def save(self) -> bytes:
        """A checkpoint (safetensors) of the present weights, which is no version: those stay as they are."""
        return to_checkpoint(self._packed(self.version))

    def load(self, source: Weights | bytes) -> None:
        """Go on from weights or a checkpoint: its network, tensors and scale; the buffer and all settings stay.

        Training starts from the averaged weights with fresh moments; the next rollback undoes it. Raises ValueError,
        and changes nothing, for what is no network of this kind.
        """
        before = None if self._scale is None else self._packed(self.version)
        self._take(from_checkpoint(source) if isinstance(source, bytes) else source)
        self.versions.taken_over(before)
        self._follow_measured()

    def rollback(self) -> int:
        """Return to `versions.earlier`, from before the last `load` or the best version; returns its number.

        Its network is trained from then on, also where it is of another shape than the present one. The next rollback
        goes further back; what is published next has a new number. Raises RuntimeError if there is none.
        """
        earlier = self.versions.earlier
        self._take(earlier)
        self.versions.give_up(earlier)
        self._follow_measured()
        return earlier.version

    def reset_network(self, seed: int = 0, network: NetworkConfig | None = None) -> None:
        """Start anew with untrained weights, of another shape if `network` is given. The pairs stay.

        The scale is taken anew, from the buffer if it holds pairs.
        """
        settings = self._settings if network is None else self._settings.edited(network=network)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        with launching("training", self._device.type):
            samples = self._buffer.newest_last()
            known = len(samples) > 0 and settings.network.stack == self._settings.network.stack
            scale = noise2inverse.robust_scale(samples[:, :2]) if known else None
        self._start(build(settings.network, seed), scale, settings)
        self._follow_measured()
        if known and not self._measured.complete(self._settings.network):
            self._measure(samples)
        self._learned: Split | None = None  # what it last took a step on, or was loaded with
        self.versions.clear()
        self.regimes.clear()

    def configure(self, settings: TrainerSettings) -> None:
        """Change settings while training. A new size of the buffer keeps the newest pairs that still fit in; another
        size of patch empties it.

        Raises ValueError, and changes nothing, if the network has another shape: that needs `reset_network`.
        """
        settings.network.refuse_unlike(self._settings.network)
        cleared = settings.patch_size != self._settings.patch_size
        self._settings = settings
        if cleared:
            self._buffer = self._settings.empty_buffer(self._device)
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
            wanted, seed = self._settings.network, self._generator.initial_seed()
            network, scale = self.versions.last(wanted) or (build(wanted, seed), self._scale)
            buffer = self._settings.empty_buffer(self._device)
            log.warning("%s gives nothing back (%s): training goes on from the last version of the weights", old, error)
        self._generator = torch.Generator(self._device).manual_seed(self._generator.initial_seed())
        self._buffer = buffer
        self._start(network, scale, self._settings)
        self._follow_measured()

    def _take(self, weights: Weights) -> None:
        """Train this network, of whatever shape, from now on. Raises ValueError, and changes nothing, for none."""
        network = unpack(weights)
        self._start(network, weights.scale, self._settings.edited(network=network.config))
        self._learned = weights.split

    def _start(self, network: UNet, scale: float | None, settings: TrainerSettings) -> None:
        """Train this network from now on; pairs of the same images as it sees stay. Where there is no room for it
        nothing has changed."""
        kept, layout = settings.network.stack == self._settings.network.stack, Layout(network.config)
        buffer = self._buffer if kept else settings.empty_buffer(self._device)
        seed = int(torch.randint(1 << 62, (), generator=self._generator, device=self._device))
        step = Step(settings, layout, layout.vector(network).to(self._device), seed)
        self._settings, self._scale, self._buffer, self._layout, self._step = settings, scale, buffer, layout, step
        if not kept:
            self._forget_experiment()
        self.scores, self._drawn = Scores(), 0
        self._prepare()

    def _measure(self, samples: Tensor) -> None:
        """Take samples into account for what is measured and not trained."""
        if self._measured.measure(samples, self._settings.halo, self._settings.network):
            self._follow_measured()

    def _follow_measured(self) -> None:
        """Tell the network its numbers that are measured, once they are known."""
        for name, number in self._numbers().items():
            self._step.set_number(name, number)

    def _numbers(self) -> dict[str, float]:
        """Those that are measured; none while they are not known."""
        return self._measured.numbers(self._settings.network, self._scale) if self._scale else {}

    def _prepare(self) -> None:
        """Steps are from now on done with the present settings, buffer and scale."""
        if self._scale is not None:
            self._step.use(self._settings, self._buffer, self._scale)

    def _forget_pairs(self) -> None:
        with launching("training", self._device.type):
            self._buffer.clear()
        self.scores.clear()
        self._drawn = 0
