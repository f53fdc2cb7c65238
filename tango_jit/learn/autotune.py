"""AutoTune: which network of a menu is the best one that this machine runs as fast as is wanted, on this stream.

First every network of the menu passes noise of the size of the slices, and those that are too slow are left out. The
others are trained on the same new pairs by successive halving: after so many steps the worse half goes, and the steps
double. What decides is the accuracy on pairs that were scored before they were trained on. The network in training
meanwhile, the `present` one, takes part in all of it, and is not left out: the best of the others has to beat it. All
learn its task: accuracies of others cannot be compared.

No clock: `work` does one small unit (a pass, a step), whoever calls it decides when. The same seed, pairs and timings
give the same choice. Successive halving: Jamieson and Talwalkar, AISTATS (2016).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.menu import MENU, Candidate, Row
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.precision import arithmetic
from tango_jit.learn.settings import LARGEST_BUFFER, TrainerSettings
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import STRENGTH, NetworkConfig, UNet, build
from tango_jit.stacks import seen

PASSES = 4  # of which the first one does not count
FIRST, LONGEST = 64, 512  # steps of the first stretch, and of the last: each is twice as long as the one before
JUDGED = 64  # pairs at least
A_PICTURE: dict[Split, int] = {"halves": 2, "turns": 1}  # passes: the denoiser passes what was learned from
SURE = 1.64  # standard errors by which the winner has to be better: 95 of 100, one-sided


class AutoTune:
    """One comparison, from the first pass to the verdict.

    Parameters
    ----------
    settings : of the present network; the others are trained in the same way.
    wanted_hz : updates a second, of all slices together, that the network alone has to be able to do.
    shapes : (rows, cols) of the slices on display, at least one.
    deepest : planes that a stack can have; 1 for a detector of one row.
    threads : of the processor, for a pass: those that the denoiser has; 0: as they are.
    timer : seconds that go on.
    split : of the pairs that will come; it decides how many passes a picture takes.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        wanted_hz: float,
        shapes: Sequence[tuple[int, int]],
        timer: Callable[[], float],
        *,
        menu: Sequence[NetworkConfig] = MENU,
        deepest: int = 63,
        seed: int = 0,
        device: str = "cpu",
        threads: int = 0,
        split: Split = "turns",
    ) -> None:
        if not shapes or not wanted_hz > 0:
            raise ValueError(f"AutoTune: expected slices and a rate above 0 Hz, got {len(shapes)} and {wanted_hz}")
        self.settings, self._wanted_hz, self._timer = settings, wanted_hz, timer
        self._seed, self._device, self._threads = seed, torch.device(device), threads
        self.shapes = tuple(shapes)
        self.split: Split = split
        self._largest = max(shapes, key=math.prod)
        self._pixels = sum(map(math.prod, shapes)) / math.prod(self._largest)  # of all slices, in the largest
        self.present = Candidate(settings.network)
        others = [replace(network, task=settings.network.task) for network in menu]
        others = [Candidate(network) for network in others if network.shape != settings.network.shape]
        self.candidates = [self.present, *others]
        self._alive: list[Candidate] = []  # in training, the present one not among them
        self._todo: deque[Callable[[], None]] = deque()
        self._kind: tuple[int, Split] | None = None  # of the pairs of the present stretch
        self._stretch, self._done = FIRST, 0  # steps to the next judgement; of them done
        self.training = False
        """Does it want pairs?"""
        self.verdict = ""
        """What was chosen, and why; empty: that is not known yet."""
        self.winner: Trainer | None = None
        """The one to go on with, once there is a verdict; None: the present one."""
        for candidate in self.candidates:
            self._admit(candidate, deepest)

    # ---- what is asked

    @property
    def rows(self) -> list[Row]:
        """The present network first, then the menu."""
        return [candidate.row for candidate in self.candidates]

    @property
    def depth(self) -> int:
        """Planes that pairs must have for all that are in training."""
        return max(candidate.network.depth for candidate in (self.present, *self._alive))

    @property
    def _split(self) -> Split:
        return self.split if self._kind is None else self._kind[1]

    @property
    def _each(self) -> str:
        """Of what rates are, in words."""
        return "all slices, one pass each" if self.split == "turns" else "all slices, two passes each: of both halves"

    @property
    def busy(self) -> bool:
        """Is there a unit of work to do without new pairs?"""
        return bool(self._todo)

    @property
    def progress(self) -> float:
        """About how much is done, 0 to 1."""
        if self.verdict:
            return 1.0
        if not self.training:
            return 0.1 * sum(len(c.times_s) for c in self.candidates) / (PASSES * len(self.candidates))
        stretches = math.log2(self._stretch / FIRST) + min(self._done / self._stretch, 1)
        return 0.1 + 0.9 * stretches / (math.log2(LONGEST / FIRST) + 1)

    # ---- what is done

    def work(self) -> None:
        """One unit of what is to be done; nothing if it is not `busy`."""
        if self._todo:
            self._todo.popleft()()

    def add(
        self,
        pairs: NDArray[np.float32] | Tensor,
        scores: NDArray[np.float64],
        steps: int,
        generation: int,
        *,
        scored: bool = True,
        split: Split = "halves",
    ) -> None:
        """New pairs, as for `Trainer.add`, of `depth` planes; every network is to score them and to take `steps` steps.

        `scores` are those of the present network, which its own trainer trains.
        """
        if not self.training:
            return
        if (generation, split) != self._kind:
            self._kind = generation, split
            self._begin_stretch()
        self.present.scores.append(scores)
        self.present.steps += steps
        pairs = torch.as_tensor(pairs)
        for candidate in self._alive:
            self._todo.append(partial(self._score, candidate, pairs, scored, generation, split))
            self._todo.extend([partial(self._step, candidate)] * steps)
        self._todo.append(partial(self._judge, steps))

    def jumped(self) -> None:
        """The experiment is another one: every network adapts, and they are compared on new pairs alone."""
        self._todo.clear()
        for candidate in self._alive:
            assert candidate.trainer is not None
            candidate.trainer.jumped()
        self._kind = None

    # ---- the speed

    def _admit(self, candidate: Candidate, deepest: int) -> None:
        network = candidate.network
        if network.depth > deepest:
            candidate.verdict = f"left out: it sees {network.depth} slices, and a stack can have {deepest}"
            return
        self._todo.append(partial(self._prepare, candidate))

    def _prepare(self, candidate: Candidate) -> None:
        """Passes with arbitrary weights: how long they take does not depend on them."""
        precise = arithmetic(self.settings.precision, self._device) == torch.float32
        network, passes = _any_weights(candidate.network), Passes() if self._device.type == "cuda" else None
        predictor = Predictor(network, "float32" if precise else "bfloat16", self._device, passes)
        generator = torch.Generator().manual_seed(self._seed)
        images = torch.randn(1, candidate.network.images, *self._largest, generator=generator)
        timed = [partial(self._pass, candidate, predictor, images) for _ in range(PASSES)]
        self._todo.extendleft([partial(self._timed, candidate), *timed])  # which turns them round

    def _pass(self, candidate: Candidate, predictor: Predictor, images: Tensor) -> None:
        before = numba.get_num_threads(), torch.get_num_threads()
        if self._threads:
            use_threads(self._threads, self._threads)
        try:
            started = self._timer()
            predictor(images.to(self._device)).cpu()
            candidate.times_s.append(self._timer() - started)
        finally:
            use_threads(*before)

    def _timed(self, candidate: Candidate) -> None:
        seconds = min(candidate.times_s[1:]) * self._pixels * A_PICTURE[self.split]
        candidate.hz = 1 / seconds if seconds > 0 else math.inf
        candidate.verdict = "to be trained"
        if candidate is self.present:
            candidate.verdict = "present"
        elif candidate.hz < self._wanted_hz:
            candidate.verdict = f"too slow: {candidate.hz:.3g} of {self._wanted_hz:g} Hz"
        if not self._todo:
            self._begin_training()

    def _begin_training(self) -> None:
        room = LARGEST_BUFFER
        for candidate in self.candidates[1:]:
            if candidate.verdict != "to be trained":
                continue
            try:
                settings = self.settings.edited(network=candidate.network)
                room -= settings.buffer_bytes
                if room < 0:
                    raise ValueError(
                        f"buffer_size: expected at most {LARGEST_BUFFER >> 20} MB for all networks together"
                    )
            except ValueError as error:
                candidate.verdict = f"left out: {error}"
                continue
            candidate.trainer = Trainer(settings, seed=self._seed, device=str(self._device))
            candidate.verdict = "in training"
            self._alive.append(candidate)
        self.training = bool(self._alive)
        if not self._alive:
            fastest = max((c for c in self.candidates if c.hz > 0), key=lambda c: c.hz)
            self.verdict = (
                f"the present network stays: no other one does {self._wanted_hz:g} Hz on slices of this size. The "
                f"fastest ({fastest.name}) does {fastest.hz:.3g} Hz ({self._each})"
            )

    # ---- the accuracy

    def _begin_stretch(self) -> None:
        self._done = 0
        for candidate in (self.present, *self._alive):
            candidate.scores.clear()

    @staticmethod
    def _score(candidate: Candidate, pairs: Tensor, scored: bool, generation: int, split: Split) -> None:
        assert candidate.trainer is not None
        own = as_seen(pairs, candidate.network.depth)
        candidate.scores.append(candidate.trainer.add(own, generation, scored=scored, split=split))

    @staticmethod
    def _step(candidate: Candidate) -> None:
        assert candidate.trainer is not None
        if candidate.trainer.ready:
            candidate.trainer.step()
        candidate.steps += 1

    def _judge(self, steps: int) -> None:
        """After each round: is it time to leave out the worse half, or to end?"""
        self._done += steps
        if self._done < self._stretch:
            return
        compared = (self.present, *self._alive)
        late = len(self.present.scores) // 2  # the later half of the rounds: the networks as they are now
        judged = {candidate: candidate.scores[late:] for candidate in compared}
        if any(sum(map(len, scores)) < JUDGED for scores in judged.values()):
            return  # of incomplete windows there are no scores: they will come
        for candidate, scores in judged.items():
            candidate.accuracy = float(np.concatenate(scores).mean())
        self._alive.sort(key=lambda candidate: candidate.accuracy)  # equal ones stay in the order of the menu
        if len(self._alive) > 1:
            self._halve()
        else:
            self._compare(self._alive[0], judged)

    def _halve(self) -> None:
        kept = math.ceil(len(self._alive) / 2)
        for candidate in self._alive[kept:]:
            candidate.verdict = f"left out after {candidate.steps} steps: accuracy {candidate.accuracy:.4f}"
            candidate.trainer = None
        del self._alive[kept:]
        self._lengthen()

    def _lengthen(self) -> None:
        self._stretch *= 2
        self._begin_stretch()

    def _compare(self, best: Candidate, judged: dict[Candidate, list[NDArray[np.float64]]]) -> None:
        """The best one against the present one, on the same pairs round by round."""
        pairs = zip(judged[self.present], judged[best], strict=True)
        ahead = np.array([a.mean() - b.mean() for a, b in pairs if len(a) and len(b)])
        error = float(ahead.std(ddof=1)) / math.sqrt(len(ahead)) if len(ahead) > 1 else math.inf
        rates = f"{best.hz:.3g} Hz, the present one {self.present.hz:.3g} Hz, {self._wanted_hz:g} Hz are wanted"
        figures = f"accuracy {best.accuracy:.4f}, on the same pairs the present one {self.present.accuracy:.4f}"
        told = f"{figures}; {rates} ({self._each})"
        if float(ahead.mean()) > SURE * error:
            self._end(best, f"{best.name}: more accurate. {told}")
            return
        if self._stretch < LONGEST:
            self._lengthen()
            return
        slow = self.present.hz < self._wanted_hz
        if slow and best.accuracy < self.settings.network.learns.helpful[self._split]:
            self._end(best, f"{best.name}: not more accurate, but the present one is too slow. {told}")
        else:
            self._end(None, f"the present network stays: {best.name} is not surely better. {told}")

    def _end(self, chosen: Candidate | None, verdict: str) -> None:
        for candidate in self._alive:
            candidate.verdict = "chosen" if candidate is chosen else f"not better after {candidate.steps} steps"
        self.winner = None if chosen is None else chosen.trainer
        self.training, self.verdict = False, verdict
        if self._split == "halves":
            self.verdict += ". Pairs are the halves of one turn: learning their streaks lowers the figure, too"
        self._todo.clear()


def as_seen(pairs: Tensor, depth: int) -> Tensor:
    """Of pairs (n, 2, D, rows, cols), or (n, 2, rows, cols), those that a network of `depth` sees."""
    if pairs.ndim == 4:
        return pairs
    own = pairs[:, :, seen(pairs.shape[2], depth)]
    return own[:, :, 0] if depth == 1 else own


def use_threads(of_numba: int, of_torch: int) -> None:
    """Threads of the calling thread's work from now on; numba has no more than it began with."""
    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    numba.set_num_threads(min(of_numba, most))
    torch.set_num_threads(of_torch)


def _any_weights(network: NetworkConfig) -> UNet:
    built = build(network)
    if network.form == "guided":
        getattr(built, STRENGTH).fill_(0.1)
    return built
