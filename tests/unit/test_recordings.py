"""Recordings: exact round trips, refusals of the writers, bounded memory, real scans."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import (
    NXtomoWriter,
    RecordingError,
    open_recording,
)
from tango_jit.streams.messages import Dark, Flat, Header, Image
from tests import real_scans
from tests.recorded import (
    COLS,
    CONE,
    PARALLEL,
    ROWS,
    TILTED,
    WriterType,
    both_formats,
    edit,
    frames_of,
    scan,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.h5"


@both_formats
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("geometry", [CONE, TILTED, PARALLEL])
def test_round_trip_is_exact(path: Path, writer: WriterType, dtype: str, geometry: ScanGeometry) -> None:
    header, dark, flat, images = scan(7, dtype, geometry)
    with writer(path, header, dark, flat) as file:
        for image in images:
            file.append(image)
    with open_recording(path) as source:
        assert source.header == header
        assert source.dark == dark
        assert source.flat == flat
        assert list(source.frame_numbers) == [image.frame for image in images]
        assert frames_of(source) == images


@both_formats
def test_bare_header_round_trip(path: Path, writer: WriterType) -> None:
    """No exposure, no name, no means: nothing is made up. Already-linear data need no flat."""
    header = Header("s", "raw", CONE, True)
    _, _, _, images = scan(series="s")
    with writer(path, header) as file:
        for image in images:
            file.append(image)
    with open_recording(path) as source:
        assert (source.header, source.dark, source.flat) == (header, None, None)


@both_formats
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 2**53 - 1), st.floats(-1e12, 1e12)), min_size=1))
def test_any_angle_number_and_time_round_trips(
    path: Path, writer: WriterType, values: list[tuple[float, int, float]]
) -> None:
    path.unlink(missing_ok=True)
    data = np.zeros((ROWS, COLS), np.uint8)
    images = [Image("s", number, angle, time, data, None) for angle, number, time in values]
    with writer(path, Header("s", "raw", CONE, True)) as file:
        for image in images:
            file.append(image)
    with open_recording(path) as source:
        assert frames_of(source) == images


@both_formats
def test_chunks_of_many_frames(path: Path, writer: WriterType) -> None:
    """More frames than one block of any column."""
    images = write(path, writer, 2500, dtype="uint8")
    with open_recording(path) as source:
        assert len(source) == 2500
        for index in (0, 1023, 1024, 2047, 2048, 2499):
            assert source.frame(index) == images[index]


def test_reused_buffer_is_not_recorded_twice(path: Path) -> None:
    header, _, _, _ = scan(linear=True)
    buffer = np.zeros((ROWS, COLS), np.uint16)
    with NXtomoWriter(path, header) as file:
        for number in range(5):
            buffer[:] = number
            file.append(Image(header.series, number, 0.0, 0.0, buffer, None))
    with open_recording(path) as source:
        assert [int(image.data[0, 0]) for image in frames_of(source)] == [0, 1, 2, 3, 4]


def test_mean_beyond_the_data_type_is_kept(path: Path) -> None:
    """A flat of many summed exposures does not fit uint8, its exact mean is read all the same."""
    header, dark, flat, images = scan(dtype="uint8")
    flat = Flat(flat.series, flat.mean * 100, flat.count)
    with NXtomoWriter(path, header, dark, flat) as file:
        file.append(images[0])
    with open_recording(path) as source:
        assert source.flat == flat


@both_formats
def test_writer_refusals(path: Path, writer: WriterType) -> None:
    header, dark, flat, images = scan()
    good = images[0]
    with pytest.raises(ValueError, match="filtered"):
        writer(path, replace(header, stage="filtered", filter="ram-lak"))
    with pytest.raises(ValueError, match=r"dark: expected a mean of shape \(3, 5\)"):
        writer(path, header, Dark(header.series, np.zeros((4, 5), np.float32), 1))
    assert not path.exists()
    with writer(path, header, dark, flat) as file:
        file.append(good)
        for changes, message in (
            ({"series": "other"}, "expected series 'run-7'"),
            ({"data": np.zeros((2, 2), np.uint16)}, "expected shape"),
            ({"data": np.zeros((3, 5), np.uint8)}, "uint16 as before"),
        ):
            with pytest.raises(ValueError, match=message):
                file.append(replace(good, **changes))
        with pytest.raises(FileExistsError):
            writer(path, header)
    with pytest.raises(ValueError, match="closed"):
        file.append(good)
    with open_recording(path) as source:
        assert frames_of(source) == [good]


@both_formats
def test_file_without_projections_is_complete_but_no_scan(path: Path, writer: WriterType) -> None:
    write(path, writer, 0)
    with pytest.raises(RecordingError, match="expected projections, got none"):
        open_recording(path)


def test_an_error_while_recording_leaves_a_complete_file(path: Path) -> None:
    header, dark, flat, images = scan()

    def record() -> None:
        with NXtomoWriter(path, header, dark, flat) as file:
            for image in images[:3]:
                file.append(image)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    with open_recording(path) as source:
        assert frames_of(source) == images[:3]


READ = """
import resource, sys
from tango_jit.recordings import open_recording
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
with open_recording(sys.argv[1]) as source:
    total = sum(source.frame(index).data[0, 0] for index in range(0, len(source), 50))
print(len(source), int(total), peak() - before)
"""

WRITE = """
import resource, sys
import numpy as np
from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import NXtomoWriter
from tango_jit.streams.messages import Header, Image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
data = np.zeros((512, 512), np.uint16)
header = Header("s", "raw", ScanGeometry.parallel(rows=512, cols=512, pixel_mm=1.0), True)
with NXtomoWriter(sys.argv[1], header) as file:
    for frame in range(300):
        if frame == 20:
            before = peak()
        file.append(Image("s", frame, 0.0, 0.0, data, None))
print(peak() - before)
"""


def run(program: str, path: Path) -> list[int]:
    """Peaks of memory are of a process's whole life: measured in one of its own."""
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    return [int(word) for word in result.stdout.split()]


def test_long_recording_is_not_loaded_whole(path: Path) -> None:
    """25,000 frames of 13 GB (sparse: only one in fifty is on the disk) are read in 64 MiB."""
    geometry = ScanGeometry.cone(rows=512, cols=512, pixel_mm=0.1, source_axis_mm=100.0, source_detector_mm=200.0)
    frame = Image("s", 0, 0.0, 0.0, np.zeros((512, 512), np.uint16), None)
    with NXtomoWriter(path, Header("s", "raw", geometry, True)) as file:
        file.append(frame)

    def lengthen(file: h5py.File) -> None:
        for name in (
            "instrument/detector/data",
            "instrument/detector/image_key",
            "instrument/detector/image_key_control",
            "sample/rotation_angle",
            "tango_jit/angle_rad",
            "tango_jit/frame_number",
            "tango_jit/timestamp_s",
        ):
            column = file[f"entry/{name}"]
            assert isinstance(column, h5py.Dataset)
            column.resize(25000, axis=0)
        stack = file["entry/instrument/detector/data"]
        assert isinstance(stack, h5py.Dataset)
        for index in range(0, 25000, 1000):
            stack[index, 0, 0] = 1

    count, total, grown = run(READ, edit(path, lengthen))
    assert (count, total) == (25000, 25)
    assert grown < 64 << 20


def test_writing_is_bounded_too(path: Path) -> None:
    (grown,) = run(WRITE, path)  # 150 MB
    assert grown < 32 << 20


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(
    ("convert", "views", "shape", "linear", "axis_column", "span_degrees"),
    [
        (real_scans.htc, 720, (1, 560), True, 279.5, 359.5),
        (real_scans.htc_stream, 720, (1, 560), True, 279.5, 1439.5),
        (real_scans.walnut, 120, (1, 328), True, 162.75, 357.0),
        (real_scans.tooth, 181, (2, 640), False, 295.85, 179.0055),
        (real_scans.savu, 91, (135, 160), True, 85.7, 180.0),
        (real_scans.dendrite, 360, (1, 1260), True, 627.0, 179.5),
    ],
)
def test_real_scans_convert(
    tmp_path: Path,
    convert: Callable[[Path], Path],
    views: int,
    shape: tuple[int, int],
    linear: bool,
    axis_column: float,
    span_degrees: float,
) -> None:
    with open_recording(convert(tmp_path)) as source:
        images = frames_of(source)
        assert len(images) == views
        assert images[0].data.shape == shape
        assert all(np.isfinite(image.data).all() for image in images)
        assert source.header.linear is linear
        assert source.header.geometry.axis_column == pytest.approx(axis_column)
        angles = [image.angle_rad for image in images]
        assert np.rad2deg(np.ptp(angles)) == pytest.approx(span_degrees, abs=0.05)
        assert (np.diff(angles) > 0).all()


@pytest.mark.usefixtures("shared_data")
def test_htc_stream_is_the_same_scan_in_another_order(tmp_path: Path) -> None:
    with open_recording(real_scans.htc(tmp_path)) as scan, open_recording(real_scans.htc_stream(tmp_path)) as stream:
        view, _ = real_scans.htc_order()
        assert sorted(view) == list(range(720))
        for index in (0, 1, 179, 180, 500, 719):
            np.testing.assert_array_equal(stream.frame(index).data, scan.frame(int(view[index])).data)
            turns = (stream.frame(index).angle_rad - scan.frame(int(view[index])).angle_rad) / (2 * np.pi)
            assert turns == pytest.approx(index // 180, abs=1e-12)


@pytest.mark.usefixtures("shared_data")
def test_tooth_as_data_exchange() -> None:
    """The original file: no geometry in it, and none is guessed."""
    original = real_scans.data_folder() / "tomopy_tooth" / "tooth.h5"
    with pytest.raises(RecordingError, match="Data Exchange has no geometry"):
        open_recording(original)
    with open_recording(original, geometry=real_scans.tooth_geometry()) as source:
        assert len(source) == 181
        assert not source.header.linear
        assert source.dark is not None
        assert source.flat is not None
        assert (source.dark.count, source.flat.count) == (10, 10)
        assert float(source.flat.mean.mean()) == pytest.approx(27942, abs=100)
        assert np.rad2deg(source.angles_rad[-1]) == pytest.approx(179.0055, abs=1e-3)
