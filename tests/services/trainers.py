"""What tests of the trainer share: a look at what it trains on, and waits for what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from tango_jit.learn import Trainer, noise2inverse
from tango_jit.learn.inference import folded
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.precision import arithmetic
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import Window
from tango_jit.services.trainer import TrainerService
from tango_jit.streams import Weights
from tests.services.scans import look, see

PATCH = 16


class Rounds:
    """What passes between the service and its science: windows and poses of pairs, generations, steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.windows: list[Window] = []
        self.befores: list[Window | None] = []  # of pairs of two turns the earlier one
        self.poses: list[np.ndarray] = []
        self.generations: list[int] = []
        self.splits: list[Split] = []  # of the pairs that were added
        self.held: list[int] = []  # pairs in the buffer after each addition, less those that were added
        self.apart: list[float] = []  # how far scores are from those of the network before it knew the pairs
        reconstruct, add, step = Reconstructor.reconstruct_pairs, Trainer.add, Trainer.step
        turns = Reconstructor.reconstruct_turns

        def spy_reconstruct(engine: Reconstructor, window: Window, poses: np.ndarray, *rest: Any) -> Any:
            self.windows.append(window)
            self.befores.append(None)
            self.poses.append(poses)
            return reconstruct(engine, window, poses, *rest)

        def spy_turns(engine: Reconstructor, window: Window, before: Window, poses: np.ndarray, *rest: Any) -> Any:
            self.windows.append(window)
            self.befores.append(before)
            self.poses.append(poses)
            return turns(engine, window, before, poses, *rest)

        def spy_add(
            trainer: Trainer, pairs: Any, generation: int = 0, *, scored: bool = True, split: Split = "halves"
        ) -> Any:
            before = trainer.averaged()
            scores = add(trainer, pairs, generation, scored=scored, split=split)
            self.log.append("add")
            self.generations.append(generation)
            self.splits.append(split)
            self.held.append(trainer.pairs - len(pairs))
            if scored and split == "halves":
                self.apart.append(farthest(before, trainer, torch.as_tensor(pairs), scores))
            elif not scored:
                assert not len(scores)
            return scores

        def spy_step(trainer: Trainer) -> float:
            self.log.append("step")
            return step(trainer)

        monkeypatch.setattr(Reconstructor, "reconstruct_pairs", spy_reconstruct)
        monkeypatch.setattr(Reconstructor, "reconstruct_turns", spy_turns)
        monkeypatch.setattr(Trainer, "add", spy_add)
        monkeypatch.setattr(Trainer, "step", spy_step)


def farthest(network: Any, trainer: Trainer, pairs: Tensor, scores: np.ndarray) -> float:
    """The largest difference of a score to that of `network` in the one direction or the other."""
    assert trainer.scale is not None
    assert len(scores) == len(pairs)
    halo, scaled = trainer.settings.halo, pairs / trainer.scale
    with torch.inference_mode():
        both, network = (
            [],
            folded(network.config, network.state_dict(), arithmetic(trainer.settings.precision, trainer._device)),
        )
        images = [noise2inverse.stacks(image) for image in scaled.unbind(1)]
        for u, v in (images, images[::-1]):
            v = noise2inverse.shown(v)
            found = noise2inverse.errors(network(u), u, v, torch.ones_like(v), halo)
            both.append(np.abs(found[:, 0] / found[:, 1] - scores))
    return float(np.minimum(*both).max())


def training(service: TrainerService, more: int = 8) -> dict[str, Any]:
    """Wait until it has done `more` steps from now on."""
    steps = look(service)["steps"]
    return dict(see(service, steps=lambda now: now >= steps + more))


def holds(service: TrainerService, turns: int = 4) -> None:
    """It does no step in its next turns."""
    steps = look(service)["steps"]
    assert {look(service)["steps"] for _ in range(turns)} == {steps}


def tensors(weights: Weights) -> dict[str, Tensor]:
    return load(bytes(weights.tensors))


def same(a: Weights, b: Weights) -> bool:
    x, y = tensors(a), tensors(b)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
