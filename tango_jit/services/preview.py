"""Volumes of the whole field of view for orientation, made in small parts in the time that frames leave."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tango_jit.recon.pipeline import Pipeline
from tango_jit.recon.volume import PART_PIXELS, Image, Part, StaleWindowError, VolumeGeometry, field_of_view, in_parts
from tango_jit.streams import Volume


class PreviewError(Exception):
    """A preview that cannot be made, and why: a trouble of its own that leaves the slices alone."""


def preview_bytes(size: int) -> int:
    """Memory of a volume of `size` voxels a side."""
    return 4 * size**3


@dataclass(frozen=True)
class Preview:
    """A volume: `data` (slices, rows, cols) in mm^-1 at `place`, of the frames `first_frame` to `last_frame`."""

    place: VolumeGeometry
    data: Image
    first_frame: int
    last_frame: int
    timestamp_s: float
    work_s: float

    def message(self, series: str, generation: int) -> Volume:
        return Volume(
            generation,
            self.place.first,
            self.place.step_mm,
            series,
            self.first_frame,
            self.last_frame,
            self.timestamp_s,
            self.data,
        )

    def values(self) -> dict[str, Any]:
        """Of the signals."""
        return {
            "preview": self.data.reshape(-1, self.data.shape[-1]),
            "preview_geometry": self.place.twelve,
            "preview_frame_number": self.last_frame,
            "preview_ms": 1e3 * self.work_s,
        }


@dataclass(frozen=True)
class _Begun:
    place: VolumeGeometry
    parts: Iterator[Part]
    first_frame: int
    last_frame: int
    timestamp_s: float
    asked: bool


class PreviewMaker:
    """One volume at a time, of the window as it is when the volume begins: the first as soon as there is a full one,
    then one after every period, and when asked for."""

    def __init__(self, backend: str) -> None:
        self._orders: deque[None] = deque()  # of volumes; doors add, the worker takes
        self._begun: _Begun | None = None
        self.restart(backend)

    def restart(self, backend: str) -> None:
        """The window of this volume is gone: begin anew with the next full one, of this backend."""
        self._backend = backend
        if self._begun is not None and self._begun.asked:
            self._orders.append(None)
        self._begun = None
        self._at_s = -math.inf
        self._last_frame = -1  # of the volume before: the same window is not shown again by itself
        self._work_s = self.progress = 0.0
        self._part_pixels = PART_PIXELS

    @property
    def asked(self) -> bool:
        """Was a volume asked for that is not complete yet?"""
        return bool(self._orders) or (self._begun is not None and self._begun.asked)

    def begin(self) -> None:
        """Make one from the next `step` on (may be called from any thread)."""
        self._orders.append(None)

    @property
    def busy(self) -> bool:
        """Is there work for the next `step`, whenever it comes?"""
        return self._begun is not None

    def step(self, pipeline: Pipeline, size: int, every_s: float, arrived_s: float, now_s: float) -> Preview | None:
        """Some milliseconds of work if there is any; returns a volume when it is complete.

        `size`: voxels a side. `every_s`: the period, 0: only when asked for. `arrived_s`: when the newest frame came.
        Raises PreviewError for a volume that this scan, or the backend, cannot show, and where memory does not suffice;
        it is not tried again before the next is due.
        """
        try:
            return self._advance(pipeline, size, every_s, arrived_s, now_s)
        except StaleWindowError:  # too slow for these frames: read more at once
            more = 2 * self._part_pixels
            self.restart(self._backend)
            self._part_pixels = more
            return None
        except (ValueError, MemoryError) as error:
            self._begun, self.progress = None, 0.0
            raise PreviewError(f"preview: {error}") from error

    def _advance(self, pipeline: Pipeline, size: int, every_s: float, arrived_s: float, now_s: float) -> Preview | None:
        started = time.perf_counter()
        if self._begun is None and not self._start(pipeline, size, every_s, arrived_s, now_s):
            return None
        begun = self._begun
        assert begun is not None
        part = next(begun.parts)
        self.progress = part.progress
        self._work_s += time.perf_counter() - started
        if part.data is None:
            return None
        self._begun = None
        return Preview(begun.place, part.data, begun.first_frame, begun.last_frame, begun.timestamp_s, self._work_s)

    def _start(self, pipeline: Pipeline, size: int, every_s: float, arrived_s: float, now_s: float) -> bool:
        due = every_s > 0 and not 0 <= now_s - self._at_s < every_s  # also after the clock was set back
        orders = len(self._orders)
        window = pipeline.window() if due or orders else None
        if window is None or (window.last_frame == self._last_frame and not orders):
            return False
        for _ in range(orders):
            self._orders.popleft()
        self._last_frame, self._at_s, self._work_s = window.last_frame, now_s, 0.0
        place = field_of_view(pipeline.geometry, size)
        parts = in_parts(window, pipeline.geometry, place, self._backend, part_pixels=self._part_pixels)
        self._begun = _Begun(place, parts, window.first_frame, window.last_frame, arrived_s, orders > 0)
        return True
