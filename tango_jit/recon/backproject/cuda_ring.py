"""Filtered views in the memory of a CUDA device, as layers of textures: put once, sampled from there by every kernel.

A ring is one or more banks of layers. A larger one is the same banks and another: nothing is copied, and growing takes
no more memory than the new views. Texels are float32, or float16 in units of the largest value of their view.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.recon.backproject import cuda_device, memory
from tango_jit.recon.backproject.cuda_order import Order
from tango_jit.recon.backproject.ring import ALL

THREADS = 256  # texels of a row that a block copies


class _Bank(NamedTuple):
    """Slots `first` to `end`."""

    first: int
    end: int
    layers: cuda_device.Layers


class CudaRing:
    """See `Ring`. Work is queued on torch's current stream; between streams the ring keeps the order by itself."""

    def __init__(self, shape: tuple[int, int, int], texel: int, banks: tuple[_Bank, ...], order: Order) -> None:
        self.shape, self.texel = shape, texel
        self._banks, self._order = banks, order
        self._firsts = np.array([bank.first for bank in banks])
        self.units: Tensor | None = None
        """(capacity,) float32, what the texels of each slot are counted in; None: they are exact."""
        if texel == memory.HALF:
            with order.writing():
                self.units = cuda_device.empty((shape[0],)).fill_(1)
        weakref.finalize(self, order.finish).atexit = False  # kernels may still sample its textures

    @classmethod
    def empty(cls, capacity: int, rows: int, cols: int, texel: int = memory.EXACT) -> Self:
        """Raises MemoryError, and ValueError for views that are larger than textures of this device can be."""
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 view, got {capacity}")
        return cls((capacity, rows, cols), texel, _banks(0, capacity, rows, cols, texel), Order())

    @property
    def nbytes(self) -> int:
        return memory.ring_bytes(*self.shape, self.texel)

    def put(self, slot: int, view: Any) -> None:
        if tuple(view.shape) != self.shape[1:]:
            raise ValueError(f"view: expected shape {self.shape[1:]}, got {tuple(view.shape)}")
        layer = self._place(slot)
        with self._one_view(), self._order.writing():
            here = isinstance(view, Tensor) and cuda_device.is_here(view)
            texels = view.to(torch.float32).contiguous() if here else cuda_device.upload(view)
            if self.units is not None:
                unit = self.units[slot]
                torch.amax(texels.abs(), (0, 1), out=unit)
                texels = (texels / unit.clamp_(min=1e-30)).half()
            self._copy("write", texels, *layer)

    def tensor(self, slot: int) -> Tensor:
        """The view in a slot, (rows, cols) float32, on the device."""
        layer = self._place(slot)
        with self._one_view(), self._order.reading():
            texels = cuda_device.empty(self.shape[1:], torch.float32 if self.units is None else torch.float16)
            self._copy("read", texels, *layer)
            return texels if self.units is None else texels.float() * self.units[slot]

    def read(self, slot: int) -> NDArray[np.float32]:
        return self.tensor(slot).cpu().numpy()

    def grown(self, capacity: int) -> Self:
        held, rows, cols = self.shape
        banks = _banks(held, capacity, rows, cols, self.texel)
        larger = type(self)((capacity, rows, cols), self.texel, self._banks + banks, self._order)
        if larger.units is not None and self.units is not None:
            with self._order.writing():
                larger.units[:held] = self.units
        return larger

    def copied(self, slots: NDArray[np.integer], rows: slice = ALL) -> Self:
        _, height, cols = self.shape
        ring = self.empty(len(slots), len(range(*rows.indices(height))), cols, self.texel)
        for place, slot in enumerate(slots):
            ring.put(place, self.tensor(int(slot))[rows])
        return ring

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Kernels that are launched inside find the views as they were put so far, and no later ones."""
        with self._order.reading():
            yield

    def located(self, slots: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Where slots (n,) lie: the bank and the layer of each, (n,)."""
        bank = np.searchsorted(self._firsts, slots, "right") - 1
        return bank, slots - self._firsts[bank]

    def texture(self, bank: int) -> int:
        """The handle of a bank's texture."""
        return self._banks[bank].layers.texture

    def _place(self, slot: int) -> tuple[int, int]:
        """The surface and layer of a slot."""
        if not 0 <= slot < self.shape[0]:
            raise IndexError(f"slot: expected 0 to {self.shape[0] - 1}, got {slot}")
        bank, layer = self.located(np.array([slot]))
        return self._banks[bank[0]].layers.surface, int(layer[0])

    def _copy(self, what: str, texels: Tensor, surface: int, layer: int) -> None:
        _, rows, cols = self.shape
        kernel = cuda_device.kernel("texels", f"{what}_{8 * self.texel}")
        blocks = (-(-cols // THREADS), rows)
        cuda_device.launch(kernel, blocks, (THREADS,), texels, np.uint64(surface), layer, rows, cols)

    @contextmanager
    def _one_view(self) -> Iterator[None]:
        _, rows, cols = self.shape
        with cuda_device.in_words(f"a view of {rows} x {cols} pixels on its way", 4 * rows * cols):
            yield


def _banks(first: int, end: int, rows: int, cols: int, texel: int) -> tuple[_Bank, ...]:
    """Banks for slots `first` to `end`. Raises MemoryError before anything is taken if it would be too much."""
    most, highest, widest = cuda_device.largest()
    if rows > highest or cols > widest:
        raise ValueError(f"views: expected at most {highest} x {widest} pixels on this device, got {rows} x {cols}")
    needed, rest = memory.ring_bytes(end - first, rows, cols, texel), memory.beside_bytes(rows, cols)
    what = f"{end - first} views of {rows} x {cols} pixels of {8 * texel} bits"
    memory.refuse(f"{what} ({memory.megabytes(rest)} of it for the rest)", needed + rest, cuda_device.free_bytes())
    with cuda_device.in_words(what, needed):
        return tuple(
            _Bank(start, stop, cuda_device.layers(stop - start, rows, cols, texel))
            for start in range(first, end, most)
            for stop in (min(start + most, end),)
        )
