"""Rates of the network: training steps and inference, for each preset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.backproject import Row, timed
from tango_jit.learn import SETTINGS, Denoiser, Trainer, TrainerSettings


def trainer(settings: TrainerSettings) -> Trainer:
    """One with a full buffer of noise around a step edge."""
    size = settings.patch_size
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((settings.buffer_size, 2, size, size)).astype(np.float32)
    pairs[..., size // 2 :] += 3
    made = Trainer(settings)
    made.add(pairs)
    return made


def inference(made: Trainer, side: int) -> Callable[[], object]:
    denoiser = Denoiser(guard=False)
    denoiser.load(made.weights())
    halves = np.random.default_rng(1).standard_normal((2, side, side)).astype(np.float32)
    return partial(denoiser, halves[0], halves[1])


def measure(repeats: int) -> Iterator[Row]:
    for name, settings in SETTINGS.items():
        made = trainer(settings)
        made.step()
        text = f"training step, {name}: {settings.batch_size} patches of {settings.patch_size}²"
        yield timed(text, made.step, 4 * repeats, target="21 ms for 32 of 24²" if name == "PAPER" else "")
        for side in (512, 1024):
            text = f"both halves of a {side}² slice denoised and scored, {name}"
            target = "18 ms a half" if (name, side) == ("PRODUCT", 512) else ""
            yield timed(text, inference(made, side), repeats, target=target)
    product = trainer(SETTINGS["PRODUCT"])
    new = torch.randn(32, 2, product.settings.patch_size, product.settings.patch_size)
    yield timed("32 new pairs scored and added, PRODUCT", partial(product.add, new), 4 * repeats)
