"""When the slices on display are renewed, and what is wrong with those that cannot be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import SliceGeometry
from tango_jit.recon.pipeline import Pipeline
from tango_jit.recon.window import Window
from tango_jit.services.stacks import Stacks

LATE_S = 0.25  # frames that wait for longer go before the slices
CATCH_UP_S = 1.0  # but for no longer than this
HALF_SCAN = 0.4  # part of the views that see a point; with a detector beside the axis half of them do


class Updates:
    """The updates of one scan. Times are seconds of the service's clock."""

    def __init__(self, budget_bytes: int) -> None:
        """`budget_bytes`: see `Stacks`."""
        self.stacks = Stacks(budget_bytes)
        self.shown_generation = -1
        """The generation of the slices that are shown."""
        self.problems: dict[str, str] = {}
        """What cannot be done ("scan" or the name of a slice) -> why."""
        self.taken_at_s = 0.0
        """When the newest frame came that the window took; 0: none yet."""
        self._frames, self._at_s = 0, 0.0  # since the last update; when that was

    def begin(self) -> None:
        """The window is filled anew."""
        self.problems.clear()
        self._frames = 0

    def count_frame(self, at_s: float) -> None:
        """The window took a frame that came then."""
        self._frames, self.taken_at_s = self._frames + 1, at_s

    def due(self, every: int, generation: int, *, waiting: bool, arrived_s: float, now_s: float) -> bool:
        """Is it time: after `every` frames, or at once for another generation, but frames that wait go first.

        `waiting`: frames wait, and the last one that was taken came at `arrived_s`.
        """
        if waiting and now_s - arrived_s > LATE_S and 0 <= now_s - self._at_s < CATCH_UP_S:
            return False
        return self.shown_generation != generation or self._frames >= every

    def told(self) -> dict[str, str]:
        """All problems, a copy in one step: doors remove slices meanwhile."""
        return dict(self.problems) | self.stacks.problems

    def done(self, generation: int, now_s: float, took_s: float) -> None:
        self.stacks.took(took_s)
        self.shown_generation, self._frames, self._at_s = generation, 0, now_s

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Problems of slices that are no more, removed while they were reconstructed, are none."""
        for gone in self.problems.keys() - {"scan", *names}:
            del self.problems[gone]

    def reconstruct(
        self, pipeline: Pipeline, window: Window, name: str, stack: tuple[SliceGeometry, ...]
    ) -> NDArray[np.float32] | None:
        """A slice and its neighbours as planes (2 or 3, depth, rows, cols) in mm^-1, or None and a problem if this scan
        cannot show it."""
        geometry = stack[len(stack) // 2]
        try:
            planes = np.concatenate([pipeline.reconstruct(window, place) for place in stack], axis=1)
        except ValueError as error:  # off the plane of a fan
            self.problems[name] = str(error)
            return None
        self.problems.pop(name, None)
        seen = pipeline.coverage(window, geometry)
        if seen < HALF_SCAN:
            self.problems[name] = f"outside the field of view: its best point is in {100 * seen:.0f} % of the views"
        return planes
