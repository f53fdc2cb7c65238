"""Trainers of small patches of discs, for tests of what they learn and of what they keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tango_jit.learn import PRODUCT, Trainer, TrainerSettings
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.weights import Weights

Images = NDArray[np.float32]

SIZE = 16
SMALL = replace(PRODUCT, patch_size=SIZE, halo=2, batch_size=4, buffer_size=64, precision="float32")


def scene(n: int = 32, seed: int = 0, size: int = SIZE, noise: float = 0.3) -> tuple[Images, Images]:
    """Pairs (n, 2, size, size) of discs of brightness 1 with independent noise, and the discs (n, 1, size, size)."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    center, radius = random.uniform(0, size, (2, n, 1, 1)), random.uniform(3, size, (n, 1, 1))
    discs = ((row - center[0]) ** 2 + (col - center[1]) ** 2 < radius**2).astype(np.float32)[:, None]
    return (discs + noise * random.normal(size=(n, 2, size, size))).astype(np.float32), discs


def pairs(n: int = 32, seed: int = 0, size: int = SIZE, noise: float = 0.3) -> Images:
    """Halves (n, 2, size, size) of such discs."""
    return scene(n, seed, size, noise)[0]


def blobs(n: int, shape: tuple[int, int], level: float, seed: int = 0) -> Tensor:
    """Images (n, *shape) of two phases, 0 and 1, in grains of some pixels; 1 where something normal exceeds `level`."""
    image = torch.randn(n, 1, *shape, generator=torch.Generator().manual_seed(seed))
    for _ in range(3):
        image = avg_pool2d(image, 7, 1, 3)
    return (image[:, 0] > level * image.std()).float()


def trained(
    steps: int = 20, settings: TrainerSettings = SMALL, factor: float = 1.0, split: Split = "halves"
) -> Trainer:
    """Eight new pairs, multiplied by `factor`, every four steps."""
    trainer = Trainer(settings, seed=5)
    for step in range(steps):
        if step % 4 == 0:
            trainer.add(factor * pairs(8, seed=step), split=split)
        trainer.step()
    return trainer


def tensors(weights: Weights) -> dict[str, Tensor]:
    return load(bytes(weights.tensors))


def equal(a: Weights, b: Weights, *, but: str = "") -> bool:
    """Have they the same tensors, bit by bit? One of them may be left out."""
    first, second = tensors(a), tensors(b)
    return all(torch.equal(first[name], second[name]) for name in first if name != but)
