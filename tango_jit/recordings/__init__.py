"""Recorded scans on disk: NXtomo, Data Exchange and FleX-ray folders, read and written one frame at a time."""

from __future__ import annotations

from tango_jit.recordings.dxchange import DataExchangeReader, DataExchangeWriter
from tango_jit.recordings.extension import set_geometry
from tango_jit.recordings.flexray import FlexRayReader
from tango_jit.recordings.flexray_options import FlexRayOptions
from tango_jit.recordings.flexray_writer import FlexRayWriter
from tango_jit.recordings.formats import create_recording, format_of, open_recording, resume_recording
from tango_jit.recordings.hdf5 import RecordingError
from tango_jit.recordings.nxtomo import NXtomoReader, NXtomoWriter
from tango_jit.recordings.plan import Plan
from tango_jit.recordings.recording import Recording, RecordingWriter

__all__ = [
    "DataExchangeReader",
    "DataExchangeWriter",
    "FlexRayOptions",
    "FlexRayReader",
    "FlexRayWriter",
    "NXtomoReader",
    "NXtomoWriter",
    "Plan",
    "Recording",
    "RecordingError",
    "RecordingWriter",
    "create_recording",
    "format_of",
    "open_recording",
    "resume_recording",
    "set_geometry",
]
