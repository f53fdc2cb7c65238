"""Trainers of small patches of discs, for tests of what they learn and of what they keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from tango_jit.learn import PRODUCT, Trainer, TrainerSettings
from tango_jit.learn.weights import Weights

SIZE = 16
SMALL = replace(PRODUCT, patch_size=SIZE, halo=2, batch_size=4, buffer_size=64, precision="float32")


def pairs(n: int = 32, seed: int = 0, size: int = SIZE, noise: float = 0.3) -> NDArray[np.float32]:
    """Halves (n, 2, size, size) of discs of brightness 1 with independent noise."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    center, radius = random.uniform(0, size, (2, n, 1, 1)), random.uniform(3, size, (n, 1, 1))
    discs = ((row - center[0]) ** 2 + (col - center[1]) ** 2 < radius**2).astype(np.float32)
    return (discs[:, None] + noise * random.normal(size=(n, 2, size, size))).astype(np.float32)


def trained(steps: int = 20, settings: TrainerSettings = SMALL, factor: float = 1.0) -> Trainer:
    trainer = Trainer(settings, seed=5)
    for step in range(steps):
        if step % 4 == 0:
            trainer.add(factor * pairs(8, seed=step))
        trainer.step()
    return trainer


def tensors(weights: Weights) -> dict[str, Tensor]:
    return load(bytes(weights.tensors))


def equal(a: Weights, b: Weights) -> bool:
    first, second = tensors(a), tensors(b)
    return all(torch.equal(first[name], second[name]) for name in first)
