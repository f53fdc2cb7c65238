"""Room for filtered views, one slot each, where a backend reads them."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

ALL = slice(None)


class Ring(Protocol):
    """Filtered views of one detector in slots that are used again and again."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(capacity, rows, cols)."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that the ring takes where it lives."""
        ...

    def put(self, slot: int, view: Any) -> None:
        """Copy one view (rows, cols), an array or a tensor, in mm^-1, into a slot."""
        ...

    def grown(self, capacity: int) -> Self:
        """A larger ring with the same views in the same slots. Raises MemoryError."""
        ...

    def copied(self, slots: NDArray[np.integer], rows: slice = ALL) -> Self:
        """A ring of its own with these rows of these views in slots 0, 1, 2, ..., which nobody overwrites."""
        ...

    def read(self, slot: int) -> NDArray[np.float32]:
        """The view in a slot, (rows, cols), as this backend sees it: rounded if it is kept in fewer bits."""
        ...


class HostRing:
    """A `Ring` in the memory of this computer; `array` is (capacity, rows, cols)."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @classmethod
    def empty(cls, capacity: int, rows: int, cols: int, dtype: type = np.float32) -> Self:
        """Raises MemoryError if there is no room. Pages that are never touched cost nothing."""
        return cls(np.empty((capacity, rows, cols), dtype))

    @property
    def shape(self) -> tuple[int, int, int]:
        capacity, rows, cols = self.array.shape
        return capacity, rows, cols

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def put(self, slot: int, view: Any) -> None:
        self.array[slot] = view

    def grown(self, capacity: int) -> Self:
        larger = self.empty(capacity, *self.shape[1:], self.array.dtype.type)
        larger.array[: len(self.array)] = self.array
        return larger

    def copied(self, slots: NDArray[np.integer], rows: slice = ALL) -> Self:
        return type(self)(self.array[:, rows][slots])

    def read(self, slot: int) -> NDArray[np.float32]:
        return self.array[slot].astype(np.float32)


def host_array(projections: Ring | NDArray[Any]) -> NDArray[Any]:
    """The array of a ring, or the array itself. Raises TypeError for the ring of another backend."""
    if isinstance(projections, HostRing):
        return projections.array
    if isinstance(projections, np.ndarray):
        return projections
    raise TypeError(f"projections: expected a ring in the memory of this computer or an array, got {projections!r}")
