"""Recordings: geometry in the standard fields of NXtomo, and files of the package nxtomo."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pint
import pytest
from nxtomo.application.nxtomo import NXtomo
from nxtomo.nxobject.nxdetector import ImageKey

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import (
    RecordingError,
    open_recording,
    set_geometry,
)
from tests.recorded import (
    COLS,
    CONE,
    EXACT,
    PARALLEL,
    ROWS,
    TOP_DOWN,
    delete,
    edit,
    frames_of,
    write,
)

UNITS = pint.get_application_registry()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.h5"


def test_package_nxtomo_reads_ours(path: Path) -> None:
    images = write(path)
    foreign: Any = NXtomo().load(str(path), "entry", detector_data_as="as_numpy_array")
    detector, source = foreign.instrument.detector, foreign.instrument.source
    assert foreign.title == "a sample"
    assert [key.value for key in detector.image_key_control] == [2, 1] + 6 * [0]
    np.testing.assert_array_equal(detector.data[2:], [image.data for image in images])
    np.testing.assert_allclose(
        foreign.sample.rotation_angle[2:].to("rad").magnitude, [image.angle_rad for image in images], rtol=1e-14
    )
    np.testing.assert_allclose(detector.count_time.to("s").magnitude, 0.012)
    sizes = [
        x.to("mm").magnitude for x in (detector.x_pixel_size, detector.y_pixel_size, detector.distance, source.distance)
    ]
    np.testing.assert_allclose(sizes, [0.2, 0.3, 150.0, -100.0], rtol=1e-14)
    assert detector.x_rotation_axis_pixel_position == pytest.approx(1.7)
    NXtomo.check_consistency(foreign, raises_error=False)


def foreign_file(path: Path, *, synchrotron: bool = False) -> Path:
    """Cone-beam scan as the package nxtomo writes it: 2 darks, 3 flats, 4 projections, one of them invalid."""
    scan: Any = NXtomo()
    detector, millimetre = scan.instrument.detector, UNITS.millimeter
    keys = (
        ImageKey.DARK_FIELD,
        ImageKey.DARK_FIELD,
        ImageKey.FLAT_FIELD,
        ImageKey.FLAT_FIELD,
        ImageKey.PROJECTION,
        ImageKey.INVALID,
        ImageKey.PROJECTION,
        ImageKey.FLAT_FIELD,
        ImageKey.PROJECTION,
        ImageKey.ALIGNMENT,
    )
    detector.image_key_control = keys
    detector.data = (100 * np.arange(10)[:, None, None] + np.arange(ROWS * COLS).reshape(ROWS, COLS)).astype(np.uint16)
    detector.x_pixel_size, detector.y_pixel_size = 0.2 * millimetre, 300 * UNITS.micrometer
    detector.x_rotation_axis_pixel_position = 1.7
    detector.count_time = np.full(10, 20.0) * UNITS.millisecond
    scan.sample.rotation_angle = np.array([0, 0, 0, 0, 350, 355, 0, 0, 5, 90.0]) * UNITS.degree
    scan.title = "made\nelsewhere"
    if not synchrotron:
        detector.y_rotation_axis_pixel_position = 0.9
        detector.distance, scan.instrument.source.distance = 0.15 * UNITS.meter, -10 * UNITS.centimeter
    scan.save(str(path), "entry0000")
    return path


def test_ours_reads_the_package_nxtomo(path: Path) -> None:
    edit(foreign_file(path), lambda file: file.__setitem__("entry0000/tango_jit/angle_sense", 1))
    with open_recording(path) as source:
        angles = np.linspace(0, 7, 5)
        np.testing.assert_allclose(source.header.geometry.matrices(angles), TOP_DOWN.matrices(angles), atol=1e-9)
        assert not source.header.linear
        assert source.header.exposure_s == pytest.approx(0.02)
        assert source.header.name == "made elsewhere"
        # Invalid frames are gaps in the numbers; flats between projections and alignment images are not counted.
        assert list(source.frame_numbers) == [0, 2, 3]
        assert [image.timestamp_s for image in frames_of(source)] == pytest.approx([0, 0.04, 0.06])
        assert [int(image.data[0, 0]) for image in frames_of(source)] == [400, 600, 800]
        np.testing.assert_allclose(
            [image.angle_rad for image in frames_of(source)], np.deg2rad([350, 360, 365]), rtol=1e-14
        )
        assert source.dark is not None
        assert source.flat is not None
        assert (source.dark.count, source.flat.count) == (2, 3)
        assert float(source.dark.mean[0, 0]) == 50.0
        assert float(source.flat.mean[0, 1]) == pytest.approx((200 + 300 + 700) / 3 + 1)


def test_angle_sense_of_the_file_turns_the_angles(path: Path) -> None:
    edit(foreign_file(path), lambda file: file.__setitem__("entry0000/tango_jit/angle_sense", -1))
    with open_recording(path) as source:
        np.testing.assert_allclose([image.angle_rad for image in frames_of(source)], np.deg2rad([-350, -360, -365]))


def test_synchrotron_without_source_distance_is_parallel(path: Path) -> None:
    """Its sample pixel size counts where it is given: optics magnify."""
    foreign_file(path, synchrotron=True)
    with open_recording(path) as source:
        assert source.header.geometry.beam == "parallel"
        assert source.header.geometry.u_mm == pytest.approx((0.2, 0, 0))

    def magnify(file: h5py.File) -> None:
        for axis in "xy":
            file[f"entry0000/sample/{axis}_pixel_size"] = 0.65
            file[f"entry0000/sample/{axis}_pixel_size"].attrs["units"] = "µm"

    edit(path, magnify)
    with open_recording(path) as source:
        assert source.header.geometry.u_mm == pytest.approx((0.00065, 0, 0))


def mirrored(geometry: ScanGeometry, *, left_right: bool, up_down: bool) -> ScanGeometry:
    """The same place on a detector that is read out from the other side."""
    u, v = np.array(geometry.u_mm), np.array(geometry.v_mm)
    return replace(geometry, u_mm=tuple(-u if left_right else u), v_mm=tuple(-v if up_down else v))


@pytest.mark.parametrize("left_right", [False, True])
@pytest.mark.parametrize("up_down", [False, True])
@pytest.mark.parametrize("geometry", [CONE, PARALLEL])
def test_standard_fields_alone_give_the_same_scanner(
    path: Path, geometry: ScanGeometry, left_right: bool, up_down: bool
) -> None:
    geometry = mirrored(geometry, left_right=left_right, up_down=up_down)
    images = write(path, geometry=geometry)
    edit(path, delete(*(f"{EXACT}/{name}" for name in ("source_mm", "detector_mm", "u_mm", "v_mm"))))
    with open_recording(path) as source:
        angles = [image.angle_rad for image in images]
        np.testing.assert_allclose(source.header.geometry.matrices(angles), geometry.matrices(angles), atol=1e-9)


GEOMETRY_FIELDS = (
    "instrument/detector/x_pixel_size",
    "instrument/detector/y_pixel_size",
    "instrument/detector/distance",
    "instrument/source/distance",
    "instrument/detector/x_rotation_axis_pixel_position",
    "instrument/detector/y_rotation_axis_pixel_position",
    "tango_jit/angle_sense",
)


def keep_only_fields(file: h5py.File) -> None:
    """As from elsewhere: of our own group only the words."""
    delete(*(f"{EXACT}/{name}" for name in ("source_mm", "detector_mm", "u_mm", "v_mm")))(file)


@pytest.mark.parametrize("field", GEOMETRY_FIELDS)
def test_missing_geometry_is_refused_by_name(path: Path, field: str) -> None:
    write(path)
    edit(path, keep_only_fields)
    edit(path, delete(f"entry/{field}"))
    with pytest.raises(RecordingError, match=f"missing.*/entry/{field}"):
        open_recording(path)
    with open_recording(path, geometry=CONE) as source:  # what the caller knows need not be in the file
        assert source.header.geometry == CONE


def test_all_missing_fields_are_named_at_once(path: Path) -> None:
    write(path)
    edit(path, keep_only_fields)
    edit(path, delete(*(f"entry/{field}" for field in GEOMETRY_FIELDS)))
    with pytest.raises(RecordingError) as error:
        open_recording(path)
    assert all(field in str(error.value) for field in GEOMETRY_FIELDS)


def test_unknown_beam_is_refused(path: Path) -> None:
    write(path, geometry=PARALLEL)
    edit(path, keep_only_fields)
    edit(path, delete(f"{EXACT}/beam"))
    with pytest.raises(RecordingError, match=r"instrument/source/distance.*or tango_jit/beam"):
        open_recording(path)


@pytest.mark.parametrize("field", [x for x in GEOMETRY_FIELDS if "sense" not in x])
def test_contradicting_field_is_refused(path: Path, field: str) -> None:
    write(path)

    def change(factor: float) -> None:
        def apply(file: h5py.File) -> None:
            value = file[f"entry/{field}"]
            assert isinstance(value, h5py.Dataset)
            value[()] = value[()] * factor

        edit(path, apply)

    change(1 + 1e-9)
    open_recording(path).close()
    change(1 + 3e-6)
    with pytest.raises(RecordingError, match=f"{field}.*contradicts"):
        open_recording(path)


def test_contradicting_flips_angles_and_means_are_refused(path: Path) -> None:
    write(path)

    def spoil(name: str, value: Any, index: Any = ()) -> Path:
        copy = path.with_name("spoilt.h5")
        copy.write_bytes(path.read_bytes())

        def change(file: h5py.File) -> None:
            field = file[f"entry/{name}"]
            assert isinstance(field, h5py.Dataset)
            field[index] = value

        return edit(copy, change)

    with pytest.raises(RecordingError, match="flips"):
        open_recording(spoil("instrument/detector/transformations/ry", 180.0))
    with pytest.raises(RecordingError, match="frame 4 is at 0"):
        open_recording(spoil("sample/rotation_angle", 0.0, 4))
    with (
        open_recording(spoil("tango_jit/flat_mean", 100.0, (0, 0))) as source,
        pytest.raises(RecordingError, match="flat_mean"),
    ):
        _ = source.flat
    open_recording(spoil("sample/rotation_angle", 7.0, 0)).close()  # the angle of a dark means nothing


def test_set_geometry_completes_a_foreign_file(path: Path) -> None:
    with pytest.raises(RecordingError, match="set_geometry"):
        open_recording(foreign_file(path))
    set_geometry(path, "entry0000", TOP_DOWN, linear=False)
    with open_recording(path) as source:
        assert source.header.geometry == TOP_DOWN
    with pytest.raises(RecordingError, match="expected the group entry, got entry0000"):
        set_geometry(path, "entry", CONE, linear=False)


def test_other_detector_poses_need_the_exact_geometry(path: Path) -> None:
    write(path)

    def turn(file: h5py.File) -> None:
        keep_only_fields(file)
        angle = file["entry/instrument/detector/transformations/rx"]
        assert isinstance(angle, h5py.Dataset)
        angle[()] = 3.0

    with pytest.raises(RecordingError, match="half turn about x or y"):
        open_recording(edit(path, turn))


def test_units_are_required_and_honoured(path: Path) -> None:
    write(path)
    edit(path, keep_only_fields)

    def unit(file: h5py.File) -> None:
        del file["entry/instrument/detector/distance"].attrs["units"]

    with pytest.raises(RecordingError, match=r"detector/distance.*units.*got None"):
        open_recording(edit(path, unit))
