"""The simulated scan of the demo: line integrals against closed forms and quadrature, noise, periodicity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim import balls
from sim.balls import SCENE, Ball, Projector, Scene, scanner, simulate, truth
from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.recordings import Recording, open_recording
from tango_jit.streams.messages import Image

I0 = 2000.0
CONE = ScanGeometry.cone(rows=31, cols=41, pixel_mm=3.0, source_axis_mm=200.0, source_detector_mm=350.0)
TILTED = ScanGeometry.cone(
    rows=31,
    cols=41,
    pixel_mm=3.0,
    source_axis_mm=200.0,
    source_detector_mm=350.0,
    axis_column=17.3,
    mid_row=14.2,
    source_offset_mm=(2.0, -5.0),
    roll_rad=0.05,
    pitch_rad=0.1,
    yaw_rad=-0.07,
)
PARALLEL = ScanGeometry.parallel(rows=31, cols=41, pixel_mm=1.7, axis_column=19.0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("balls") / "balls.nxs"
    simulate(path, turns=1, seed=3, i0=I0)
    return path


@pytest.mark.parametrize("geometry", [CONE, PARALLEL])
def test_ray_through_the_centre_of_a_ball(geometry: ScanGeometry) -> None:
    scene = Scene((Ball((0.0, 0.0, 0.0), 7.0, 0.03),), water_per_mm=0.0, wall_per_mm=0.0)
    integral = Projector(scene, replace(geometry, detector_mm=(0.0, 150.0, 0.0)))(0.4, 0.0)
    assert integral[15, 20] == pytest.approx(0.03 * 2 * 7.0, rel=1e-12)
    assert integral.max() == integral[15, 20]
    assert (integral >= 0).all()


def test_ray_through_the_middle_of_the_vessel() -> None:
    integral = Projector(replace(SCENE, balls=()), CONE)(1.0, 0.0)
    wall = SCENE.outer_mm - SCENE.inner_mm
    assert integral[15, 20] == pytest.approx(2 * (SCENE.inner_mm * SCENE.water_per_mm + wall * SCENE.wall_per_mm))
    assert integral[0, 0] == 0.0


@pytest.mark.parametrize("geometry", [CONE, TILTED, PARALLEL])
def test_line_integrals_agree_with_quadrature(geometry: ScanGeometry) -> None:
    """Ray by ray from the ASTRA vectors of the turned scanner: an independent way, good to 1e-4."""
    angle, time, random = 2.1, 0.37, np.random.default_rng(5)
    integral = Projector(SCENE, geometry)(angle, time)
    source, detector, u, v = geometry.vectors(angle).reshape(4, 3)
    steps = np.linspace(-60, 60, 120001)
    steps = (steps[1:] + steps[:-1]) / 2
    crossed = np.argwhere(integral > 0.05)
    for row, col in random.choice(crossed, 40, replace=False):
        pixel = detector + (col - (geometry.cols - 1) / 2) * u + (row - (geometry.rows - 1) / 2) * v
        along = pixel - source if geometry.beam == "cone" else source
        along = along / np.linalg.norm(along)
        nearest = pixel - (pixel @ along) * along
        quadrature = SCENE.attenuation(nearest + steps[:, None] * along, time).sum() * (steps[1] - steps[0])
        assert integral[row, col] == pytest.approx(quadrature, abs=1e-4)


def test_balls_stay_in_the_water_and_apart() -> None:
    for time in np.linspace(0, 1, 200):
        centers = [ball.center(time) for ball in SCENE.balls]
        for index, (ball, center) in enumerate(zip(SCENE.balls, centers, strict=True)):
            assert np.hypot(*center[:2]) + ball.radius_mm < SCENE.inner_mm
            assert abs(center[2]) + ball.radius_mm < SCENE.half_height_mm
            for other, place in zip(SCENE.balls[:index], centers[:index], strict=True):
                assert np.linalg.norm(center - place) > ball.radius_mm + other.radius_mm


def test_vessel_fits_the_field_of_view() -> None:
    assert SCENE.outer_mm < 0.9 * scanner().radius_mm
    integral = Projector(SCENE, scanner())(0.0, 0.0)
    border = np.concatenate([integral[0], integral[-1], integral[:, 0], integral[:, -1]])
    assert not border.any()
    assert 1.0 < integral.max() < 1.5


def test_motion_repeats_after_a_whole_number_of_turns() -> None:
    project = Projector(SCENE, CONE)
    turn = 2 * np.pi * balls.PERIOD_TURNS
    for time in (0.0, 0.3, 0.8):
        np.testing.assert_allclose(project(0.7 + turn, time + 1), project(0.7, time), atol=1e-9)
    assert np.abs(project(0.7, 0.25) - project(0.7, 0.0)).max() > 0.01


def test_truth_shows_the_object_at_the_time_of_the_recording() -> None:
    xz = default_slices(scanner(), (201, 201))["xz"]
    first = SCENE.balls[0]
    quarter_s = balls.PERIOD_TURNS * balls.VIEWS_A_TURN * balls.FRAME_PERIOD_S / 4
    for time_s, shift in ((0.0, 0.0), (quarter_s, 1.0)):
        picture, points = truth(xz, time_s), xz.points()
        center = np.array(first.center_mm) + shift * np.array(first.swing_mm)
        distance = np.linalg.norm(points - center, axis=-1)
        np.testing.assert_allclose(picture[distance < first.radius_mm], SCENE.water_per_mm + first.excess_per_mm)
        np.testing.assert_allclose(
            picture[(distance > first.radius_mm) & (distance < first.radius_mm + 0.5)], SCENE.water_per_mm
        )


def test_recording_has_angles_and_times_at_mid_exposure(recorded: Path) -> None:
    with open_recording(recorded) as scan:
        assert len(scan) == balls.VIEWS_A_TURN
        assert scan.header.geometry == scanner()
        assert scan.header.exposure_s == 0.024
        assert list(scan.frame_numbers) == list(range(150))
        np.testing.assert_allclose(scan.angles_rad, 2 * np.pi * (np.arange(150) + 0.5) / 150, rtol=1e-15)
        np.testing.assert_allclose(scan.timestamps_s, 0.024 * (np.arange(150) + 0.5), rtol=1e-15)
        assert scan.frame(0).data.dtype == np.uint16


def transmission(scan: Recording, image: Image) -> np.ndarray:
    assert scan.dark is not None
    assert scan.flat is not None
    return (image.data - scan.dark.mean) / (scan.flat.mean - scan.dark.mean).astype(np.float64)


def test_frames_are_beer_lambert_with_poisson_noise(recorded: Path) -> None:
    """Counts minus what is expected, over the noise that is expected, has mean 0 and variance 1, dense or not."""
    project = Projector(SCENE, scanner())
    open_beam = I0 * balls._gain(scanner(), 3)
    with open_recording(recorded) as scan:
        for index in (0, 40, 149):
            integral = project(scan.angles_rad[index], (index + 0.5) / (balls.PERIOD_TURNS * balls.VIEWS_A_TURN))
            photons = open_beam * np.exp(-integral)
            variance = photons + balls.READOUT_NOISE**2 + 1 / 12  # the last from rounding to whole counts
            deviation = (scan.frame(index).data - photons - balls.OFFSET) / np.sqrt(variance)
            for part in (integral == 0, integral > 0.9):
                count = part.sum()
                assert count > 5000
                assert deviation[part].mean() == pytest.approx(0, abs=4 / np.sqrt(count))
                assert deviation[part].var() == pytest.approx(1, abs=4 * np.sqrt(2 / count))
            # The recorded dark and flat take gain and offset away again.
            difference = -np.log(transmission(scan, scan.frame(index))) - integral
            assert abs(difference.mean()) < 1e-3


def test_noise_of_frames_is_independent(recorded: Path) -> None:
    with open_recording(recorded) as scan:
        corner = [scan.frame(index).data[:20].astype(float).ravel() for index in (0, 1)]  # open beam in all frames
        flat = scan.flat
        assert flat is not None
        a, b = (frame - flat.mean[:20].ravel() for frame in corner)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(1 / (balls.AVERAGED + 1), abs=4 / np.sqrt(a.size))


def test_same_seed_gives_the_same_frames(recorded: Path, tmp_path: Path) -> None:
    other = tmp_path / "again.nxs"
    steps: list[tuple[int, int]] = []
    simulate(other, turns=1, seed=3, i0=I0, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(k + 1, 150) for k in range(150)]
    with open_recording(recorded) as one, open_recording(other) as two:
        assert one.flat == two.flat
        assert all(one.frame(index) == two.frame(index) for index in (0, 77, 149))
    simulate(other, turns=1, seed=4, i0=I0)  # replaces the file
    with open_recording(recorded) as one, open_recording(other) as two:
        assert one.frame(0) != two.frame(0)
    assert [x.name for x in tmp_path.iterdir()] == ["again.nxs"]


def test_failure_leaves_what_was_there(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    path.write_bytes(recorded.read_bytes())

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(path, turns=1, progress=stop)
    assert path.read_bytes() == recorded.read_bytes()
    with pytest.raises(ValueError, match="expected 1 to 10000 turns"):
        simulate(path, turns=0)
    with pytest.raises(ValueError, match="photons"):
        simulate(path, i0=1e6)
