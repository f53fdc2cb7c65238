"""The networks that are measured: ours, the paper's fourteen, and the paper's as its software built them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tango_jit.learn import SETTINGS, NetworkConfig, Trainer, TrainerSettings
from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.unet import Level, build

CARD = "the paper, RTX 2080 Ti"


@dataclass(frozen=True)
class Network:
    """One of Table 1: how it differs from the preset PAPER, and what the paper measured on an RTX 2080 Ti."""

    name: str
    settings: TrainerSettings
    samples_per_s: float  # trained, batches of 32
    hz: float  # images of 1024 x 1024


def _network(name: str, samples_per_s: float, hz: float, **fields: int) -> Network:
    return Network(name, SETTINGS["PAPER"].edited(buffer_size=32, **fields), samples_per_s, hz)


TABLE = (
    _network("Standard", 4190, 73),
    _network("C16", 4119, 38, features=16),
    _network("C32", 4058, 16, features=32),
    _network("V30", 3725, 72, patch_size=30),
    _network("V40", 4111, 72, patch_size=40),
    _network("V60", 2983, 71, patch_size=60),
    _network("V100", 1303, 71, patch_size=100),
    _network("V150", 591, 71, patch_size=150),
    _network("Z3", 3721, 29, depth=3),
    _network("Z5", 3820, 17, depth=5),
    _network("Z7", 3778, 10, depth=7),
    _network("T3", 4597, 23, frames=3),
    _network("T5", 4342, 14, frames=5),
    _network("T7", 3935, 10, frames=7),
)


def trainer(settings: TrainerSettings, device: str = "cpu") -> Trainer:
    """One with a full buffer of noise around a step edge."""
    size, images = settings.patch_size, settings.network.images
    shape = (settings.buffer_size, 2, size, size) if images == 1 else (settings.buffer_size, 2, images, size, size)
    pairs = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    pairs[..., size // 2 :] += 3
    made = Trainer(settings, device=device)
    made.add(pairs)
    return made


def inference(config: NetworkConfig, side: int, device: str = "cpu") -> Callable[[], Tensor]:
    """Passing one image of `side` x `side` pixels (and those that the network sees with it) through the network."""
    return partial(predictor(config, device), image(config, side).to(device))


def predictor(config: NetworkConfig, device: str) -> Predictor:
    """As the denoiser has it: on a GPU its passes are recorded."""
    return Predictor(build(config), "auto", torch.device(device), passes(device))


def passes(device: str) -> Passes | None:
    """Recordings where the denoiser makes them."""
    return Passes() if torch.device(device).type == "cuda" else None


def image(config: NetworkConfig, side: int) -> Tensor:
    """(1, images, side, side) of noise around a step edge."""
    noise = torch.randn(1, config.images, side, side, generator=torch.Generator().manual_seed(0))
    noise[..., side // 2 :] += 3
    return noise


class Original(nn.Module):
    """A network of one image as the paper's software built it: kernels of 3 x 3 x 3, two thirds of which meet padding.

    (B, 1, H, W) -> (B, 1, H, W), H and W multiples of 4 (of 2 for the form `released`).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        f = config.features
        level = partial(Level, mix=config.form != "residual", deep=True)
        below = nn.Identity() if config.form == "released" else level(f, 2 * f, level(2 * f, 4 * f, None))
        self.top = level(1, f, below)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(x[:, :, None])[:, :, 0]


def original_step(settings: TrainerSettings) -> Callable[[], float]:
    """A training step of the same network and batch as the paper's software did it: float32, plain Adam, MSE.

    Always on the same noise; returns the loss.
    """
    network = Original(settings.network)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    u, v = torch.randn(2, settings.batch_size, 1, settings.patch_size, settings.patch_size)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(u), v)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def original_inference(config: NetworkConfig, side: int) -> Callable[[], Tensor]:
    """Passing one image through the same network as the paper's software did it."""
    network, x = Original(config).eval(), image(config, side)

    def run() -> Tensor:
        with torch.inference_mode():
            return network(x)

    return run
