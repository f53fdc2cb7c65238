"""Small recordings that the tests write, edit and read back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import DataExchangeWriter, NXtomoWriter
from tango_jit.recordings.recording import RecordingWriter
from tango_jit.streams.messages import Dark, Flat, Header, Image
from tango_jit.streams.source import FrameSource

ROWS, COLS = 3, 5
CONE = ScanGeometry.cone(
    rows=ROWS,
    cols=COLS,
    pixel_mm=(0.2, 0.3),
    source_axis_mm=100.0,
    source_detector_mm=250.0,
    axis_column=1.7,
    mid_row=0.9,
)
TILTED = ScanGeometry.cone(
    rows=ROWS,
    cols=COLS,
    pixel_mm=(0.2, 0.3),
    source_axis_mm=100.1,
    source_detector_mm=250.3,
    axis_column=1.7,
    mid_row=0.9,
    source_offset_mm=(0.3, -0.7),
    roll_rad=0.01,
    pitch_rad=0.02,
    yaw_rad=-0.03,
)
PARALLEL = ScanGeometry.parallel(rows=ROWS, cols=COLS, pixel_mm=0.0065, axis_column=2.2, mid_row=0.4)
TOP_DOWN = replace(CONE, v_mm=(0.0, 0.0, -0.3), detector_mm=(CONE.detector_mm[0], 150.0, -CONE.detector_mm[2]))
"""CONE for images whose row 0 is at the top, as they are in files from elsewhere."""
POSE = tuple(float(x) for x in CONE.vectors(0.123)[0])
EXACT = "entry/tango_jit"

WriterType = type[RecordingWriter]
both_formats = pytest.mark.parametrize("writer", [NXtomoWriter, DataExchangeWriter])


def scan(
    count: int = 6, dtype: str = "uint16", geometry: ScanGeometry = CONE, **changes: Any
) -> tuple[Header, Dark, Flat, list[Image]]:
    """A header, means that no integer holds, and frames whose numbers and angles run as free as they may."""
    random = np.random.default_rng(1)
    header = replace(Header("run-7", "raw", geometry, False, exposure_s=0.012, name="a sample"), **changes)
    shape = (geometry.rows, geometry.cols)
    dark, flat = (random.uniform(low, high, shape).astype(np.float32) for low, high in ((5, 9), (150, 200)))
    images = [
        Image(
            header.series,
            2 * k + 3,
            40.0 + 0.1 * k,
            1.7e9 + 0.1 * k,
            (200 * random.random(shape)).astype(dtype),
            POSE if k % 3 == 2 else None,
        )
        for k in range(count)
    ]
    return header, Dark(header.series, dark, 17), Flat(header.series, flat, 23), images


def write(path: Path, writer: WriterType = NXtomoWriter, count: int = 6, **changes: Any) -> list[Image]:
    header, dark, flat, images = scan(count, **changes)
    with writer(path, header, dark, flat) as file:
        for image in images:
            file.append(image)
    return images


def frames_of(source: FrameSource) -> list[Image]:
    return [source.frame(index) for index in range(len(source))]


def edit(path: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def delete(*names: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return change
