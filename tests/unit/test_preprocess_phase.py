"""Phase retrieval: what propagation does to the picture of a sample of one material is taken back."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess import Corrections, Preprocessor
from tango_jit.recon.preprocess.phase import WAVELENGTH_MM_KEV, Paganin

ENERGY_KEV, DELTA_BETA, BETA = 20.0, 500.0, 1e-9
WAVELENGTH_MM = WAVELENGTH_MM_KEV / ENERGY_KEV
PIXEL_MM = 1e-3  # at the object
SIZE = 256


def thickness_mm() -> NDArray[np.float64]:
    """(SIZE, SIZE): a smooth ball of 0.12 mm and a small one beside it."""
    y, x = (np.mgrid[:SIZE, :SIZE] - SIZE / 2) * PIXEL_MM
    large, small = (
        2 * r * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (0.35 * r) ** 2)
        for r, a, b in ((0.06, 0.0, 0.0), (0.025, 0.06, 0.04))
    )
    return large + small


def fresnel(thickness: NDArray[np.float64], distance_mm: float) -> NDArray[np.float64]:
    """Intensity behind the sample of a plane wave of intensity 1, by the Fresnel propagator."""
    k = 2 * math.pi / WAVELENGTH_MM
    wave = np.exp(-k * thickness * BETA * (1 + 1j * DELTA_BETA))
    f = np.fft.fftfreq(SIZE, PIXEL_MM)
    propagator = np.exp(-1j * math.pi * WAVELENGTH_MM * distance_mm * (f[:, None] ** 2 + f**2))
    return np.abs(np.fft.ifft2(np.fft.fft2(wave) * propagator)) ** 2


def retrieved(geometry: ScanGeometry, intensity: NDArray[np.float64], propagation_mm: float) -> NDArray[np.float32]:
    paganin = Paganin(geometry, delta_beta=DELTA_BETA, energy_kev=ENERGY_KEV, propagation_mm=propagation_mm)
    return paganin(torch.from_numpy(intensity.astype(np.float32))[None])[0].numpy()


def test_a_propagated_wave_is_retrieved() -> None:
    thickness, distance = thickness_mm(), 50.0
    mu = 4 * math.pi * BETA / WAVELENGTH_MM
    intensity, contact = fresnel(thickness, distance), np.exp(-mu * thickness)
    assert np.abs(intensity - contact).max() > 0.05  # fringes
    parallel = ScanGeometry.parallel(rows=SIZE, cols=SIZE, pixel_mm=PIXEL_MM)
    error = np.abs(np.log(retrieved(parallel, intensity, distance)) - np.log(contact)).max()
    assert error < 0.02 * mu * thickness.max()


def test_a_cone_is_a_parallel_beam_of_the_effective_distance() -> None:
    """Magnification 4: the pixel counts at the object, and a quarter of the distance."""
    cone = ScanGeometry.cone(
        rows=SIZE, cols=SIZE, pixel_mm=4 * PIXEL_MM, source_axis_mm=200 / 3, source_detector_mm=800 / 3
    )
    intensity = fresnel(thickness_mm(), 50.0)
    parallel = ScanGeometry.parallel(rows=SIZE, cols=SIZE, pixel_mm=PIXEL_MM)
    expected = retrieved(parallel, intensity, 50.0)
    np.testing.assert_allclose(retrieved(cone, intensity, 0.0), expected, atol=1e-6)
    np.testing.assert_allclose(retrieved(cone, intensity, 200.0), expected, atol=1e-6)


def test_air_stays_air_and_edges_do_not_wrap_round() -> None:
    geometry = ScanGeometry.parallel(rows=40, cols=60, pixel_mm=PIXEL_MM)
    np.testing.assert_allclose(retrieved(geometry, np.ones((40, 60)), 50.0), 1, atol=1e-5)
    dark_side = np.ones((40, 60))
    dark_side[:, :10] = 0.2
    assert retrieved(geometry, dark_side, 0.2)[:, -10:].min() > 0.999


def test_a_fan_is_retrieved_along_its_row() -> None:
    """As in a tall parallel detector whose rows are all alike: magnification 2, half of the 50 mm behind the axis."""
    row = 1 - 0.5 * np.random.default_rng(0).random((1, 64))
    fan = ScanGeometry.cone(rows=1, cols=64, pixel_mm=0.01, source_axis_mm=50, source_detector_mm=100)
    tall = ScanGeometry.parallel(rows=31, cols=64, pixel_mm=0.005)
    expected = retrieved(tall, np.repeat(row, 31, axis=0), 25.0)[15]
    assert np.abs(expected - row).max() > 0.1
    np.testing.assert_allclose(retrieved(fan, row, 0.0)[0], expected, atol=1e-6)


def test_nothing_is_retrieved_when_it_is_off() -> None:
    geometry = ScanGeometry.parallel(rows=6, cols=20, pixel_mm=PIXEL_MM)
    counts = np.random.default_rng(0).uniform(300, 900, (2, 6, 20))
    flat = np.full((6, 20), 1000.0)
    off = Corrections(delta_beta=0, energy_kev=20, propagation_mm=50)
    np.testing.assert_array_equal(
        Preprocessor(geometry, flat=flat, corrections=off)(counts), Preprocessor(geometry, flat=flat)(counts)
    )


def test_line_integrals_of_a_scan_are_those_of_the_contact_picture() -> None:
    """The whole chain, from counts of a propagated wave."""
    thickness, distance = thickness_mm(), 50.0
    mu = 4 * math.pi * BETA / WAVELENGTH_MM
    geometry = ScanGeometry.parallel(rows=SIZE, cols=SIZE, pixel_mm=PIXEL_MM)
    counts, flat = 40_000 * fresnel(thickness, distance)[None], np.full((SIZE, SIZE), 40_000.0)
    on = Corrections(delta_beta=DELTA_BETA, energy_kev=ENERGY_KEV, propagation_mm=distance)
    expected = Preprocessor(geometry, linear=True)((mu * thickness)[None])
    got, off = (Preprocessor(geometry, flat=flat, corrections=c)(counts) for c in (on, None))
    assert np.abs(got - expected).std() < 0.1 * np.abs(off - expected).std()
