"""Slices that follow the window: views that came are added, views that left are subtracted.

Backprojection is linear, so where the geometry stays a slice changes by the views whose weights changed. That pays
for frequent updates: one new view of 150 costs two backprojections, not 150.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import SliceGeometry
from tango_jit.recon.reconstructor import Reconstructor, Views
from tango_jit.recon.window import Window

# Of the largest weight: smaller changes are rounding.
SAME_WEIGHT = 1e-5
# A slice is made anew after so many updates. Each adds the rounding of one float32 sum, which grows like a random walk.
LONGEST = 1000
# What an update costs beside its views, in views: adding it to what was there.
OVERHEAD = 3


class _Sum(NamedTuple):
    """A slice as it was, and the views that it was made of."""

    planes: Any  # (planes, rows, cols)
    serials: NDArray[np.int64]  # (n,) of the views
    views: Views
    updates: int


def change(
    old: Views, serials: NDArray[np.int64], new: Views, window: Window
) -> tuple[Views, NDArray[np.float32]] | None:
    """What to add to a slice of the views `old`, known by their `serials`, to have that of `new`, those of `window`.

    Weights are negative for what has left. Beside it the weights (planes, n) that the views of the window have then:
    they differ from those wanted by less than a change that matters. None if a view that is to be subtracted was
    overwritten, or the planes are others.
    """
    if len(old.weights) != len(new.weights):
        return None
    gone = ~np.isin(serials, window.serials, assume_unique=True)
    if not np.array_equal(window.occupants[old.slots[gone]], serials[gone]):
        return None
    had = np.zeros_like(new.weights)
    _, now, then = np.intersect1d(window.serials, serials, assume_unique=True, return_indices=True)
    had[:, now] = old.weights[:, then]
    weights = np.concatenate([new.weights - had, -old.weights[:, gone]], axis=1)
    matters = (np.abs(weights) > SAME_WEIGHT * new.weights.max(initial=0)).any(axis=0)
    views = Views(
        np.concatenate([new.slots, old.slots[gone]])[matters],
        np.concatenate([new.matrices, old.matrices[gone]])[matters],
        np.ascontiguousarray(weights[:, matters]),
    )
    return views, np.where(matters[: had.shape[1]], new.weights, had)


class IncrementalSlices:
    """The slices on display, of the windows of one `ProjectionWindow` by one engine.

    A slice is made anew if that costs less than the change, or it is of another place, and after `LONGEST` updates.
    """

    def __init__(self, engine: Reconstructor) -> None:
        self._engine = engine
        self._sums: dict[SliceGeometry, _Sum] = {}
        self.views_used = 0
        """Views that were backprojected so far, all slices together: the work done."""

    def reconstruct(self, window: Window, geometry: SliceGeometry) -> Any:
        """The same as `Reconstructor.reconstruct`, to rounding: (planes, 1, rows, cols) in mm^-1.

        Raises ValueError as that does.
        """
        views, kept = self._engine.views(window), self._sums.get(geometry)
        changed = None
        if kept is not None and kept.updates < LONGEST:
            changed = change(kept.views, kept.serials, views, window)
        if kept is None or changed is None or len(changed[0].slots) + OVERHEAD > len(views.slots):
            planes, updates, used = self._engine.backproject(window, views, geometry), 0, len(views.slots)
        else:
            by, weights = changed
            # Never in place: the earlier planes may still be on display.
            planes, updates, used = (
                kept.planes + self._engine.backproject(window, by, geometry),
                kept.updates + 1,
                len(by.slots),
            )
            views = views._replace(weights=weights)
        self.views_used += used
        self._sums[geometry] = _Sum(planes, window.serials, views, updates)
        return planes[:, None]

    def keep(self, geometries: Iterable[SliceGeometry]) -> None:
        """Forget all slices but these."""
        self._sums = {geometry: self._sums[geometry] for geometry in geometries if geometry in self._sums}
