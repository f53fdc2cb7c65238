"""Distance-weighted backprojection of filtered views onto slices and patches, one interface for every backend.

    value(x) = sum over views of weight / w(x)**2 * projection(column(x), row(x))

with `(w*column, w*row, w) = matrix @ (x, 1)`, bilinear interpolation, and zero for points outside the field of
view, which is [-0.5, N - 0.5] pixels (the outer half pixel repeats the edge) and w > 1/4 (not near the source). A
detector of one row is a fan: the row coordinate is ignored.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BACKENDS = ("cpu", "reference")


class Backprojector(Protocol):
    """A backend; see `get`."""

    def __call__(
        self,
        projections: NDArray[np.float32],
        slots: NDArray[np.integer],
        matrices: NDArray[np.float64],
        weights: NDArray[np.float32],
        poses: NDArray[np.float64],
        shape: tuple[int, int],
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Backproject `n` views onto `k` rectangles.

        Parameters
        ----------
        projections : (capacity, rows, cols) float32, filtered views; C-contiguous.
        slots : (n,) int, index into `projections` of each view.
        matrices : (n, 3, 4) float64, mm to pixels, w = 1 at the axis (`geometry.projection_matrices`).
        weights : (planes, n) float32, weight of each view in each output plane; zero: the view is left out.
        poses : (k, 3, 3) float64 in mm, rows: first pixel centre, column step, row step (`SliceGeometry.pose`).
        shape : (rows, cols) of every rectangle.
        out : (k, planes, rows, cols) float32, C-contiguous, overwritten; None: a new array.

        Returns `out`. Raises ValueError or TypeError that names the argument, what was expected and what came.
        """
        ...


def get(name: str) -> Backprojector:
    """The backend of that name. Raises ValueError for an unknown one."""
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return import_module(f"{__name__}.{name}").backproject


def warm_up(name: str) -> None:
    """Compile the backend of that name, or load it from its cache: afterwards calls take no extra time.

    The first time on a machine takes some seconds. Raises ValueError for an unknown backend.
    """
    get(name)
    prepare = getattr(import_module(f"{__name__}.{name}"), "warm_up", None)
    if prepare is not None:
        prepare()
