"""Slices of the last while: what a network that sees one place at several moments is shown."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango_jit.learn import NetworkConfig
from tango_jit.recon.pipeline import full_slice
from tango_jit.stacks import StackError
from tango_jit.streams import Slice

NEAR = 4  # a slice stands for a moment that is no further off than this part of the interval
DENSE = 8  # slices kept in an interval: updates may come more often


class Moments:
    """The slices of each name, of one series and place, as far back as the network in use looks."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Slice]] = {}

    def stack(self, message: Slice, network: NetworkConfig) -> Slice:
        """The slice that the network puts out, with `data` (planes, moments, rows, cols), the oldest first: for the
        target "last" this one, otherwise one that came before it. For a network of one moment the message as it is.

        Where no slice came near enough to a moment, it raises StackError. Neighbours are left out.
        """
        if network.frames == 1:
            self._kept.pop(message.slice, None)
            return message
        kept = self._followed(message, network)
        count, interval = network.frames, network.frame_interval
        frames = np.array([one.last_frame for one in kept])
        wanted = message.last_frame - interval * np.arange(count - 1, -1, -1)
        nearest = np.abs(frames[None] - wanted[:, None]).argmin(axis=1)
        off = np.abs(frames[nearest] - wanted)
        if (off > interval / NEAR).any():
            raise StackError(
                f"slices: expected {count} moments {interval} frames apart, got none near frame "
                f"{wanted[int(off.argmax())]}: they are still to come, or slices come too seldom"
            )
        moments = [kept[index] for index in nearest]
        planes = [_planes(one, max(len(one.data) for one in moments)) for one in moments]
        complete = all(one.complete for one in moments)
        return replace(moments[network.shown], data=np.stack(planes, 1), complete=complete)

    def _followed(self, message: Slice, network: NetworkConfig) -> deque[Slice]:
        """What is kept of this slice, this message the last."""
        middle = message.data.shape[1] // 2
        own = replace(message, data=message.data[:, middle : middle + 1].copy())  # not the message of all planes
        kept = self._kept.setdefault(message.slice, deque())
        if kept and (kept[-1].series, kept[-1].geometry) != (message.series, message.geometry):
            kept.clear()
        if kept and message.last_frame < kept[-1].last_frame:  # numbers start anew: slices come in order
            kept.clear()
        far = network.frame_interval * (network.frames - 1) + network.frame_interval / NEAR
        while kept and kept[0].last_frame < message.last_frame - far:
            kept.popleft()
        if len(kept) > 1 and kept[-1].last_frame - kept[-2].last_frame < network.frame_interval / DENSE:
            kept.pop()
        kept.append(own)
        return kept

    def forget(self, name: str) -> None:
        """This slice is no more."""
        self._kept.pop(name, None)

    def clear(self) -> None:
        """Another scan begins."""
        self._kept.clear()


def _planes(message: Slice, count: int) -> NDArray[np.float32]:
    """(2 or 3, rows, cols): both halves and, if 3 are wanted, the whole."""
    halves = message.data[:2, 0]
    return halves if count == 2 else np.concatenate([halves, full_slice(message.data)[None]])
