"""On a GPU: what is launched again and again is recorded once as a CUDA graph."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from tango_jit.learn.folded import Folded

log = logging.getLogger(__name__)
WARM_UPS = 3  # before recording, as PyTorch asks for: libraries choose their kernels and workspaces meanwhile
SHAPES = 8  # of images whose recordings are kept


def recorded(work: Callable[[], None], generator: torch.Generator | None = None) -> tuple[Callable[[], None], str]:
    """`work` as a CUDA graph, and why it is none (empty: it is one); `work` itself then, and a line in the log.

    `work` takes nothing, returns nothing, never waits for the GPU, and finds its tensors where they were: what it is
    to read is copied into them. It runs some times meanwhile. `generator`: what it draws from.
    """
    try:
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
    except RuntimeError as error:
        why = f"no CUDA graph: {type(error).__name__}: {error}"
        log.warning("%s; every kernel is launched by itself", why)
        return work, why
    return graph.replay, ""


class Pass:
    """A folded network on a GPU, recorded for one shape of image; its numbers can be exchanged."""

    def __init__(self, network: Folded, shape: torch.Size, device: torch.device) -> None:
        self._network = copy.deepcopy(network)  # its numbers are overwritten, those of the first version must stay
        self._version = network
        self._x = torch.zeros(shape, device=device)
        self._y = self._x
        self._run, self.trouble = recorded(self._work)

    def _work(self) -> None:
        self._y = self._network(self._x)

    def __call__(self, network: Folded, x: Tensor) -> Tensor:
        """What `network`, of the same kind as the recorded one, makes of `x`."""
        if network is not self._version:
            for here, new in zip(self._network.numbers, network.numbers, strict=True):
                here.copy_(new)
            self._version = network
        self._x.copy_(x)
        self._run()
        return self._y.clone()


class Passes:
    """The recordings of the last `SHAPES` kinds of network and shapes of image."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Pass] = OrderedDict()
        self.trouble = ""
        """Why the last recording failed; empty: it did not."""

    def __call__(self, network: Folded, x: Tensor) -> Tensor:
        key = (network.config.shape, network.dtype, x.shape)
        if key not in self._kept:
            while len(self._kept) >= SHAPES:
                self._kept.popitem(last=False)
            self._kept[key] = Pass(network, x.shape, x.device)
            self.trouble = self._kept[key].trouble
        self._kept.move_to_end(key)
        return self._kept[key](network, x)
