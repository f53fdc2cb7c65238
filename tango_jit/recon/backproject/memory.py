"""How much memory of a device is needed, estimated before it is taken, and refused in words where it is too much.

Plain arithmetic: sizes in, bytes out. Where it says "about", allocators round up by a few percent more.
"""

from __future__ import annotations

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


def beside_bytes(rows: int, cols: int) -> int:
    """What a live process needs beside its ring, for frames of rows x cols pixels: a frame on its way through the
    filter, three slices as wide as the detector, and what libraries take for themselves."""
    return _LIBRARIES + filter_bytes(1, rows, cols) + slices_bytes(3, cols, cols)


def refuse(what: str, needed: int, free: int) -> None:
    """Raises MemoryError in words if `needed` bytes for `what` are more than the device has."""
    if needed > free:
        raise MemoryError(f"{what}: expected {megabytes(needed)} of device memory, got {megabytes(free)} free")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
