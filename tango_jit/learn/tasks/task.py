"""What a task is: all that a network's pairs, network, training, versions and streams need not know about its purpose.

Two images u and v of the same thing carry independent noise. A task says what the network is to predict from u: its
`target`, made from v; how far its output is from that (`loss`), what of the output is a picture (`picture`), and what
one would have without any network (`simple`). Whatever the task is, its accuracy is

    |picture(A(u)) - target(v)|^2 / |simple(u) - target(v)|^2,

1 for what is no better than the simple way. Errors of v are those of no prediction, so that it never is 0.

Images are float32 tensors (n, 1, H, W), all in one unit: that of the network's scale in training, 1/mm on display.
`numbers` of a task are in that unit, too: they are measured, not trained, and travel among the tensors of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.noise2inverse import Errors, Split

Numbers = Mapping[str, Tensor]


class Task(Protocol):
    """Made once, and without state. Subclass it, and enter one in `TASKS`."""

    name: str
    """Of the setting, and in checkpoints."""
    shows: str
    """What a picture is, in words, with its unit."""
    simply: str
    """What stands in its place where the network is not better, in words."""
    restores: bool = False
    """Is a picture the object itself, in the unit of the slices? Then it is blended with the slice as reconstructed,
    and quality and uncertainty are known (see blend.py); otherwise one of picture and simple way is shown."""
    least: float = 0.0
    """The accuracy of what knows the object: less means that it predicts what is not the object. 0: nobody knows."""
    helpful: Mapping[Split, float] = MappingProxyType({"turns": 0.9, "halves": 0.9})
    """Accuracies below which a picture is surely better than the simple way."""
    numbers: Mapping[str, float] = MappingProxyType({})
    """Names of its numbers among the tensors of a network, and what they are before they are measured."""

    def target(self, other: Tensor, numbers: Numbers) -> Tensor:
        """What is to be predicted, made from the other image; on a GPU nothing in it may wait for the device."""
        ...

    def loss(self, output: Tensor, target: Tensor, weights: Tensor, numbers: Numbers) -> Tensor:
        """A scalar; `weights` 0 where pixels do not count, otherwise 1. Must not wait for the device either."""
        ...

    def picture(self, output: Tensor, numbers: Numbers) -> Tensor:
        """What is scored, and shown, of the output of the network."""
        ...

    def simple(self, image: Tensor, numbers: Numbers) -> Tensor:
        """The like of `picture` without a network."""
        ...

    def measure(self, images: Tensor, counts: Tensor, halo: int, strength: float) -> dict[str, float] | None:
        """Its numbers as images (n, H, W) have them, of which what `counts` (n, H, W), 0 or 1, counts but for `halo`
        pixels at each border; `strength` is that of the best total variation. None: these images do not tell."""
        return {}

    def errors(
        self, output: Tensor, inputs: Tensor, target: Tensor, weights: Tensor, halo: int, numbers: Numbers
    ) -> Errors:
        """(n, 2): the power of what the picture of each sample misses of the target, and of what the simple way does.

        The latter is the mean of all samples: a sample of which the simple way knows everything would have no
        accuracy. None at all (0, 2) where it knows everything of all.
        """
        made, simple = self.picture(output, numbers), self.simple(inputs, numbers)
        found = noise2inverse.powers(made, simple, target, weights, halo)
        if not found[:, 1].any():
            return np.empty((0, 2))
        found[:, 1] = found[:, 1].mean()
        return noise2inverse.limited(found)
