"""All formats by name: which one a path means, and how a recording in it is opened, begun and gone on with."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings.dxchange import DATA as EXCHANGE_DATA
from tango_jit.recordings.dxchange import DataExchangeReader, DataExchangeWriter
from tango_jit.recordings.flexray import FlexRayReader
from tango_jit.recordings.flexray_options import FlexRayOptions
from tango_jit.recordings.flexray_writer import FlexRayWriter
from tango_jit.recordings.hdf5 import RecordingError, dataset, open_to_read
from tango_jit.recordings.nxtomo import NXtomoReader, NXtomoWriter, find_entries
from tango_jit.recordings.plan import Plan
from tango_jit.recordings.recording import Recording, RecordingWriter
from tango_jit.streams.messages import Dark, Flat, Header

WRITERS: Mapping[str, type[RecordingWriter]] = {
    "nxtomo": NXtomoWriter,
    "dxchange": DataExchangeWriter,
    "flexray": FlexRayWriter,
}
ENDINGS: Mapping[str, str] = {**dict.fromkeys((".nxs", ".nx", ".hdf5", ".h5"), "nxtomo"), "": "flexray"}


def open_recording(
    path: str | os.PathLike[str],
    *,
    geometry: ScanGeometry | None = None,
    linear: bool | None = None,
    flexray: FlexRayOptions | None = None,
) -> Recording:
    """Open a recorded scan; the format is told by its content, not by its name. A folder is one of FleX-ray.

    `geometry` and `linear` replace what the recording says, and are needed where it does not say them; `flexray`
    is what a FleX-ray folder cannot say. Raises FileNotFoundError, or RecordingError that says what is wrong and what
    to do.
    """
    if os.path.isdir(path):
        return FlexRayReader(path, geometry=geometry, linear=linear, options=flexray)
    with open_to_read(path) as file:
        entries, exchange, groups = find_entries(file), dataset(file, EXCHANGE_DATA), list(file)
        has_exchange = exchange is not None
    if flexray is not None and flexray.to_dict():
        raise RecordingError(f"{os.fspath(path)}: expected a FleX-ray folder for these options, got an HDF5 file")
    if entries:
        return NXtomoReader(path, geometry=geometry, linear=linear)
    if has_exchange:
        return DataExchangeReader(path, geometry=geometry, linear=linear)
    raise RecordingError(
        f"{os.fspath(path)}: expected NXtomo (an entry with instrument/detector/data) or Data Exchange "
        f"({EXCHANGE_DATA}), got an HDF5 file with {', '.join(groups) or 'nothing'} at its root"
    )


def format_of(path: str | os.PathLike[str], format: str | None = None) -> str:
    """nxtomo, dxchange or flexray: `format`, else by the path's ending.

    .nxs, .nx, .hdf5 and .h5 mean NXtomo (Data Exchange has to be asked for), a path without an ending or a folder that
    is there means FleX-ray. Raises ValueError for others.
    """
    if format is None:
        ending = "" if os.path.isdir(path) else os.path.splitext(os.path.normpath(path))[1].lower()
        format = ENDINGS.get(ending)
    if format is None or format not in WRITERS:
        raise ValueError(
            f"{os.fspath(path)}: expected the format {', '.join(WRITERS)}, or a name that ends in "
            f"{', '.join(filter(None, ENDINGS))} (NXtomo) or has no ending (FleX-ray folder), got {format or 'neither'}"
        )
    return format


def create_recording(
    path: str | os.PathLike[str],
    header: Header,
    dark: Dark | None = None,
    flat: Flat | None = None,
    *,
    format: str | None = None,
    plan: Plan | None = None,
    scenario: str | None = None,
) -> RecordingWriter:
    """Begin a recording at `path`, which must be new. `format` as in `format_of`; the rest as in `RecordingWriter`."""
    return WRITERS[format_of(path, format)](path, header, dark, flat, plan=plan, scenario=scenario)


def resume_recording(
    path: str | os.PathLike[str],
    header: Header,
    dark: Dark | None = None,
    flat: Flat | None = None,
    *,
    plan: Plan,
    scenario: str | None = None,
) -> RecordingWriter:
    """Go on with a planned recording whose writing was interrupted; `frames` of the writer tells how many it has.

    All arguments must be those that it was begun with: RecordingError lists what differs. The next frame to append is
    the planned one at position `frames`; a recording that is complete takes none. Raises FileNotFoundError where there
    is none, OSError where the disk has no room for the rest.
    """
    if os.path.isdir(path):
        kind: type[RecordingWriter] = FlexRayWriter
    else:
        with open_to_read(path) as file:
            kind = NXtomoWriter if find_entries(file) else DataExchangeWriter
    return kind(path, header, dark, flat, plan=plan, scenario=scenario, resume=True)
