"""Compressed frames, as areaDetector and HDF5 write them, back into pixels.

Nothing here trusts what it reads: sizes are compared with what the frame must have before anything is unpacked, and
no more than that is ever allocated. Libraries other than zlib and Pillow come with the extra `epics`.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Shape = tuple[int, int]
BITSHUFFLE_BYTES = 8192  # the block of bitshuffle where nobody says another
SMALLEST_BLOCK = 128  # elements


class CodecError(ValueError):
    """A payload that is not what its codec says; the text gives expected and got."""


def decompress(payload: Bytes, codec: str, dtype: np.dtype, shape: Shape) -> NDArray:
    """Pixels (rows, cols) of `dtype` and this shape from a payload (n,) uint8.

    `codec`: a name of areaDetector's NDCodec, in any case: jpeg, zlib, blosc, lz4, lz4hdf5, bslz4. The last three come
    with the header of an HDF5 chunk or without, which is found by looking. Raises CodecError, and nothing else,
    for what cannot be unpacked into exactly these pixels.
    """
    try:
        unpack = _CODECS[codec.lower()]
    except KeyError:
        raise CodecError(f"codec: expected one of {', '.join(_CODECS)}, got {codec!r}") from None
    try:
        pixels = unpack(np.ascontiguousarray(payload, np.uint8), dtype, shape)
    except CodecError as error:
        raise CodecError(f"{codec}: {error}") from None
    except ModuleNotFoundError as error:
        raise CodecError(f"{codec}: expected the package {error.name}, which comes with the extra epics") from None
    size = math.prod(shape) * dtype.itemsize
    if pixels.nbytes != size:
        raise CodecError(f"{codec}: expected {size} bytes unpacked, got {pixels.nbytes}")
    return pixels.reshape(-1).view(dtype).reshape(shape)


def _zlib(payload: Bytes, dtype: np.dtype, shape: Shape) -> NDArray:
    size = math.prod(shape) * dtype.itemsize
    stream = zlib.decompressobj()
    try:
        pixels = stream.decompress(payload.data, size + 1)
    except zlib.error as error:
        raise CodecError(str(error)) from None
    if len(pixels) == size and not stream.eof:
        raise CodecError(f"expected the end of the stream after {size} bytes, got more or a cut one")
    return np.frombuffer(pixels, np.uint8)


def _jpeg(payload: Bytes, dtype: np.dtype, shape: Shape) -> NDArray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(payload.data), formats=("JPEG",)) as picture:
            if picture.mode != "L" or dtype != np.uint8 or (picture.height, picture.width) != shape:
                form = f"{picture.width} x {picture.height} in the mode {picture.mode}"
                raise CodecError(f"expected {shape[1]} x {shape[0]} grey pixels of 8 bits, got {form}, told as {dtype}")
            return np.asarray(picture)
    except CodecError:
        raise
    except Exception as error:  # of a dozen kinds, one for each way in which a picture may be broken
        raise CodecError(f"{type(error).__name__}: {error}") from None


def _blosc(payload: Bytes, dtype: np.dtype, shape: Shape) -> NDArray:
    import blosc
    from blosc.blosc_extension import error as refusal

    size = math.prod(shape) * dtype.itemsize
    if len(payload) < 16:
        raise CodecError(f"expected a header of 16 bytes, got {len(payload)} bytes in all")
    unpacked, _, packed = struct.unpack_from("<III", payload.data, 4)
    if (unpacked, packed) != (size, len(payload)):
        raise CodecError(f"expected {size} bytes in {len(payload)}, got a header of {unpacked} in {packed}")
    try:
        return np.frombuffer(blosc.decompress(payload.data), np.uint8)
    except refusal as error:
        raise CodecError(str(error)) from None


def _lz4(payload: Bytes, dtype: np.dtype, shape: Shape) -> NDArray:
    size = math.prod(shape) * dtype.itemsize
    if not _has_chunk_header(payload, size):
        return np.frombuffer(_lz4_block(payload, size), np.uint8)
    return _lz4_chunk(payload, size)


def _lz4_chunk(payload: Bytes, size: int) -> Bytes:
    """The chunk of HDF5's filter 32004: after the header blocks, each with its packed length before it (big-endian)."""
    pixels = np.empty(size, np.uint8)
    (block,) = struct.unpack_from(">I", payload.data, 8)
    if not block > 0:
        raise CodecError(f"expected blocks of at least a byte, got {block}")
    at, done = 12, 0
    while done < size:
        length = _length(payload, at)
        here = payload[at + 4 : at + 4 + length]
        wanted = min(block, size - done)
        plain = length == wanted  # what did not get smaller is stored as it was
        pixels[done : done + wanted] = here if plain else np.frombuffer(_lz4_block(here, wanted), np.uint8)
        at, done = at + 4 + length, done + wanted
    if at != len(payload):
        raise CodecError(f"expected the end after {at} bytes, got {len(payload)}")
    return pixels


def _lz4_block(payload: Bytes, size: int) -> bytes:
    import lz4.block

    try:
        pixels = lz4.block.decompress(payload.data, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise CodecError(str(error)) from None
    if len(pixels) != size:
        raise CodecError(f"expected {size} bytes unpacked, got {len(pixels)}")
    return pixels


def _bslz4(payload: Bytes, dtype: np.dtype, shape: Shape) -> NDArray:
    import bitshuffle

    block, count = 0, math.prod(shape)
    if _has_chunk_header(payload, count * dtype.itemsize):
        (block_bytes,) = struct.unpack_from(">I", payload.data, 8)
        payload, block = payload[12:], block_bytes // dtype.itemsize
        if block_bytes % (8 * dtype.itemsize):
            raise CodecError(f"expected blocks of 8 pixels, of {dtype}, got blocks of {block_bytes} bytes")
    _check_bitshuffle(payload, dtype, count, block)
    try:
        return bitshuffle.decompress_lz4(np.ascontiguousarray(payload), (count,), dtype, block)
    except (RuntimeError, ValueError) as error:
        raise CodecError(str(error)) from None


def _check_bitshuffle(payload: Bytes, dtype: np.dtype, count: int, block: int) -> None:
    """The library is not told where the payload ends: so follow the lengths of the blocks through it before.

    Whole blocks, then one of the multiple of 8 pixels that is left, each with its packed length before it (big-endian);
    then up to 7 pixels as they are.
    """
    block = block or max(BITSHUFFLE_BYTES // dtype.itemsize // 8 * 8, SMALLEST_BLOCK)
    blocks = count // block + (count % block >= 8)
    at = 0
    for _ in range(blocks):
        at += 4 + _length(payload, at)
    at += count % 8 * dtype.itemsize
    if at != len(payload):
        raise CodecError(f"expected {blocks} blocks in {at} bytes, got {len(payload)} bytes")


def _length(payload: Bytes, at: int) -> int:
    """The packed length at `at` of a block that is wholly there."""
    left = len(payload) - at - 4
    length = struct.unpack_from(">I", payload.data, at)[0] if left >= 0 else 0
    if not 0 < length <= left:
        raise CodecError(f"expected a block at byte {at}, got a length of {length} with {max(left, 0)} bytes left")
    return length


def _has_chunk_header(payload: Bytes, size: int) -> bool:
    """HDF5 chunks begin with the size of what they hold, 8 bytes, big-endian; then 4 bytes tell the block's."""
    return len(payload) >= 12 and struct.unpack_from(">Q", payload.data)[0] == size


_CODECS: dict[str, Callable[[Bytes, np.dtype, Shape], NDArray]] = {
    "jpeg": _jpeg,
    "zlib": _zlib,
    "blosc": _blosc,
    "lz4": _lz4,
    "lz4hdf5": _lz4,
    "bslz4": _bslz4,
}
