"""The arithmetic of the network: float32, or bfloat16 where that is faster and exact enough.

In bfloat16 (8 bits of mantissa) only the network's change of an image is computed, the sum with the image in float32:
slices agree with float32 to 1 % of the noise that is removed, or float32 is taken (see inference.py).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def arithmetic(precision: Precision, device: torch.device) -> torch.dtype:
    """What `precision` means on this device. "auto": bfloat16 where it is multiplied in hardware."""
    coarse = _has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.bfloat16 if coarse else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 in hardware? Emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
