"""A search for the centre of rotation, done in small steps in the time that frames leave."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from tango_jit.recon.center import TRUSTED, Search, find_center
from tango_jit.recon.pipeline import Pipeline


class SearchError(Exception):
    """A search that cannot be done, and why: a trouble of its own that leaves the slices alone."""


class CenterSearch:
    """One search at a time, in the window as it is when the search begins."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._steps: Iterator[Search] | None = None
        self._orders: deque[str] = deque()  # the methods that were asked for; doors add, the worker takes
        self._method = ""
        self._doubt = ""

    def restart(self, backend: str) -> None:
        """The window of this search is gone: begin anew with the next full one, of this backend."""
        self._backend = backend
        if self._steps is not None:
            self._orders.appendleft(self._method)
            self._steps = None

    def begin(self, method: str) -> None:
        """Search anew from the next `step` on (may be called from any thread). `method`: see `find_center`."""
        self._orders.append(method)

    @property
    def asked(self) -> bool:
        """Was a search asked for that has not come to its end?"""
        return bool(self._orders) or self._steps is not None

    @property
    def busy(self) -> bool:
        """Is there work for the next `step`, whenever it comes? (A search that was asked for waits for a window.)"""
        return self._steps is not None

    def step(self, pipeline: Pipeline) -> dict[str, Any]:
        """A fraction of a second of work; returns what is news of `progress` (%), `center_found_px` and
        `center_confidence`.

        Raises SearchError where the backend cannot show what is looked at, and where memory does not suffice; the
        search is given up then.
        """
        try:
            return self._advance(pipeline)
        except (ValueError, MemoryError) as error:
            self._steps = None
            raise SearchError(f"FindCenter: {error}") from error

    def _advance(self, pipeline: Pipeline) -> dict[str, Any]:
        if self._orders and (window := pipeline.window()) is not None:
            while self._orders:
                self._method = self._orders.popleft()
            self._steps = find_center(window, pipeline.geometry, backend=self._backend, method=self._method)
        found = None if self._steps is None else next(self._steps, None)
        if found is None:
            self._steps = None
            return {}
        if not math.isnan(found.confidence):  # the answer: from now on nothing waits for it
            self._steps = None
        center = pipeline.options.center_offset_px + found.shift_px
        if found.confidence < TRUSTED:
            self._doubt = (
                f"FindCenter: do not trust {center:.2f} px: confidence {found.confidence:.2f}, expected {TRUSTED:g} or "
                "more; the views are too noisy, or the centre is too far off"
            )
        return {"progress": 100 * found.progress, "center_found_px": center, "center_confidence": found.confidence}

    def doubt(self) -> str:
        """Why the answer that was just found is not to be trusted, once; empty: there is no doubt, or no answer."""
        doubt, self._doubt = self._doubt, ""
        return doubt
