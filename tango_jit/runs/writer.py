"""Writes the file of a run: NeXus in HDF5 that others may read while it grows (SWMR).

Everything in it exists from the start, as HDF5 wants of such a file; after that datasets only grow. So the settings of
the devices stand in it as they were at the start, and what changes later, in the journal. docs/reference/runs.md says
field by field what lies where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from tango_jit import __version__
from tango_jit.runs.columns import COLUMNS, GROUP, entries
from tango_jit.streams.messages import Denoised, Weights

STAGES = {"reconstructor": "reconstruction", "trainer": "training", "denoiser": "denoising"}
_ABANDONED: list[RunWriter] = []
SMALL = 4096  # bytes in a chunk of a column
BLOB = 1 << 16


def stamp(time_s: float) -> str:
    """ISO 8601 with the offset of the local zone, to the millisecond."""
    return datetime.fromtimestamp(time_s).astimezone().isoformat(timespec="milliseconds")


class RunWriter:
    """One file of a run, made when this is; it must not exist yet.

    Parameters
    ----------
    shapes : rows and columns of each slice by its name; the first one is shown first.
    facts : what to keep about each device by its member name: anything that JSON can tell, with the keys `version` and
        `settings` for those of a stage of processing. `facts_s`: when they were told, None: at the start.
    raw, denoised : which of the two images of a picture are kept; without both only what is known of them.
    weights : keep the weights themselves, of all that `add_weights` gets.
    unit : of the denoised images when the file begins, "1/mm", or "1" for a task that does not restore the slice.

    Raises FileExistsError, OSError.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, int]],
        *,
        started_s: float,
        facts: Mapping[str, Any],
        facts_s: float | None = None,
        title: str = "",
        raw: bool = True,
        denoised: bool = True,
        weights: bool = False,
        unit: str = "1/mm",
    ) -> None:
        if path.exists():
            raise FileExistsError(f"{path}: expected a new file, but there is one of that name")
        self.path = path
        self.shapes = dict(shapes)
        self.written_bytes = 0
        self._started_s = started_s
        self._images = [name for name, wanted in (("denoised", denoised), ("raw", raw)) if wanted]
        # Datasets stay open: one that is closed writes what it has kept back, and what fails then nobody hears of.
        self._slices: dict[str, dict[str, Any]] = {}
        self._rows = dict.fromkeys(shapes, 0)  # complete ones
        part = path.with_name(f".{path.name}.part")  # so that nobody reads it before all is laid out
        self._file = h5py.File(part, "w", libver="latest")
        try:
            entry = self._lay_out(title, facts, started_s if facts_s is None else facts_s, unit)
            self._weights = _Blobs(entry, "weights") if weights else None
            self._file.swmr_mode = True
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            self.abandon()
            raise

    def _lay_out(self, title: str, facts: Mapping[str, Any], facts_s: float, unit: str) -> Any:
        root = {"NX_class": "NXroot", "creator": f"tango-jit {__version__}", "file_name": str(self.path)}
        self._file.attrs.update(root | {"default": "entry"})
        entry = _group(self._file, "entry", "NXentry", default=f"{GROUP}{next(iter(self.shapes))}")
        entry["title"] = title or self.path.stem
        entry["start_time"] = stamp(self._started_s)
        self._end = entry.create_dataset("end_time", data=np.array("", "S40"))  # empty: nobody has ended it
        entry["program_name"] = "tango-jit"
        entry["program_name"].attrs["version"] = __version__
        for index, (member, name) in enumerate(STAGES.items(), start=1):
            told = dict(facts.get(member, {}))
            stage = _group(entry, name, "NXprocess")
            stage["program"], stage["version"] = "tango-jit", str(told.get("version", ""))
            stage["date"], stage["sequence_index"] = stamp(self._started_s), index
            _note(stage, "settings", "application/json", json.dumps(told, indent=1, default=str))
        others = {member: told for member, told in facts.items() if member not in STAGES}
        _note(entry, "devices", "application/json", json.dumps(others, indent=1, default=str)).attrs["time_s"] = facts_s
        note = _note(entry, "journal", "application/jsonl", None)
        note["description"] = "what happened meanwhile, a line of JSON each: time_s since the epoch, kind, and what"
        self._journal, self._noted = note["data"], 0
        for name, shape in self.shapes.items():
            self._slice(entry, name, shape, unit)
        return entry

    def _slice(self, entry: Any, name: str, shape: tuple[int, int], unit: str) -> None:
        group = _group(entry, f"{GROUP}{name}", "NXdata", title=name)
        columns = self._slices[name] = {}
        if self._images:
            group.attrs["signal"] = self._images[0]
            if self._images[1:]:
                group.attrs["auxiliary_signals"] = self._images[1:]
        else:
            group.attrs["signal"] = "accuracy"
        group.attrs["axes"] = ["time", ".", "."] if self._images else ["time"]
        for image in self._images:
            made = group.create_dataset(image, (0, *shape), "<f4", maxshape=(None, *shape), chunks=(1, *shape))
            made.attrs.update(
                {"units": "1/mm" if image == "raw" else unit, "interpretation": "image", "long_name": f"{name} {image}"}
            )
            columns[image] = made
        columns["time"] = _column(group, "time", "f8", (), "s")
        columns["time"].attrs["start"] = stamp(self._started_s)
        for column, kind in COLUMNS.items():
            columns[column] = _column(group, column, kind.dtype, kind.shape, kind.unit)
            columns[column].attrs["long_name"] = kind.meaning

    def append(self, picture: Denoised) -> None:
        """Add a picture of one of the slices, of its shape. One that could not be added may be tried again.

        Raises PictureError, KeyError, ValueError, and what h5py raises on a full disk.
        """
        rows, cols = self.shapes[picture.slice]
        if picture.geometry.shape != (rows, cols):
            raise ValueError(f"{picture.slice}: expected {rows} x {cols} pixels, got {picture.geometry.shape}")
        described = entries(picture)
        columns, row = self._slices[picture.slice], self._rows[picture.slice]
        depth = picture.data.shape[1]
        images = {"denoised": picture.data[0, depth // 2], "raw": picture.data[1, depth // 2]}
        for name in self._images:
            _put_image(columns[name], row, images[name])
        _put(columns["time"], row, picture.timestamp_s - self._started_s)
        for column, entry in described.items():
            _put(columns[column], row, entry)
        self._file.flush()
        self._rows[picture.slice] += 1
        self.written_bytes += sum(images[name].nbytes for name in self._images)

    def add_weights(self, weights: Weights, digest: str) -> None:
        """Keep a version of the weights, if weights are kept."""
        if self._weights is not None:
            header, tensors = weights.parts()
            self._weights.append(weights.version, digest, bytes(header), bytes(tensors))
            self.written_bytes += len(tensors)

    def note(self, time_s: float, kind: str, **what: Any) -> None:
        """Write a line into the journal."""
        line = json.dumps({"time_s": time_s, "kind": kind, **what}, default=str) + "\n"
        _extend(self._journal, self._noted, np.frombuffer(line.encode(), np.uint8))
        self._noted = len(self._journal)

    def flush(self) -> None:
        """Show readers what was added."""
        self._file.flush()

    def abandon(self) -> None:
        """Touch a file no more that cannot be written: HDF5 crashes the process when it is closed, or forgotten."""
        _ABANDONED.append(self)

    def close(self, ended_s: float | None = None) -> None:
        """End the file; None: it is given up, and tells no end."""
        if not self._file:
            return
        if ended_s is not None:
            self._end[()] = stamp(ended_s).encode()
        self._file.flush()  # what cannot be written is told here, and not where HDF5 would crash
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Blobs:
    """Versions of weights: a table of them, and their bytes one after the other."""

    def __init__(self, entry: Any, name: str) -> None:
        group = _group(entry, name, "NXcollection")
        self._columns = {
            column: _column(group, column, dtype, ())
            for column, dtype in (("version", "i8"), ("sha256", "S64"), ("header_end", "i8"), ("tensors_end", "i8"))
        }
        chunk = {"maxshape": (None,), "chunks": (BLOB,)}
        self._count = 0
        self._ends: dict[str, int] = {}  # of what is complete
        self._headers = group.create_dataset("headers", (0,), "u1", **chunk)
        self._tensors = group.create_dataset("tensors", (0,), "u1", **chunk)

    def append(self, version: int, digest: str, header: bytes, tensors: bytes) -> None:
        for data, blob in ((self._headers, header), (self._tensors, tensors)):
            _extend(data, self._ends.get(data.name, 0), np.frombuffer(blob, np.uint8))
        ends = {"header_end": len(self._headers), "tensors_end": len(self._tensors)}
        for column, value in ({"version": version, "sha256": digest.encode()} | ends).items():
            _put(self._columns[column], self._count, value)
        self._count += 1
        self._ends = {data.name: len(data) for data in (self._headers, self._tensors)}


def _group(parent: Any, name: str, kind: str, **attributes: Any) -> Any:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": kind, **attributes})
    return group


def _note(parent: Any, name: str, kind: str, text: str | None) -> Any:
    """An NXnote; None: its data are bytes that grow."""
    note = _group(parent, name, "NXnote")
    note["type"] = kind
    if text is None:
        note.create_dataset("data", (0,), "u1", maxshape=(None,), chunks=(4096,))
    else:
        note["data"] = text
    return note


def _column(group: Any, name: str, dtype: str, shape: tuple[int, ...], unit: str = "") -> Any:
    chunk = max(1, SMALL // (math.prod(shape) * np.dtype(dtype).itemsize))
    layout: dict[str, Any] = {"maxshape": (None, *shape), "chunks": (chunk, *shape), "rdcc_nbytes": 0}
    made = group.create_dataset(name, (0, *shape), dtype, **layout)
    if unit:
        made.attrs["units"] = unit
    return made


def _put(data: Any, row: int, value: Any) -> None:
    data.resize(row + 1, axis=0)
    data[row] = value


def _put_image(data: Any, row: int, image: np.ndarray) -> None:
    """Past the cache of HDF5, which forgets what it could not write; nor is a chunk that failed once read again, unless
    it was cut off in between."""
    data.resize(row, axis=0)
    data.resize(row + 1, axis=0)
    data.id.write_direct_chunk((row, 0, 0), np.ascontiguousarray(image, "<f4"))


def _extend(data: Any, start: int, values: np.ndarray) -> None:
    data.resize(start + len(values), axis=0)
    data[start:] = values
