"""The two payloads that messages carry: an array, or opaque bytes.

Each checks a value from Python (`__call__`), says it in the JSON header (`describe`), gives it to a socket
(`buffer`) and takes it from the wire (`read`). All raise MessageError with expected and got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.streams._checks import MessageError, named, one_of, refused, whole

LARGEST_BYTES = 1 << 30
"""Largest payload of one message; sockets refuse longer parts before they are read."""
SIDE = 65536
DEPTH = 64


@dataclass(frozen=True)
class ArrayPayload:
    """Arrays of `ndim` dimensions; the last two (rows, columns) up to 65536, those before (planes, depth) up to
    `depth`."""

    ndim: int
    dtypes: tuple[str, ...]
    depth: int = DEPTH

    def __call__(self, value: Any) -> NDArray[Any]:
        """The array as on the wire: little-endian, C-contiguous, read-only; copied only where that needs it."""
        if not isinstance(value, np.ndarray):
            raise MessageError(f"expected a NumPy array, got {type(value).__name__}")
        self._shape(list(value.shape))
        if value.dtype.name not in self.dtypes or value.nbytes > LARGEST_BYTES:
            expected = f"{' or '.join(self.dtypes)} in at most {LARGEST_BYTES} bytes"
            raise MessageError(f"expected {expected}, got {value.dtype} in {value.nbytes}")
        result = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).view()
        result.flags.writeable = False
        return result

    def describe(self, value: NDArray[Any]) -> dict[str, Any]:
        return {"shape": list(value.shape), "type": value.dtype.name}

    def buffer(self, value: NDArray[Any]) -> memoryview:
        return value.reshape(-1).view(np.uint8).data

    def read(self, fields: Mapping[str, Any], part: memoryview) -> NDArray[Any]:
        """A view of the part; a copy only of short parts, which ZeroMQ may leave unaligned."""
        shape = self._shape(fields.get("shape"))
        dtype = np.dtype(named("type", one_of(*self.dtypes), fields.get("type"))).newbyteorder("<")
        expected = prod(shape) * dtype.itemsize
        if part.nbytes != expected:
            raise MessageError(f"payload: expected {expected} bytes for {shape} of {dtype}, got {part.nbytes}")
        array = np.frombuffer(part, dtype).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def _shape(self, value: Any) -> tuple[int, ...]:
        limits = [self.depth] * (self.ndim - 2) + [SIDE, SIDE]
        if not isinstance(value, list) or len(value) != self.ndim:
            raise MessageError(f"shape: {refused(f'{self.ndim} whole numbers', value)}")
        if not all(1 <= whole(size) <= limit for size, limit in zip(value, limits)):
            raise MessageError(f"shape: {refused(f'sizes from 1 to {limits}', value)}")
        return tuple(value)


@dataclass(frozen=True)
class BytesPayload:
    """Bytes that are checked by whoever opens them."""

    def __call__(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)) or not 1 <= memoryview(value).nbytes <= LARGEST_BYTES:
            raise refused(f"1 to {LARGEST_BYTES} bytes", value)
        return bytes(value)

    def describe(self, value: bytes) -> dict[str, Any]:
        return {"size": len(value)}

    def buffer(self, value: bytes) -> bytes:
        return value

    def read(self, fields: Mapping[str, Any], part: memoryview) -> memoryview:
        size = named("size", whole, fields.get("size"))
        if part.nbytes != size:
            raise MessageError(f"payload: expected {size} bytes, got {part.nbytes}")
        return part
