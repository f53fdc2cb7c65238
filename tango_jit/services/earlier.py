"""The slices of a turn ago: what tells how good the present ones are, because they share no view with them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango_jit.recon.pipeline import full_stack
from tango_jit.streams import Slice

KEPT = 8  # slices a turn: updates may come more often than that


class _Kept(NamedTuple):
    last_frame: int
    complete: bool
    whole: NDArray[np.float32]  # (depth, rows, cols) in mm^-1


class Earlier:
    """Whole slices of the last turn or two, for each slice by its name."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[_Kept]] = {}
        self._places: dict[str, object] = {}

    def exchange(self, message: Slice) -> NDArray[np.float32] | None:
        """The newest slice of the same series and place without a view of this one, with the neighbours that it had,
        (depth, rows, cols) in mm^-1; and this one is kept for later ones. None if there is none, or only one of the two
        is complete: their noise would differ."""
        place = message.series, message.geometry, len(message.data)
        if self._places.get(message.slice) != place:
            self._places[message.slice] = place
            self._kept[message.slice] = deque()
        kept = self._kept[message.slice]
        while len(kept) > 1 and kept[1].last_frame < message.first_frame:
            kept.popleft()
        views = message.last_frame - message.first_frame + 1
        if not kept or message.last_frame - kept[-1].last_frame >= views / KEPT:
            whole = full_stack(message.data).copy()  # not the message of all planes
            kept.append(_Kept(message.last_frame, message.complete, whole))
        oldest = kept[0]
        alike = oldest.last_frame < message.first_frame and oldest.complete == message.complete
        return oldest.whole if alike else None

    def forget(self, name: str) -> None:
        """This slice is no more."""
        self._kept.pop(name, None)
        self._places.pop(name, None)

    def clear(self) -> None:
        """Another scan begins."""
        self._kept.clear()
        self._places.clear()
