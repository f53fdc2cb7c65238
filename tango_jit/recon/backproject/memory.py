"""How much memory of a device is needed, estimated before it is taken, and what to do where it is not enough.

Plain arithmetic: sizes in, bytes out. Where it says "about", allocators round up by a few percent more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Texture arrays are stored in blocks of 64 bytes by 8 rows, or 16, 32, 64, 128 where there are more rows.
_BLOCK_BYTES, _BLOCK_ROWS, _HIGHEST_BLOCK = 64, 8, 128
EXACT, HALF = 4, 2  # bytes of a texel
_LIBRARIES = 128 << 20  # work space of cuFFT, cuDNN and cuBLAS, compiled kernels


def ring_bytes(views: int, rows: int, cols: int, texel: int = EXACT) -> int:
    """A ring of filtered views as texture arrays, at most."""
    block = min(max(1 << (rows - 1).bit_length(), _BLOCK_ROWS), _HIGHEST_BLOCK)
    return views * _up(cols * texel, _BLOCK_BYTES) * _up(rows, block)


def filter_bytes(frames: int, rows: int, cols: int, padded: int | None = None) -> int:
    """Preprocessing `frames` at a time: frames and views in float32, padded lines (None: 2 cols), their spectrum and as
    much again for the work space of the FFT."""
    padded = 2 * cols if padded is None else padded
    spectrum = 8 * (padded // 2 + 1)
    return frames * rows * (2 * 4 * cols + 4 * padded + 2 * spectrum)


def slices_bytes(slices: int, rows: int, cols: int, planes: int = 3) -> int:
    """Slices of `planes` each, as they are kept (halves and whole) and as they are made anew."""
    return 2 * slices * planes * 4 * rows * cols


def pairs_bytes(capacity: int, size: int, batch: int = 0) -> int:
    """The buffer of pairs of size x size patches, and a batch of them on its way."""
    return (capacity + batch) * 2 * 4 * size * size


def network_bytes(parameters: int, channels: int, pixels: int, *, training: bool, activation: int = 4) -> int:
    """A network of so many parameters at work on so many pixels.

    `channels` is the sum over all layers of channels per pixel of the input (a layer at half the resolution counts a
    quarter), `activation` the bytes of a value. Training keeps every layer and its gradient; weights have a gradient,
    two moments and an average beside them. Inference keeps what is in use, at most all of it.
    """
    copies = 5 if training else 1
    return copies * 4 * parameters + (2 if training else 1) * activation * channels * pixels


def beside_bytes(rows: int, cols: int) -> int:
    """What a live process needs beside its ring, for frames of rows x cols pixels: a frame on its way through the
    filter, three slices as wide as the detector, and what libraries take for themselves."""
    return _LIBRARIES + filter_bytes(1, rows, cols) + slices_bytes(3, cols, cols)


class Plan(NamedTuple):
    """What fits."""

    views: int  # that the ring may hold
    texel: int  # bytes: EXACT or HALF
    message: str  # why that is less than was wanted; empty: it is not


def plan(
    wanted: int, least: int, rows: int, cols: int, free: int, others: Mapping[str, int], texel: int = EXACT
) -> Plan:
    """A ring of `wanted` views, or of less: first fewer spare views (`least` are needed), then texels of 16 bits.

    `others` are the bytes of everything else by name, `free` those that the device has. Raises MemoryError that names
    what is needed for what, and what there is.
    """
    rest = free - sum(others.values())
    for bytes_ in dict.fromkeys((texel, HALF)):
        for views in (wanted, least):
            if ring_bytes(views, rows, cols, bytes_) <= rest:
                return Plan(views, bytes_, _reduced(wanted, views, rows, cols, texel, bytes_, rest))
    smallest = ring_bytes(least, rows, cols, HALF)
    parts = "".join(f", {name} {megabytes(size)}" for name, size in others.items())
    raise MemoryError(
        f"device memory: expected {megabytes(smallest + sum(others.values()))} free ({least} views of {rows} x {cols} "
        f"pixels of 16 bits {megabytes(smallest)}{parts}), got {megabytes(free)}: bin the frames or take smaller slices"
    )


def _reduced(wanted: int, views: int, rows: int, cols: int, texel: int, got: int, rest: int) -> str:
    if (views, got) == (wanted, texel):
        return ""
    text = f"device memory: expected {megabytes(ring_bytes(wanted, rows, cols, texel))} for {wanted} views, got "
    text += f"{megabytes(rest)}:"
    if views < wanted:
        text += f" {views} views are kept, none to spare"
    if got != texel:
        text += f"{',' if views < wanted else ''} texels of 16 bits instead of 32"
    return text


def refuse(what: str, needed: int, free: int) -> None:
    """Raises MemoryError in words if `needed` bytes for `what` are more than the device has."""
    if needed > free:
        raise MemoryError(f"{what}: expected {megabytes(needed)} of device memory, got {megabytes(free)} free")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
