"""Filtered views in the memory of a CUDA device, as layers of textures: put once, sampled from there by every kernel.

A ring is one or more banks of layers. A larger one is the same banks and another: nothing is copied, and growing takes
no more memory than the new views. Texels are float32, or float16 in units of the largest value of their view.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango_jit.recon.backproject import memory
from tango_jit.recon.backproject.cuda_kernels import kernel, launch
from tango_jit.recon.backproject.cuda_memory import free_bytes, in_words
from tango_jit.recon.backproject.cuda_order import Order

THREADS = 256  # texels of a row that a block copies
_LAYERED, _OUT_OF_MEMORY = 1, 2  # cudaArrayLayered, cudaErrorMemoryAllocation


class _Bank(NamedTuple):
    """Slots `first` to `end` as one texture array, which lives as long as its two objects."""

    first: int
    end: int
    texture: Any
    surface: Any


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
                self.units = torch.ones(shape[0], device="cuda")
        # CUDA does not wait for kernels when a texture is given back.
        weakref.finalize(self, order.finish).atexit = False

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
        bank, layer = self._place(slot)
        with in_words("a view", self._view_bytes), self._order.writing():
            texels = on_device(view)
            if self.units is not None:
                unit = self.units[slot]
                torch.amax(texels.abs(), (0, 1), out=unit).clamp_(min=1e-30)
                texels = (texels / unit).half()
            self._copy("write", texels, bank, layer)

    def tensor(self, slot: int) -> Tensor:
        """The view in a slot, (rows, cols) float32, on the device."""
        bank, layer = self._place(slot)
        with in_words("a view", self._view_bytes), self._order.reading():
            kind = torch.float32 if self.units is None else torch.float16
            texels = torch.empty(self.shape[1:], dtype=kind, device="cuda")
            self._copy("read", texels, bank, layer)
            return texels if self.units is None else texels * self.units[slot]

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

    def copied(self, slots: NDArray[np.integer]) -> Self:
        ring = self.empty(len(slots), *self.shape[1:], self.texel)
        for place, slot in enumerate(slots):
            ring.put(place, self.tensor(int(slot)))
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
        return self._banks[bank].texture.ptr

    @property
    def _view_bytes(self) -> int:
        return 4 * self.shape[1] * self.shape[2]

    def _place(self, slot: int) -> tuple[_Bank, int]:
        if not 0 <= slot < self.shape[0]:
            raise IndexError(f"slot: expected 0 to {self.shape[0] - 1}, got {slot}")
        bank, layer = self.located(np.array([slot]))
        return self._banks[bank[0]], int(layer[0])

    def _copy(self, what: str, texels: Tensor, bank: _Bank, layer: int) -> None:
        _, rows, cols = self.shape
        launch(
            kernel("texels", f"{what}_{8 * self.texel}"),
            (-(-cols // THREADS), rows),
            (THREADS,),
            texels,
            np.uint64(bank.surface.ptr),
            layer,
            rows,
            cols,
        )


def on_device(view: Any) -> Tensor:
    """A view (rows, cols) as float32, C-contiguous on the device: itself, if it is that already.

    What comes from the host passes through pinned memory: the copy is only queued, and `view` may change at once.
    """
    if isinstance(view, Tensor) and view.is_cuda:
        return view.to(torch.float32).contiguous()
    staged = torch.empty(tuple(view.shape), pin_memory=True)
    staged.numpy()[...] = view
    return staged.to("cuda", non_blocking=True)


def _banks(first: int, end: int, rows: int, cols: int, texel: int) -> tuple[_Bank, ...]:
    """Banks for slots `first` to `end`. Raises MemoryError before anything is taken if it would be too much."""
    runtime = import_module("cupy.cuda.runtime")
    layers, widest, highest = (
        runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttrMaxTexture2DLayered{what}"), runtime.getDevice())
        for what in ("Layers", "Width", "Height")
    )
    if rows > highest or cols > widest:
        raise ValueError(f"views: expected at most {highest} x {widest} pixels on this device, got {rows} x {cols}")
    needed = memory.ring_bytes(end - first, rows, cols, texel)
    rest = memory.beside_bytes(rows, cols)
    what = f"{end - first} views of {rows} x {cols} pixels in {8 * texel} bits, {memory.megabytes(rest)} for the rest"
    memory.refuse(what, needed + rest, free_bytes())
    with in_words(what, needed):
        return tuple(_bank(start, min(start + layers, end), rows, cols, texel) for start in range(first, end, layers))


def _bank(first: int, end: int, rows: int, cols: int, texel: int) -> _Bank:
    texture, runtime = import_module("cupy.cuda.texture"), import_module("cupy.cuda.runtime")
    format_ = texture.ChannelFormatDescriptor(8 * texel, 0, 0, 0, runtime.cudaChannelFormatKindFloat)
    flags = _LAYERED | runtime.cudaArraySurfaceLoadStore
    try:
        array = texture.CUDAarray(format_, cols, rows, end - first, flags)
    except runtime.CUDARuntimeError as error:
        if error.status != _OUT_OF_MEMORY:
            raise
        torch.cuda.empty_cache()  # what PyTorch keeps for later is of no use to others
        try:
            array = texture.CUDAarray(format_, cols, rows, end - first, flags)
        except runtime.CUDARuntimeError as again:
            if again.status != _OUT_OF_MEMORY:
                raise
            raise MemoryError(str(again)) from again
    filter_ = runtime.cudaFilterModePoint if texel == memory.EXACT else runtime.cudaFilterModeLinear
    how = texture.TextureDescriptor((runtime.cudaAddressModeClamp,) * 2, filter_, runtime.cudaReadModeElementType)
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    return _Bank(first, end, texture.TextureObject(resource, how), texture.SurfaceObject(resource))
