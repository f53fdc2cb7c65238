"""Distance-weighted backprojection of filtered views onto slices and patches, one interface for every backend.

    value(x) = sum over views of weight / w(x)**2 * projection(column(x), row(x))

with `(w*column, w*row, w) = matrix @ (x, 1)`, bilinear interpolation, and zero for points outside the field of
view, which is [-0.5, N - 0.5] pixels (the outer half pixel repeats the edge) and w > 1/4 (not near the source). A
detector of one row is a fan: the row coordinate is ignored.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tango_jit.recon.backproject.ring import Ring

BACKENDS = ("cpu", "cuda", "cuda_half", "reference", "astra")


class Backend(Protocol):
    """A way to backproject: a module of this package, see `get`."""

    def make_ring(self, capacity: int, rows: int, cols: int) -> Ring:
        """Room for `capacity` filtered views where this backend reads them."""
        ...

    def backproject(
        self,
        projections: Any,
        slots: NDArray[np.integer],
        matrices: NDArray[np.float64],
        weights: NDArray[np.float32],
        poses: NDArray[np.float64],
        shape: tuple[int, int],
        out: Any = None,
    ) -> Any:
        """Backproject `n` views onto `k` rectangles.

        Parameters
        ----------
        projections : a ring of this backend, or an array (capacity, rows, cols) float32, C-contiguous: filtered views.
        slots : (n,) int, index into `projections` of each view.
        matrices : (n, 3, 4) float64, mm to pixels, w = 1 at the axis (`geometry.projection_matrices`).
        weights : (planes, n) float32, weight of each view in each output plane; zero: the view is left out.
        poses : (k, 3, 3) float64 in mm, rows: first pixel centre, column step, row step (`SliceGeometry.pose`).
        shape : (rows, cols) of every rectangle.
        out : (k, planes, rows, cols) float32, C-contiguous, overwritten; None: a new array.

        Returns `out`: an array, from the backend cuda a tensor on its device. Raises ValueError or TypeError that
        names the argument, what was expected and what came.
        """
        ...

    def warm_up(self) -> None:
        """Compile, or load from a cache, all there is: afterwards calls take no extra time.

        The first time on a machine takes some seconds.
        """
        ...


def get(name: str) -> Backend:
    """The backend of that name. Raises ValueError for an unknown one."""
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return cast(Backend, import_module(f"{__name__}.{name}"))


def device(name: str) -> str:
    """Where a backend keeps its views and results, as torch names it: "cpu", "cuda". Raises ValueError."""
    find = getattr(get(name), "device", None)
    return find() if find is not None else "cpu"


def to_host(result: Any) -> NDArray[Any]:
    """What any backend made, an array or a tensor, as an array in the memory of this computer: itself, or a copy."""
    return np.asarray(result.cpu() if hasattr(result, "cpu") else result)


def obstacle(name: str) -> str:
    """Why this backend cannot run on this computer, in words; empty: it can. Raises ValueError for an unknown one."""
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    try:
        module = import_module(f"{__name__}.{name}")
    except ImportError as error:
        return f"it cannot be loaded: {error}"
    find = getattr(module, "obstacle", None)
    return find() if find is not None else ""
