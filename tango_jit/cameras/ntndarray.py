"""The image of areaDetector (NTNDArray), as plain values, and the exposure in it.

Source: the normative type epics:nt/NTNDArray:1.0 and what NDPluginPva really sends, which differs: `codec.parameters`
says the type of the pixels also where nothing is compressed, and early NDPluginPvxs numbers types in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.cameras.codecs import decompress
from tango_jit.cameras.exposure import Exposure

LARGEST_PIXELS = 1 << 28
LARGEST_SIDE = 65536
MONO = 0
# By pvData's ScalarType and, where that contradicts the size of a pixel, by areaDetector's NDDataType_t.
SCALAR_TYPES = {1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8", 9: "f4", 10: "f8"}
ND_DATA_TYPES = {0: "i1", 1: "u1", 2: "i2", 3: "u2", 4: "i4", 5: "u4", 6: "i8", 7: "u8", 8: "f4", 9: "f8"}
EXACT = ("u1", "u2", "u4", "f4")  # what messages carry as it is
POSIX_2000_S = 946_684_800  # before that a clock was never set


class NTNDArrayError(ValueError):
    """An image that is not what the type says; the text gives expected and got."""


@dataclass(frozen=True)
class Dimension:
    """One axis of an image, the fastest one first: pixels, first pixel of the sensor, sensor pixels in one, and whether
    it runs against that of the sensor."""

    size: int
    offset: int = 0
    binning: int = 1
    reverse: bool = False


@dataclass(frozen=True, eq=False)
class NTNDArray:
    """The fields that matter. `value` is None before a camera's first frame; `codec` is empty without compression.

    `parameters`: number of the pixels' type, None: not said. `timestamp_s` is that of the driver, s since the epoch.
    """

    unique_id: int
    dimensions: Sequence[Dimension]
    value: NDArray[Any] | None = field(repr=False)
    codec: str = ""
    parameters: int | None = None
    uncompressed_size: int = 0
    timestamp_s: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size of the pixels as they came, in bytes."""
        return 0 if self.value is None else self.value.nbytes


def exposure(image: NTNDArray) -> Exposure:
    """The frame, (rows, cols) in the order of the sensor: as it is where its type is uint8, uint16, uint32 or float32,
    else as float32.

    Raises NTNDArrayError, and nothing else, for what is no grey image.
    """
    rows, cols = _shape(image)
    if image.value is None:
        raise NTNDArrayError("value: expected pixels, got none")
    try:
        pixels = _pixels(image, image.value, (rows.size, cols.size))
    except ValueError as error:
        raise NTNDArrayError(str(error)) from None
    if pixels.dtype.str[1:] not in EXACT:
        pixels = pixels.astype(np.float32)
    if rows.reverse or cols.reverse:
        pixels = np.ascontiguousarray(pixels[:: -1 if rows.reverse else 1, :: -1 if cols.reverse else 1])
    return Exposure(
        image.unique_id,
        believed(image.timestamp_s),
        pixels,
        image.attributes,
        (rows.offset, cols.offset),
        (rows.binning, cols.binning),
    )


def believed(timestamp_s: float) -> float:
    """A time in s since the epoch; 0 for one of a clock that was never set."""
    return timestamp_s if math.isfinite(timestamp_s) and timestamp_s > POSIX_2000_S else 0.0


def _shape(image: NTNDArray) -> tuple[Dimension, Dimension]:
    """(rows, cols): the fastest axis comes first, and axes of one pixel are none."""
    axes = list(image.dimensions)
    while len(axes) > 2 and axes[-1].size == 1:  # a stack of one, or one colour
        del axes[-1]
    color = image.attributes.get("ColorMode", MONO)
    if color != MONO or len(axes) != 2:
        sizes = " x ".join(str(axis.size) for axis in image.dimensions) or "nothing"
        raise NTNDArrayError(f"dimension: expected columns x rows of a grey image, got {sizes} with ColorMode {color}")
    cols, rows = axes
    for name, axis in (("columns", cols), ("rows", rows)):
        if not (0 < axis.size <= LARGEST_SIDE and axis.binning > 0 and axis.offset >= 0):
            raise NTNDArrayError(f"dimension: expected 1 to {LARGEST_SIDE} {name}, got {axis}")
    if rows.size * cols.size > LARGEST_PIXELS:
        raise NTNDArrayError(f"dimension: expected at most {LARGEST_PIXELS} pixels, got {cols.size} x {rows.size}")
    return rows, cols


def _pixels(image: NTNDArray, value: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    count = math.prod(shape)
    if image.codec:
        if value.dtype.itemsize != 1 or value.ndim != 1:
            raise NTNDArrayError(f"value: expected bytes of the codec {image.codec}, got {value.dtype} {value.shape}")
        return decompress(value.view(np.uint8), image.codec, _dtype(image, count), shape)
    if value.dtype.kind not in "uif" or value.shape != (count,):
        raise NTNDArrayError(f"value: expected {count} numbers, got {value.dtype} {value.shape}")
    return value.reshape(shape)


def _dtype(image: NTNDArray, count: int) -> np.dtype:
    """Type of compressed pixels: what `parameters` says, in the reading that fits the size.

    1 fits both readings (int8, uint8) and is taken for uint8: counts are not negative.
    """
    itemsize, rest = divmod(image.uncompressed_size, count)
    number = image.parameters
    tables = (ND_DATA_TYPES, SCALAR_TYPES) if number == 1 else (SCALAR_TYPES, ND_DATA_TYPES)
    for table in tables:
        name = None if number is None else table.get(number)
        if name is not None and not rest and np.dtype(name).itemsize == itemsize:
            return np.dtype(f"<{name}")
    raise NTNDArrayError(
        f"codec.parameters: expected the type of {count} pixels in {image.uncompressed_size} bytes, got {number}"
    )
