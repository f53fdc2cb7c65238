"""Streams with priorities: live slices before samples before training.

A kernel of a stream with a higher priority goes first as soon as blocks of others have ended. This counts within one
process; processes that share a device take turns, whatever their streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar, get_args

import torch

T = TypeVar("T")
Role = Literal["live", "samples", "training"]
ROLES: tuple[Role, ...] = get_args(Role)
_PRIORITY = {"live": -2, "samples": -1, "training": 0}  # lower goes first; a device with fewer levels takes the nearest


@cache
def stream(role: Role) -> torch.cuda.Stream:
    """The stream of this process for one kind of work, to be made current with `torch.cuda.stream`.

    Raises ValueError for an unknown role.
    """
    _check(role)
    return torch.cuda.Stream(priority=_PRIORITY[role])


def hand_over(tensor: torch.Tensor, to: torch.cuda.Stream) -> None:
    """What was made on the current stream is used on another one next: that waits, and the memory stays as long."""
    to.wait_stream(torch.cuda.current_stream())
    tensor.record_stream(to)


def take(role: Role, device: str) -> None:
    """Make the stream of a role the current one of this thread; on a device that is no CUDA device do nothing."""
    _check(role)
    if device == "cuda":
        torch.cuda.set_stream(stream(role))


def on(role: Role, device: str, work: Callable[[], T]) -> T:
    """What `work` returns, made on the stream of a role; a tensor is handed over to the current one.

    On a device that is no CUDA device this is `work()`.
    """
    _check(role)
    if device != "cuda":
        return work()
    current = torch.cuda.current_stream()
    with torch.cuda.stream(stream(role)):
        made = work()
        if isinstance(made, torch.Tensor):
            hand_over(made, current)
        return made


@contextmanager
def launching(role: Role, device: str, *used: torch.Tensor) -> Iterator[None]:
    """What is launched inside goes onto the stream of a role, after what the current one was given.

    `used` stay until it is done; nothing is handed over. On a device that is no CUDA device nothing is different.
    """
    _check(role)
    if device != "cuda":
        yield
        return
    here = stream(role)
    here.wait_stream(torch.cuda.current_stream())
    for tensor in used:
        if tensor.is_cuda:
            tensor.record_stream(here)
    with torch.cuda.stream(here):
        yield


def _check(role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"role: expected one of {', '.join(ROLES)}, got {role!r}")
