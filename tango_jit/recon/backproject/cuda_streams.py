"""Streams with priorities: live slices before samples before training.

A kernel of a stream with a higher priority goes first as soon as blocks of others have ended. This counts within one
process; processes that share a device take turns, whatever their streams.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import torch

Role = Literal["live", "samples", "training"]
ROLES: tuple[Role, ...] = get_args(Role)
_PRIORITY = {"live": -2, "samples": -1, "training": 0}  # lower goes first; a device with fewer levels takes the nearest


@cache
def stream(role: Role) -> torch.cuda.Stream:
    """The stream of this process for one kind of work, to be made current with `torch.cuda.stream`.

    Raises ValueError for an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"role: expected one of {', '.join(ROLES)}, got {role!r}")
    return torch.cuda.Stream(priority=_PRIORITY[role])


def hand_over(tensor: torch.Tensor, to: torch.cuda.Stream) -> None:
    """What was made on the current stream is used on another one next: that waits, and the memory stays as long."""
    to.wait_stream(torch.cuda.current_stream())
    tensor.record_stream(to)
