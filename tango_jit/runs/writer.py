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
from tango_jit.runs.columns import COLUMNS
from tango_jit.streams.messages import Denoised, Weights

STAGES = {"reconstructor": "reconstruction", "trainer": "training", "denoiser": "denoising"}
SMALL = 256  # entries in a chunk of a column
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
        `settings` for those of a stage of processing.
    raw, denoised : which of the two images of a picture are kept; without both only what is known of them.
    weights : keep the weights themselves, of all that `add_weights` gets.
    unit : of the denoised images, "1/mm", or "1" for a task that does not restore the slice.

    Raises FileExistsError, OSError.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, int]],
        *,
        started_s: float,
        facts: Mapping[str, Any],
        title: str = "",
        raw: bool = True,
        denoised: bool = True,
        weights: bool = False,
        unit: str = "1/mm",
    ) -> None:
        self.path = path
        self.shapes = dict(shapes)
        self.written_bytes = 0
        self._started_s = started_s
        self._images = [name for name, wanted in (("denoised", denoised), ("raw", raw)) if wanted]
        self._file = h5py.File(path, "x", libver="latest")
        try:
            self._entry = self._lay_out(title, facts, unit)
            self._weights = _Blobs(self._entry, "weights") if weights else None
            self._file.swmr_mode = True
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def _lay_out(self, title: str, facts: Mapping[str, Any], unit: str) -> Any:
        self._file.attrs.update(
            {
                "NX_class": "NXroot",
                "default": "entry",
                "creator": f"tango-jit {__version__}",
                "file_name": str(self.path),
            }
        )
        entry = _group(self._file, "entry", "NXentry", default=next(iter(self.shapes), ""))
        entry["title"] = title or self.path.stem
        entry["start_time"] = stamp(self._started_s)
        entry.create_dataset("end_time", data=np.array("", "S40"))  # empty: nobody has ended it
        entry["program_name"] = "tango-jit"
        entry["program_name"].attrs["version"] = __version__
        for index, (member, name) in enumerate(STAGES.items(), start=1):
            told = dict(facts.get(member, {}))
            stage = _group(entry, name, "NXprocess")
            stage["program"], stage["version"] = "tango-jit", str(told.get("version", ""))
            stage["date"], stage["sequence_index"] = stamp(self._started_s), index
            _note(stage, "settings", "application/json", json.dumps(told, indent=1, default=str))
        others = {member: told for member, told in facts.items() if member not in STAGES}
        _note(entry, "devices", "application/json", json.dumps(others, indent=1, default=str))
        note = _note(entry, "journal", "application/jsonl", None)
        note["description"] = "what happened meanwhile, a line of JSON each: time_s since the epoch, kind, and what"
        self._journal = note["data"]
        for name, shape in self.shapes.items():
            self._slice(entry, name, shape, unit)
        return entry

    def _slice(self, entry: Any, name: str, shape: tuple[int, int], unit: str) -> None:
        group = _group(entry, name, "NXdata")
        if self._images:
            group.attrs["signal"], group.attrs["auxiliary_signals"] = self._images[0], self._images[1:]
        else:
            group.attrs["signal"] = "accuracy"
        group.attrs["axes"] = ["time", ".", "."] if self._images else ["time"]
        for image in self._images:
            made = group.create_dataset(image, (0, *shape), "f4", maxshape=(None, *shape), chunks=(1, *shape))
            made.attrs.update(
                {"units": "1/mm" if image == "raw" else unit, "interpretation": "image", "long_name": f"{name} {image}"}
            )
        time = _column(group, "time", "f8", (), "s")
        time.attrs["start"] = stamp(self._started_s)
        for column, kind in COLUMNS.items():
            _column(group, column, kind.dtype, kind.shape, kind.unit).attrs["long_name"] = kind.meaning

    def append(self, picture: Denoised) -> None:
        """Add a picture of one of the slices, of its shape. Raises KeyError, ValueError, OSError (a full disk)."""
        rows, cols = self.shapes[picture.slice]
        if picture.geometry.shape != (rows, cols):
            raise ValueError(f"{picture.slice}: expected {rows} x {cols} pixels, got {picture.geometry.shape}")
        group = self._entry[picture.slice]
        depth = picture.data.shape[1]
        images = {"denoised": picture.data[0, depth // 2], "raw": picture.data[1, depth // 2]}
        for name in self._images:
            _append(group[name], images[name])
        _append(group["time"], picture.timestamp_s - self._started_s)
        for column, kind in COLUMNS.items():
            _append(group[column], kind.value(picture))
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
        _extend(self._journal, np.frombuffer(line.encode(), np.uint8))

    def flush(self) -> None:
        """Show readers what was added."""
        self._file.flush()

    def close(self, ended_s: float | None = None) -> None:
        """End the file; None: it is given up, and tells no end."""
        if not self._file:
            return
        try:
            if ended_s is not None:
                self._entry["end_time"][()] = stamp(ended_s).encode()
        finally:
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
        self._headers = group.create_dataset("headers", (0,), "u1", **chunk)
        self._tensors = group.create_dataset("tensors", (0,), "u1", **chunk)

    def append(self, version: int, digest: str, header: bytes, tensors: bytes) -> None:
        for data, blob in ((self._headers, header), (self._tensors, tensors)):
            _extend(data, np.frombuffer(blob, np.uint8))
        ends = {"header_end": len(self._headers), "tensors_end": len(self._tensors)}
        for column, value in ({"version": version, "sha256": digest.encode()} | ends).items():
            _append(self._columns[column], value)


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
    chunk = max(1, SMALL // max(1, math.prod(shape)))
    made = group.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape))
    if unit:
        made.attrs["units"] = unit
    return made


def _append(data: Any, value: Any) -> None:
    data.resize(len(data) + 1, axis=0)
    data[-1] = value


def _extend(data: Any, values: np.ndarray) -> None:
    start = len(data)
    data.resize(start + len(values), axis=0)
    data[start:] = values
