"""Planned recordings: laid out at once, written in place, killed, and gone on with to the same bytes."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import (
    Plan,
    RecordingError,
    create_recording,
    format_of,
    open_recording,
    resume_recording,
)
from tango_jit.recordings import plan as planning
from tango_jit.streams.messages import Dark, Flat, Header, Image
from tests.recorded import frames_of, scan

FORMATS = ("nxtomo", "dxchange", "flexray")
GEOMETRY = ScanGeometry.cone(rows=3, cols=5, pixel_mm=0.2, source_axis_mm=100.0, source_detector_mm=250.0)
SCENARIO = 'seed = 7\nname = "Brause µm"\n'
every_format = pytest.mark.parametrize("format", FORMATS)


def planned(count: int = 7, **changes: Any) -> tuple[Header, Dark, Flat, list[Image], Plan]:
    header, dark, flat, images = scan(count, geometry=GEOMETRY, **changes)
    nothing = (np.nan,) * 12
    plan = Plan(
        np.array([image.frame for image in images]),
        np.array([image.angle_rad for image in images]),
        np.array([image.timestamp_s for image in images]),
        images[0].data.dtype.name,
        np.array([image.pose or nothing for image in images]),
    )
    return header, dark, flat, images, plan


def place(folder: Path, name: str, format: str) -> Path:
    return folder / (name if format == "flexray" else f"{name}.h5")


def same_bytes(one: Path, other: Path) -> bool:
    if one.is_file():
        return filecmp.cmp(one, other, shallow=False)
    names = sorted(os.listdir(one))
    return names == sorted(os.listdir(other)) and filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


@every_format
@pytest.mark.parametrize("done", [0, 1, 4, 7])
def test_interrupted_and_resumed_is_the_same_as_in_one_go(tmp_path: Path, format: str, done: int) -> None:
    header, dark, flat, images, plan = planned()
    whole, parts = place(tmp_path, "whole", format), place(tmp_path, "parts", format)
    with create_recording(whole, header, dark, flat, format=format, plan=plan, scenario=SCENARIO) as writer:
        for image in images:
            writer.append(image)
    with create_recording(parts, header, dark, flat, format=format, plan=plan, scenario=SCENARIO) as writer:
        for image in images[:done]:
            writer.append(image)
    if done:
        with open_recording(parts) as source:
            assert (len(source), source.planned) == (done, 7)
            assert frames_of(source) == images[:done]
    else:
        with pytest.raises(RecordingError, match=r"got none: none of 7 planned"):
            open_recording(parts)
    with resume_recording(parts, header, dark, flat, plan=plan, scenario=SCENARIO) as writer:
        assert writer.frames == done
        for image in images[done:]:
            writer.append(image)
        with pytest.raises(ValueError, match="all 7 planned frames are written"):
            writer.append(images[0])
    assert same_bytes(whole, parts)
    with open_recording(whole) as source:
        assert source.header == header
        assert (source.dark, source.flat, source.scenario) == (dark, flat, SCENARIO)
        assert frames_of(source) == images
        assert source.format == format
    assert sorted(os.listdir(tmp_path)) == sorted([whole.name, parts.name])


@every_format
def test_only_the_planned_frames_are_taken(tmp_path: Path, format: str) -> None:
    header, dark, flat, images, plan = planned()
    path = place(tmp_path, "scan", format)
    with create_recording(path, header, dark, flat, format=format, plan=plan) as writer:
        writer.append(images[0])
        for changes, words in (
            ({}, "frame: expected 5 as planned for position 1, got 3"),
            ({"frame": 5, "angle_rad": 1.0}, "angle_rad: expected 40.1"),
            ({"frame": 5, "angle_rad": images[1].angle_rad, "timestamp_s": 0.0}, "timestamp_s: expected"),
            ({**vars(images[1]), "data": images[1].data.astype(np.uint8)}, "dtype: expected uint16"),
            ({**vars(images[1]), "pose": images[2].pose}, "pose: expected None"),
        ):
            with pytest.raises(ValueError, match=words):
                writer.append(replace(images[0], **changes))
        writer.append(images[1])
    with open_recording(path) as source:
        assert frames_of(source) == images[:2]


@every_format
def test_another_recording_is_not_resumed(tmp_path: Path, format: str) -> None:
    header, dark, flat, images, plan = planned()
    path = place(tmp_path, "scan", format)
    create_recording(path, header, dark, flat, format=format, plan=plan, scenario=SCENARIO).close()
    shorter = Plan(plan.frame_numbers[:5], plan.angles_rad[:5], plan.timestamps_s[:5], "uint16")
    turned = replace(plan, angles_rad=plan.angles_rad + 1e-9)
    for arguments, words in (
        ((replace(header, exposure_s=0.013), dark, flat, plan, SCENARIO), r"header \(expected .*; got|header \("),
        ((header, None, flat, plan, SCENARIO), r"dark \(expected none"),
        ((header, dark, flat, plan, None), r"scenario \(expected none, got 'seed = 7"),
        ((header, dark, flat, shorter, SCENARIO), r"number of frames \(expected 5, got 7\); frame_numbers; angles_rad"),
        ((header, dark, flat, turned, SCENARIO), r"another recording: angles_rad differ"),
    ):
        *messages, wanted, scenario = arguments
        with pytest.raises(RecordingError, match=words):
            resume_recording(path, *messages, plan=wanted, scenario=scenario)  # type: ignore[arg-type]
    with resume_recording(path, header, dark, flat, plan=plan, scenario=SCENARIO) as writer:
        writer.append(images[0])
    other = place(tmp_path, "unplanned", format)
    with create_recording(other, header, dark, flat, format=format) as writer:
        writer.append(images[0])
    with pytest.raises(RecordingError, match="was written without a plan"):
        resume_recording(other, header, dark, flat, plan=plan)
    with pytest.raises(FileNotFoundError):
        resume_recording(tmp_path / "absent.h5", header, plan=plan)
    (tmp_path / "foreign").mkdir()
    with pytest.raises(RecordingError, match="was not written by tango-jit"):
        resume_recording(tmp_path / "foreign", header, plan=plan)


WRITE = """
import os, sys
import numpy as np
from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import Plan, create_recording, resume_recording
from tango_jit.streams.messages import Dark, Flat, Header, Image
path, format, delay = sys.argv[1:]
ROWS, COLS, COUNT = 200, 300, 400
geometry = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.2, source_axis_mm=100.0, source_detector_mm=250.0)
header = Header("s", "raw", geometry, False, exposure_s=0.01, name="killed")
dark, flat = (kind("s", np.full((ROWS, COLS), value, np.float32), 3) for kind, value in ((Dark, 1.25), (Flat, 900.75)))
index = np.arange(COUNT)
plan = Plan(index + 5, index * 0.04, index * 0.01, "uint16")
begin = resume_recording if os.path.exists(path) else create_recording
options = {} if os.path.exists(path) else {"format": format}
with begin(path, header, dark, flat, plan=plan, scenario="seed = 1", **options) as writer:
    print(writer.frames, flush=True)
    for k in range(writer.frames, COUNT):
        data = np.random.default_rng(k).integers(0, 60000, (ROWS, COLS), np.uint16)
        angle, time = float(plan.angles_rad[k]), float(plan.timestamps_s[k])
        writer.append(Image("s", int(plan.frame_numbers[k]), angle, time, data))
"""


def readable(path: Path, at_least: int) -> int:
    """How many frames there are; the last of them can be read."""
    try:
        source = open_recording(path)
    except RecordingError as error:
        if at_least or "none of 400 planned ones" not in str(error):
            raise
        return 0
    with source:
        assert source.planned == 400
        assert len(source) >= at_least
        source.frame(len(source) - 1)
        return len(source)


@every_format
def test_killed_at_any_moment_and_resumed(tmp_path: Path, format: str) -> None:
    """SIGKILL again and again, from the first milliseconds of the layout on: every time a readable file is left."""
    killed, whole = place(tmp_path, "killed", format), place(tmp_path, "whole", format)
    subprocess.run([sys.executable, "-c", WRITE, str(whole), format, ""], check=True, timeout=60, capture_output=True)
    begun, done = [], 0
    for patience_s in (0.01, 0.03, 0.08, 0.0, 60):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(killed), format, ""], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            begun.append(int(process.stdout.readline()))
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        if process.returncode == 0:
            break
        done = readable(killed, done)
    assert begun == sorted(begun)
    assert len(begun) > 2
    assert same_bytes(whole, killed)


@every_format
def test_killed_while_it_is_laid_out(tmp_path: Path, format: str) -> None:
    """Under its name there is nothing or the whole layout, never a part."""
    path = place(tmp_path, "scan", format)
    for k in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path), format, ""], stdout=subprocess.DEVNULL)
        while not any(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.004 * k)
        process.kill()
        process.wait()
        if path.exists():
            assert subprocess.run(
                [sys.executable, "-c", WRITE, str(path), format, ""], capture_output=True, check=True, timeout=60
            )
            with open_recording(path) as source:
                assert len(source) == 400
            break
        for left in tmp_path.iterdir():
            assert left.name.endswith(".part")
            subprocess.run(["rm", "-r", str(left)], check=True)


def test_the_file_is_sparse_and_whole_before_the_first_frame(tmp_path: Path) -> None:
    """25,000 frames of 25 GB: known to every reader of HDF5, and next to nothing on the disk."""
    rows, cols, count = 1000, 500, 25000
    geometry = replace(GEOMETRY, rows=rows, cols=cols)
    index = np.arange(count)
    plan = Plan(index, index * 0.04, index * 0.012, "uint16")
    path = tmp_path / "large.nxs"
    try:
        writer = create_recording(path, Header("s", "raw", geometry, True), plan=plan)
    except OSError as error:
        pytest.skip(str(error))
    with writer:
        data = np.full((rows, cols), 7, np.uint16)
        for k in range(3):
            writer.append(Image("s", k, float(plan.angles_rad[k]), float(plan.timestamps_s[k]), data))
    assert path.stat().st_size > 25e9
    assert path.stat().st_blocks * 512 < 16 << 20
    with h5py.File(path) as file:
        stack = file["entry/instrument/detector/data"]
        assert isinstance(stack, h5py.Dataset)
        assert stack.shape == (count, rows, cols)
        assert stack.chunks is None
        assert [int(stack[k].max()) for k in (0, 2, 3, count - 1)] == [7, 7, 0, 0]
    with open_recording(path) as source:
        assert (len(source), source.planned) == (3, count)


def test_a_frame_of_zeros_at_the_end_is_made_again(tmp_path: Path) -> None:
    """The count may have reached the disk before the frame when the machine itself went down."""
    header, dark, flat, images, plan = planned()
    path = tmp_path / "scan.nxs"
    with create_recording(path, header, dark, flat, plan=plan) as writer:
        for image in images[:5]:
            writer.append(image)
    with h5py.File(path, "r+") as file:
        stack = file["entry/instrument/detector/data"]
        assert isinstance(stack, h5py.Dataset)
        stack[2 + 3 :] = 0
    with resume_recording(path, header, dark, flat, plan=plan) as writer:
        assert writer.frames == 3


def test_nobody_else_goes_on_with_a_folder_that_is_being_written(tmp_path: Path) -> None:
    header, dark, flat, images, plan = planned()
    with create_recording(tmp_path / "scan", header, dark, flat, plan=plan) as writer:
        writer.append(images[0])
        with pytest.raises(RecordingError, match="another program holds it open"):
            resume_recording(tmp_path / "scan", header, dark, flat, plan=plan)
        with open_recording(tmp_path / "scan") as source:  # what is there can be looked at
            assert frames_of(source) == images[:1]
    resume_recording(tmp_path / "scan", header, dark, flat, plan=plan).close()


def test_a_file_that_is_being_written_is_locked(tmp_path: Path) -> None:
    header, dark, flat, images, plan = planned()
    path = tmp_path / "scan.nxs"
    with create_recording(path, header, dark, flat, plan=plan) as writer:
        writer.append(images[0])
        with pytest.raises(RecordingError, match="another program holds it open"):
            open_recording(path)
        with pytest.raises(RecordingError, match="another program holds it open"):
            resume_recording(path, header, dark, flat, plan=plan)
    open_recording(path).close()


@every_format
def test_a_disk_without_room_is_refused_beforehand(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, dark, flat, _, plan = planned()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage(10, 9, 60 << 20))
    with pytest.raises(OSError, match=r"expected 67 MB of free space for 0 MB of frames and a margin, got 63 MB"):
        create_recording(place(tmp_path, "scan", format), header, dark, flat, format=format, plan=plan)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.nxs", "nxtomo"),
        ("a.NX", "nxtomo"),
        ("a.hdf5", "nxtomo"),
        ("a.h5", "nxtomo"),
        ("a", "flexray"),
        ("a/", "flexray"),
    ],
)
def test_format_by_ending(name: str, format: str) -> None:
    assert format_of(name) == format
    assert format_of(name, "dxchange") == "dxchange"


def test_unknown_endings_and_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tif: expected the format nxtomo, dxchange, flexray, or a name that ends"):
        format_of("a.tif")
    with pytest.raises(ValueError, match="got spectra"):
        format_of("a.h5", "spectra")
    (tmp_path / "there.nxs").mkdir()
    assert format_of(tmp_path / "there.nxs") == "flexray"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame_numbers": [1.0, 2.0]}, "whole frame numbers"),
        ({"frame_numbers": [1, 1]}, "each number once"),
        ({"frame_numbers": [-1, 1]}, "each number once, from 0"),
        ({"angles_rad": [1.0]}, r"angles_rad: expected shape \(2,\)"),
        ({"timestamps_s": [1.0, np.nan]}, "timestamps_s: expected finite"),
        ({"dtype": "float64"}, "dtype: expected one of uint8"),
        ({"poses_mm": np.zeros((2, 11))}, r"poses_mm: expected shape \(2, 12\)"),
    ],
)
def test_wrong_plans_are_refused(changes: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {
        "frame_numbers": [0, 1],
        "angles_rad": [0.0, 0.1],
        "timestamps_s": [0.0, 1.0],
        "dtype": "uint8",
    }
    assert Plan(**good).poses_mm is None
    with pytest.raises(ValueError, match=words):
        Plan(**(good | changes))


def test_plan_of_a_recording_is_that_of_its_copy(tmp_path: Path) -> None:
    header, dark, flat, images, plan = planned()
    with create_recording(tmp_path / "scan.nxs", header, dark, flat) as writer:
        for image in images:
            writer.append(image)
    with open_recording(tmp_path / "scan.nxs") as source:
        found = source.plan()
    for name in ("frame_numbers", "angles_rad", "timestamps_s", "poses_mm"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plan, name))
    assert found.dtype == "uint16"
