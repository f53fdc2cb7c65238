"""What the reconstructor does while no frame waits: the centre of rotation, or else the preview.

Where frames always wait, it comes about all the same: in some more time, a step at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from tango_jit.recon.pipeline import Pipeline
from tango_jit.services.center_search import CenterSearch, SearchError
from tango_jit.services.preview import Preview, PreviewError, PreviewMaker

EVERY_S = 0.1  # where frames wait
SHARE = 0.1  # of the time, at most, where they do: a step of the search may take a fraction of a second


class Done(NamedTuple):
    """What a step came to: the signals that changed, a volume when one is complete, what an operator should hear."""

    news: dict[str, Any]
    volume: Preview | None = None
    trouble: str = ""


class SpareTime:
    """Both as small steps of one window."""

    def __init__(self, backend: str) -> None:
        self.search, self.preview = CenterSearch(backend), PreviewMaker(backend)
        self._stepped_s, self._took_s = time.monotonic(), 0.0

    def restart(self, backend: str) -> None:
        """The window is gone: what was asked for begins anew in the next full one, of this backend."""
        self.search.restart(backend)
        self.preview.restart(backend)

    @property
    def asked(self) -> dict[str, str]:
        """The commands that were not answered yet, and the signal of the progress of each."""
        search = {"FindCenter": "progress"} if self.search.asked else {}
        return search | ({"MakePreview": "preview_progress"} if self.preview.asked else {})

    @property
    def busy(self) -> bool:
        """Is there work for the next `step`, whenever it comes?"""
        return self.search.busy or self.preview.busy

    def has_turn(self, *, frames_wait: bool) -> bool:
        """Is it time for a step?"""
        return not frames_wait or time.monotonic() - self._stepped_s > max(EVERY_S, self._took_s / SHARE)

    def step(self, pipeline: Pipeline, values: Mapping[str, Any], arrived_s: float, now_s: float) -> Done:
        """Some milliseconds of work, as the settings among the `values` want it. `arrived_s`: when the newest frame
        came."""
        began_s = time.monotonic()
        try:
            return self._step(pipeline, values, arrived_s, now_s)
        finally:
            self._stepped_s = time.monotonic()
            self._took_s = self._stepped_s - began_s

    def _step(self, pipeline: Pipeline, values: Mapping[str, Any], arrived_s: float, now_s: float) -> Done:
        try:
            if news := self.search.step(pipeline):
                return Done(news, trouble=self.search.doubt())
        except SearchError as error:
            return Done({"progress": 0.0}, trouble=str(error))
        size, every_s = values["preview_size"], values["preview_every_s"]
        volume, trouble = None, ""
        try:
            volume = self.preview.step(pipeline, size, every_s, arrived_s, now_s)
        except PreviewError as error:
            trouble = str(error)
        return Done({"preview_progress": round(100 * self.preview.progress)}, volume, trouble)
