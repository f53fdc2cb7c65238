"""What a trainer takes up again: the last weights after a crash, those of like streams when something new begins.

All that touches the disk is done by one side thread, in order: neither a full nor a slow disk holds training. Weights
from the folder are only offered; the first new pairs decide whether one of them goes on, or an untrained network (see
`learn/regimes.py`), so that they never make anything worse.

A folder that does not answer, or that another trainer has, may hold the best there is: until it was looked into nothing
in it is written or deleted, and it is asked again and again. What it holds then joins the contest as late as that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from tango_jit.geometry import SliceGeometry
from tango_jit.learn.fingerprint import Fingerprint, fingerprint
from tango_jit.learn.regimes import PRESENT, UNTRAINED
from tango_jit.learn.scores import PAIRS
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.weights import Weights
from tango_jit.services.pairs import Pairs
from tango_jit.services.service import Clock
from tango_jit.services.weights_folder import LAST, WeightsFolder
from tango_jit.streams import Header

EVERY_S = 10.0  # between two checkpoints
WAIT_S = 2.0  # how long training waits for the disk, when it begins anew
RESET_WAIT_S = 0.5  # and when it is reset: somebody waits for the answer, and Tango for no more than 3 s
TOLD_S = 20.0
OFFERED = 3  # weights of like streams
T = TypeVar("T")


class _Left(NamedTuple):
    """What the last run has left: `last` with when it was written, in s since the epoch; `refused`: why it is none."""

    cold: str | None
    last: tuple[Weights, float] | None
    refused: str


class WarmStart:
    """Used by the worker of a trainer alone, but for `close`.

    `folder` None: nothing is kept, nothing taken up. `told` hears what is wrong with its files.
    """

    def __init__(self, folder: Path | None, told: Callable[[str], None], clock: Clock = time.time) -> None:
        self._path, self._told, self._clock = folder, told, clock
        self._disk = ThreadPoolExecutor(1, "weights folder")
        self._folder: WeightsFolder | None = None  # of the side thread
        self._pending: deque[Future[Any]] = deque()
        self._resets: deque[str] = deque()  # series in which the network was reset, of which the folder has not heard
        self._looking: Future[_Left] | None = None
        self._looked_at = -1e9
        self._opened = self._closed = False
        self._last: Weights | None = None
        self._left = ""
        self._cold: str | None = None
        self._newest: tuple[Weights, Fingerprint | None, bool] | None = None
        self._written_at = self._chosen_at = -1e9
        self._by_hand = False
        self._regime: object = None
        self._split = ""
        self._kind: Fingerprint | None = None
        self._contests = 0
        self.resumed_from = ""
        """What was left by the last run, if training went on from it."""
        self.network_from = UNTRAINED
        """What the present network began from."""
        self.trouble = ""
        """Why weights are not kept; empty: they are, or are not to be."""

    def open(self, trainer: Trainer) -> None:
        """Look for what was left by the last run, until the folder has answered.

        Only the first time training waits for that; later ones hear what has become of the question, or ask again.
        """
        if self._opened or self._path is None:
            return
        patience_s = 0.0
        if self._looking is None:
            if 0 <= self._clock() - self._looked_at < EVERY_S:
                return
            patience_s = WAIT_S if self._looked_at < 0 else 0.0
            self._looked_at, shape = self._clock(), trainer.settings.network.shape
            self._looking = self._disk.submit(self._with_folder, lambda folder: _look(folder, shape))
        if not patience_s and not self._looking.done():
            return
        try:
            left = self._answer(self._looking, patience_s)
        except OSError:
            if self._looking.done():  # asked again some time; else the answer may come still
                self._looking = None
            return
        self._looking, self._opened, self.trouble = None, True, ""
        self._take_up(left)

    def _take_up(self, left: _Left) -> None:
        """The folder has answered."""
        self._cold = left.cold
        if left.refused:
            self._told(f"training begins anew, the last weights are refused: {left.refused}")
        if left.last is None:
            self._order(WeightsFolder.forget_best)
            return
        last, written_s = left.last
        figure = "unknown" if last.patch_accuracy is None else f"{last.patch_accuracy:.4f}"
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written_s))
        self._left = f"version {last.version} of {written}, patch accuracy {figure}"
        self._last = None if self._by_hand else last

    # ---- before and after pairs are added

    def offer(
        self,
        trainer: Trainer,
        pairs: Pairs,
        regime: object,
        header: Header,
        slices: Mapping[str, SliceGeometry],
        views: int,
    ) -> None:
        """Before the first pairs of another `regime` are added: have what there is for such streams join the contest.

        `views`: of a turn.
        """
        self.open(trainer)
        new = regime != self._regime
        if not self._opened or not (new or pairs.split != self._split):
            return
        images = torch.as_tensor(pairs.images)
        found = fingerprint(
            header.geometry,
            filter=header.filter,
            views=views,
            places=slices.values(),
            pairs=images,
            split=pairs.split,
        )
        if found is None:  # nothing to see yet
            return
        if new:
            if self._regime is not None:
                self._order(WeightsFolder.forget_best)
            chosen = self._by_hand and (self._regime is None or not trainer.steps)
            self._by_hand, shape = False, trainer.settings.network.shape
            offered = {} if chosen else self._candidates(found, shape, header.series)
            trainer.regimes.offer(offered)
            if offered:
                trainer.reconsider()  # where the folder has answered late no jump asks for it
        self._kind, self._regime, self._split = found, regime, pairs.split

    def _candidates(self, found: Fingerprint, shape: object, series: str) -> dict[str, Weights]:
        candidates = {} if self._last is None else {LAST: self._last}
        self._last = None
        if self._cold == "":
            self._cold = series  # the one that the network was reset for
            self._resets.append(series)
            self._order(_nothing_more)
        elif self._cold not in (None, series):
            self._cold = None
            self._order(WeightsFolder.warm)
        if self._cold is None:
            with suppress(OSError):  # which is told: there are the others
                candidates |= self._ask(lambda folder: folder.near(found, shape, OFFERED))
        return candidates

    def added(self, trainer: Trainer) -> None:
        """After pairs were added: if they decided a contest, note who won."""
        regimes = trainer.regimes
        if regimes.contests == self._contests:
            return
        self._contests, self._chosen_at = regimes.contests, self._clock()
        if regimes.chosen != PRESENT:
            self.network_from = regimes.chosen
        if LAST in regimes.offered and regimes.chosen != PRESENT:
            resumed = regimes.chosen == LAST
            self.resumed_from = self._left if resumed else ""
            if resumed:
                self._newest = None  # of the network that it has beaten, where the folder has answered late
            else:
                self._order(WeightsFolder.forget_best)
        if self._split == "turns":  # halves may have misjudged what was learned from turns: not before
            regimes.offer({})

    def replaced(self, trainer: Trainer, origin: str) -> None:
        """Somebody has chosen another network: nothing is offered in its place before it was trained and something new
        begins."""
        self.network_from, self._last, self._by_hand = origin, None, True
        trainer.regimes.offer({})

    def renewed(self) -> None:
        """The scan has made another network begin, that nobody has chosen: what is known may take its place."""
        self.network_from, self.resumed_from, self._by_hand = UNTRAINED, "", False

    def reset(self, series: str) -> None:
        """The network was reset in this series (empty: before any): in it nothing from before is taken up again, also
        after a crash. What is known of other streams is kept for later ones. A folder that does not answer hears of it
        before anything else."""
        self.network_from, self.resumed_from, self._last, self._newest = UNTRAINED, "", None, None
        if self._path is not None:
            self._cold, self._looking = series, None  # what is found there now is from before
            self._resets.append(series)
            self._order(_nothing_more)
            wait([self._pending[-1]], RESET_WAIT_S)

    # ---- keeping

    def published(self, trainer: Trainer, weights: Weights) -> None:
        """These are the newest weights: they go to the folder, if some seconds have passed."""
        if self._path is None:
            return
        self.open(trainer)
        self._newest = weights, self._kind, len(trainer.scores) >= PAIRS
        if not 0 <= self._clock() - self._written_at < EVERY_S and not self._pending:
            self.keep()

    def keep(self) -> None:
        """Write the newest weights, if they are not written already; not before what was left has had its chance."""
        if self._newest is not None and self._opened and self._last is None:
            weights, kind, settled = self._newest
            self._newest, self._written_at = None, self._clock()
            self._order(lambda folder: folder.keep(weights, kind, settled=settled))

    def close(self) -> None:
        """Write the newest weights and leave the folder to others; it cannot be used again."""
        self.keep()
        if self._path is not None and not self._closed:
            self._closed = True
            wait([self._disk.submit(self._leave)], WAIT_S)
            self._disk.shutdown(wait=False)

    # ---- what is shown

    def signals(self) -> dict[str, str]:
        """By their names, and what the side thread has done meanwhile is heard."""
        self._hear()
        resumed = f"{self._path}/{LAST}: {self.resumed_from}" if self.resumed_from else ""
        return {"resumed_from": resumed, "network_from": self.network_from}

    def news(self) -> str:
        """What to say for some seconds after a choice; empty: nothing."""
        if not 0 <= self._clock() - self._chosen_at < TOLD_S:
            return ""
        resumed = f" ({self.resumed_from})" if self.network_from == LAST else ""
        return f", begun from {self.network_from}{resumed}"

    # ---- the side thread

    def _order(self, action: Callable[[WeightsFolder], object]) -> None:
        """Have it done some time."""
        self._pending.append(self._disk.submit(self._with_folder, action))

    def _ask(self, action: Callable[[WeightsFolder], T]) -> T:
        """Have it done now. Raises OSError, which is trouble, where the disk refuses or does not answer in time."""
        return self._answer(self._disk.submit(self._with_folder, action), WAIT_S)

    def _answer(self, asked: Future[T], patience_s: float) -> T:
        wait([asked], patience_s)
        self._hear()
        try:
            if not asked.done():
                raise TimeoutError(f"{self._path} does not answer within {WAIT_S:.0f} s")
            return asked.result()
        except OSError as error:
            self.trouble = f"weights are not kept: {error}"
            raise

    def _with_folder(self, action: Callable[[WeightsFolder], T]) -> T:
        assert self._path is not None
        try:
            if self._folder is None:
                self._folder = WeightsFolder(self._path)
            while self._resets:
                self._folder.forget(self._resets[0])
                self._resets.popleft()
            return action(self._folder)
        except OSError:
            self._leave()  # it is opened again the next time
            raise

    def _leave(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _hear(self) -> None:
        """What has become of the orders?"""
        while self._pending and self._pending[0].done():
            error = self._pending.popleft().exception()
            self.trouble = "" if error is None else f"weights are not kept: {error}"
        folder = self._folder  # the side thread may give it up any time
        while folder is not None and folder.refused:
            self._told(f"left out: {folder.refused.pop()}")


def _look(folder: WeightsFolder, shape: object) -> _Left:
    try:
        return _Left(folder.cold, folder.last(shape), "")
    except ValueError as error:
        return _Left(folder.cold, None, str(error))


def _nothing_more(folder: WeightsFolder) -> None:
    """Whatever is asked of a folder, it hears of resets first."""
