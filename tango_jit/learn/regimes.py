"""After a jump of the experiment: which of the networks there are is the best one to go on with."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.inference import folded
from tango_jit.learn.settings import TrainerSettings
from tango_jit.learn.unet import UNet
from tango_jit.learn.weights import Weights, unpack

SCORED_AT_ONCE = 64
KEPT = 8
PRESENT, EARLIER, UNTRAINED = "the present network", "that of an earlier regime", "an untrained network"


class Regimes:
    """The last weights of each regime that an experiment has been in: places, zooms, states of the sample; and those
    of other experiments that were offered, by their names."""

    def __init__(self) -> None:
        self._kept: deque[Weights] = deque(maxlen=KEPT)
        self._offered: Mapping[str, Weights] = {}
        self.contests = 0
        """How many there were."""
        self.chosen = ""
        """Who won the last one: PRESENT, EARLIER, UNTRAINED, or the name of what was offered; empty: none yet."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, weights: Weights) -> None:
        """These were the last ones of a regime. The oldest regime is given up where there are too many."""
        self._kept.append(weights)

    def clear(self) -> None:
        self._kept.clear()
        self._offered = {}

    def offer(self, candidates: Mapping[str, Weights]) -> None:
        """Weights that take part in contests from now on, in the place of those offered before, the likeliest first.

        Those of another shape than the one in training stay out. Contests raise ValueError where they are no network.
        """
        self._offered = dict(candidates)

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of what was offered last."""
        return tuple(self._offered)

    def contest(
        self,
        present: UNet | None,
        untrained: UNet,
        samples: Tensor,
        scale: float,
        numbers: Mapping[str, float],
        settings: TrainerSettings,
    ) -> UNet:
        """The best of the present network (None: it is untrained), those offered and kept, and an untrained one; see
        `best`."""
        runners = [] if present is None else [(PRESENT, present)]
        offered = ((name, unpack(weights)) for name, weights in self._offered.items())
        runners += [(name, network) for name, network in offered if network.config.shape == settings.network.shape]
        runners += [(EARLIER, network) for network in self.networks(settings)]
        runners.append((UNTRAINED, untrained))
        winner = best([network for _, network in runners], samples, scale, numbers, settings)
        self.contests += 1
        self.chosen = next(name for name, network in runners if network is winner)
        return winner

    def networks(self, settings: TrainerSettings) -> Iterator[UNet]:
        """Those of the shape that is in training, the newest first."""
        for weights in reversed(self._kept):
            network = unpack(weights)
            if network.config.shape == settings.network.shape:
                yield network


def best(
    networks: list[UNet], samples: Tensor, scale: float, numbers: Mapping[str, float], settings: TrainerSettings
) -> UNet:
    """The one that does best on new samples (n, 3, ...), n > 0; the first of equals.

    `scale`: what samples are divided by; `numbers` that are measured, by their names, in units of that. All in float32.
    """
    figures = []
    for network in networks:
        for name, number in numbers.items():
            getattr(network, name).fill_(number)
        tensors = {name: tensor.detach().to(samples.device) for name, tensor in network.state_dict().items()}
        ways = [torch.full((len(samples),), way, device=samples.device) for way in (0, 1)]
        errors = [score(settings, tensors, samples, scale, torch.float32, first) for first in ways]
        figures.append(noise2inverse.accuracy(np.concatenate(errors)))
    return networks[int(np.argmin([np.inf if figure is None else figure for figure in figures]))]


def score(
    settings: TrainerSettings,
    tensors: dict[str, Tensor],
    samples: Tensor,
    scale: float,
    dtype: torch.dtype,
    first: Tensor,
) -> noise2inverse.Errors:
    """Errors (n, 2) of a network with these tensors on samples (n, 3, ...), in units of the scale; image `first` (n,),
    0 or 1, of each pair is the input."""
    parts = [np.empty((0, 2))]
    with torch.inference_mode():
        network, task = folded(settings.network, tensors, dtype), settings.network.learns
        for chunk, ways in zip(samples.split(SCORED_AT_ONCE), first.split(SCORED_AT_ONCE), strict=True):
            u, v, weights = noise2inverse.directed(chunk, ways, settings.network.shown)
            u, v = u / scale, v / scale
            raw, target = noise2inverse.shown(u, settings.network.shown), task.target(v, tensors)
            parts.append(task.errors(network(u), raw, target, weights, settings.halo, tensors))
    return np.concatenate(parts)
