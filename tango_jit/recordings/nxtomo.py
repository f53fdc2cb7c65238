"""NXtomo HDF5 (NeXus): reader and writer. `docs/reference/recordings.md` says field by field what lies where."""

from __future__ import annotations

import os
from functools import partial

import h5py
import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import extension, nxtomo_geometry
from tango_jit.recordings.hdf5 import (
    TO_DEGREE,
    TO_S,
    Column,
    RecordingError,
    dataset,
    frames,
    label,
    mean_frame,
    numbers,
    open_to_read,
    subgroup,
    text,
)
from tango_jit.recordings.recording import (
    Mean,
    Recording,
    as_type,
    check_fits,
    printable,
    rounds_to,
    series_of,
    settle_linear,
    unwrap_degrees,
)
from tango_jit.recordings.stack import HDF5Writer, StackFrames
from tango_jit.streams.messages import Header

PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3  # image_key; -1 in image_key_control marks alignment images
DATA, KEY, CONTROL = (f"instrument/detector/{name}" for name in ("data", "image_key", "image_key_control"))
ANGLE, COUNT_TIME = "sample/rotation_angle", "instrument/detector/count_time"


def find_entries(file: h5py.Group) -> list[str]:
    """Paths of the NXtomo entries: at the root, or in a group of it."""
    found = []
    for path, group in file.items():
        if isinstance(group, h5py.Group):
            inner = {f"{path}/{name}": child for name, child in group.items() if isinstance(child, h5py.Group)}
            found += [name for name, child in {path: group, **inner}.items() if dataset(child, DATA) is not None]
    return found


class NXtomoReader(Recording):
    """A recorded scan in NXtomo. Frames come from the disk one at a time.

    `entry` names the entry where the file has several. `geometry` and `linear` replace what the file
    says or fails to say. Raises RecordingError that names every field that is missing or wrong.
    `include_unwritten`: also those frames of a plan that are not written yet, as zeros.
    """

    format = "nxtomo"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        entry: str | None = None,
        geometry: ScanGeometry | None = None,
        linear: bool | None = None,
        include_unwritten: bool = False,
    ) -> None:
        file = open_to_read(path)
        try:
            self._read(file, _entry(file, entry), geometry, linear, include_unwritten)
        except BaseException:
            file.close()
            raise

    def _read(
        self, file: h5py.File, entry: h5py.Group, geometry: ScanGeometry | None, linear: bool | None, unwritten: bool
    ) -> None:
        stack = frames(entry, DATA)
        count, rows, cols = stack.shape
        keys, acquired = _keys(entry, count)
        said, table = extension.read(entry, rows, cols), extension.Table(entry, count)
        check_fits(label(entry), geometry, rows, cols)
        scan = geometry or nxtomo_geometry.read(entry, said, rows, cols)

        projections = np.flatnonzero(keys == PROJECTION)
        stored = projections[: None if unwritten else said.written]
        sequence = np.cumsum(acquired) - 1  # place in the acquisition: invalid projections are gaps, darks are not
        every_number = sequence if table.frame_numbers is None else table.frame_numbers
        angles = _angles(entry, table, stored, count) * (said.angle_sense or 1)
        exposure = _exposure(entry, said)
        times = table.timestamps_s  # where they are not recorded: exposures back to back, from 0
        if times is None:
            times = sequence.astype(np.float64) * (exposure or 0.0)
        dark, flat = (partial(_mean, entry, stack, keys, key) for key in (DARK, FLAT))
        super().__init__(
            StackFrames(file, stack, table),
            stored,
            every_number[stored],
            angles,
            times[stored],
            dark,
            flat,
            scenario=said.scenario,
            planned=None if said.written is None else len(projections),
        )

        exact = {kind: extension.find_mean(entry, kind, (rows, cols)) for kind in ("dark", "flat")}
        has_flat = bool((keys == FLAT).any()) or exact["flat"] is not None
        is_linear = settle_linear(label(entry), linear, said.linear, has_flat)
        title = printable(text(entry, "title") or "")
        self.header = Header(
            series_of(file.filename, said.series),
            "raw",
            scan,
            is_linear,
            exposure_s=exposure,
            name=title,
            full_turn=said.full_turn,
        )


def _entry(file: h5py.File, name: str | None) -> h5py.Group:
    entries = find_entries(file)
    if name is None and len(entries) != 1:
        problem = f"expected one NXtomo entry with {DATA}, got {', '.join(entries) or 'none'}"
        raise RecordingError(f"{file.filename}: {problem}{'; name one of them' if entries else ''}")
    group = subgroup(file, name or entries[0])
    if group is None or dataset(group, DATA) is None:
        raise RecordingError(f"{file.filename}: expected the NXtomo entry {name!r}, got {', '.join(entries) or 'none'}")
    return group


def _keys(entry: h5py.Group, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """image_key of every stored frame, and whether it belongs to the acquisition sequence (projection or invalid)."""
    path = CONTROL if dataset(entry, CONTROL) is not None else KEY
    values = numbers(entry, path)
    if values is None:
        raise RecordingError(
            f"{label(entry, KEY)}: expected {PROJECTION} projection, {FLAT} flat, {DARK} dark, "
            f"{INVALID} invalid for each frame, got nothing"
        )
    if values.shape != (count,) or not np.isin(values, (-1, PROJECTION, FLAT, DARK, INVALID)).all():
        raise RecordingError(
            f"{label(entry, path)}: expected {count} values of 0 to 3, got shape {values.shape} with "
            f"{np.unique(values)}"
        )
    keys = values.astype(np.int64)
    return keys, (keys == PROJECTION) | (keys == INVALID)


def _angles(entry: h5py.Group, table: extension.Table, stored: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Angles in rad of the frames at `stored`, unwrapped, in the sense of the file."""
    degrees = numbers(entry, ANGLE, TO_DEGREE, "degree")
    if degrees is None and table.angles_rad is None:
        raise RecordingError(f"{label(entry, ANGLE)}: expected the angle of each frame in degrees, got nothing")
    if degrees is not None and degrees.shape != (count,):
        raise RecordingError(f"{label(entry, ANGLE)}: expected {count} angles, got shape {degrees.shape}")
    if table.angles_rad is None:
        assert degrees is not None
        return np.deg2rad(unwrap_degrees(degrees[stored]))
    exact = table.angles_rad[stored]
    if degrees is not None and not np.allclose(np.deg2rad(degrees[stored]), exact, rtol=1e-6, atol=1e-6):
        worst = int(np.argmax(np.abs(np.deg2rad(degrees[stored]) - exact)))
        raise RecordingError(
            f"{label(entry, ANGLE)}: frame {stored[worst]} is at {degrees[stored][worst]:.6f} degrees, but "
            f"{extension.NAME}/angle_rad says {np.rad2deg(exact[worst]):.6f}; delete the wrong one"
        )
    return exact


def _exposure(entry: h5py.Group, said: extension.Said) -> float | None:
    if said.exposure_s is not None:
        return said.exposure_s
    values = numbers(entry, COUNT_TIME, TO_S, "s")
    return None if values is None or values.size == 0 or np.median(values) <= 0 else float(np.median(values))


def _mean(entry: h5py.Group, stack: h5py.Dataset, keys: NDArray[np.int64], key: int) -> Mean:
    kind = "dark" if key == DARK else "flat"
    stored = np.flatnonzero(keys == key)
    exact = extension.read_mean(entry, kind, stack.shape[1:])
    if len(stored) == 0:
        return exact
    mean = mean_frame(stack, stored)
    if exact is None:
        return mean, len(stored)
    # The stored frame is the mean rounded to the type of the data (and clipped to what that type can hold).
    if not rounds_to(exact[0], mean, stack.dtype):
        raise RecordingError(
            f"{label(entry, extension.NAME)}/{kind}_mean: expected the mean of the frames with image_key "
            f"{key}, got something else; delete the wrong one"
        )
    return exact


class NXtomoWriter(HDF5Writer):
    """Writes an NXtomo file, see `RecordingWriter`.

    `dark` and `flat` are stored twice: exactly, and rounded to the type of the data as one frame with its
    image_key, for other programs.
    """

    stack_path, home, reader = f"entry/{DATA}", "entry", NXtomoReader

    def _create(self, file: h5py.File) -> None:
        header, entry = self.header, file["entry"]
        assert isinstance(entry, h5py.Group)
        nxtomo_geometry.write(entry, header.geometry)
        group = extension.write(
            entry,
            header.geometry,
            linear=header.linear,
            series=header.series,
            exposure_s=header.exposure_s,
            scenario=self.scenario,
            full_turn=header.full_turn,
        )
        self._table = extension.TableWriter(group)
        self._keys, self._control = Column(entry, KEY, (), "int64"), Column(entry, CONTROL, (), "int64")
        self._degrees = Column(entry, ANGLE, (), "float64", unit="degree")
        self._exposure = None if header.exposure_s is None else Column(entry, COUNT_TIME, (), "float64", unit="s")
        entry["title"] = header.name
        entry["sample/name"] = header.name
        _annotate(file, entry)
        for kind, message, key in (("dark", self._dark, DARK), ("flat", self._flat, FLAT)):
            if message is not None:
                extension.write_mean(group, kind, np.asarray(message.mean, np.float32), message.count)
                self._stack.append(as_type(message.mean, self._stack.dataset.dtype))
                self._store(key, 0.0, -1, 0.0, None)

    def _means(self) -> int:
        return sum(message is not None for message in (self._dark, self._flat))

    def _row(self, angle_rad: float, number: int, timestamp_s: float, pose: tuple[float, ...] | None) -> None:
        self._store(PROJECTION, angle_rad, number, timestamp_s, pose)

    def _store(
        self, key: int, angle_rad: float, number: int, timestamp_s: float, pose: tuple[float, ...] | None
    ) -> None:
        self._keys.append(key)
        self._control.append(key)
        self._degrees.append(np.rad2deg(angle_rad))
        if self._exposure is not None:
            self._exposure.append(self.header.exposure_s)
        self._table.append(angle_rad, number, timestamp_s, pose)

    def _columns(self) -> list[Column]:
        always = [self._keys, self._control, self._degrees, *self._table.columns()]
        return always if self._exposure is None else [*always, self._exposure]


def _annotate(file: h5py.File, entry: h5py.Group) -> None:
    """The attributes and links that NeXus and the package nxtomo look for."""
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
    entry.attrs["NX_class"], entry.attrs["definition"], entry.attrs["default"] = "NXentry", "NXtomo", "data"
    entry.attrs["version"] = 2.0  # of the paths of the package nxtomo, not of this project
    entry.attrs["NeXus_Coordinate_System"] = "McStas"
    entry["definition"] = "NXtomo"
    for path, kind in (
        ("instrument", "NXinstrument"),
        ("instrument/detector", "NXdetector"),
        ("instrument/source", "NXsource"),
        ("sample", "NXsample"),
        ("data", "NXdata"),
    ):
        entry.require_group(path).attrs["NX_class"] = kind
    entry["instrument/source/probe"] = "x-ray"
    entry[DATA].attrs["interpretation"] = "image"
    links = entry.require_group("data")
    links.attrs["signal"] = "data"
    for name, target in (("data", DATA), ("image_key", KEY), ("image_key_control", CONTROL), ("rotation_angle", ANGLE)):
        links[name] = h5py.SoftLink(f"/entry/{target}")
