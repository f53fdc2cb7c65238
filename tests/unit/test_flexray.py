"""FleX-ray folders that this project writes, and what other readers find in them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import FlexRayOptions, FlexRayWriter, RecordingError, create_recording, open_recording
from tango_jit.recordings.flexray_settings import parse
from tango_jit.streams.messages import Flat, Header, Image
from tests.recorded import PARALLEL, frames_of, scan

ROWS, COLS = 4, 6
SQUARE = ScanGeometry.cone(
    rows=ROWS,
    cols=COLS,
    pixel_mm=0.2,
    source_axis_mm=100.1,
    source_detector_mm=250.3,
    axis_column=1.7,
    mid_row=0.9,
    source_offset_mm=(0.3, -0.7),
)
TILTED = ScanGeometry.cone(
    rows=ROWS,
    cols=COLS,
    pixel_mm=0.1496,
    source_axis_mm=100.1,
    source_detector_mm=250.3,
    axis_column=-300.0,
    roll_rad=0.01,
    pitch_rad=0.02,
    yaw_rad=-0.03,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "series"


def write(folder: Path, geometry: ScanGeometry = SQUARE, **changes: Any) -> list[Image]:
    header, dark, flat, images = scan(geometry=geometry, **changes)
    with FlexRayWriter(folder, header, dark, flat) as writer:
        for image in images:
            writer.append(image)
    return images


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("geometry", [SQUARE, TILTED])
def test_round_trip_is_exact(folder: Path, dtype: str, geometry: ScanGeometry) -> None:
    header, dark, flat, images = scan(7, dtype, geometry)
    with FlexRayWriter(folder, header, dark, flat, scenario="seed = 1\r\n") as writer:
        for image in images:
            writer.append(image)
    with open_recording(folder) as source:
        assert source.header == header
        assert (source.dark, source.flat) == (dark, flat)
        assert list(source.frame_numbers) == [image.frame for image in images]
        assert frames_of(source) == images
        assert (source.scenario, source.planned, source.format) == ("seed = 1\r\n", None, "flexray")
    with pytest.raises(ValueError, match="closed"):
        source.frame(0)


def settings(folder: Path) -> dict[str, str]:
    return parse((folder / "scan settings.txt").read_text(), ":")


def test_other_readers_find_what_the_scanner_writes(folder: Path) -> None:
    images = write(folder)
    found = settings(folder)
    assert list(found)[:8] == ["scanid", "start", "date", "sdd", "sod", "voxel size", "magnification", "tube voltage"]
    assert float(found["voxel size"]) == pytest.approx(1000 * 0.2 * 100.1 / 250.3, rel=1e-12)
    assert float(found["binned pixel size"]) == 0.2
    assert (found["# projections"], found["# offset images"], found["# pre flat fields"]) == ("6", "1", "1")
    assert float(found["exposure time (ms)"]) == 12.0
    assert float(found["start angle"]) == pytest.approx(np.rad2deg(40.0))
    names = sorted(path.name for path in folder.glob("scan_*"))
    assert names == [f"scan_{image.frame:06d}.tif" for image in images]
    stored = tifffile.imread(folder / names[2])
    np.testing.assert_array_equal(stored[::-1], images[2].data)  # row 0 of the file is at the top
    assert tifffile.imread(folder / "di000000.tif").dtype == np.uint16
    assert not list(folder.glob("*.part"))


def test_without_the_exact_values_the_settings_give_the_scanner_back(folder: Path) -> None:
    """Up to the place of z = 0, which is then on the line from the source to the middle of the detector."""
    header, dark, flat, _ = scan(geometry=SQUARE)
    with FlexRayWriter(folder, header, dark, flat) as writer:
        for k in range(8):
            writer.append(Image(header.series, k, k * np.pi / 4, 0.0, np.full((ROWS, COLS), k, np.uint16), None))
    for name in ("tango-jit.toml", "frames.csv", "dark_mean.tif", "flat_mean.tif"):
        (folder / name).unlink()
    with open_recording(folder) as source:
        np.testing.assert_allclose(source.angles_rad, np.arange(8) * np.pi / 4, rtol=1e-14)
        read = source.header.geometry
        assert source.header.exposure_s == pytest.approx(0.012)
        assert source.dark is not None
        np.testing.assert_array_equal(source.dark.mean, np.rint(dark.mean))
    assert read.u_mm == pytest.approx(SQUARE.u_mm)
    assert read.v_mm == pytest.approx(SQUARE.v_mm)
    assert read.source_mm[:2] == pytest.approx(SQUARE.source_mm[:2], rel=1e-12)
    assert read.detector_mm[:2] == pytest.approx(SQUARE.detector_mm[:2], rel=1e-12)
    lifted = read.source_mm[2] - SQUARE.source_mm[2]
    assert read.detector_mm[2] - SQUARE.detector_mm[2] == pytest.approx(lifted, rel=1e-12)
    assert read.detector_mm[2] * 100.1 + read.source_mm[2] * 150.2 == pytest.approx(0, abs=1e-9)


def test_place_on_the_detector_follows_the_offset(folder: Path) -> None:
    """300 binned pixels beside the middle are in the region of interest, the rest in the motor position."""
    write(folder, TILTED)
    found = settings(folder)
    left, _top, right, _bottom = (int(x) for x in found["roi (ltrb)"].split(","))
    assert right - left + 1 == 2 * COLS
    shift = ((left + right) // 2 - 971) * 0.0748
    assert shift == pytest.approx(TILTED.detector_mm[0], abs=0.0374)
    assert float(found["tra_det"]) + shift == pytest.approx(TILTED.detector_mm[0], rel=1e-12)
    assert found["imaging mode"] == "HW2SW1High"


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (replace(PARALLEL), "a cone beam, got a parallel one"),
        (replace(SQUARE, v_mm=(0.0, 0.0, 0.3)), "square pixels"),
        (replace(SQUARE, v_mm=(0.0, 0.0, -0.2)), "rows along"),
        (replace(SQUARE, u_mm=(-0.2, 0.0, 0.0)), "columns along"),
        (replace(SQUARE, source_mm=(0.0, 100.0, 0.0), detector_mm=(0.0, -100.0, 0.0)), "beam along"),
    ],
)
def test_what_the_settings_cannot_say_is_refused(folder: Path, geometry: ScanGeometry, message: str) -> None:
    header, *_ = scan(geometry=geometry)
    with pytest.raises(ValueError, match=message):
        FlexRayWriter(folder, header)
    assert not folder.exists()


def test_settings_that_contradict_are_refused(folder: Path) -> None:
    write(folder)
    path = folder / "scan settings.txt"
    path.write_text(path.read_text().replace("SOD : 100.1", "SOD : 100.2"))
    with pytest.raises(RecordingError, match=r"scan settings\.txt: contradicts the exact geometry"):
        open_recording(folder)


def test_contradicting_flat_and_foreign_frames_are_named(folder: Path) -> None:
    write(folder)
    tifffile.imwrite(folder / "io000000.tif", np.zeros((ROWS, COLS), np.uint16))
    with open_recording(folder) as source, pytest.raises(RecordingError, match=r"flat_mean\.tif: contradicts"):
        _ = source.flat
    tifffile.imwrite(folder / "scan_000099.tif", np.zeros((ROWS, COLS), np.uint16))
    with pytest.raises(RecordingError, match=r"scan_000099\.tif: expected the frames of .*frames\.csv"):
        open_recording(folder)


def test_a_lost_file_is_a_gap_and_options_are_refused(folder: Path) -> None:
    images = write(folder)
    (folder / f"scan_{images[2].frame:06d}.tif").unlink()
    with open_recording(folder) as source:
        assert frames_of(source) == images[:2] + images[3:]
    with pytest.raises(RecordingError, match="exact values, so views_per_turn"):
        open_recording(folder, flexray=FlexRayOptions(views_per_turn=150))


def test_unplanned_writer_that_was_killed_leaves_frames_and_table(folder: Path) -> None:
    """What is there before `close` is enough to read: exact values, table, frames. A half line does not count."""
    header, dark, flat, images = scan(geometry=SQUARE)
    writer = FlexRayWriter(folder, header, dark, flat)
    for image in images:
        writer.append(image)
    with open(folder / "frames.csv", "a") as table:
        table.write("17,1.25")
    with open_recording(folder) as source:
        assert frames_of(source) == images
    writer.close()


def test_repeated_numbers_are_refused(folder: Path) -> None:
    header, _, _, images = scan(geometry=SQUARE)
    with FlexRayWriter(folder, header, flat=Flat(header.series, np.ones((ROWS, COLS), np.float32), 1)) as writer:
        writer.append(images[0])
        with pytest.raises(ValueError, match="each number once"):
            writer.append(images[0])
    with pytest.raises(FileExistsError):
        FlexRayWriter(folder, header)


def test_without_flats_the_folder_says_whether_it_is_linear(folder: Path) -> None:
    header = Header("s", "raw", SQUARE, True)
    images = scan(series="s", geometry=SQUARE)[3]
    with FlexRayWriter(folder, header) as writer:
        for image in images:
            writer.append(image)
    with open_recording(folder) as source:
        assert (source.header, source.dark, source.flat) == (header, None, None)
    with open_recording(folder, linear=False) as source:
        assert source.header.linear is False


def test_frames_of_another_size_or_type_and_truncated_ones_are_named(folder: Path) -> None:
    images = write(folder)
    paths = [folder / f"scan_{image.frame:06d}.tif" for image in images]
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:-20])
    tifffile.imwrite(paths[2], np.zeros((ROWS, COLS + 1), np.uint16))
    tifffile.imwrite(paths[3], np.zeros((ROWS, COLS), np.uint8))
    paths[4].write_bytes(b"")
    with open_recording(folder) as source:
        for index, words in ((1, "truncated"), (2, "expected 4 x 6"), (3, "uint16"), (4, "truncated")):
            with pytest.raises(RecordingError, match=rf"{os.path.basename(paths[index])}: .*{words}"):
                source.frame(index)
        assert source.frame(5) == images[5]


WITHOUT_TIFFFILE = """
import sys
sys.modules["tifffile"] = None  # importing it now raises ImportError
from tango_jit.recordings import open_recording
with open_recording(sys.argv[1]) as scan:
    print(len(scan))
try:
    open_recording(sys.argv[2])
except ValueError as error:
    print(error)
"""


def test_all_else_works_without_tifffile(folder: Path) -> None:
    write(folder)
    header, dark, flat, images = scan()
    with create_recording(folder.with_name("scan.nxs"), header, dark, flat) as writer:
        writer.append(images[0])
    command = [sys.executable, "-c", WITHOUT_TIFFFILE, str(folder.with_name("scan.nxs")), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    read, refused = result.stdout.splitlines()
    assert read == "1"
    assert refused.startswith("TIFF files need the package tifffile, which is not installed")


READ_ALL = """
import resource, sys
from tango_jit.recordings import open_recording
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open_recording(sys.argv[1]) as source:
    source.frame(0)
    before = peak()
    total = sum(int(source.frame(index).data[0, 0]) for index in range(len(source)))
print(len(source), total, peak() - before)
"""


def test_a_long_series_is_not_loaded_whole(folder: Path) -> None:
    """400 frames of 128 KiB, 50 MB, in less than 16 MiB."""
    geometry = replace(SQUARE, rows=256, cols=256)
    data = np.full((256, 256), 3, np.uint16)
    with FlexRayWriter(folder, Header("s", "raw", geometry, True)) as writer:
        for k in range(400):
            writer.append(Image("s", k, 0.1 * k, 0.0, data))
    command = [sys.executable, "-c", READ_ALL, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    count, total, grown = (int(word) for word in result.stdout.split())
    assert (count, total) == (400, 1200)
    assert grown < 16 << 20


@pytest.mark.parametrize("format", ["nxtomo", "dxchange", "flexray"])
def test_the_wish_for_full_turns_is_kept(tmp_path: Path, format: str) -> None:
    header, dark, flat, images = scan(geometry=SQUARE, full_turn=True)
    path = tmp_path / "scan"
    with create_recording(path, header, dark, flat, format=format) as writer:
        writer.append(images[0])
    with open_recording(path) as source:
        assert source.header == header
