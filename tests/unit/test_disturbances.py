"""A lower dose has the statistics of a lower dose, and a moved axis moves the picture, not the detector."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sim.disturbances import Disturbance, Disturber, camera_of, shifted, thinned
from sim.record import record
from sim.scenario import load
from tango_jit.recon.center import find_center
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.window import ProjectionWindow
from tango_jit.recordings import open_recording
from tango_jit.streams import Dark, Flat, Image

ROWS, COLS = 40, 60
PIXELS = ROWS * COLS
GAIN = (1 + 0.3 * np.random.default_rng(0).random((ROWS, COLS))).astype(np.float32)
DARK = Dark("s", np.full((ROWS, COLS), 100, np.float32), 10)
FLAT = Flat("s", 100 + 2000 * GAIN, 10)


def poisson(photons: float, gain: float = 1.0, frame: int = 0) -> Image:
    counts = 100 + gain * np.random.default_rng(frame).poisson(photons, (ROWS, COLS))
    return Image("s", frame, 0.0, 0.0, np.rint(counts).astype(np.uint16))


@pytest.mark.parametrize("dose", [0.5, 0.1])
@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_thinned_poisson_counts_are_poisson_counts_of_the_lower_dose(dose, gain):
    photons = 2000.0
    disturb = Disturber(Disturbance(dose=dose, counts_per_photon=gain), DARK, FLAT, linear=False)
    values = np.concatenate([disturb(poisson(photons, gain, n)).data.ravel() for n in range(20)]) - 100.0
    mean, variance = dose * photons * gain, dose * photons * gain**2
    pixels = 20 * PIXELS
    assert values.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / pixels))
    rounding = 1 / 12
    assert values.var() == pytest.approx(variance + rounding, rel=5 * np.sqrt(2 / pixels))


def test_the_flat_follows_the_dose_so_that_the_transmission_stays():
    disturb = Disturber(Disturbance(dose=0.25), DARK, FLAT, linear=False)
    flat = disturb.flat
    assert flat is not None
    np.testing.assert_allclose(flat.mean, 100 + 500 * GAIN, rtol=1e-6)
    half = Image("s", 0, 0.0, 0.0, (100 + 1000 * GAIN).astype(np.float32))
    transmission = (disturb(half).data - 100) / (flat.mean - 100)
    assert transmission.mean() == pytest.approx(0.5, abs=5 * 0.05 / np.sqrt(PIXELS))
    same = Disturber(Disturbance(), DARK, FLAT, linear=False)
    assert same.flat is FLAT
    assert same(half) is half


def test_noise_belongs_to_seed_and_frame():
    def data(seed: int, frame: int) -> np.ndarray:
        return Disturber(Disturbance(0.5, seed=seed), DARK, FLAT, linear=False)(poisson(500, frame=frame)).data

    np.testing.assert_array_equal(data(1, 3), data(1, 3))
    assert not np.array_equal(data(1, 3), data(2, 3))


def test_saturated_pixels_and_those_without_a_value_stay_so():
    counts = np.full((1, 4), 1000, np.uint16)
    counts[0, 2] = 65535
    noise = np.zeros((1, 4), np.float32)
    assert thinned(counts, 0, 0.5, 1.0, noise).tolist() == [[500, 500, 65535, 500]]
    floats = np.array([[np.nan, 100.0]], np.float32)
    out = thinned(floats, 0, 0.5, 1.0, noise[:, :2])
    assert np.isnan(out[0, 0])
    assert out[0, 1] == 50
    assert out.dtype == np.float32


def test_a_lower_dose_of_line_integrals_is_refused():
    with pytest.raises(ValueError, match="dose: expected 1 for a recording that is -log already"):
        Disturber(Disturbance(dose=0.5), None, None, linear=True)


@pytest.mark.parametrize("columns", [3, -5, 0, 1000])
def test_line_integrals_move_by_whole_columns_and_edges_repeat(columns):
    data = np.arange(12, dtype=np.float32).reshape(2, 6)
    moved = shifted(data, columns, 0, None)
    for column in range(6):
        np.testing.assert_array_equal(moved[:, column], data[:, min(max(column - columns, 0), 5)])


def test_counts_move_without_the_gain_of_their_pixels():
    transmission = np.linspace(0.2, 1.0, COLS)[None, :]
    counts = (100 + (FLAT.mean - 100) * transmission).astype(np.float32)
    moved = shifted(counts, 4, DARK.mean, FLAT.mean - DARK.mean)
    seen = (moved - 100) / (FLAT.mean - 100)
    np.testing.assert_allclose(seen[:, 4:], np.broadcast_to(transmission[:, :-4], (ROWS, COLS - 4)), rtol=1e-5)
    np.testing.assert_allclose(seen[:, :4], transmission[0, 0], rtol=1e-5)


def test_dead_pixels_stay_dead_and_spoil_no_others():
    beam = FLAT.mean - DARK.mean
    beam[3, 10] = 0
    counts = np.full((ROWS, COLS), 1100, np.float32)
    moved = shifted(counts, 2, DARK.mean, beam)
    assert np.isfinite(moved).all()
    assert moved[3, 10] == moved[3, 12] == 1100


def test_a_shift_is_a_moved_axis(tmp_path):
    """The search for the centre finds it where it was moved to."""
    record(load("balls").with_(seed=1), tmp_path / "balls.nxs", frames=150)
    with open_recording(tmp_path / "balls.nxs") as source:
        scan, dark, flat = source.header.geometry, source.dark, source.flat
        assert dark is not None
        assert flat is not None
        disturb = Disturber(Disturbance(center_shift_px=5), dark, flat, linear=False)
        preprocess, window = Preprocessor(scan, dark=dark.mean, flat=flat.mean), ProjectionWindow(scan)
        for index in range(len(source)):
            image = disturb(source.frame(index))
            window.add(image.frame, image.angle_rad, preprocess(image.data[None])[0])
    full = window.window()
    assert full is not None
    *_, last = find_center(full, scan, reach_px=8)
    assert last.shift_px == pytest.approx(5, abs=0.3)


def test_simulated_recordings_say_what_a_photon_is(tmp_path):
    """Thinned to half, frames of a simulated camera have the variance and the neighbours of frames at half the dose."""
    scenario = load("balls").with_(solid=(), photons=3000.0)
    camera = msgspec.structs.replace(scenario.camera, counts_per_photon=4.0, spread=0.1026, pixel_gain=0.0, readout=0.0)
    scenario = scenario.with_(camera=camera, scanner=scenario.scanner.binned(2))
    frames = {}
    for name, chosen in (("whole", scenario), ("half", scenario.with_(photons=1500.0))):
        path = tmp_path / f"{name}.nxs"
        record(chosen, path, frames=6)
        with open_recording(path) as source:
            told = camera_of(source)
            assert told == camera
            values = {"dose": 0.5, "center_shift_px": 0, "counts_per_photon": 4.0, "fault_seed": 0}
            how = Disturbance.of(values, told) if name == "whole" else Disturbance()
            disturb = Disturber(how, source.dark, source.flat, linear=False)
            frames[name] = np.stack([disturb(source.frame(n)).data for n in range(6)]).astype(float)
    noise = {name: data - data.mean(axis=0) for name, data in frames.items()}
    assert frames["whole"].mean() == pytest.approx(frames["half"].mean(), rel=2e-3)
    assert noise["whole"].var() == pytest.approx(noise["half"].var(), rel=0.03)
    for data in noise.values():
        alike = (data[:, 1:] * data[:, :-1]).mean() / data.var()
        assert alike == pytest.approx(0.25, abs=0.02)
