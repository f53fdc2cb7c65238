"""The container of a live stream: looked for again and again, in small parts, while the trainer trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tango_jit.geometry import ScanGeometry
from tango_jit.learn.patches import cylinder
from tango_jit.recon.container import PART_PIXELS, Found, searched
from tango_jit.recon.volume import StaleWindowError, warm_up
from tango_jit.recon.window import Window

EVERY_TURNS = 6  # about ten seconds of a fast stream; counted in frames, so that the same frames give the same pairs
NOT_YET = Found(None, "not looked for yet")
__all__ = ["NOT_YET", "ContainerSearch", "Found", "check", "left_out", "signals", "warm_up"]


class ContainerSearch:
    """Of one filtered series."""

    def __init__(self, geometry: ScanGeometry, backend: str) -> None:
        self._geometry, self._backend = geometry, backend
        self._parts: Iterator[Found | None] | None = None
        self._due: range | None = None  # newest frames for which nothing is to be done
        self._part_pixels = PART_PIXELS

    def forget(self) -> None:
        """Begin anew with the next window."""
        self._parts = self._due = None

    def step(self, window: Window, *, wanted: bool = True) -> Found | None:
        """Some milliseconds of work, if there is any; returns what was found when it is complete.

        Not `wanted`: nothing, and it begins anew once it is.
        """
        if not wanted:
            self.forget()
            return None
        if self._parts is None:
            if self._due is not None and window.last_frame in self._due:
                return None
            self._due = range(window.last_frame, window.last_frame + EVERY_TURNS * len(window.frames))
            self._parts = searched(window, self._geometry, self._backend, self._part_pixels)
        try:
            found = next(self._parts)
        except StaleWindowError:  # too slow for these frames: read more at once, from the next window
            self.forget()
            self._part_pixels *= 2
            return None
        except (ValueError, MemoryError) as error:
            found = Found(None, f"cannot be looked for: {error}")
        if found is not None:
            self._parts = None
        return found


def left_out(error: ValueError) -> Found:
    """A container in which there is no room for patches is worse than none."""
    return Found(None, f"what was found is left out: {error}")


def signals(found: Found) -> dict[str, Any]:
    """Values of the signals: a container that was found, or none and why."""
    if found.cylinder is None:
        return {"container": np.zeros(0), "container_found": f"none: {found.why}"}
    return {"container": np.round(found.cylinder, 3), "container_found": found.why}


def check(container: np.ndarray) -> None:
    """Raises ValueError for what is no cylinder: x, y, radius, z from, z to, or nothing for none."""
    if len(container):
        cylinder(container)
