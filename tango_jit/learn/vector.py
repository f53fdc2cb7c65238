"""All trained numbers of a network in one vector: steps, averages and checks are then one operation each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tango_jit.learn.unet import NetworkConfig, UNet


class Layout:
    """Where the tensors of a network lie in a vector (n,) float32."""

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._shapes = {name: tensor.shape for name, tensor in UNet(config).state_dict().items()}
        self._sizes = [math.prod(shape) for shape in self._shapes.values()]

    def vector(self, network: UNet) -> Tensor:
        """The numbers of `network`, a copy."""
        tensors = network.state_dict()
        return torch.cat([tensors[name].detach().reshape(-1) for name in self._shapes])

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of the vector, by name."""
        parts = vector.split(self._sizes)
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)}

    def network(self, vector: Tensor) -> UNet:
        """A network with these numbers, in float32 on the CPU."""
        network = UNet(self._config)
        network.load_state_dict(self.tensors(vector.detach()))
        return network
