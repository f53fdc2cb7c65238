"""What every HDF5 format needs: opening with clear errors, values with units, columns that grow."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

DTYPES = ("uint8", "uint16", "uint32", "float32")
TO_MM: Mapping[str, float] = {
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
}
TO_S: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "microsecond", "microseconds"), 1e-6),
}
TO_DEGREE: Mapping[str, float] = {
    **dict.fromkeys(("deg", "degree", "degrees", "°"), 1.0),
    **dict.fromkeys(("rad", "radian", "radians"), 180 / np.pi),
}

# Files compressed by cameras (bitshuffle, LZ4, zstd) need these filters; without the package such files are refused.
with contextlib.suppress(ImportError):
    importlib.import_module("hdf5plugin")


class RecordingError(ValueError):
    """No recording that can be read. The text names the file and the HDF5 path, what was expected and what came."""


def open_to_read(path: str | os.PathLike[str]) -> h5py.File:
    """Raises FileNotFoundError, or RecordingError that says whether the file is foreign, truncated or locked."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"{name}: expected a recording, but there is no such file")
    try:
        # Best effort: file systems without locks (some NFS) still work, a file that a writer holds is still refused.
        return h5py.File(name, "r", locking="best-effort")
    except OSError as error:
        text = str(error)
        if "lock file" in text or "locking" in text:  # the text on truncated files has "sblock" in it
            reason = (
                "another program holds it open for writing (HDF5 file lock). Wait until it has closed the file; if "
                "no program has, and the file system cannot lock, set HDF5_USE_FILE_LOCKING=FALSE"
            )
        elif "truncated" in text:
            reason = "the file is truncated: its end is missing (an interrupted copy, or a writer that was killed)"
        elif "signature not found" in text:
            reason = "not an HDF5 file"
        else:
            reason = "HDF5 cannot open it"
        raise RecordingError(f"{name}: {reason} [{text}]") from error


def label(group: h5py.Group, path: str = "") -> str:
    """`file:/group/path`, for messages."""
    inside = f"{(group.name or '').rstrip('/')}/{path}".rstrip("/")
    return f"{group.file.filename}:{inside or '/'}"


def subgroup(group: h5py.Group, path: str) -> h5py.Group | None:
    """None where there is no such group."""
    found = group.get(path)
    return found if isinstance(found, h5py.Group) else None


def dataset(group: h5py.Group, path: str) -> h5py.Dataset | None:
    """None where there is no such dataset (a dangling link counts as absent)."""
    found = group.get(path)
    return found if isinstance(found, h5py.Dataset) else None


def text(group: h5py.Group, path: str) -> str | None:
    """A string (a one-element array of them counts too); None where absent."""
    found = dataset(group, path)
    if found is None:
        return None
    value = np.ravel(np.asarray(found[()], dtype=object))
    if len(value) != 1 or not isinstance(value[0], (str, bytes)):
        raise RecordingError(f"{label(group, path)}: expected one string, got shape {found.shape} of {found.dtype}")
    return value[0].decode("utf-8", "replace") if isinstance(value[0], bytes) else value[0]


def units(found: h5py.Dataset) -> str | None:
    """The attribute `units` (or `unit`); None where absent."""
    value = found.attrs.get("units", found.attrs.get("unit"))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def numbers(
    group: h5py.Group, path: str, factors: Mapping[str, float] | None = None, default_unit: str | None = None
) -> NDArray[np.float64] | None:
    """All values of a dataset as float64, times the factor of its unit; None where absent.

    Raises RecordingError for text, for values that are not finite, and for a unit that is missing (unless
    `default_unit` stands in for it) or not among `factors`.
    """
    found = dataset(group, path)
    if found is None:
        return None
    if found.dtype.kind not in "uifb":
        raise RecordingError(f"{label(group, path)}: expected numbers, got {found.dtype}")
    values = np.asarray(found[()], np.float64)
    if not np.isfinite(values).all():
        raise RecordingError(f"{label(group, path)}: expected finite numbers, got NaN or infinity")
    if factors is None:
        return values
    unit = units(found)
    unit = default_unit if unit is None else unit
    if unit is None or unit.strip() not in factors:
        raise RecordingError(
            f"{label(group, path)}: expected the attribute units to be one of {', '.join(factors)}; got {unit!r}"
        )
    return values * factors[unit.strip()]


def number(group: h5py.Group, path: str, factors: Mapping[str, float] | None = None) -> float | None:
    """One number (an array of equal ones counts too); None where absent. Raises as `numbers`."""
    values = numbers(group, path, factors)
    if values is None:
        return None
    if values.size == 0 or np.ptp(values) != 0:
        raise RecordingError(f"{label(group, path)}: expected one number, got {values.size} different ones")
    return float(values.flat[0])


def frames(group: h5py.Group, path: str) -> h5py.Dataset:
    """The stack of frames (n, rows, cols), checked: present, three axes, a known type, no part missing."""
    found = dataset(group, path)
    if found is None:
        raise RecordingError(f"{label(group, path)}: expected frames (n, rows, cols), got nothing")
    if found.ndim != 3 or 0 in found.shape[1:]:
        raise RecordingError(f"{label(group, path)}: expected frames (n, rows, cols), got shape {found.shape}")
    if found.dtype.name not in (*DTYPES, "float64"):
        raise RecordingError(f"{label(group, path)}: expected one of {', '.join(DTYPES)}, got {found.dtype}")
    if found.is_virtual:  # HDF5 reads fill values where a source file is gone: that must not pass for data
        folder = os.path.dirname(os.path.abspath(group.file.filename))
        for source in found.virtual_sources():
            if source.file_name != "." and not os.path.isfile(os.path.join(folder, source.file_name)):
                raise RecordingError(f"{label(group, path)}: its frames are in {source.file_name}, which is missing")
    return found


def read_frame(stack: h5py.Dataset, index: int) -> NDArray[Any]:
    """One frame (rows, cols) in native byte order and one of DTYPES (float64 becomes float32)."""
    try:
        data = stack[index]
    except OSError as error:
        raise RecordingError(
            f"{stack.file.filename}:{stack.name}: frame {index} cannot be read: the file is damaged or "
            f"compressed by a filter that is not installed (see hdf5plugin) [{error}]"
        ) from error
    kind = "float32" if stack.dtype.name == "float64" else stack.dtype.name
    return np.ascontiguousarray(data, np.dtype(kind))


def mean_frame(stack: h5py.Dataset, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean (rows, cols) of the frames at `indices`, one in memory at a time."""
    total = np.zeros(stack.shape[1:], np.float64)
    for index in indices:
        total += read_frame(stack, int(index))
    return (total / len(indices)).astype(np.float32)


class Column:
    """A dataset that grows by one entry (of `shape`) at a time.

    Small entries are written in blocks: resizing a dataset for each number would cost more than the frame itself.
    """

    def __init__(
        self,
        group: h5py.Group,
        path: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        unit: str | None = None,
        fill: float | None = None,
    ) -> None:
        entry_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        chunk = max(1, min(1024, 2**18 // max(entry_bytes, 1)))  # 256 KiB, or one frame where that is larger
        self.dataset = group.create_dataset(
            path, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape), fillvalue=fill
        )
        if unit is not None:
            self.dataset.attrs["units"] = unit
        self._block = chunk
        self._waiting: list[Any] = []
        self._length = 0

    def append(self, value: Any) -> None:
        self._waiting.append(value)
        if len(self._waiting) >= self._block:
            self._settle()

    def pad(self, length: int) -> None:
        """Grow to `length` entries of the fill value."""
        self._settle()
        self._length = length
        self.dataset.resize(length, axis=0)

    def flush(self) -> None:
        """Write what waits; it waits still, for its block to become full. What failed may be tried again."""
        if not self._waiting:
            return
        start, end = self._length, self._length + len(self._waiting)
        self.dataset.resize(start, axis=0)  # HDF5 reads no chunk again that failed once, unless it was cut off
        self.dataset.resize(end, axis=0)
        values = np.asarray(self._waiting, self.dataset.dtype)
        if start % self._block:  # after `pad`
            self.dataset[start:] = values
            return
        block = np.full((self._block, *self.dataset.shape[1:]), self.dataset.fillvalue, self.dataset.dtype)
        block[: len(values)] = values
        # Past the cache of HDF5: what cannot be written is told at once, and of the right block.
        self.dataset.id.write_direct_chunk((start, *(0 for _ in self.dataset.shape[1:])), block)

    def __len__(self) -> int:
        """Entries, those that wait too."""
        return self._length + len(self._waiting)

    def cut(self, length: int) -> None:
        """Forget all entries from this one on; the last ones to be added then."""
        del self._waiting[max(length - self._length, 0) :]
        self._length = min(self._length, length)
        self.dataset.resize(length, axis=0)

    def _settle(self) -> None:
        self.flush()
        self._length += len(self._waiting)
        self._waiting.clear()
