"""Recorded scans on disk: NXtomo and Data Exchange HDF5, read and written one frame at a time."""

from __future__ import annotations

import os

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings.dxchange import DATA as EXCHANGE_DATA
from tango_jit.recordings.dxchange import DataExchangeReader, DataExchangeWriter
from tango_jit.recordings.extension import set_geometry
from tango_jit.recordings.hdf5 import RecordingError, dataset, open_to_read
from tango_jit.recordings.nxtomo import NXtomoReader, NXtomoWriter, find_entries
from tango_jit.recordings.recording import Recording

__all__ = [
    "DataExchangeReader",
    "DataExchangeWriter",
    "NXtomoReader",
    "NXtomoWriter",
    "Recording",
    "RecordingError",
    "open_recording",
    "set_geometry",
]


def open_recording(
    path: str | os.PathLike[str], *, geometry: ScanGeometry | None = None, linear: bool | None = None
) -> Recording:
    """Open a recorded scan; the format is told by its content, not by its name.

    `geometry` and `linear` replace what the file says, and are needed where it does not say them. Raises
    FileNotFoundError, or RecordingError that says what is wrong with the file and what to do.
    """
    with open_to_read(path) as file:
        entries, exchange, groups = find_entries(file), dataset(file, EXCHANGE_DATA), list(file)
        has_exchange = exchange is not None
    if entries:
        return NXtomoReader(path, geometry=geometry, linear=linear)
    if has_exchange:
        return DataExchangeReader(path, geometry=geometry, linear=linear)
    raise RecordingError(
        f"{os.fspath(path)}: expected NXtomo (an entry with instrument/detector/data) or Data Exchange "
        f"({EXCHANGE_DATA}), got an HDF5 file with {', '.join(groups) or 'nothing'} at its root"
    )
