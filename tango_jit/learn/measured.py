"""The numbers of a network that are measured on the pairs and not trained: those of its prior and those of its task."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.prior import LOOKS, PriorStrength
from tango_jit.learn.unet import NetworkConfig


class Measured:
    """Follows them through the pairs of an experiment; those of a task by the median of the last batches."""

    def __init__(self) -> None:
        self._prior = PriorStrength()
        self.forget()

    def forget(self) -> None:
        """Another experiment begins: what was seen no longer counts."""
        self._prior.forget()
        self._task = ""
        self._found: deque[dict[str, float]] = deque(maxlen=LOOKS)

    def measure(self, samples: Tensor, halo: int, network: NetworkConfig) -> bool:
        """Take samples (n, 3, ..., H, W), n > 0, into account for networks like this one; returns whether it looked.

        It looks at some batches of many; where nothing is known of the task yet, at each.
        """
        looked = self._prior.measure(samples, halo, network.shown)
        strength, known = self._prior.alone, self.complete(network)
        if strength is None or not network.learns.numbers or (known and not looked):
            return looked
        if network.task != self._task:
            self._task = network.task
            self._found.clear()
        u, v, counts = (noise2inverse.shown(part, network.shown)[:, 0] for part in samples.unbind(1))
        found = network.learns.measure(torch.cat([u, v]), torch.cat([counts, counts]), halo, strength)
        if found is not None:
            self._found.append(found)
        return True

    def complete(self, network: NetworkConfig) -> bool:
        """Are the numbers of its task known? Otherwise its targets, and scores, mean nothing yet."""
        return not network.learns.numbers or (network.task == self._task and len(self._found) > 0)

    def numbers(self, network: NetworkConfig, scale: float) -> dict[str, float]:
        """All that are known of a network by their names among its tensors, for pairs divided by `scale`."""
        known = self._prior.numbers(scale)
        if self.complete(network):
            for name in network.learns.numbers:
                known[name] = float(np.median([numbers[name] for numbers in self._found])) / scale
        return {name: number for name, number in known.items() if name in network.measured}
