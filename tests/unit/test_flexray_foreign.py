"""FleX-ray folders from elsewhere: settings, geometry, angles, orientation; what is missing is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import FlexRayOptions, RecordingError, open_recording
from tango_jit.recordings.flexray_geometry import scanner
from tango_jit.recordings.flexray_options import COMPANION, PROFILES, SITE_VARIABLE, Profile
from tango_jit.recordings.flexray_settings import Settings

ROWS, COLS = 10, 16  # binned twice
ROI = "960, 700, 991, 719"
MOTORS = """ver_tube {s} {q}3.5{q}
tra_tube {s} {q}0.25{q}
ver_det {s} {q}-7.0; moved{q}
tra_det {s} {q}24.5{q}
tra_obj {s} {q}-0.5{q}
"""
SOD, SDD, PIXEL = 225.082, 700.0, 0.1496
VOXEL = PIXEL * SOD / SDD  # mm

SCAN = f"""ScanID : 7
START : now
date : 2019-04-24 12:34:56
SDD : {SDD}
SOD : {SOD}
Voxel size : {1000 * VOXEL}
An unknown key : with : more colons
Exposure time (ms) : 12.0
Original pixel size : 0.0748
Imaging mode : HW2SW1High
Binning value : 2
Binned pixel size : {PIXEL}
ROI (LTRB) : {ROI}
{MOTORS.format(s=":", q="")}# projections : 9
Start angle : 0.0
Last angle : 360.0
Sample name : tablet
date : 2019-04-24 12:40:00
"""
XRE = f"""[CT-parameters IN]
SOD = "{SOD}"
SDD = "{SDD}"
Voxel size = "{VOXEL}"
Pixel size = "{PIXEL}"
Start angle = "0"
Last angle = "360"
# projections = "9"
{MOTORS.format(s="=", q='"')}{{roi}}
[POIs]
SOD = "1.0"
"""
METADATA = f"""[scanner]
sod = {SOD}
sdd = {SDD}
detector pixel size = 0.0748
mode = HW2SW1High
roi = [{ROI}]
first_angle = 0.0
last_angle = 360.0
exposure = 12.0
scan_name = tablet
{MOTORS.format(s="=", q="")}"""


def images(folder: Path, count: int = 9, first: int = 0, shape: tuple[int, int] = (ROWS, COLS)) -> None:
    """Frame k is k everywhere, and its top row in the file is 100 more."""
    folder.mkdir(exist_ok=True)
    for k in range(first, first + count):
        image = np.full(shape, k, np.uint16)
        image[0] += 100
        tifffile.imwrite(folder / f"scan_{k:06d}.tif", image)


def calibrations(folder: Path, shape: tuple[int, int] = (ROWS, COLS)) -> None:
    for name, value in (("di000000", 10), ("di000001", 20), ("io000000", 1000), ("io000001", 1001)):
        tifffile.imwrite(folder / f"{name}.tif", np.full(shape, value, np.uint16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scan"
    images(path)
    calibrations(path)
    (path / "scan settings.txt").write_text(SCAN)
    return path


def expected(profile: Profile = PROFILES["none"]) -> ScanGeometry:
    """The formulas, once more and apart: source, detector centre and the line between them at angle 0."""
    shift = np.array([(1951 // 2 - 971) * 0.0748, (1419 // 2 - 767) * 0.0748])
    axis = -0.5 + profile.axs_tan_mm
    source = [0.25 - axis, -SOD, 3.5 + profile.src_ort_mm]
    centre = [24.5 + shift[0] + profile.det_tan_mm - axis, SDD - SOD, -7.0 + shift[1]]
    middle = (centre[2] * SOD + source[2] * (SDD - SOD)) / SDD
    source[2] -= middle
    centre[2] -= middle
    return ScanGeometry("cone", ROWS, COLS, tuple(source), tuple(centre), (PIXEL, 0, 0), (0, 0, PIXEL))  # type: ignore[arg-type]


def same(one: ScanGeometry, other: ScanGeometry) -> None:
    angles = np.linspace(0, 7, 5)
    np.testing.assert_allclose(one.vectors(angles), other.vectors(angles), rtol=1e-12, atol=1e-9)


def test_a_single_turn_needs_nothing(folder: Path) -> None:
    with open_recording(folder) as source:
        same(source.header.geometry, expected())
        assert list(source.frame_numbers) == list(range(8))  # the ninth, at 360 degrees, repeats the first
        np.testing.assert_allclose(source.angles_rad, np.deg2rad(45.0 * np.arange(8)), rtol=1e-14)
        np.testing.assert_allclose(source.timestamps_s, 0.012 * np.arange(8))
        assert (source.header.series, source.header.name, source.header.exposure_s) == ("scan", "tablet", 0.012)
        assert source.header.linear is False
        assert source.dark is not None
        assert source.flat is not None
        assert (source.dark.count, float(source.dark.mean[0, 0])) == (2, 15.0)
        assert (source.flat.count, float(source.flat.mean[0, 0])) == (2, 1000.5)
        assert source.frame(3).data[:, 0].tolist() == [3] * (ROWS - 1) + [103]  # row 0 is the lowest
        assert source.frame(3).pose is None
        assert "no calibration profile" in source.remarks[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data settings XRE.txt", XRE.format(roi='ROI = "960;700;991;719"')),
        ("data settings XRE.txt", XRE.format(roi='import ROI = "480;350;496;360;"')),
        ("metadata.toml", METADATA),
    ],
)
def test_every_settings_file_gives_the_same_scanner(folder: Path, name: str, text: str) -> None:
    (folder / "scan settings.txt").unlink()
    (folder / name).write_text(text)
    with open_recording(folder) as source:
        same(source.header.geometry, expected())
        np.testing.assert_allclose(source.angles_rad, np.deg2rad(45.0 * np.arange(8)), rtol=1e-14)


def test_geometry_of_flexdata(folder: Path) -> None:
    scan = expected()
    (folder / "scan settings.txt").unlink()
    (folder / "geometry.toml").write_text(
        f"src2obj = {SOD}\ndet2obj = {SDD - SOD}\ndet_pixel = {PIXEL}\nunit = 'mm'\n"
        f"src_tan = {scan.source_mm[0] - 0.5}\nsrc_ort = {scan.source_mm[2]}\n"
        f"det_tan = {scan.detector_mm[0] - 0.5}\ndet_ort = {scan.detector_mm[2]}\n"
        f"axs_tan = -0.5\ndet_roll = 0.5\nvol_tra = [0.0, 0.0, 0.0]\nthetas = {[10.0 * k for k in range(9)]}\n"
    )
    with open_recording(folder) as source:
        read_back = source.header.geometry
        assert read_back.source_mm == pytest.approx(scan.source_mm)
        assert read_back.detector_mm == pytest.approx(scan.detector_mm)
        roll = np.deg2rad(0.5)  # right-handed about the beam, +y: u turns from +x towards -z
        assert read_back.u_mm == pytest.approx((PIXEL * np.cos(roll), 0, -PIXEL * np.sin(roll)))
        np.testing.assert_allclose(source.angles_rad, np.deg2rad(10.0 * np.arange(9)))
    path = folder / "geometry.toml"
    path.write_text(path.read_text() + "axs_roll = 1.0\n")
    with pytest.raises(RecordingError, match=r"geometry\.toml: axs_roll"):
        open_recording(folder)


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("scan settings.txt", SCAN, VOXEL),
        ("data settings XRE.txt", XRE.format(roi=f'ROI = "{ROI}"'), 1000 * VOXEL),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_units_of_the_voxel_size(folder: Path, name: str, text: str, wrong: float, alone: bool) -> None:
    right = 1000 * VOXEL if name.startswith("scan") else VOXEL
    text = text.replace(str(right), str(wrong))
    if alone:  # nothing but the voxel size says how large a pixel is
        text = "\n".join(line for line in text.splitlines() if "pixel size" not in line.lower()) + "\n"
        text = text.replace("[POIs]", 'Binning value = "2"\n[POIs]')
    (folder / "scan settings.txt").unlink()
    (folder / name).write_text(text)
    with pytest.raises(RecordingError, match=rf"{name}: Voxel size: .*mixed up"):
        open_recording(folder)


def test_a_voxel_size_that_is_a_little_off_is_remarked(folder: Path) -> None:
    (folder / "scan settings.txt").write_text(SCAN.replace(str(1000 * VOXEL), str(1030 * VOXEL)))
    with open_recording(folder) as source:
        same(source.header.geometry, expected())
        assert "differ by more than 1 %" in source.remarks[0]


@pytest.mark.parametrize("binning", [1, 2, 4])
def test_a_crop_sees_a_point_where_the_whole_frame_does(binning: int) -> None:
    """A cut from the whole detector, its rows counted from the lowest: the same pixel, less the corner of the cut."""
    left, low, cols, rows = 96, 400, 512, 256
    common = (SOD, SDD, 0.0748 * binning, binning)
    motors = (0.25, 3.5, 24.5, -7.0, -0.5)
    whole = scanner(
        Settings("whole", *common, (0, 0, 1943, 1535), *motors), Profile(), 1536 // binning, 1944 // binning
    )
    roi = (left, low, left + cols - 1, low + rows - 1)
    crop = scanner(Settings("crop", *common, roi, *motors), Profile(), rows // binning, cols // binning)
    lifted = whole.source_mm[2] - crop.source_mm[2]  # z = 0 moves with the middle of the images
    for angle in (0.0, 1.1, 4.0):
        column, row, weight = whole.matrices(angle)[0] @ (3.0, -2.0, 5.0 + lifted, 1)
        cut = crop.matrices(angle)[0] @ (3.0, -2.0, 5.0, 1)
        assert cut[0] / cut[2] == pytest.approx(column / weight - left / binning, abs=1e-9)
        assert cut[1] / cut[2] == pytest.approx(row / weight - low / binning, abs=1e-9)
    down = scanner(Settings("crop", *common, roi, *motors), Profile(), rows // binning, cols // binning, "down")
    assert down.detector_mm[2] - down.source_mm[2] != crop.detector_mm[2] - crop.source_mm[2]


def test_motor_offsets_put_a_point_where_the_formulas_say() -> None:
    scan = expected()
    source, centre = np.array(scan.source_mm), np.array(scan.detector_mm)
    assert (centre[2] * SOD + source[2] * (SDD - SOD)) == pytest.approx(0, abs=1e-9)
    angle, point = 0.7, np.array([2.0, 1.0, -0.5])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    seen = turn.T @ point  # the scanner turns counter-clockwise: seen from it the sample turns clockwise
    hit = source + (seen - source) * SDD / (seen[1] + SOD)
    column, row, weight = scan.matrices(angle)[0] @ (*point, 1)
    assert column / weight == pytest.approx((hit[0] - centre[0]) / PIXEL + (COLS - 1) / 2)
    assert row / weight == pytest.approx((hit[2] - centre[2]) / PIXEL + (ROWS - 1) / 2)


def test_profiles_of_the_scanner_the_site_and_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cwi-flexray-2019-04-24"
    with open_recording(folder, flexray=FlexRayOptions(profile=name)) as source:
        same(source.header.geometry, expected(Profile(det_tan_mm=24.0, src_ort_mm=-7.0, axs_tan_mm=-0.5)))
        assert not any("calibration" in remark for remark in source.remarks)
    (tmp_path / "site.toml").write_text("[ours]\ndet_tan_mm = 1.5\n")
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.toml"))
    with open_recording(folder, flexray=FlexRayOptions(profile="ours")) as source:
        same(source.header.geometry, expected(Profile(det_tan_mm=1.5)))
    (folder / COMPANION).write_text('[options]\nprofile = "here"\n[profiles.here]\nsrc_ort_mm = -2\n')
    with open_recording(folder) as source:
        same(source.header.geometry, expected(Profile(src_ort_mm=-2.0)))
    with pytest.raises(RecordingError, match=r"profile: expected one of none, cwi.*, ours, here, got 'theirs'"):
        open_recording(folder, flexray=FlexRayOptions(profile="theirs"))
    (tmp_path / "site.toml").write_text("[ours]\ndet_tan = 1.5\n")
    with pytest.raises(RecordingError, match=r"site\.toml: ours: expected a calibration of src_tan_mm"):
        open_recording(folder)


def series(folder: Path, restart: bool = False) -> Path:
    for part in range(4):
        images(folder / f"scan_{part + 1}", 5, 0 if restart else 5 * part)
    before = folder / "pre_scan"
    before.mkdir()
    calibrations(before)
    text = SCAN.replace("# projections : 9", "# projections : 20")
    (before / "scan settings.txt").write_text(text)
    return folder


CONTINUOUS = FlexRayOptions(views_per_turn=8, direction=-1, phase_rad=0.5, frame_period_s=0.012, profile="none")


def test_a_continuous_series_is_read_as_one(tmp_path: Path) -> None:
    """Whatever angles its settings give: those are not of a series."""
    series(tmp_path)
    (tmp_path / "scan_2" / "scan_000007.tif").unlink()
    with pytest.raises(RecordingError, match=r"views_per_turn .*direction.*phase_rad.*frame_period_s.*profile"):
        open_recording(tmp_path)
    with pytest.raises(RecordingError, match=r"missing: direction[^;]*\. Give"):
        open_recording(tmp_path, flexray=FlexRayOptions(**{**vars(CONTINUOUS), "direction": None}))
    with open_recording(tmp_path, flexray=CONTINUOUS) as source:
        numbers = np.delete(np.arange(20), 7)
        assert list(source.frame_numbers) == numbers.tolist()
        np.testing.assert_allclose(source.angles_rad, 0.5 - numbers * 2 * np.pi / 8, rtol=1e-14)
        np.testing.assert_allclose(source.timestamps_s, numbers * 0.012, rtol=1e-14)
        assert int(source.frame(18).data[0, 0]) == 19
        assert source.dark is not None
        assert source.dark.count == 2
    with open_recording(tmp_path / "scan_3", flexray=CONTINUOUS) as source:  # a part, with what lies beside it
        assert list(source.frame_numbers) == [10, 11, 12, 13, 14]
        assert source.flat is not None


def test_options_may_lie_in_the_folder(tmp_path: Path) -> None:
    series(tmp_path)
    (tmp_path / COMPANION).write_text(
        '[options]\nviews_per_turn = 8\ndirection = -1\nphase_rad = 0.25\nframe_period_s = 0.012\nprofile = "none"\n'
    )
    with open_recording(tmp_path, flexray=FlexRayOptions(phase_rad=0.5)) as source:  # what is given counts more
        np.testing.assert_allclose(source.angles_rad, 0.5 - np.arange(20) * 2 * np.pi / 8, rtol=1e-14)
    (tmp_path / COMPANION).write_text("[options]\nviews = 8\n")
    with pytest.raises(RecordingError, match=r"tango-jit\.toml: expected options among views_per_turn.*got views"):
        open_recording(tmp_path)
    (tmp_path / COMPANION).write_text("[options]\nviews_per_turn = -8\n")
    with pytest.raises(RecordingError, match="views_per_turn: expected a number above 0, got -8"):
        open_recording(tmp_path)
    (tmp_path / COMPANION).write_text("[options\n")
    with pytest.raises(RecordingError, match=r"tango-jit\.toml: expected TOML"):
        open_recording(tmp_path)


def test_numbers_that_begin_again_must_be_said_to(tmp_path: Path) -> None:
    series(tmp_path, restart=True)
    with pytest.raises(RecordingError, match=r"scan_000000\.tif after number 4.*restart = true"):
        open_recording(tmp_path, flexray=CONTINUOUS)
    with open_recording(tmp_path, flexray=FlexRayOptions(**{**vars(CONTINUOUS), "restart": True})) as source:
        assert list(source.frame_numbers) == list(range(20))
        assert int(source.frame(12).data[0, 0]) == 2


def test_gaps_keep_their_numbers_and_angles(folder: Path) -> None:
    for number in (2, 3, 6):
        (folder / f"scan_{number:06d}.tif").unlink()
    with open_recording(folder) as source:
        assert list(source.frame_numbers) == [0, 1, 4, 5, 7]
        np.testing.assert_allclose(source.angles_rad, np.deg2rad([0, 45, 180, 225, 315]), rtol=1e-14)
        assert [int(source.frame(k).data[0, 0]) for k in range(5)] == [0, 1, 4, 5, 7]


def test_reverse_counts_from_the_last(folder: Path) -> None:
    with open_recording(folder, flexray=FlexRayOptions(reverse=True)) as source:
        assert list(source.frame_numbers) == list(range(8))
        assert [int(source.frame(k).data[0, 0]) for k in range(8)] == [8, 7, 6, 5, 4, 3, 2, 1]


def test_vectors_win_and_portrait_images_are_turned(tmp_path: Path) -> None:
    """As the walnuts: flipped, transposed, last file first, one line of 12 numbers for each."""
    images(tmp_path, 9, shape=(COLS, ROWS))
    calibrations(tmp_path, (COLS, ROWS))
    scan = expected()
    turn = np.linspace(0.3, 0.3 + 2 * np.pi, 9)
    np.savetxt(tmp_path / "scan_geom_corrected.geom", scan.vectors(turn), fmt="%.17g")
    options = FlexRayOptions(transpose=True, reverse=True)
    with open_recording(tmp_path, flexray=options) as source:
        turned = source.header.geometry.vectors(source.angles_rad)
        np.testing.assert_allclose(turned, scan.vectors(turn[:8]), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(np.diff(source.angles_rad), np.diff(turn[:8]), rtol=1e-12)
        frame = source.frame(2)
        assert frame.frame == 2
        assert frame.pose == pytest.approx(tuple(scan.vectors(turn[2])[0]), rel=1e-12)
        assert frame.data.shape == (ROWS, COLS)
        assert frame.data[0].tolist() == [6] * (COLS - 1) + [106]
    (tmp_path / "scan_geom_corrected.geom").unlink()
    (tmp_path / "scan settings.txt").write_text(SCAN)
    with pytest.raises(RecordingError, match="transposed images need an exact geometry"):
        open_recording(tmp_path, flexray=options)
    np.savetxt(tmp_path / "a.geom", np.zeros((9, 11)))
    with pytest.raises(RecordingError, match=r"a\.geom: expected 12 finite numbers in each line, got 11"):
        open_recording(tmp_path, flexray=options)


def test_explicit_angles(folder: Path) -> None:
    angles = tuple(0.1 * k for k in range(9))
    with open_recording(folder, flexray=FlexRayOptions(angles_rad=angles)) as source:
        np.testing.assert_allclose(source.angles_rad, angles)
    with pytest.raises(RecordingError, match="an angle for each number, got 3 for numbers up to 8"):
        open_recording(folder, flexray=FlexRayOptions(angles_rad=angles[:3]))
