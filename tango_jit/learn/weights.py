"""Trained networks as bytes: one safetensors file that says by itself what it is. Nothing is ever unpickled.

The file holds the (averaged) tensors; its metadata, one JSON text under the key "tango_jit", the fields of the message
`Weights`: version, network, scale, patch_accuracy, generation, split. So a checkpoint is what was on the wire, and the
other way round. The moments of the optimiser are not kept: Adam finds them again within some dozens of steps.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.unet import NetworkConfig, UNet
from tango_jit.streams.messages import Weights

__all__ = ["Weights", "from_checkpoint", "pack", "to_checkpoint", "unpack"]

_KEY = "tango_jit"
_FIELDS = ("version", "network", "scale", "patch_accuracy", "generation", "split")


def pack(
    network: UNet, *, version: int, scale: float, patch_accuracy: float | None, generation: int, split: Split = "halves"
) -> Weights:
    """The message that carries the tensors of `network`. `scale` in the unit of the slices (mm^-1)."""
    fields: dict[str, Any] = {
        "version": version,
        "network": network.config.to_dict(),
        "scale": scale,
        "patch_accuracy": patch_accuracy,
        "generation": generation,
        "split": split,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return Weights(**fields, tensors=save(tensors, {_KEY: json.dumps(fields, allow_nan=False)}))


def unpack(weights: Weights) -> UNet:
    """The network with these weights, in float32 on the CPU.

    Raises ValueError that says what is wrong: no safetensors file, an unknown network, tensors missing, unknown, of
    the wrong shape or type, or not finite.
    """
    config = NetworkConfig.from_dict(weights.network)
    try:
        tensors = load(bytes(weights.tensors))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"weights: expected a safetensors file, got {len(weights.tensors)} bytes: {error}") from None
    network = UNet(config)
    expected = network.state_dict()
    if set(tensors) != set(expected):
        raise ValueError(
            f"weights: expected the {len(expected)} tensors of a network of form {config.form}, got {len(tensors)}; "
            f"missing: {_some(set(expected) - set(tensors))}; unknown: {_some(set(tensors) - set(expected))}"
        )
    for name, tensor in tensors.items():
        _check(name, tensor, expected[name])
    network.load_state_dict(tensors)
    return network


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _check(name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
        raise ValueError(
            f"weights: {name}: expected shape {tuple(expected.shape)} of {expected.dtype}, "
            f"got {tuple(tensor.shape)} of {tensor.dtype}"
        )
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ValueError(f"weights: {name}: expected finite numbers, got {bad} that are not")


def to_checkpoint(weights: Weights) -> bytes:
    """What to write to a file (ending .safetensors)."""
    return bytes(weights.tensors)


def from_checkpoint(data: bytes) -> Weights:
    """The weights in a file. Raises ValueError if it is none of ours; the tensors are checked by `unpack`."""
    try:
        size = int.from_bytes(data[:8], "little")
        fields = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
        fields.setdefault("split", "halves")  # files from before there were pairs of turns do not say
        return Weights(**{name: fields[name] for name in _FIELDS}, tensors=data)
    except (KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(
            f"checkpoint: expected a safetensors file with the metadata {_KEY!r}, got {len(data)} bytes: "
            f"{type(error).__name__}: {error}"
        ) from None
