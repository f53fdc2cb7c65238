"""What this project adds to a FleX-ray folder, so that it reads back exactly: `tango-jit.toml` and `frames.csv`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings.hdf5 import DTYPES, RecordingError
from tango_jit.streams.messages import Header

COLUMNS = ("frame_number", "angle_rad", "timestamp_s")
POSE = tuple(f"{vector}_{axis}_mm" for vector in ("source", "detector", "u", "v") for axis in "xyz")


@dataclass(frozen=True)
class Exact:
    """The table `exact` of the companion file. `planned`: how many frames there are to be; None: there was no plan."""

    header: Header
    dtype: np.dtype[Any]
    dark_count: int | None = None
    flat_count: int | None = None
    planned: int | None = None


def read(values: Mapping[str, Any], where: str) -> Exact:
    """Raises RecordingError that names the key."""
    known = {"series", "name", "linear", "full_turn", "exposure_s", "geometry", "dtype", "dark_count", "flat_count"}
    unknown = [name for name in values if name not in known | {"planned"}]
    missing = [name for name in ("series", "linear", "geometry", "dtype") if name not in values]
    if unknown or missing:
        raise RecordingError(f"{where}: [exact]: missing are {missing or 'none'}, unknown are {unknown or 'none'}")
    counts = {name: values.get(name) for name in ("dark_count", "flat_count", "planned")}
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise RecordingError(f"{where}: [exact] {name}: expected a whole number, got {count!r}")
    if values["dtype"] not in DTYPES:
        raise RecordingError(f"{where}: [exact] dtype: expected one of {', '.join(DTYPES)}, got {values['dtype']!r}")
    try:
        header = Header(
            values["series"],
            "raw",
            ScanGeometry.from_dict(values["geometry"]),
            values["linear"],
            exposure_s=values.get("exposure_s"),
            name=values.get("name", ""),
            full_turn=values.get("full_turn", False),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingError(f"{where}: [exact]: {error}") from error
    return Exact(header, np.dtype(values["dtype"]), **counts)


def to_toml(exact: Exact) -> str:
    """The table `exact` as TOML text."""
    header, geometry = exact.header, exact.header.geometry.to_dict()
    values: dict[str, Any] = {
        "series": header.series,
        "name": header.name,
        "linear": header.linear,
        "full_turn": header.full_turn or None,
        "exposure_s": header.exposure_s,
        "dtype": exact.dtype.name,
        "dark_count": exact.dark_count,
        "flat_count": exact.flat_count,
        "planned": exact.planned,
    }
    lines = ["[exact]", *_lines(values), "", "[exact.geometry]", *_lines(geometry)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def head(poses: bool) -> str:
    """First line of the table of frames."""
    return ",".join((*COLUMNS, *(POSE if poses else ()))) + "\n"


def row(number: int, angle_rad: float, timestamp_s: float, pose: tuple[float, ...] | None, poses: bool) -> str:
    """A line of the table; every number in full."""
    values = [repr(float(x)) for x in (angle_rad, timestamp_s)]
    if poses:
        values += [repr(float(x)) for x in pose] if pose is not None else ["nan"] * len(POSE)
    return ",".join((str(number), *values)) + "\n"


@dataclass(frozen=True)
class Table:
    """Every frame in the order of recording: (n,) each, `poses_mm` (n, 12) or None."""

    numbers: NDArray[np.int64]
    angles_rad: NDArray[np.float64]
    timestamps_s: NDArray[np.float64]
    poses_mm: NDArray[np.float64] | None


def read_table(path: str) -> Table:
    """A last line that was not finished, by a writer that was killed, does not count. Raises RecordingError."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
    columns = len(COLUMNS) if lines and lines[0] == head(False) else len(COLUMNS) + len(POSE)
    if not lines or lines[0] != head(columns > len(COLUMNS)):
        raise RecordingError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {lines[:1]}")
    rows = [line for line in lines[1:] if line.endswith("\n")]
    try:
        numbers = np.array([int(line.partition(",")[0]) for line in rows], np.int64)
        values = np.array([line.split(",")[1:] for line in rows], np.float64).reshape(len(rows), columns - 1)
    except ValueError as error:
        raise RecordingError(f"{path}: expected {columns} numbers in each line, got {error}") from error
    if not np.isfinite(values[:, :2]).all() or len(np.unique(numbers)) != len(numbers):
        raise RecordingError(f"{path}: expected each frame number once, and finite angles and times")
    poses = np.ascontiguousarray(values[:, 2:]) if columns > len(COLUMNS) else None
    return Table(numbers, values[:, 0].copy(), values[:, 1].copy(), cast("NDArray[np.float64] | None", poses))
