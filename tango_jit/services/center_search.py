"""A search for the centre of rotation, done in small steps while no frame waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tango_jit.recon.center import Search, find_center
from tango_jit.recon.pipeline import Pipeline


class CenterSearch:
    """One search at a time, in the window as it is when the search begins."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.forget()

    def forget(self) -> None:
        """Give up: the window of this search is gone."""
        self._steps: Iterator[Search] = iter(())
        self._wanted = False

    def begin(self) -> None:
        """Search anew from the next `step` on (may be called from any thread)."""
        self._wanted = True

    def step(self, pipeline: Pipeline) -> dict[str, Any]:
        """A fraction of a second of work; returns `progress` (%) and `center_found_px` if there is news of them."""
        if self._wanted and (window := pipeline.window()) is not None:
            self._wanted = False
            self._steps = find_center(window, pipeline.geometry, backend=self._backend)
        found = next(self._steps, None)
        if found is None:
            return {}
        center = pipeline.options.center_offset_px + found.shift_px
        return {"progress": 100 * found.progress, "center_found_px": center}
