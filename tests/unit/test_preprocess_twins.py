"""The chain of the processor and that of any device: both against float64, and one against the other."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess import Corrections, Preprocessor, fdk_gain, ramp_response

ROWS, COLS, FRAMES = 14, 37, 6
CONE = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.5, source_axis_mm=40.0, source_detector_mm=60.0)
TURN, TURNS = 12, 3
ANGLES = 2 * np.pi / TURN * np.arange(TURN * TURNS)
twins = pytest.mark.parametrize("as_tensors", [False, True], ids=["host", "tensors"])


@pytest.fixture
def scan() -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
    """Counts from a hundred below the dark to twice the flat, dark and flat."""
    rng = np.random.default_rng(0)
    dark, flat = rng.uniform(80, 120, (ROWS, COLS)), rng.uniform(20_000, 30_000, (ROWS, COLS))
    counts = rng.integers(0, 60_000, (FRAMES, ROWS, COLS)).astype(np.uint16)
    counts[:, ::5, ::7] = rng.integers(0, 300, counts[:, ::5, ::7].shape)  # hardly any light
    return counts, dark, flat


class Turning(NamedTuple):
    """A smooth object that turns, in a beam that fades, seen by pixels whose gain has drifted since the flat: counts
    (n, rows, cols)."""

    clean: NDArray[np.uint16]
    struck: NDArray[np.uint16]  # by zingers below saturation
    hit: NDArray[np.bool_]  # where
    dark: NDArray[np.float64]
    flat: NDArray[np.float64]

    def lines(self, counts: NDArray[np.uint16]) -> NDArray[np.float64]:
        return -np.log((counts - self.dark) / (self.flat - self.dark))


@pytest.fixture
def turning() -> Turning:
    rng = np.random.default_rng(0)
    dark, flat = rng.uniform(80, 120, (ROWS, COLS)), rng.uniform(20_000, 30_000, (ROWS, COLS))
    column, row = np.arange(COLS), np.arange(ROWS)[:, None]
    centre = COLS / 2 + 6 * np.sin(ANGLES)[:, None, None]
    lines = 0.5 * np.exp(-((column - centre) ** 2) / 15 - (row - ROWS / 2) ** 2 / 80)
    gain, beam = 1 + 0.02 * rng.standard_normal((ROWS, COLS)), np.linspace(1, 0.7, len(ANGLES))[:, None, None]
    clean = rng.poisson(dark + (flat - dark) * gain * beam * np.exp(-lines)).astype(np.uint16)
    hit = rng.random(clean.shape) < 2e-3
    hit[0] = False  # there is no frame before the first one
    struck = np.where(hit, clean + 25_000, clean).astype(np.uint16)
    return Turning(clean, struck, hit, dark, flat)


def one_by_one(preprocess: Preprocessor, frames: NDArray[Any]) -> NDArray[Any]:
    return np.stack([np.asarray(preprocess(f[None], [a]))[0] for f, a in zip(frames, ANGLES, strict=True)])


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
        Corrections(delta_beta=50_000, energy_kev=20),
        Corrections(0.2, 2.0, (0, 4, 0, ROWS - 1), 50_000, 20),
    ],
)
@pytest.mark.parametrize("linear", [False, True])
def test_twins_agree_in_every_correction(turning: Turning, corrections: Corrections, linear: bool) -> None:
    """And every one of them changes something, by much more than the twins may differ."""
    counts, flat, bad = turning.struck, turning.flat, (2, 4, slice(6, 9))
    frames = turning.lines(counts) if linear else counts
    frames[bad] = [np.inf, np.nan, -np.inf] if linear else 65535
    flat[3, 5], flat[7, 8:11], flat[12] = 0, np.nan, 0  # dead pixels, and a dead row
    options: dict[str, Any] = dict(dark=turning.dark, flat=flat, linear=linear)
    expected, got = (
        np.asarray(Preprocessor(CONE, **options, corrections=corrections, as_tensors=which)(frames, ANGLES))
        for which in (False, True)
    )
    without = Preprocessor(CONE, **options)(frames)
    assert np.abs(expected - without).max() > 0.01 * np.abs(without).max()
    # A transform in float32 leaves 1e-7 of the beam: much of what little light there is behind an absorber.
    tolerance = 4e-4 if corrections.delta_beta else 2e-5
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


@twins
def test_frames_may_come_one_by_one(turning: Turning, as_tensors: bool) -> None:
    options: dict[str, Any] = dict(dark=turning.dark, flat=turning.flat, as_tensors=as_tensors)
    results = {}
    for excess, turns in ((0.2, 1.0), (0.2, 0.0), (0.0, 1.0)):
        corrections = Corrections(zinger_excess=excess, ring_turns=turns)
        together, alone = (Preprocessor(CONE, **options, corrections=corrections) for _ in range(2))
        results[excess, turns] = np.asarray(together(turning.struck, ANGLES))
        np.testing.assert_allclose(one_by_one(alone, turning.struck), results[excess, turns], atol=1e-5)
    both, without_rings, without_zingers = results.values()
    assert np.abs(both - without_rings).max() > 0.02
    assert np.abs(both - without_zingers).max() > 0.02


@twins
@pytest.mark.parametrize("alone", [False, True], ids=["in batch", "one by one"])
def test_zingers_are_gone(turning: Turning, as_tensors: bool, alone: bool) -> None:
    options: dict[str, Any] = dict(dark=turning.dark, flat=turning.flat, as_tensors=as_tensors)
    cleaning = Preprocessor(CONE, **options, corrections=Corrections(zinger_excess=0.2))
    ideal, struck = (np.asarray(Preprocessor(CONE, **options)(frames)) for frames in (turning.clean, turning.struck))
    got = one_by_one(cleaning, turning.struck) if alone else np.asarray(cleaning(turning.struck, ANGLES))
    error, zingers = np.abs(got - ideal)[turning.hit], np.abs(struck - ideal)[turning.hit]
    assert (error < 0.3 * zingers).all()
    assert np.median(error / zingers) < 0.05


@twins
@pytest.mark.parametrize("alone", [False, True], ids=["in batch", "one by one"])
def test_rings_are_learned_from_turn_to_turn(turning: Turning, as_tensors: bool, alone: bool) -> None:
    """Nothing is known in the first turn; from then on every view is another one."""
    options: dict[str, Any] = dict(dark=turning.dark, flat=turning.flat, as_tensors=as_tensors)
    learning = Preprocessor(CONE, **options, corrections=Corrections(ring_turns=3.0))
    without = np.asarray(Preprocessor(CONE, **options)(turning.clean))
    got = one_by_one(learning, turning.clean) if alone else np.asarray(learning(turning.clean, ANGLES))
    np.testing.assert_allclose(got[:TURN], without[:TURN], atol=1e-6)
    assert np.abs(got - without)[TURN:].mean((1, 2)).min() > 0.005


@twins
@pytest.mark.parametrize("of_counts", [dict(zinger_excess=0.2), dict(air_region=(0, 4, 0, 3))])
def test_infinite_lines_are_bridged_whatever_is_corrected(turning: Turning, as_tensors: bool, of_counts: Any) -> None:
    """exp(-inf) is 0, which must not become the largest of all good lines."""
    lines = turning.lines(turning.clean[:1])
    expected = lines.copy()
    lines[0, 3, 10:13] = np.inf, -np.inf, np.nan
    expected[0, 3, 10:13] = np.interp([1, 2, 3], [0, 4], lines[0, 3, [9, 13]])
    corrected = Preprocessor(CONE, linear=True, corrections=Corrections(**of_counts), as_tensors=as_tensors)
    # Bridged after the gain, which is not the same in neighbours.
    np.testing.assert_allclose(np.asarray(corrected(lines)), np.asarray(corrected(expected)), atol=2e-4)


@twins
@pytest.mark.parametrize(("value", "message"), [(65535, "a good pixel"), (100, "some beam")])
def test_frames_that_say_nothing_are_refused(scan, as_tensors: bool, value: int, message: str) -> None:
    _, dark, flat = scan
    preprocess = Preprocessor(CONE, dark=dark, flat=flat, as_tensors=as_tensors)
    with pytest.raises(ValueError, match=f"frame: expected {message}"):
        preprocess(np.full((1, ROWS, COLS), value, np.uint16))


@twins
def test_frames_of_no_numbers_are_refused_whatever_is_corrected(turning: Turning, as_tensors: bool) -> None:
    options: dict[str, Any] = dict(dark=turning.dark, flat=turning.flat, as_tensors=as_tensors)
    preprocess = Preprocessor(CONE, **options, corrections=Corrections(zinger_excess=0.2))
    good, bad = turning.clean[:1].astype(np.float32), np.full((1, ROWS, COLS), np.nan, np.float32)
    for frame in (good, bad, bad, good):
        with nullcontext() if frame is good else pytest.raises(ValueError, match="frame: expected a good pixel"):
            assert np.isfinite(np.asarray(preprocess(frame))).all()


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


@twins
@pytest.mark.parametrize(
    "corrections", [Corrections(), Corrections(delta_beta=50.0, energy_kev=30.0)], ids=["", "phase"]
)
def test_the_part_of_pixels_that_others_stand_in_for_is_known(turning: Turning, as_tensors: bool, corrections) -> None:
    flat, counts = turning.flat.copy(), turning.clean[:3].copy()
    flat[:2] = turning.dark[:2]  # two rows without beam
    counts[1, 5, :7] = 65_535
    chain = Preprocessor(CONE, dark=turning.dark, flat=flat, corrections=corrections, as_tensors=as_tensors)
    for frame, bad in zip(counts, (0, 7, 0), strict=True):
        chain(frame[None], [0.0])
        assert chain.replaced == pytest.approx((2 * COLS + bad) / (ROWS * COLS))
    lines = np.zeros((1, ROWS, COLS), np.float32)
    lines[0, 3, 4] = np.inf
    chain = Preprocessor(CONE, linear=True, as_tensors=as_tensors)
    chain(lines)
    assert chain.replaced == pytest.approx(1 / (ROWS * COLS))
