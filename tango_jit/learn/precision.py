"""The arithmetic of the network: float32, or bfloat16 where that is faster and exact enough.

In the form `residual` only the correction is computed in bfloat16 (8 bits of mantissa), the sum with the input in
float32: slices agree with float32 to 1 % of the noise that is removed. The other forms compute the value itself and
stay in float32 unless told otherwise.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from tango_jit.learn.unet import NetworkConfig, UNet

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def uses_bfloat16(precision: Precision, config: NetworkConfig, device: torch.device) -> bool:
    """What `precision` means for this network on this device."""
    if precision != "auto":
        return precision == "bfloat16"
    return config.form == "residual" and _has_bfloat16(device)


def _has_bfloat16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 in hardware? Emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def prepared(network: UNet, device: torch.device) -> UNet:
    """The network on its device, in the memory order (channels last) in which its convolutions are fastest."""
    return network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def predict(network: UNet, images: Tensor, bfloat16: bool) -> Tensor:
    """Run a prepared network: float32 (B, 1, H, W) -> float32 (B, 1, H, W)."""
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        return network(images).float()
