"""Data Exchange HDF5 (group `exchange`): reader and writer. The format has no geometry: that is in `extension.py`."""

from __future__ import annotations

import os
from functools import partial

import h5py
import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import extension
from tango_jit.recordings.hdf5 import (
    TO_DEGREE,
    Column,
    RecordingError,
    dataset,
    frames,
    label,
    mean_frame,
    numbers,
    open_to_read,
    text,
)
from tango_jit.recordings.recording import (
    Mean,
    Recording,
    check_fits,
    printable,
    series_of,
    settle_linear,
    unwrap_degrees,
)
from tango_jit.recordings.stack import HDF5Writer, StackFrames
from tango_jit.streams.messages import Header

DATA, DARK, FLAT, THETA = (f"exchange/{name}" for name in ("data", "data_dark", "data_white", "theta"))
TITLE = "exchange/title"


class DataExchangeReader(Recording):
    """A recorded scan in Data Exchange. Frames come from the disk one at a time.

    `geometry` and `linear` replace what the file says or fails to say. Raises RecordingError that names every field
    that is missing or wrong. `include_unwritten`: also those frames of a plan that are not written yet, as zeros.
    """

    format = "dxchange"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        geometry: ScanGeometry | None = None,
        linear: bool | None = None,
        include_unwritten: bool = False,
    ) -> None:
        file = open_to_read(path)
        try:
            self._read(file, geometry, linear, include_unwritten)
        except BaseException:
            file.close()
            raise

    def _read(self, file: h5py.File, geometry: ScanGeometry | None, linear: bool | None, unwritten: bool) -> None:
        stack = frames(file, DATA)
        count, rows, cols = stack.shape
        degrees = _degrees(file, stack)
        said, table = extension.read(file, rows, cols), extension.Table(file, count)
        check_fits(label(file), geometry, rows, cols)
        angles = _angles(file, degrees, table)
        scan = geometry or said.geometry
        if scan is None:
            vectors = ", ".join(f"{extension.NAME}/{name}" for name in extension.VECTORS)
            raise RecordingError(
                f"{label(file)}: Data Exchange has no geometry, and {extension.NAME}/beam, {vectors} (ASTRA vectors at "
                "angle 0) are missing: give a geometry (beam, pixel size, centre of rotation, for a cone the distances "
                "of source and detector), or store one with tango_jit.recordings.set_geometry"
            )
        index = np.arange(count)
        exact = table.frame_numbers
        times = table.timestamps_s  # where they are not recorded: exposures back to back, from 0
        if times is None:
            times = index.astype(np.float64) * (said.exposure_s or 0.0)
        frame_numbers = index if exact is None else exact
        angles = angles * (said.angle_sense or 1)
        dark, flat = (partial(_mean, file, path, (rows, cols)) for path in (DARK, FLAT))
        there = slice(None if unwritten else said.written)
        super().__init__(
            StackFrames(file, stack, table),
            index[there],
            frame_numbers[there],
            angles[there],
            times[there],
            dark,
            flat,
            scenario=said.scenario,
            planned=None if said.written is None else count,
        )

        has = {path: _has_frames(file, path, (rows, cols)) for path in (DARK, FLAT)}
        is_linear = settle_linear(label(file), linear, said.linear, has[FLAT])
        title = printable(text(file, TITLE) or "")
        self.header = Header(
            series_of(file.filename, said.series),
            "raw",
            scan,
            is_linear,
            exposure_s=said.exposure_s,
            name=title,
            full_turn=said.full_turn,
        )


def _degrees(file: h5py.File, stack: h5py.Dataset) -> NDArray[np.float64] | None:
    """Angles (n,) as recorded; their number tells that the first axis of the frames is the view."""
    axes = stack.attrs.get("axes", "theta:y:x")
    axes = axes.decode() if isinstance(axes, bytes) else str(axes)
    degrees = numbers(file, THETA, TO_DEGREE, "degree")
    if not axes.startswith("theta") or (degrees is not None and degrees.shape != (len(stack),)):
        raise RecordingError(
            f"{label(file, DATA)}: expected axes (view, row, col) with one angle in {THETA} for each view, got "
            f"shape {stack.shape}, axes {axes!r} and {0 if degrees is None else degrees.size} angles"
        )
    return degrees


def _angles(file: h5py.File, degrees: NDArray[np.float64] | None, table: extension.Table) -> NDArray[np.float64]:
    """Angles (n,) in rad, unwrapped, in the sense of the file."""
    if table.angles_rad is None:
        if degrees is None:
            raise RecordingError(f"{label(file, THETA)}: expected the angle of each view in degrees, got nothing")
        return np.deg2rad(unwrap_degrees(degrees))
    if degrees is not None and not np.allclose(np.deg2rad(degrees), table.angles_rad, rtol=1e-6, atol=1e-6):
        raise RecordingError(f"{label(file, THETA)}: contradicts {extension.NAME}/angle_rad; delete the wrong one")
    return table.angles_rad


def _has_frames(file: h5py.File, path: str, shape: tuple[int, int]) -> bool:
    """Are there darks or flats? Raises RecordingError for those of another shape."""
    found = dataset(file, path)
    if found is None or found.shape[0] == 0:
        return False
    if found.shape[-2:] != shape:
        raise RecordingError(
            f"{label(file, path)}: expected frames of {shape[0]} x {shape[1]} as in {DATA}, got shape {found.shape}"
        )
    return True


def _mean(file: h5py.File, path: str, shape: tuple[int, int]) -> Mean:
    """(mean, how many frames were averaged), None where there are none."""
    found = dataset(file, path)
    if found is None or not _has_frames(file, path, shape):
        return None
    if found.ndim == 2:
        return np.asarray(found[()], np.float32), 1
    stack = frames(file, path)
    count = int(stack.attrs.get("averaged", 1)) * len(stack)
    return mean_frame(stack, np.arange(len(stack))), count


class DataExchangeWriter(HDF5Writer):
    """Writes a Data Exchange file, see `RecordingWriter`. Dark and flat are stored as one float32 frame each."""

    stack_path, home, reader = DATA, "", DataExchangeReader

    def _create(self, file: h5py.File) -> None:
        header = self.header
        file["implements"] = "exchange"
        file[TITLE] = header.name
        group = extension.write(
            file,
            header.geometry,
            linear=header.linear,
            series=header.series,
            exposure_s=header.exposure_s,
            scenario=self.scenario,
            full_turn=header.full_turn,
        )
        self._table = extension.TableWriter(group)
        self._stack.dataset.attrs.update(axes="theta:y:x", units="" if header.linear else "counts")
        self._theta = Column(file, THETA, (), "float64", unit="degrees")
        for path, message in ((DARK, self._dark), (FLAT, self._flat)):
            if message is not None:
                file.create_dataset(path, data=np.asarray(message.mean, np.float32)[None])
                file[path].attrs.update(axes=f"theta_{path.rpartition('_')[2]}:y:x", averaged=message.count)

    def _row(self, angle_rad: float, number: int, timestamp_s: float, pose: tuple[float, ...] | None) -> None:
        self._theta.append(np.rad2deg(angle_rad))
        self._table.append(angle_rad, number, timestamp_s, pose)

    def _columns(self) -> list[Column]:
        return [self._theta, *self._table.columns()]
