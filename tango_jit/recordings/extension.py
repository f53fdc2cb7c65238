"""The group `tango_jit`: what the standard formats cannot say, stored exactly.

It stands in the NXentry (NXtomo) or at the root (Data Exchange) and may hold only some of these, so that a file from
elsewhere is completed by a few numbers (`docs/reference/recordings.md` has the table):

    beam, source_mm, detector_mm, u_mm, v_mm      the ScanGeometry; all five or none but `beam`
    linear, angle_sense, series, exposure_s       what the data are
    scenario                                      the text of the simulated experiment that was recorded
    frames_written                                how many frames of a planned recording there are
    dark_mean, flat_mean                          (rows, cols) float32, attribute `count`
    angle_rad, frame_number, timestamp_s, pose    one entry per stored frame, darks and flats included
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import Beam, ScanGeometry, Vector
from tango_jit.recordings.hdf5 import Column, RecordingError, dataset, label, number, numbers, subgroup, text

NAME = "tango_jit"
WRITTEN = "frames_written"
VECTORS = ("source_mm", "detector_mm", "u_mm", "v_mm")
SENSE_HELP = (
    "+1 where the scanner turns counter-clockwise about +z, seen from the sample, as the rotation angle grows "
    "(the sample turns clockwise, seen from above); -1 where it is the other way round"
)


@dataclass(frozen=True)
class Said:
    """The single values of the group; None is what the file does not say."""

    geometry: ScanGeometry | None = None
    beam: Beam | None = None
    linear: bool | None = None
    angle_sense: int | None = None
    series: str | None = None
    exposure_s: float | None = None
    scenario: str | None = None
    full_turn: bool = False
    written: int | None = None


def read(parent: h5py.Group, rows: int, cols: int) -> Said:
    """Raises RecordingError where a value is of the wrong kind, or the geometry incomplete or impossible."""
    group = subgroup(parent, NAME)
    if group is None:
        return Said()
    beam = text(group, "beam")
    if beam not in (None, "cone", "parallel"):
        raise RecordingError(f"{label(group, 'beam')}: expected cone or parallel, got {beam!r}")
    sense, linear = number(group, "angle_sense"), number(group, "linear")
    if sense not in (None, 1, -1):
        raise RecordingError(f"{label(group, 'angle_sense')}: expected {SENSE_HELP}; got {sense:g}")
    if linear not in (None, 0, 1):
        raise RecordingError(
            f"{label(group, 'linear')}: expected true (data are -log already) or false, got {linear:g}"
        )
    return Said(
        _geometry(group, beam, rows, cols),
        cast("Beam | None", beam),
        None if linear is None else bool(linear),
        None if sense is None else int(sense),
        text(group, "series"),
        number(group, "exposure_s"),
        text(group, "scenario"),
        bool(number(group, "full_turn")),
        _written(group),
    )


def _written(group: h5py.Group) -> int | None:
    count = number(group, WRITTEN)
    if count is not None and (count < 0 or count != int(count)):
        raise RecordingError(f"{label(group, WRITTEN)}: expected a number of frames, got {count:g}")
    return None if count is None else int(count)


def _geometry(group: h5py.Group, beam: str | None, rows: int, cols: int) -> ScanGeometry | None:
    found = {name: numbers(group, name) for name in VECTORS}
    vectors = {name: value for name, value in found.items() if value is not None}
    absent = [name for name in VECTORS if name not in vectors]
    if len(absent) == len(VECTORS):
        return None
    if absent or beam is None:
        raise RecordingError(
            f"{label(group)}: expected beam, {', '.join(VECTORS)} together, but "
            f"{', '.join(absent or ['beam'])} is missing"
        )
    for name, value in vectors.items():
        if value.shape != (3,):
            raise RecordingError(f"{label(group, name)}: expected 3 numbers in mm, got shape {value.shape}")
    try:
        return ScanGeometry(cast(Beam, beam), rows, cols, *(cast(Vector, tuple(vectors[name])) for name in VECTORS))
    except ValueError as error:
        raise RecordingError(f"{label(group)}: {error}") from error


def write(
    parent: h5py.Group,
    geometry: ScanGeometry,
    *,
    linear: bool,
    angle_sense: int = 1,
    series: str | None = None,
    exposure_s: float | None = None,
    scenario: str | None = None,
    full_turn: bool = False,
) -> h5py.Group:
    """Add or overwrite the single values; returns the group."""
    group = parent.require_group(NAME)
    group.attrs["NX_class"] = "NXcollection"
    group.attrs["doc"] = (
        "Exact values for tango-jit; they win over the fields of the format, but must not contradict them."
    )
    values: dict[str, Any] = {
        "beam": geometry.beam,
        "linear": linear,
        "angle_sense": np.int8(angle_sense),
        "series": series,
        "exposure_s": exposure_s,
        "scenario": scenario,
        "full_turn": full_turn or None,
    }
    values |= {name: np.array(getattr(geometry, name), np.float64) for name in VECTORS}
    for name, value in values.items():
        if value is not None:
            if name in group:
                del group[name]
            group[name] = value
            if name.endswith(("_mm", "_s")):
                group[name].attrs["units"] = name.rpartition("_")[2]
    return group


def write_mean(group: h5py.Group, kind: str, mean: NDArray[np.float32], count: int) -> None:
    """`kind` is dark or flat; `count` frames were averaged."""
    group.create_dataset(f"{kind}_mean", data=mean).attrs["count"] = count


def find_mean(parent: h5py.Group, kind: str, shape: tuple[int, ...]) -> h5py.Dataset | None:
    """Where the mean is, None where the group has none. Raises RecordingError for a wrong shape or count."""
    group = subgroup(parent, NAME)
    found = None if group is None else dataset(group, f"{kind}_mean")
    if found is None:
        return None
    count = int(found.attrs.get("count", 0))
    if found.shape != shape or found.dtype.kind != "f" or count < 1:
        raise RecordingError(
            f"{found.file.filename}:{found.name}: expected float32 of shape {shape} and an attribute count "
            f"above 0, got {found.dtype} of shape {found.shape} and {count}"
        )
    return found


def read_mean(parent: h5py.Group, kind: str, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], int] | None:
    """(mean, count), or None where the group has none. Raises as `find_mean`."""
    found = find_mean(parent, kind, shape)
    return None if found is None else (np.asarray(found[()], np.float32), int(found.attrs.get("count", 0)))


def set_geometry(
    path: str | os.PathLike[str], parent: str, geometry: ScanGeometry, *, linear: bool, angle_sense: int = 1
) -> None:
    """Write a geometry into an existing file: how a recording from elsewhere is completed.

    `parent` is the entry (NXtomo, e.g. "entry") or "/" (Data Exchange). The frames are not touched.
    """
    with h5py.File(path, "r+") as file:
        group = subgroup(file, parent)
        if group is None:
            raise RecordingError(f"{os.fspath(path)}: expected the group {parent}, got {', '.join(file)}")
        write(group, geometry, linear=linear, angle_sense=angle_sense)


class Table:
    """What is known of every stored frame (n of them), in file order; times and poses may be absent."""

    def __init__(self, parent: h5py.Group, length: int) -> None:
        """Raises RecordingError where a column has not `length` entries."""
        self.angles_rad = _column(parent, "angle_rad", (length,))
        self.timestamps_s = _column(parent, "timestamp_s", (length,))
        numbers = _column(parent, "frame_number", (length,))
        self.frame_numbers = None if numbers is None else numbers.astype(np.int64)
        group = subgroup(parent, NAME)
        self.poses = None if group is None else dataset(group, "pose")
        if self.poses is not None and self.poses.shape != (length, 12):
            raise RecordingError(
                f"{label(parent, f'{NAME}/pose')}: expected shape ({length}, 12), got {self.poses.shape}"
            )


def _column(parent: h5py.Group, name: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    group = subgroup(parent, NAME)
    values = None if group is None else numbers(group, name)
    if values is not None and values.shape != shape:
        raise RecordingError(
            f"{label(parent, f'{NAME}/{name}')}: expected one number for each of the {shape[0]} frames, "
            f"got shape {values.shape}"
        )
    return values


class TableWriter:
    """The columns of `Table`, one entry per stored frame."""

    def __init__(self, group: h5py.Group) -> None:
        self._group = group
        self._angles = Column(group, "angle_rad", (), "float64", unit="rad")
        self._numbers = Column(group, "frame_number", (), "int64")
        self._times = Column(group, "timestamp_s", (), "float64", unit="s")
        self._poses: Column | None = None
        self._length = 0

    def append(self, angle_rad: float, number: int, timestamp_s: float, pose: ArrayLike | None) -> None:
        self._angles.append(angle_rad)
        self._numbers.append(number)
        self._times.append(timestamp_s)
        if pose is not None and self._poses is None:  # most recordings have none: the column starts with the first
            self._poses = Column(self._group, "pose", (12,), "float64", unit="mm", fill=np.nan)
            self._poses.pad(self._length)
        if self._poses is not None:
            self._poses.append(np.full(12, np.nan) if pose is None else np.asarray(pose, np.float64))
        self._length += 1

    def columns(self) -> list[Column]:
        always = [self._angles, self._numbers, self._times]
        return always if self._poses is None else [*always, self._poses]
