"""Recordings from elsewhere: angles, types, Data Exchange, damaged files; refusals in words."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tango_jit.recordings import (
    DataExchangeReader,
    DataExchangeWriter,
    NXtomoReader,
    NXtomoWriter,
    RecordingError,
    open_recording,
    set_geometry,
)
from tests.recorded import (
    COLS,
    CONE,
    EXACT,
    ROWS,
    TILTED,
    WriterType,
    both_formats,
    delete,
    edit,
    frames_of,
    scan,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.h5"


@both_formats
def test_without_flats_the_file_must_say_whether_it_is_linear(path: Path, writer: WriterType) -> None:
    header, _, _, images = scan()
    with writer(path, header) as file:
        file.append(images[0])
    edit(path, delete(f"{EXACT}/linear" if writer is NXtomoWriter else "tango_jit/linear"))
    with pytest.raises(RecordingError, match="tango_jit/linear"):
        open_recording(path)
    for linear in (True, False):
        with open_recording(path, linear=linear) as source:
            assert source.header.linear is linear


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        ([350, 355, 0, 5, 10, 15], [350, 355, 360, 365, 370, 375]),  # folded into one turn
        ([5, 0, 355, 350, 345, 340], [5, 0, -5, -10, -15, -20]),
        ([0, 90, 180, 270, 0, 90], [0, 90, 180, 270, 360, 450]),
        ([0, 222.5, 445, 667.5, 890, 1112.5], [0, 222.5, 445, 667.5, 890, 1112.5]),  # beyond one turn: not folded
        ([0, 60, 120, 180, 240, 300], [0, 60, 120, 180, 240, 300]),
        ([-88, -58, -28, 2, 32, 62], [-88, -58, -28, 2, 32, 62]),
    ],
)
@pytest.mark.parametrize("unit", ["degree", "rad"])
def test_angles_from_elsewhere_are_unwrapped(
    path: Path, degrees: list[float], expected: list[float], unit: str
) -> None:
    write(path)

    def change(file: h5py.File) -> None:
        del file[f"{EXACT}/angle_rad"]
        angle = file["entry/sample/rotation_angle"]
        assert isinstance(angle, h5py.Dataset)
        angle[2:] = degrees if unit == "degree" else np.deg2rad(degrees)
        angle.attrs["units"] = unit

    with open_recording(edit(path, change)) as source:
        np.testing.assert_allclose([image.angle_rad for image in frames_of(source)], np.deg2rad(expected), atol=1e-12)


@pytest.mark.parametrize(("dtype", "read"), [(">u2", "uint16"), (">f4", "float32"), ("float64", "float32")])
def test_stored_types_become_native(path: Path, dtype: str, read: str) -> None:
    write(path, dtype=read)

    def change(file: h5py.File) -> None:
        stack = file["entry/instrument/detector/data"]
        assert isinstance(stack, h5py.Dataset)
        data = stack[()]
        del file["entry/instrument/detector/data"]
        file["entry/instrument/detector/data"] = data.astype(dtype)

    with open_recording(edit(path, change)) as source:
        assert source.frame(0).data.dtype == np.dtype(read)
        assert source.frame(0).data.dtype.isnative


def test_data_exchange_without_geometry_is_refused(path: Path) -> None:
    write(path, DataExchangeWriter)
    edit(path, delete("tango_jit"))
    with pytest.raises(RecordingError, match=r"no geometry.*source_mm"):
        open_recording(path)
    with open_recording(path, geometry=CONE) as source:
        assert isinstance(source, DataExchangeReader)
        np.testing.assert_allclose(source.angles_rad, 40 + 0.1 * np.arange(6), rtol=1e-14)
    set_geometry(path, "/", TILTED, linear=False)
    with open_recording(path) as source:
        assert source.header.geometry == TILTED


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0)])
def test_data_exchange_axis_order_is_checked(path: Path, order: tuple[int, int, int]) -> None:
    write(path, DataExchangeWriter)

    def change(file: h5py.File) -> None:
        stack = file["exchange/data"]
        assert isinstance(stack, h5py.Dataset)
        data = stack[()].transpose(order)
        del file["exchange/data"]
        file["exchange/data"] = data

    with pytest.raises(RecordingError, match=r"expected axes \(view, row, col\)"):
        open_recording(
            edit(path, change), geometry=replace(CONE, rows=6 if order[0] == 1 else 3, cols=5 if order[0] == 1 else 6)
        )


def test_data_exchange_axes_attribute_is_checked(path: Path) -> None:
    write(path, DataExchangeWriter)
    edit(path, lambda file: file["exchange/data"].attrs.__setitem__("axes", "y:theta:x"))
    with pytest.raises(RecordingError, match="y:theta:x"):
        open_recording(path)


def test_no_file_no_hdf5_no_recording(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_recording(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("this is no HDF5 file")
    with pytest.raises(RecordingError, match=r"text\.h5: not an HDF5 file"):
        open_recording(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["spectra"] = [1, 2]
    with pytest.raises(RecordingError, match=r"expected NXtomo.*Data Exchange.*got an HDF5 file with spectra"):
        open_recording(tmp_path / "other.h5")


def test_truncated_file(path: Path) -> None:
    write(path, count=2000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match="truncated"):
        open_recording(path)


HOLD = """
import sys, h5py
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_file_held_by_a_writer(path: Path) -> None:
    write(path)
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(RecordingError, match="another program holds it open for writing"):
            open_recording(path)
        writer.communicate()
    open_recording(path).close()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("instrument/detector/data", np.zeros((8, 3), np.uint16), r"expected frames \(n, rows, cols\)"),
        ("instrument/detector/data", np.zeros((8, 3, 5), np.int64), "expected one of uint8"),
        ("instrument/detector/data", np.zeros((7, 3, 5), np.uint16), "expected 7 values"),
        ("instrument/detector/image_key_control", np.full(8, 9), "got shape"),
        ("instrument/detector/image_key_control", np.full(8, 3), "expected projections, got none"),
        ("instrument/detector/image_key_control", None, None),
        ("sample/rotation_angle", np.zeros(3), "expected 8 angles"),
        ("sample/rotation_angle", np.full(8, np.nan), "finite"),
        ("sample/rotation_angle", "0 1 2", "expected numbers"),
        ("tango_jit/beam", "helical", "cone or parallel"),
        ("tango_jit/angle_sense", 2, "angle_sense"),
        ("tango_jit/linear", 5, "linear"),
        ("tango_jit/v_mm", None, "v_mm is missing"),
        ("tango_jit/v_mm", np.zeros(2), "expected 3 numbers"),
        ("tango_jit/v_mm", np.zeros(3), "u_mm and v_mm"),
        ("tango_jit/frame_number", np.arange(3), "each of the 8 frames"),
        ("tango_jit/frame_number", np.full(8, -1), "frame numbers from 0"),
        ("tango_jit/pose", np.zeros((8, 11)), r"expected shape \(8, 12\)"),
        ("tango_jit/dark_mean", np.zeros((2, 2), np.float32), "dark_mean"),
    ],
)
def test_wrong_fields_are_named(path: Path, field: str, value: Any, message: str | None) -> None:
    write(path)

    def change(file: h5py.File) -> None:
        del file[f"entry/{field}"]
        if value is not None:
            file[f"entry/{field}"] = value
            file[f"entry/{field}"].attrs["units"] = "degree"

    edit(path, change)
    if message is None:
        open_recording(path).close()
    else:
        with pytest.raises(RecordingError, match=message):
            open_recording(path)


def test_several_entries_must_be_named(path: Path) -> None:
    write(path)
    edit(path, lambda file: file.copy("entry", "nested/second"))
    with pytest.raises(RecordingError, match=r"entry, nested/second; name one"):
        open_recording(path)
    with NXtomoReader(path, entry="nested/second") as source:
        assert len(source) == 6
    with pytest.raises(RecordingError, match="'third', got entry"):
        NXtomoReader(path, entry="third")


def test_frames_in_a_missing_file_are_not_read_as_zeros(path: Path) -> None:
    write(path)

    def change(file: h5py.File) -> None:
        del file["entry/instrument/detector/data"]
        layout = h5py.VirtualLayout((8, ROWS, COLS), np.uint16)
        layout[:] = h5py.VirtualSource("frames.h5", "data", (8, ROWS, COLS))
        file.create_virtual_dataset("entry/instrument/detector/data", layout)

    edit(path, change)
    with pytest.raises(RecordingError, match=r"frames\.h5, which is missing"):
        open_recording(path)
    with h5py.File(path.with_name("frames.h5"), "w") as file:
        file["data"] = np.full((8, ROWS, COLS), 7, np.uint16)
    edit(path, delete(f"{EXACT}/dark_mean", f"{EXACT}/flat_mean"))
    with open_recording(path) as source:
        assert (source.frame(5).data == 7).all()


def test_geometry_for_another_detector_is_refused(path: Path) -> None:
    write(path)
    with pytest.raises(RecordingError, match=r"3 x 5 pixels.*for 4 x 5"):
        open_recording(path, geometry=replace(CONE, rows=4))


def test_positions_outside_and_after_close(path: Path) -> None:
    write(path)
    source = open_recording(path)
    for index in (-1, 6):
        with pytest.raises(IndexError, match="0 to 5"):
            source.frame(index)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.frame(0)
