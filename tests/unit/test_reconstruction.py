"""Right values at the right place: balls with closed-form projections, and real scans whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.recon.center import sharpness
from tango_jit.recon.preprocess import FILTERS
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import Window
from tango_jit.recordings import open_recording
from tests import real_scans
from tests.phantom import ball, turn
from tests.reconstructions import full_slice, whole_window, window_of

CENTER, RADIUS, MU = (4.0, -6.0, 3.0), 9.0, 0.05  # mm, mm, 1/mm
SLICES = {
    "xy": ((1, 0, 0), (0, -1, 0)),
    "xz": ((1, 0, 0), (0, 0, -1)),
    "yz": ((0, 1, 0), (0, 0, -1)),
    "oblique": ((2, 1, 1), (-1, 1, 1)),
}


def cone(**changes: Any) -> ScanGeometry:
    """Half angle 13 degrees: the ball lies at 1 to 2 degrees off the mid-plane."""
    usual: dict[str, Any] = dict(rows=101, cols=128, pixel_mm=0.75, source_axis_mm=200.0, source_detector_mm=300.0)
    return ScanGeometry.cone(**usual | changes)


def parallel(**changes: Any) -> ScanGeometry:
    return ScanGeometry.parallel(**dict[str, Any](rows=101, cols=128, pixel_mm=0.5) | changes)


def ball_window(scan: ScanGeometry, angles: NDArray[np.float64], frames: Any = None, **options: Any) -> Window:
    frames = np.arange(len(angles)) if frames is None else frames
    return window_of(scan, frames, angles, ball(scan, angles, CENTER, RADIUS, MU), **options)


def through_the_ball(directions: Any = SLICES["xy"], pixel_mm: float = 0.5, side: int = 81) -> SliceGeometry:
    return SliceGeometry.centered(CENTER, *directions, pixel_mm=pixel_mm, shape=(side, side))


def check(slice_: NDArray[np.float32], place: SliceGeometry, value: float = 0.003, offset_mm: float = 0.05) -> None:
    """The mean inside, the mean outside and the place of the ball; `value` is the tolerance relative to the truth."""
    away = place.points() - np.array(CENTER)
    distance = np.linalg.norm(away, axis=-1)
    inside, around = distance < 0.7 * RADIUS, (distance > 1.3 * RADIUS) & (distance < 1.8 * RADIUS)
    assert slice_[inside].mean() == pytest.approx(MU, rel=value)
    assert slice_[inside].std() < 10 * value * MU
    assert abs(slice_[around].mean()) < 2 * value * MU
    near = distance < 1.3 * RADIUS
    centroid = (slice_[near, None] * away[near]).sum(0) / slice_[near].sum()
    assert np.linalg.norm(centroid) < offset_mm


def check_window(scan: ScanGeometry, window: Window, place: SliceGeometry | None = None, **tolerance: float) -> None:
    """Even half, odd half and whole."""
    place = place or through_the_ball()
    planes = Reconstructor(scan).reconstruct(window, place)
    assert planes.shape == (2 if window.equal else 3, 1, *place.shape)
    for plane in planes:
        check(plane[0], place, **tolerance)


# --- balls


@pytest.mark.parametrize("first_rad", [0.0, 1.0, -1e4])
@pytest.mark.parametrize("direction", [1, -1])
def test_150_views_and_their_halves(first_rad: float, direction: int) -> None:
    """Every set is right to 0.3 %: 150, 75 even, 75 odd."""
    window = ball_window(cone(), first_rad + direction * turn(150))
    assert (window.weights > 0).sum(axis=1).tolist() == [75, 75, 150]
    assert window.complete
    assert window.equal
    check_window(cone(), window)


def test_the_mean_of_equal_halves_is_the_whole() -> None:
    window, place = ball_window(cone(), turn(150)), through_the_ball()
    assert window.equal
    halves = Reconstructor(cone()).reconstruct(window, place)
    object.__setattr__(window, "equal", False)
    whole = Reconstructor(cone()).reconstruct(window, place)[2]
    np.testing.assert_allclose(halves.mean(0), whole, atol=1e-5 * np.abs(whole).max(), rtol=0)


def test_an_odd_number_of_views() -> None:
    window = ball_window(cone(), turn(151))
    assert (window.weights > 0).sum(axis=1).tolist() == [76, 75, 151]
    check_window(cone(), window)


def test_unequal_steps() -> None:
    rng = np.random.default_rng(0)
    angles = turn(150) + rng.uniform(-0.35, 0.35, 150) * 2 * math.pi / 150
    window = ball_window(cone(), angles)
    assert not window.equal
    check_window(cone(), window)


def test_15_missing_views_in_a_row() -> None:
    frames = np.r_[0:60, 75:150]
    window = ball_window(cone(), turn(150)[frames], frames)
    assert not window.complete
    check_window(cone(), window, value=0.005, offset_mm=0.3)


@pytest.mark.parametrize("name", SLICES)
def test_every_orientation(name: str) -> None:
    check_window(cone(), ball_window(cone(), turn(150)), through_the_ball(SLICES[name]), value=0.005, offset_mm=0.1)


@pytest.mark.parametrize("pixel_mm", [0.11, 1.0])
def test_any_zoom(pixel_mm: float) -> None:
    place = through_the_ball(pixel_mm=pixel_mm, side=round(36 / pixel_mm))
    check_window(cone(), ball_window(cone(), turn(150)), place, value=0.005, offset_mm=0.1)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter(name: str) -> None:
    check_window(cone(), ball_window(cone(), turn(150), filter=name))


@pytest.mark.parametrize(
    "change",
    [
        dict(source_offset_mm=(12.0, 0.0)),
        dict(source_offset_mm=(-12.0, 8.0)),
        dict(axis_column=75.25, mid_row=42.0),
        dict(pitch_rad=0.1),
        dict(yaw_rad=0.1),
        dict(roll_rad=0.03),
        dict(source_offset_mm=(10.0, -4.0), axis_column=58.0, pitch_rad=0.05, yaw_rad=-0.08, roll_rad=0.02),
        dict(pixel_mm=(0.75, 0.9)),
        dict(source_detector_mm=200.0, pixel_mm=0.5),
    ],
    ids=["source", "source up", "detector", "pitch", "yaw", "roll", "all", "pixels", "detector at the axis"],
)
def test_offsets_and_tilts(change: dict[str, Any]) -> None:
    """The ball is where it should be, with the right value."""
    scan = cone(**change)
    check_window(scan, ball_window(scan, turn(150)), value=0.004, offset_mm=0.1)


@pytest.mark.parametrize(("turns", "views"), [(0.5, 150), (0.5, 151), (1.0, 150)])
@pytest.mark.parametrize("change", [{}, dict(axis_column=70.0), dict(yaw_rad=0.2), dict(pitch_rad=0.2)])
def test_parallel_beams_over_half_a_turn_and_a_whole_one(turns: float, views: int, change: dict[str, Any]) -> None:
    scan = parallel(**change)
    window = ball_window(scan, turn(views, turns), span_rad=2 * math.pi * turns)
    assert len(window.frames) == views
    check_window(scan, window, offset_mm=0.1)


def test_a_far_source_is_a_parallel_beam() -> None:
    far = ScanGeometry.cone(rows=101, cols=128, pixel_mm=0.5, source_axis_mm=1e6, source_detector_mm=1e6 + 1)
    near = parallel()
    place = through_the_ball()
    cone_slice, parallel_slice = (
        full_slice(scan, ball_window(scan, turn(150), span_rad=2 * math.pi), place) for scan in (far, near)
    )
    np.testing.assert_allclose(cone_slice, parallel_slice, atol=2e-4 * MU)


def test_a_fan_is_the_mid_plane_of_the_cone() -> None:
    fan, whole = cone(rows=1), cone(rows=101)
    place = SliceGeometry.centered((4, -6, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(81, 81))
    views = ball(whole, turn(150), CENTER, RADIUS, MU)
    both = [window_of(whole, range(150), turn(150), views), window_of(fan, range(150), turn(150), views[:, 50:51])]
    got = [full_slice(scan, window, place) for scan, window in zip((whole, fan), both, strict=True)]
    np.testing.assert_allclose(got[0], got[1], atol=1e-6)


def test_moving_the_window_on_does_not_change_a_thing() -> None:
    """A window in mid-turn, from another first angle, shows the same."""
    angles = turn(260, 260 / 150)
    planes = []
    for start in (0, 110):
        chosen = np.arange(start, start + 150)
        window = ball_window(cone(), angles[chosen], chosen)
        planes.append(Reconstructor(cone()).reconstruct(window, through_the_ball()))
    np.testing.assert_allclose(planes[0], planes[1], atol=1e-5 * MU * 20)


# --- pairs and refusals


def test_pairs_are_the_halves_of_small_slices() -> None:
    scan, window = cone(), ball_window(cone(), turn(151))
    places = [through_the_ball(directions, side=21) for directions in SLICES.values()]
    reconstructor = Reconstructor(scan)
    poses = np.stack([place.pose for place in places])
    out = np.empty((4, 2, 21, 21), np.float32)
    assert reconstructor.reconstruct_pairs(window, poses, (21, 21), out) is out
    for pair, place in zip(out, places, strict=True):
        np.testing.assert_allclose(pair, reconstructor.reconstruct(window, place)[:2, 0], atol=1e-6)


def test_backends_give_the_same_slice() -> None:
    window, place = ball_window(cone(), turn(150)), through_the_ball(SLICES["oblique"], side=25)
    cpu, reference = (Reconstructor(cone(), name).reconstruct(window, place) for name in ("cpu", "reference"))
    np.testing.assert_allclose(cpu, reference, atol=1e-5 * MU)


def test_off_its_plane_a_single_row_refuses_in_words() -> None:
    scan = cone(rows=1)
    window = window_of(scan, range(150), turn(150), np.zeros((150, 1, 128), np.float32))
    reconstructor = Reconstructor(scan)
    for place in (through_the_ball(), SliceGeometry.centered((0, 0, 0), *SLICES["xz"], pixel_mm=1.0, shape=(9, 9))):
        with pytest.raises(ValueError, match=r"expected the plane z = 0 mm, the only one that a detector of one row"):
            reconstructor.reconstruct(window, place)
        with pytest.raises(ValueError, match="expected the plane z = 0 mm"):
            reconstructor.reconstruct_pairs(window, place.pose[None], place.shape)
    flat = SliceGeometry.centered((3, 2, 0), (1, 1, 0), (-1, 1, 0), pixel_mm=1.0, shape=(9, 9))
    assert reconstructor.reconstruct(window, flat).shape == (2, 1, 9, 9)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend: expected one of"):
        Reconstructor(cone(), "gpu")


# --- real scans

HTC_PLACE = SliceGeometry.centered((0, 0, 0), *SLICES["xy"], pixel_mm=real_scans.HTC_PIXEL_MM, shape=(512, 512))


def test_htc_agrees_with_the_reconstruction_of_its_makers(shared_data: Path, tmp_path: Path) -> None:
    """Correlation and, in 1/mm, slope, median of the ratio in plastic, and offset."""
    scan, window = whole_window(real_scans.htc(tmp_path))
    assert len(window.frames) == 720
    got, reference = full_slice(scan, window, HTC_PLACE), real_scans.htc_reference()
    assert np.corrcoef(got.ravel(), reference.ravel())[0, 1] >= 0.9999
    y, x = np.mgrid[:512, :512] - 255.5
    disc = np.hypot(x, y) < 225
    slope, offset = np.polyfit(reference[disc], got[disc], 1)
    assert slope == pytest.approx(1, abs=0.002)
    assert abs(offset) < 1e-4
    plastic = disc & (reference > 0.02)
    assert np.median(got[plastic] / reference[plastic]) == pytest.approx(1, abs=0.001)


def test_htc_as_a_stream_shows_the_same_object_at_every_moment(shared_data: Path) -> None:
    """Interleaved rotations of 180 views: windows of 180 uneven views, anywhere in the stream and over its seams."""
    geometry = real_scans.htc_geometry()
    sinogram, _ = real_scans.htc_sinogram()
    view, angles = real_scans.htc_order()
    y, x = np.mgrid[:512, :512] - 255.5
    disc = np.hypot(x, y) < 225
    reference = real_scans.htc_reference()[disc]
    for last in (180, 250, 333, 540, 719):
        frames = np.arange(last - 180, last + 1)
        window = window_of(geometry, frames, angles[frames], sinogram[view[frames]][:, None])
        assert window.complete
        assert len(window.frames) == 180
        got = full_slice(geometry, window, HTC_PLACE)[disc]
        assert got.mean() == pytest.approx(reference.mean(), rel=5e-4)
        error = np.sqrt(np.mean((got - reference) ** 2))
        assert 20 * math.log10(np.ptp(reference) / error) == pytest.approx(25.5, abs=0.2)


@pytest.mark.parametrize("convert", [real_scans.tooth, real_scans.savu, real_scans.walnut])
def test_real_scans_are_sharpest_at_the_given_centre(shared_data: Path, tmp_path: Path, convert: Any) -> None:
    """The entropy of the slice is least there; each centre was found by other means (flip correlation, eye)."""
    scan, window = whole_window(convert(tmp_path))
    scores = {offset: sharpness(window, scan, offset)[0] for offset in (-3, -1.5, -0.75, 0, 0.75, 1.5, 3)}
    ranked = sorted(scores, key=lambda offset: -scores[offset])
    assert ranked[0] == 0, scores
    assert {*ranked[-2:]} == {-3, 3}, scores


def test_the_tooth_has_the_attenuation_of_its_projections(shared_data: Path, tmp_path: Path) -> None:
    """The mass in a slice is the mean mass in the line integrals: FBP conserves it."""
    scan, window = whole_window(real_scans.tooth(tmp_path))
    place = default_slices(scan, (400, 400))["xy"]
    slice_ = full_slice(scan, window, place)
    with open_recording(tmp_path / "tooth.nxs") as recording:
        assert recording.dark is not None
        assert recording.flat is not None
        counts = np.stack([recording.frame(n).data for n in range(len(recording))]).astype(float)
        transmission = (counts - recording.dark.mean) / (recording.flat.mean - recording.dark.mean)
    integrals = -np.log(np.clip(transmission, 1e-4, None))
    mass = integrals.mean(axis=1).sum(axis=1).mean()
    assert slice_.sum() * place.pixel_mm[0] ** 2 == pytest.approx(mass, rel=0.05)


def test_the_savu_stack_is_the_same_object_in_every_orientation(shared_data: Path, tmp_path: Path) -> None:
    """Points that two slices share have the same value, and the cylinder stands upright below the dome."""
    scan, window = whole_window(real_scans.savu(tmp_path))
    pixel, side = 1.0, 121

    def at(center: tuple[float, float, float], name: str) -> NDArray[np.float32]:
        place = SliceGeometry.centered(center, *SLICES[name], pixel_mm=pixel, shape=(side, side))
        return full_slice(scan, window, place)

    xz, yz = at((0, 0, 0), "xz"), at((0, 0, 0), "yz")
    peak = np.abs(xz).max()
    np.testing.assert_allclose(xz[:, 60], yz[:, 60], atol=1e-4 * peak)
    for height in (-40, -25, 0, 30):
        xy = at((0, 0, height), "xy")
        np.testing.assert_allclose(xz[60 - height], xy[60], atol=1e-4 * peak)
        np.testing.assert_allclose(yz[60 - height], xy[::-1, 60], atol=1e-4 * peak)
    cylinder, dome, air = at((0, 0, -45), "xy"), at((0, 0, 20), "xy"), at((0, 0, 58), "xy")
    near_axis = np.hypot(*np.mgrid[-60:61, -60:61]) < 25
    values = [float(np.median(slice_[near_axis])) for slice_ in (cylinder, dome, air)]
    np.testing.assert_allclose(values, [0.0112, 0.0009, -0.0004], atol=3e-4)


def test_angles_of_many_turns(shared_data: Path, tmp_path: Path) -> None:
    """A stage that has been turning for 46 turns: 360 views of one half turn from there."""
    scan, window = whole_window(real_scans.dendrite(tmp_path))
    assert window.angles_rad.min() > 290
    assert len(window.frames) == 360
    assert window.complete
    slice_ = full_slice(scan, window, default_slices(scan, (200, 200))["xy"])
    radius = np.hypot(*np.mgrid[-100:100, -100:100])
    assert slice_[radius < 60].mean() > 2 * slice_[(radius > 70) & (radius < 90)].mean()  # melt and crucible
