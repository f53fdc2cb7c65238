"""The memory of the device: how much there is, and words where there is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tango_jit.recon.backproject.memory import megabytes


def free_bytes() -> int:
    """Memory of the device that can be had: what nobody has, and what PyTorch keeps for later."""
    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


@contextmanager
def in_words(what: str, needed: int) -> Iterator[None]:
    """Whatever runs out of device memory inside raises MemoryError, which names what was to be made and both sizes."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryError(
            f"{what}: expected {megabytes(needed)} of device memory, got {megabytes(free_bytes())} free"
        ) from error
