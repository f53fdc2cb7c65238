"""Simulated experiments: exposure, counts, truth, and that a reconstruction gives the attenuation back."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from sim.camera import HOT_COUNTS
from sim.experiment import Experiment
from sim.scenario import Ellipsoid, Scenario, load
from tango_jit.geometry import SliceGeometry, default_slices
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.streams.messages import Header

replace = msgspec.structs.replace


@cache
def small(name: str, binning: int = 8) -> Scenario:
    scenario = load(name)
    return scenario.with_(scanner=scenario.scanner.binned(binning))


@cache
def balls() -> Experiment:
    return Experiment(load("balls").with_(photons=2000.0))


def test_frames_have_angle_and_time_of_mid_exposure() -> None:
    experiment = balls()
    image = experiment.frame(40)
    assert image.angle_rad == pytest.approx(2 * np.pi * 40.5 / 150, rel=1e-14)
    assert image.timestamp_s == pytest.approx(40.5 * 0.024, rel=1e-14)
    assert image.data.dtype == np.uint16
    assert experiment.header.exposure_s == 0.024
    assert experiment.geometry == load("balls").scanner.geometry


@pytest.mark.parametrize("fast", [False, True])
def test_frames_are_the_same_in_any_order_and_thread(fast: bool) -> None:
    scenario = small("tablet-soap").with_(fast=fast)
    one = [image.data for image in Experiment(scenario).frames(range(6), workers=3)]
    other = Experiment(scenario)
    for number in (5, 0, 3):
        np.testing.assert_array_equal(one[number], other.frame(number).data)
    assert (Experiment(scenario.with_(seed=1)).frame(0).data != one[0]).mean() > 0.5
    assert len({data.tobytes() for data in one}) == 6


def test_counts_are_beer_lambert_with_poisson_noise() -> None:
    """Counts minus what is expected, over the noise that is expected, has mean 0 and variance 1, dense or not."""
    experiment = balls()
    camera = experiment.scenario.camera
    for number in (0, 40, 149):
        through = experiment.transmission(number).astype(np.float64)
        photons, gain = through * experiment.camera.open_beam, experiment.camera.gain(0.0)
        variance = gain**2 * photons + camera.readout**2 + 1 / 12  # the last from rounding to whole counts
        deviation = (experiment.frame(number).data - gain * photons - camera.offset) / np.sqrt(variance)
        for part in (through == 1, through < 0.4):
            count = part.sum()
            assert count > 5000
            assert deviation[part].mean() == pytest.approx(0, abs=4 / np.sqrt(count))
            assert deviation[part].var() == pytest.approx(1, abs=4 * np.sqrt(2 / count))


def test_dark_and_flat_take_gain_and_offset_away() -> None:
    experiment = balls()
    dark, flat = experiment.dark(), experiment.flat()
    assert (dark.count, flat.count) == (32, 64)
    seen = (experiment.frame(3).data - dark.mean) / (flat.mean - dark.mean)
    assert abs((-np.log(seen) - experiment.noise_free(3).data).mean()) < 2e-3


def test_real_frames_have_bad_pixels_flicker_and_drifting_gain() -> None:
    scenario = small("tablet-soap", 4)
    scenario = scenario.with_(
        beam=replace(scenario.beam, flicker=0.02), camera=replace(scenario.camera, dead=30, hot=20, drift=0.03)
    )
    experiment = Experiment(scenario)
    air = (slice(0, None), slice(0, 10))  # beside the glass
    frames = np.stack([image.data for image in experiment.frames(range(40))]).astype(np.float64)
    dead, hot = (experiment.camera.gain(0.0) == 0) & (frames.mean(0) < 1000), frames.mean(0) > HOT_COUNTS
    assert (dead.sum(), hot.sum()) == (30, 20)
    level = frames[:, *air].mean(axis=(1, 2))
    assert (level / level.mean()).std() == pytest.approx(0.02, rel=0.4)
    working = experiment.camera.gain(0.0) > 0
    change = (experiment.camera.gain(60.0) / np.where(working, experiment.camera.gain(0.0), 1))[working]
    assert change.std() == pytest.approx(0.03, rel=0.05)


def test_exposure_averages_rotation_and_motion() -> None:
    """Few moments come near many, and the picture in the middle of the exposure alone does not."""
    scenario = small("tablet-soap", 4)
    pictures = {
        moments: Experiment(scenario.with_(scanner=replace(scenario.scanner, moments=moments))).transmission(7)
        for moments in (1, 4, 64)
    }
    error = {moments: np.sqrt(np.mean((pictures[moments] - pictures[64]) ** 2)) for moments in (1, 4)}
    assert error[4] < 0.35 * error[1]
    assert error[4] < 0.1 * np.sqrt(0.3 / scenario.beam.photons)  # of the photon noise


def test_things_move_from_the_first_to_the_last_view_of_a_turn() -> None:
    """A ball that rises by 12 mm in a turn is where the projection matrices say, in both views."""
    scenario = load("balls")
    rising = Ellipsoid(
        name="bubble",
        material="stone",
        center_mm=(6.0, -4.0, 0.0),
        semi_axes_mm=(2.0, 2.0, 2.0),
        swing_mm=(0.0, 0.0, 6.0),
        period_s=7.2,  # from its lowest to its highest point in a turn of 3.6 s
        phase=-0.25,
    )
    experiment = Experiment(scenario.with_(solid=(rising,), loop_s=None))
    rows = []
    for number in (0, 149):
        integral = experiment.noise_free(number).data
        row, col = (np.average(index, weights=integral) for index in np.indices(integral.shape))
        time = experiment.time_s(number)
        place = (6.0, -4.0, 6.0 * np.sin(2 * np.pi * (time / 7.2 - 0.25)), 1.0)
        w_col, w_row, w = experiment.geometry.matrices(experiment.angle_rad(number))[0] @ place
        assert (row, col) == pytest.approx((w_row / w, w_col / w), abs=0.1)
        rows.append(row)
    assert rows[1] - rows[0] > 45  # 12 mm at a magnification of 2, in pixels of 0.5 mm


def reconstruction(experiment: Experiment, place: SliceGeometry) -> NDArray[np.float32]:
    header = Header("test", "raw", experiment.geometry, True)
    pipeline = Pipeline(header, None, None, Options(), "cpu")
    for image in experiment.noise_free_frames(range(150)):
        pipeline.add(image, pipeline.filter(image))
    window = pipeline.window()
    assert window is not None
    return pipeline.reconstruct(window, place)[:, 0].mean(axis=0)


def test_reconstruction_gives_the_attenuation_of_gel_back() -> None:
    """Noise-free frames, mid-plane: gel in places where nothing else is or was, to 1 %."""
    experiment = Experiment(small("tablet-gel", 4))
    place = default_slices(experiment.geometry, (192, 192))["xy"]
    found = reconstruction(experiment, place)
    truth = experiment.mean_truth(place, range(150))
    radius = np.hypot(*place.points()[..., :2].transpose(2, 0, 1))
    gel = (np.abs(truth - 0.021) < 1e-9) & (radius < 30)
    assert gel.sum() > 3000
    assert found[gel].mean() == pytest.approx(0.021, rel=0.01)
    rings = [(gel & (radius > low) & (radius <= low + 6)) for low in (0, 6, 12, 18, 24)]
    for ring in rings:
        assert found[ring].mean() == pytest.approx(0.021, rel=0.01)


def test_two_energies_harden_the_beam() -> None:
    """The reconstruction of a uniform glass of water sinks towards its middle."""
    scenario = load("balls")
    hard = scenario.with_(
        scanner=scenario.scanner.binned(4),
        beam=replace(scenario.beam, weights=(0.5, 0.5)),
        materials={"water": (0.035, 0.015), "glass": (0.07, 0.03)},
        solid=scenario.solid[:2],
    )
    experiment = Experiment(hard)
    place = default_slices(experiment.geometry, (64, 64))["xy"]
    found = reconstruction(experiment, place)
    radius = np.hypot(*place.points()[..., :2].transpose(2, 0, 1))
    middle, outside = found[radius < 5].mean(), found[(radius > 16) & (radius < 21)].mean()
    assert middle < 0.97 * outside
    assert experiment.truth(place, 0.0)[radius < 5].mean() == pytest.approx(0.025)


def test_truth_is_the_object_at_its_time() -> None:
    experiment = balls()
    first = experiment.scenario.solid[2]
    assert isinstance(first, Ellipsoid)
    xz = default_slices(experiment.geometry, (200, 200))["xz"]
    for time_s, shift in ((0.0, 0.0), (28.8 / 4, 1.0)):
        picture = experiment.truth(xz, time_s)
        center = np.array(first.center_mm) + shift * np.array(first.swing_mm)
        distance = np.linalg.norm(xz.points() - center, axis=-1)
        np.testing.assert_allclose(picture[distance < first.semi_axes_mm[0] - 0.3], 0.04)
        np.testing.assert_allclose(picture[(distance > 4.3) & (distance < 4.7)], 0.02)


def test_mean_truth_smears_what_moves() -> None:
    experiment = balls()
    xz = default_slices(experiment.geometry, (100, 100))["xz"]
    mean = experiment.mean_truth(xz, range(600, 750))
    alone = np.mean([experiment.truth(xz, experiment.time_s(n)) for n in range(600, 750)], axis=0)
    np.testing.assert_allclose(mean, alone, atol=5e-4)
    assert np.abs(mean - experiment.truth(xz, experiment.time_s(675))).max() > 0.005


def test_a_loop_closes_in_frames() -> None:
    """The recording of a whole period is followed by itself: same sample, same angle, other noise."""
    scenario = small("tablet-soap").with_(loop_s=10.8)
    experiment = Experiment(scenario)
    np.testing.assert_allclose(experiment.transmission(3), experiment.transmission(903), atol=1e-6)
    assert np.abs(experiment.transmission(3) - experiment.transmission(453)).max() > 0.01
