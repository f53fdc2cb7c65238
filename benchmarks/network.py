"""Rates of the network: training steps and inference, for each preset, and beside the paper's form of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.backproject import Row, timed
from sim.bench.networks import inference, original_inference, original_step, trainer
from tango_jit.learn import PAPER, RELEASED, SETTINGS, Denoiser, Trainer


def denoising(made: Trainer, side: int) -> Callable[[], object]:
    denoiser = Denoiser(guard=False)
    denoiser.load(made.weights())
    halves = np.random.default_rng(1).standard_normal((2, side, side)).astype(np.float32)
    return partial(denoiser, halves[0], halves[1])


def measure(repeats: int) -> Iterator[Row]:
    for name, settings in SETTINGS.items():
        made = trainer(settings)
        text = f"training step, {name}: {settings.batch_size} patches of {settings.patch_size}²"
        yield timed(text, made.step, 4 * repeats, target="60 /s" if name == "PAPER" else "")
        for side in (512, 1024):
            target = {512: "50 Hz", 1024: "12 Hz"}[side] if name != "RELEASED" else ""
            work = inference(settings.network, side)
            yield timed(f"one {side}² image through the network, {name}", work, repeats, target=target)
            text = f"both halves of a {side}² slice denoised and scored, {name}"
            yield timed(text, denoising(made, side), repeats)
    for settings in (PAPER, RELEASED):
        name = f"{settings.network.preset} with 3 x 3 x 3 kernels in float32, as the paper's software"
        yield timed(f"training step, {name}", original_step(settings), repeats)
        yield timed(f"one 512² image through the network, {name}", original_inference(settings.network, 512), 3)
    product = trainer(SETTINGS["PRODUCT"])
    new = torch.randn(32, 2, product.settings.patch_size, product.settings.patch_size)
    yield timed("32 new pairs scored and added, PRODUCT", partial(product.add, new), 4 * repeats)
