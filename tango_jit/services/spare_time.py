"""What the reconstructor does while no frame waits: the centre of rotation, or else the preview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tango_jit.recon.pipeline import Pipeline
from tango_jit.services.center_search import CenterSearch
from tango_jit.services.preview import Preview, PreviewMaker


class SpareTime:
    """Both as small steps of one window; `forget` when that is gone."""

    def __init__(self, backend: str) -> None:
        self.search, self.preview = CenterSearch(backend), PreviewMaker(backend)

    def forget(self) -> None:
        self.search.forget()
        self.preview.forget()

    @property
    def busy(self) -> bool:
        """Is there work for the next `step`, whenever it comes?"""
        return self.search.busy or self.preview.busy

    def step(
        self, pipeline: Pipeline, values: Mapping[str, Any], arrived_s: float, now_s: float
    ) -> tuple[dict[str, Any], Preview | None]:
        """Some milliseconds of work, as the settings among the `values` want it: the signals that changed, and a volume
        when one is complete. `arrived_s`: when the newest frame came. Raises PreviewError and SearchError.
        """
        if news := self.search.step(pipeline):
            return news, None
        size, every_s = values["preview_size"], values["preview_every_s"]
        volume = self.preview.step(pipeline, size, every_s, arrived_s, now_s)
        return {"preview_progress": round(100 * self.preview.progress)}, volume
