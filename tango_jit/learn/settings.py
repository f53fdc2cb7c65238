"""How to train: settings as frozen values, and the three presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import torch

from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.precision import PRECISIONS, Precision
from tango_jit.learn.unet import NetworkConfig, whole

LARGEST_BUFFER = 2 << 30  # bytes of pairs


@dataclass(frozen=True)
class TrainerSettings:
    """One way to train a network. Raises ValueError in words for values that do not go together.

    Parameters
    ----------
    patch_size : rows and columns of a patch in pixels, halo included.
    halo : pixels at each side of a patch that the network sees but is neither trained nor scored on, so that it
        learns less about the zeros beyond the border. 0: the whole patch counts.
    batch_size : pairs a step; each is used in one direction, drawn at random.
    buffer_size : pairs kept, the newest ones; at least a batch.
    learning_rate : step size of Adam.
    ema : decay of the average of the weights a step; the average is what is scored and published. 0: no average.
    precision : arithmetic of the network; "auto": bfloat16 where it pays (see precision.py).
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    patch_size: int = 48
    halo: int = 4
    batch_size: int = 8
    buffer_size: int = 320
    learning_rate: float = 2e-3
    ema: float = 0.99
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        whole("patch_size", self.patch_size, 8, 512)
        whole("halo", self.halo, 0, 128)
        if self.patch_size - 2 * self.halo < 4:
            raise ValueError(
                f"patch_size: expected at least {2 * self.halo + 4} with a halo of {self.halo} pixels at each side, "
                f"got {self.patch_size}"
            )
        whole("batch_size", self.batch_size, 1, 1024)
        whole("buffer_size", self.buffer_size, 1, 100_000)
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size: expected at least a batch of {self.batch_size} pairs, got {self.buffer_size}"
            )
        if self.buffer_bytes > LARGEST_BUFFER:
            raise ValueError(
                f"buffer_size: expected at most {LARGEST_BUFFER >> 20} MB of pairs, got {self.buffer_bytes >> 20} MB "
                f"({self.buffer_size} pairs of {self.patch_size} x {self.patch_size} pixels)"
            )
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise ValueError(f"learning_rate: expected a number above 0, at most 1, got {self.learning_rate!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a number from 0 to below 1, got {self.ema!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    @property
    def buffer_bytes(self) -> int:
        """Memory of the pairs that are kept."""
        return 12 * self.buffer_size * self.network.images * self.patch_size**2

    @property
    def largest_buffer(self) -> int:
        """So many pairs fit into the memory that they may take."""
        return LARGEST_BUFFER * self.buffer_size // self.buffer_bytes

    def empty_buffer(self, device: torch.device | str = "cpu") -> PairBuffer:
        """Where samples of these settings are kept: pairs, and the weights of their pixels."""
        size, images = (self.patch_size, self.patch_size), self.network.images
        return PairBuffer(self.buffer_size, (images, *size) if images > 1 else size, device, planes=3)

    def edited(self, **fields: Any) -> Self:
        """These settings with some fields changed, those of the network included.

        The preset becomes the one that the result is, CUSTOM if there is none. Raises ValueError.
        """
        own = {name: fields.pop(name) for name in list(fields) if name in type(self).__dataclass_fields__}
        unknown = set(fields) - set(NetworkConfig.__dataclass_fields__)
        if unknown:
            raise ValueError(f"settings: expected fields of a trainer or a network, got {', '.join(sorted(unknown))}")
        network = replace(own.pop("network", self.network), **fields)
        settings = replace(self, network=network, **own)
        for name, preset in SETTINGS.items():
            if settings == preset._named(settings.network.preset)._deep_as(settings.network):
                return settings._named(name)
        return settings._named("CUSTOM")

    def _named(self, preset: str) -> Self:
        return replace(self, network=replace(self.network, preset=preset))

    def _deep_as(self, network: NetworkConfig) -> Self:
        """A guided preset is the same at any depth that the scan offers."""
        if self.network.form != "guided" or network.frames != 1:
            return self
        return replace(self, network=replace(self.network, depth=network.depth))


PRODUCT = TrainerSettings()

# As in the paper: 20 x 20 patches, all of which count, and Adam at 1e-4 without averaging. Kept for comparison: small
# patches teach the deep network the zeros around them, and slices come out worse than they went in.
PAPER = TrainerSettings(
    NetworkConfig("PAPER", form="paper"),
    patch_size=20,
    halo=0,
    batch_size=32,
    learning_rate=1e-4,
    ema=0.0,
)
RELEASED = replace(PAPER, network=NetworkConfig("RELEASED", form="released"))

SETTINGS: Mapping[str, TrainerSettings] = MappingProxyType({"PRODUCT": PRODUCT, "PAPER": PAPER, "RELEASED": RELEASED})
