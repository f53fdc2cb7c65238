"""The versions of the weights that were published, and those that an order has replaced: to return to."""

from __future__ import annotations

import math
from collections import deque

from tango_jit.learn.unet import NetworkConfig, UNet
from tango_jit.learn.weights import Weights, unpack


def figure(weights: Weights) -> float:
    """How good weights are among others of the same pairs: the smaller the better, infinite where nobody knows."""
    return math.inf if weights.patch_accuracy is None else weights.patch_accuracy


def task_of(weights: Weights) -> str:
    """The name of the task that they were trained for; figures of others cannot be compared with theirs."""
    return NetworkConfig.from_dict(weights.network).task


class Versions:
    """The last `keep` versions, and the weights from before the last takeover.

    Figures of unlike networks, and those of a network that was taken long ago, say nothing about whether an operator
    wants it: so a takeover has a slot of its own, which later versions do not push out.
    """

    def __init__(self, keep: int) -> None:
        self._kept: deque[Weights] = deque(maxlen=keep)
        self._jumped_at = 0
        self._replaced: Weights | None = None

    def keep(self, weights: Weights) -> None:
        """These are the newest ones."""
        self._kept.append(weights)

    def jumped(self, version: int) -> None:
        """The experiment is another one: figures up to this version cannot be compared with those of later ones."""
        self._jumped_at = version

    def taken_over(self, before: Weights | None) -> None:
        """By an order other weights are in the place of these; None: there were none."""
        self._replaced = before

    def clear(self) -> None:
        self._kept.clear()
        self._replaced = None

    @property
    def earlier(self) -> Weights:
        """What a rollback returns to: the weights from before the last takeover, whatever was published since; where
        that is undone, or there was none, `best_before`. Raises RuntimeError if there is nothing."""
        return self.best_before if self._replaced is None else self._replaced

    @property
    def best_before(self) -> Weights:
        """The best (by `patch_accuracy`) of the versions before the last, of its own task and kind of pairs, and since
        the last jump, if there are such: figures of others cannot be compared. Raises RuntimeError if there is none."""
        earlier = list(self._kept)[:-1]
        if not earlier:
            raise RuntimeError("rollback: expected an earlier version of the weights, got none since the last reset")
        last = self._kept[-1]
        alike = [weights for weights in earlier if task_of(weights) == task_of(last)]
        like = [weights for weights in alike if (weights.split, weights.generation) == (last.split, last.generation)]
        like = [weights for weights in like if weights.version > self._jumped_at] or like
        return min(like or alike or [w for w in earlier if task_of(w) == task_of(earlier[-1])], key=figure)

    def give_up(self, earlier: Weights) -> None:
        """A rollback has returned to these: the next one goes further back.

        Versions from then on are forgotten; not where a takeover was undone: the network that had taken over may have
        good ones.
        """
        if earlier is self._replaced:
            self._replaced = None
            return
        while self._kept and self._kept[-1].version >= earlier.version:
            self._kept.pop()

    def last(self, config: NetworkConfig) -> tuple[UNet, float] | None:
        """The newest network of this shape, from the memory of the host, and its scale; None: there is none."""
        for kept in reversed(self._kept):
            if (network := unpack(kept)).config.shape == config.shape:
                return network, kept.scale
        return None
