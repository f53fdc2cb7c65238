"""Networks that denoise small discs, and slices of these."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import nn

from tango_jit.learn import PRODUCT, NetworkConfig, Trainer, build
from tango_jit.learn.unet import Form, UNet
from tango_jit.learn.weights import Weights, pack

Image = NDArray[np.float32]
MU = 0.03  # mm^-1


def halves(shape: tuple[int, int] = (60, 70), seed: int = 0) -> tuple[Image, Image, Image]:
    """Even and odd half of a disc of 0.03 mm^-1, and the truth."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[: shape[0], : shape[1]]
    truth = MU * ((row - shape[0] / 2) ** 2 + (col - shape[1] / 2) ** 2 < (min(shape) / 3) ** 2).astype(np.float32)
    even, odd = (truth + 0.3 * MU * random.normal(size=(2, *shape))).astype(np.float32)
    return even, odd, truth


def learned(form: Form) -> Weights:
    torch.set_num_threads(1)
    trainer = Trainer(PRODUCT.edited(patch_size=32, batch_size=8, precision="float32", form=form))
    corners = np.random.default_rng(1).integers(0, (28, 38), (256, 2))
    images = [np.stack(halves(seed=n)[:2])[:, r : r + 32, c : c + 32] for n, (r, c) in enumerate(corners)]
    trainer.add(np.stack(images))
    for _ in range(150):
        trainer.step()
    return trainer.weights()


def network_of(weights: Weights) -> UNet:
    network = build(NetworkConfig.from_dict(weights.network))
    network.load_state_dict(load(bytes(weights.tensors)))
    return network


def stronger(weights: Weights, factor: float, version: int = 2) -> Weights:
    """The same network with its correction multiplied; of a residual one that is all it does."""
    network = network_of(weights)
    with torch.no_grad():
        network.top.last.weight *= factor
    return pack(network, version=version, scale=weights.scale, patch_accuracy=0.6, generation=0)


def constant(value: int) -> Weights:
    """A network whose first weight is `value` and which changes nothing, to the last bit."""
    network = build(NetworkConfig(form="residual"))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(network.top.first.weight, float(value))
    return pack(network, version=value, scale=1.0, patch_accuracy=None, generation=0)


def rms(image: Image) -> float:
    return float(np.sqrt(np.mean(np.square(image, dtype=np.float64))))
