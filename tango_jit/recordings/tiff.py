"""Single images in TIFF files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.recordings.hdf5 import DTYPES, RecordingError


def _library() -> Any:
    """The package tifffile; it is asked for only where TIFF files are, so that all else works without it."""
    try:
        import tifffile
    except ImportError as error:
        raise RecordingError(
            "TIFF files need the package tifffile, which is not installed: pip install tifffile"
        ) from (error)
    return tifffile


def describe(path: str) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (rows, cols) and type of an image, read from its header. Raises RecordingError that names the file."""
    library = _library()
    try:
        with library.TiffFile(path) as file:
            pages, shape, dtype = len(file.pages), file.pages[0].shape, file.pages[0].dtype
    except Exception as error:  # what a damaged file makes of the library cannot be listed
        raise _damaged(path, error) from error
    if pages != 1 or len(shape) != 2 or dtype is None or np.dtype(dtype).name not in DTYPES:
        raise RecordingError(
            f"{path}: expected one image (rows, cols) of {', '.join(DTYPES)}, got {pages} of shape {shape} and {dtype}"
        )
    return (int(shape[0]), int(shape[1])), np.dtype(np.dtype(dtype).name)


def read(path: str, shape: tuple[int, int], dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """The image (rows, cols) as stored, in native byte order. Raises RecordingError for damage, other shape or type."""
    library = _library()
    try:
        data = library.imread(path)
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: expected an image, but the file is gone") from error
    except Exception as error:  # as in `describe`
        raise _damaged(path, error) from error
    if data.shape != shape or (dtype is not None and data.dtype.name != dtype.name):
        raise RecordingError(
            f"{path}: expected {shape[0]} x {shape[1]} pixels{'' if dtype is None else f' of {dtype}'} as in the other "
            f"images, got shape {data.shape} of {data.dtype}"
        )
    return np.ascontiguousarray(data, np.dtype(data.dtype.name))


def write(path: str, data: NDArray[Any]) -> None:
    """Write an image under another name, then rename: a file of that name is complete, and replaces an older one."""
    part = f"{path}.part"
    _library().imwrite(part, data, photometric="minisblack", metadata=None, software=False)
    os.replace(part, path)


def _damaged(path: str, error: Exception) -> RecordingError:
    return RecordingError(f"{path}: not a complete TIFF image: truncated, damaged or of another kind [{error}]")
