"""The chain of the processor and that of any device: both against float64, and one against the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess import Corrections, Preprocessor, fdk_gain, ramp_response

ROWS, COLS, FRAMES = 14, 37, 6
CONE = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.5, source_axis_mm=40.0, source_detector_mm=60.0)
ANGLES = np.linspace(0, 5 * np.pi, FRAMES)
twins = pytest.mark.parametrize("as_tensors", [False, True], ids=["host", "tensors"])


@pytest.fixture
def scan() -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
    """Counts from a hundred below the dark to twice the flat, dark and flat."""
    rng = np.random.default_rng(0)
    dark, flat = rng.uniform(80, 120, (ROWS, COLS)), rng.uniform(20_000, 30_000, (ROWS, COLS))
    counts = rng.integers(0, 60_000, (FRAMES, ROWS, COLS)).astype(np.uint16)
    counts[:, ::5, ::7] = rng.integers(0, 300, counts[:, ::5, ::7].shape)  # hardly any light
    return counts, dark, flat


def exact(counts: NDArray[Any], dark: NDArray[np.float64], flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same in float64 NumPy."""
    transmission = np.maximum((counts - dark) / (flat - dark), 1e-4)
    response = ramp_response(2 * 2 * COLS, "ram-lak")
    lines = -np.log(transmission) * fdk_gain(CONE)
    return np.fft.irfft(np.fft.rfft(lines, 4 * COLS) * response, 4 * COLS)[..., :COLS]


@twins
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_counts_are_filtered_as_in_float64(scan, as_tensors: bool, dtype: type) -> None:
    """The logarithm is a polynomial on the host; float32 leaves 1e-6 of the largest value."""
    counts, dark, flat = scan
    expected = exact(counts, dark.astype(np.float32), flat)
    got = np.asarray(Preprocessor(CONE, dark=dark, flat=flat, as_tensors=as_tensors)(counts.astype(dtype)))
    # The taps of a longer circle differ in those that no pixel sees.
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@twins
def test_the_logarithm_is_right_over_its_range(as_tensors: bool) -> None:
    """From the least transmission to a thousand: by a flat of one count and no filter to blur it."""
    scan = ScanGeometry.parallel(rows=1, cols=4096, pixel_mm=1.0)
    counts = np.geomspace(1.001e-4, 1e3, 4096, dtype=np.float32)[None, None]
    linear = Preprocessor(scan, linear=True, as_tensors=as_tensors)
    got = np.asarray(Preprocessor(scan, flat=np.ones((1, 4096)), as_tensors=as_tensors)(counts))
    np.testing.assert_allclose(got, np.asarray(linear(-np.log(counts.astype(np.float64)))), atol=2e-5)


@twins
def test_half_precision_is_the_rounded_view(scan, as_tensors: bool) -> None:
    counts, dark, flat = scan
    options: dict[str, Any] = dict(dark=dark, flat=flat, as_tensors=as_tensors)
    full = np.asarray(Preprocessor(CONE, **options)(counts))
    half = np.asarray(Preprocessor(CONE, **options, dtype="float16")(counts))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, full.astype(np.float16))


@twins
def test_what_half_precision_cannot_hold_is_cut_off(as_tensors: bool) -> None:
    sharp = ScanGeometry.parallel(rows=1, cols=8, pixel_mm=1e-5)
    frames = np.zeros((1, 1, 8), np.float32)
    frames[..., 3] = 9
    got = np.asarray(Preprocessor(sharp, linear=True, dtype=np.float16, as_tensors=as_tensors)(frames))
    assert got[0, 0, 3] == np.finfo(np.float16).max
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    "corrections",
    [
        Corrections(zinger_excess=0.2),
        Corrections(ring_turns=2.0),
        Corrections(air_region=(0, 4, 0, ROWS - 1)),
        Corrections(delta_beta=50, energy_kev=20),
        Corrections(0.2, 2.0, (0, 4, 0, ROWS - 1), 50, 20),
    ],
)
@pytest.mark.parametrize("linear", [False, True])
def test_twins_agree_in_every_correction(scan, corrections: Corrections, linear: bool) -> None:
    counts, dark, flat = scan
    flat[3, 5], flat[7, 8:11], flat[12] = 0, np.nan, 0  # dead pixels, and a dead row
    frames = counts if not linear else np.random.default_rng(1).uniform(0, 3, counts.shape)
    counts[2, 4, 6:9] = 65535
    options: dict[str, Any] = dict(dark=dark, flat=flat, linear=linear, corrections=corrections)
    host, tensors = (Preprocessor(CONE, **options, as_tensors=which) for which in (False, True))
    for turns in range(4):  # of rings
        host(frames, ANGLES + 5 * np.pi * turns)
        tensors(frames, ANGLES + 5 * np.pi * turns)
    expected, got = host(frames, ANGLES), np.asarray(tensors(frames, ANGLES))
    # A transform in float32 leaves 1e-7 of the beam: much of what little light there is behind an absorber.
    tolerance = 4e-4 if corrections.delta_beta else 2e-5
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


@twins
def test_frames_may_come_one_by_one(scan, as_tensors: bool) -> None:
    counts, dark, flat = scan
    corrections = Corrections(zinger_excess=0.1, ring_turns=1.0)
    options: dict[str, Any] = dict(dark=dark, flat=flat, corrections=corrections, as_tensors=as_tensors)
    together, alone = Preprocessor(CONE, **options), Preprocessor(CONE, **options)
    expected = np.asarray(together(counts, ANGLES))
    got = [np.asarray(alone(frame[None], [angle]))[0] for frame, angle in zip(counts, ANGLES, strict=True)]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@twins
@pytest.mark.parametrize(("value", "message"), [(65535, "a good pixel"), (100, "some beam")])
def test_frames_that_say_nothing_are_refused(scan, as_tensors: bool, value: int, message: str) -> None:
    _, dark, flat = scan
    preprocess = Preprocessor(CONE, dark=dark, flat=flat, as_tensors=as_tensors)
    with pytest.raises(ValueError, match=f"frame: expected {message}"):
        preprocess(np.full((1, ROWS, COLS), value, np.uint16))


@twins
def test_no_beam_in_the_air_is_refused(scan, as_tensors: bool) -> None:
    counts, dark, flat = scan
    options = Corrections(air_region=(2, 5, 1, 3))
    preprocess = Preprocessor(CONE, dark=dark, flat=flat, corrections=options, as_tensors=as_tensors)
    counts[1, 1:4, 2:6] = 100
    with pytest.raises(ValueError, match="frame: expected beam in air_region, got a mean transmission of"):
        preprocess(counts)


def test_the_caller_keeps_its_frames(scan) -> None:
    counts, dark, flat = scan
    before = counts.copy()
    Preprocessor(CONE, dark=dark, flat=flat, corrections=Corrections(zinger_excess=0.1))(counts)
    np.testing.assert_array_equal(counts, before)
    counts[0] = 0  # and may write to them


def test_corrections_that_cannot_be_are_refused() -> None:
    flat = np.full((ROWS, COLS), 1000.0)
    parallel = replace(CONE, beam="parallel", source_mm=(0, 1, 0))
    with pytest.raises(ValueError, match="air_region: expected columns below 37 and rows below 14, got 0 37 0 3"):
        Preprocessor(CONE, flat=flat, corrections=Corrections(air_region=(0, 37, 0, 3)))
    with pytest.raises(ValueError, match="air_region: expected first column <= last column"):
        Corrections(air_region=(5, 4, 0, 3))
    with pytest.raises(ValueError, match="energy_kev: expected the photon energy"):
        Preprocessor(CONE, flat=flat, corrections=Corrections(delta_beta=10))
    with pytest.raises(ValueError, match="propagation_mm: expected the distance from sample to detector"):
        Preprocessor(parallel, flat=flat, corrections=Corrections(delta_beta=10, energy_kev=20))
    with pytest.raises(ValueError, match="ring_turns: expected a number from 0 on, got nan"):
        Corrections(ring_turns=np.nan)
    with pytest.raises(ValueError, match="dtype: expected float32 or float16, got float64"):
        Preprocessor(CONE, flat=flat, dtype=np.float64)
    preprocess = Preprocessor(CONE, flat=flat, corrections=Corrections(ring_turns=1))
    with pytest.raises(ValueError, match="angles_rad: expected the angle of every frame"):
        preprocess(np.full((1, ROWS, COLS), 500.0))
