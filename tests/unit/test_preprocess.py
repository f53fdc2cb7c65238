"""Counts to line integrals, the weight before the filter, the ramp filter."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess import FILTERS, Preprocessor, fdk_gain, ramp_response
from tests.phantom import pixels_mm

ROWS, COLS = 5, 24
SCAN = ScanGeometry.parallel(rows=ROWS, cols=COLS, pixel_mm=0.5)
CONE: dict[str, Any] = dict(rows=31, cols=41, pixel_mm=2.0, source_axis_mm=200.0, source_detector_mm=320.0)


def taps(n: int) -> NDArray[np.float64]:
    """Ram-Lak taps at distances -n..n."""
    k = np.arange(-n, n + 1)
    return np.where(k == 0, 0.25, np.where(k % 2, -1 / (np.pi * np.maximum(np.abs(k), 1)) ** 2, 0.0))


def counts(rng: np.random.Generator, transmission: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    dark, flat = rng.uniform(80, 120, (ROWS, COLS)), rng.uniform(20_000, 40_000, (ROWS, COLS))
    return dark + transmission * (flat - dark), dark, flat


def linear(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return Preprocessor(SCAN, linear=True)(values.astype(np.float32))


# --- weight before the filter


def test_the_gain_of_a_centred_cone_is_the_cosine_over_the_pitch_at_the_axis() -> None:
    scan = ScanGeometry.cone(**CONE, axis_column=17.0, mid_row=12.0)
    points, _ = pixels_mm(scan, 0.0)
    cosine = 320 / np.linalg.norm(points - np.array(scan.source_mm), axis=-1)
    np.testing.assert_allclose(fdk_gain(scan), cosine / (2.0 * 200 / 320), rtol=1e-12)


def test_the_gain_of_a_source_beside_the_beam_has_the_jacobian_of_the_fan() -> None:
    """(R^2 - tau (x - tau)) / (R L) on the virtual detector at the axis, where x - tau is seen from the source."""
    tau, distance = 15.0, 200.0
    scan = ScanGeometry.cone(**{**CONE, "rows": 1}, source_offset_mm=(tau, 0.0))
    points, _ = pixels_mm(scan, 0.0)
    ray = (points[0] - np.array(scan.source_mm)) * distance / 320  # to the virtual detector
    jacobian = (distance**2 - tau * ray[:, 0]) / (distance * np.linalg.norm(ray, axis=-1))
    np.testing.assert_allclose(fdk_gain(scan)[0], jacobian / (2.0 * distance / 320), rtol=1e-12)


def test_that_jacobian_is_the_one_of_parallel_coordinates() -> None:
    """The map (view angle, pixel) -> (ray angle, distance from the axis), by finite differences; times L^2/depth^2,
    which the ramp filter takes out of the kernel when it works on pixels instead of distances."""
    scan = ScanGeometry.cone(**{**CONE, "rows": 1}, source_offset_mm=(15.0, 0.0), yaw_rad=0.1)

    def parallel_coordinates(angle: float, column: float) -> NDArray[np.float64]:
        source, centre, u, _ = scan.vectors(angle).reshape(4, 3)
        ray = centre + (column - (scan.cols - 1) / 2) * u - source
        ray /= np.linalg.norm(ray)
        return np.array([math.atan2(ray[1], ray[0]), source[0] * ray[1] - source[1] * ray[0]])

    source, centre, u, v = np.array([scan.source_mm, scan.detector_mm, scan.u_mm, scan.v_mm])
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    h = 1e-4
    for column in (0.0, 13.0, 40.0):
        by_angle = (parallel_coordinates(h, column) - parallel_coordinates(-h, column)) / (2 * h)
        by_column = (parallel_coordinates(0, column + h) - parallel_coordinates(0, column - h)) / (2 * h)
        jacobian = abs(np.linalg.det([by_angle, by_column]))
        length = np.linalg.norm(centre + (column - 20) * u - source)
        depth = abs(normal @ (centre - source))
        # per pixel: divide by the pitch squared, as the taps for unit pixels have been; both in real-detector mm
        pitch = np.linalg.norm(u)
        magnification = depth / abs(normal @ source)
        expected = jacobian * length**2 / depth**2 / pitch**2 * magnification**2
        assert fdk_gain(scan)[0, int(column)] == pytest.approx(expected, rel=1e-6)


def test_the_gain_of_a_parallel_beam_is_one_over_the_pitch_across_the_ray() -> None:
    size: dict[str, Any] = dict(rows=3, cols=4, pixel_mm=0.5)
    np.testing.assert_allclose(fdk_gain(ScanGeometry.parallel(**size)), 2.0)
    np.testing.assert_allclose(fdk_gain(ScanGeometry.parallel(**size, yaw_rad=0.3)), 2.0 / math.cos(0.3))
    np.testing.assert_allclose(fdk_gain(ScanGeometry.parallel(**size, pitch_rad=0.3)), 2.0)
    longer_ray = {**ScanGeometry.parallel(**size).to_dict(), "source_mm": (0, 7, 0)}
    np.testing.assert_allclose(fdk_gain(ScanGeometry.from_dict(longer_ray)), 2.0)


def test_a_far_source_is_a_parallel_beam() -> None:
    far = ScanGeometry.cone(rows=3, cols=40, pixel_mm=0.5, source_axis_mm=1e7, source_detector_mm=1e7 + 10)
    np.testing.assert_allclose(fdk_gain(far), 2.0, rtol=1e-5)


# --- ramp filter


@pytest.mark.parametrize("name", FILTERS)
def test_the_response_is_the_apodised_ramp(name: str) -> None:
    size = 4096
    frequency = np.arange(size // 2 + 1) / size  # per pixel
    apodised = {
        "ram-lak": 1,
        "shepp-logan": np.sinc(frequency),
        "hann": (1 + np.cos(2 * np.pi * frequency)) / 2,
        "cosine": np.cos(np.pi * frequency),
    }[name]
    np.testing.assert_allclose(ramp_response(size, name), frequency * apodised, atol=1e-4)


def test_the_mean_is_kept_as_taps_in_space_have_it() -> None:
    """Sampling |f| instead would give 0 here, and every slice would lack a constant."""
    assert ramp_response(512, "ram-lak")[0] == pytest.approx(taps(255).sum(), rel=1e-3)
    assert ramp_response(512, "ram-lak")[0] > 0


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="filter: expected one of ram-lak, shepp-logan, hann, cosine, got 'ramp'"):
        Preprocessor(SCAN, filter="ramp", linear=True)


def test_filtering_is_a_convolution_that_does_not_wrap_round() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, ROWS, COLS)).astype(np.float32)
    filtered = Preprocessor(SCAN, linear=True)(frames)
    assert filtered.dtype == np.float32
    for got, row in zip(filtered.reshape(-1, COLS), frames.reshape(-1, COLS), strict=True):
        np.testing.assert_allclose(got, 2.0 * np.convolve(row, taps(COLS - 1), "valid"), atol=2e-6)


def test_batches_of_any_size_give_the_same() -> None:
    """More than is filtered in one go."""
    scan = ScanGeometry.parallel(rows=300, cols=256, pixel_mm=1.0)
    frames = np.random.default_rng(0).standard_normal((20, 300, 256)).astype(np.float32)
    preprocess = Preprocessor(scan, linear=True)
    together = preprocess(frames)
    assert together.shape == frames.shape
    for n in (0, 7, 19):
        np.testing.assert_allclose(together[n], preprocess(frames[n : n + 1])[0], atol=1e-6)
    assert preprocess(frames[:0]).shape == (0, 300, 256)


def test_edge_extension_flattens_a_truncated_object() -> None:
    """A wide slab, as a detector that it overflows sees it: away from the very edge nothing should remain."""
    frames = np.ones((1, ROWS, COLS), np.float32)
    abrupt = Preprocessor(SCAN, linear=True)(frames)[0, 0]
    extended = Preprocessor(SCAN, linear=True, edge_extend=True)(frames)[0, 0]
    assert abrupt[0] > 0.2
    assert np.abs(extended).max() < 0.15 * abrupt.max()


def test_edge_extension_leaves_an_object_inside_alone() -> None:
    frames = np.zeros((1, ROWS, COLS), np.float32)
    frames[..., 6:18] = np.random.default_rng(0).random(12)
    plain, extended = (Preprocessor(SCAN, linear=True, edge_extend=e)(frames) for e in (False, True))
    np.testing.assert_allclose(extended, plain, atol=1e-6)


# --- counts


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32, np.float64])
def test_counts_become_line_integrals(dtype: type) -> None:
    rng = np.random.default_rng(0)
    transmission = rng.uniform(0.05, 1.1, (2, ROWS, COLS))
    raw, dark, flat = counts(rng, transmission)
    frames = (np.rint(raw) if np.issubdtype(dtype, np.integer) else raw).astype(dtype)
    frames.flags.writeable = False  # as it comes from a message
    before = frames.copy()
    got = Preprocessor(SCAN, dark=dark, flat=flat)(frames)
    expected = linear(-np.log((frames.astype(float) - dark) / (flat - dark)))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_array_equal(frames, before)


def test_without_a_dark_it_is_zero() -> None:
    frames, flat = np.full((1, ROWS, COLS), 500.0), np.full((ROWS, COLS), 1000.0)
    np.testing.assert_allclose(
        Preprocessor(SCAN, flat=flat)(frames), linear(np.full(frames.shape, math.log(2))), atol=1e-6
    )


@pytest.mark.parametrize("value", [0, 99, 100])
def test_counts_at_or_below_the_dark_are_taken_as_the_least_transmission(value: int) -> None:
    frames = np.full((1, ROWS, COLS), 5100, np.uint16)
    frames[0, 2, 7] = value
    expected = np.full(frames.shape, math.log(2))
    expected[0, 2, 7] = -math.log(1e-3)
    dark, flat = np.full((ROWS, COLS), 100.0), np.full((ROWS, COLS), 10100.0)
    got = Preprocessor(SCAN, dark=dark, flat=flat, min_transmission=1e-3)(frames)
    np.testing.assert_allclose(got, linear(expected), atol=1e-5)


@pytest.mark.parametrize("flat_value", [100.0, 50.0, np.nan, np.inf, 65535.0])
def test_dead_pixels_are_bridged_along_their_row(flat_value: float) -> None:
    rng = np.random.default_rng(1)
    integrals = rng.uniform(0, 2, (2, ROWS, COLS))
    raw, dark, flat = counts(rng, np.exp(-integrals))
    dark[:] = 100
    raw = dark + np.exp(-integrals) * (flat - dark)
    dead = np.zeros((ROWS, COLS), bool)
    dead[1, 5] = dead[2, 8:11] = dead[3, :2] = dead[4, -1] = True
    flat[dead], raw[:, dead] = flat_value, 12345
    got = Preprocessor(SCAN, dark=dark, flat=flat, saturation_counts=65535)(raw)
    for view in integrals:
        for row, bad in zip(view, dead, strict=True):
            row[bad] = np.interp(np.flatnonzero(bad), np.flatnonzero(~bad), row[~bad])
    np.testing.assert_allclose(got, linear(integrals), atol=2e-5)


def test_pixels_that_see_nothing_are_dead_whatever_the_noise() -> None:
    """Half of them have a few counts more in the flat than in the dark."""
    rng = np.random.default_rng(3)
    dark = 100 + rng.normal(0, 2, (ROWS, COLS))
    flat = dark + 20000
    dead = np.zeros((ROWS, COLS), bool)
    dead[1:4, 3:14:2] = True
    flat[dead] = dark[dead] + rng.normal(0, 2, dead.sum())
    assert 0 < (flat[dead] > dark[dead]).sum() < dead.sum()
    raw = (dark + (flat - dark) * np.exp(-1.2) + rng.normal(0, 2, (ROWS, COLS)))[None]
    got = Preprocessor(SCAN, dark=dark, flat=flat)(raw)
    np.testing.assert_allclose(got, linear(np.full((1, ROWS, COLS), 1.2)), atol=5e-3)


def test_a_beam_that_lights_a_part_leaves_that_part_alone() -> None:
    """A dim pixel of a vignetted beam is no dead one."""
    dark, flat = np.full((ROWS, COLS), 100.0), np.full((ROWS, COLS), 20100.0)
    flat[:, 0] = 100 + 20000 * 0.02
    raw = (dark + (flat - dark) * np.exp(-np.linspace(0, 1, COLS)))[None]
    got = Preprocessor(SCAN, dark=dark, flat=flat)(raw)
    np.testing.assert_allclose(got, linear(np.broadcast_to(np.linspace(0, 1, COLS), (1, ROWS, COLS))), atol=1e-4)


def test_a_dead_row_is_copied_from_the_nearest_good_one() -> None:
    rng = np.random.default_rng(2)
    integrals = rng.uniform(0, 2, (1, ROWS, COLS))
    raw, dark, flat = counts(rng, np.exp(-integrals))
    flat[0], flat[1, 4] = 0, 0
    flat[3:] = 0
    got = Preprocessor(SCAN, dark=dark, flat=flat)(raw)
    integrals[0, 1, 4] = integrals[0, 1, [3, 5]].mean()
    integrals[0, 0], integrals[0, 3:] = integrals[0, 1], integrals[0, 2]
    np.testing.assert_allclose(got, linear(integrals), atol=2e-5)


def test_a_detector_without_a_good_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="flat: expected more counts than in the dark"):
        Preprocessor(SCAN, dark=np.full((ROWS, COLS), 10.0), flat=np.full((ROWS, COLS), 10.0))


@pytest.mark.parametrize(
    ("dtype", "bad", "ceiling"), [(np.uint16, 65535, None), (np.uint16, 4095, 4095), (np.float32, np.nan, None)]
)
def test_saturated_and_invalid_pixels_are_bridged_in_their_frame(dtype: type, bad: float, ceiling: float) -> None:
    dark, flat = np.full((ROWS, COLS), 100.0), np.full((ROWS, COLS), 3000.0)
    flat[2, 13] = 0  # a dead pixel beside them is no help
    frames = np.full((3, ROWS, COLS), 1000).astype(dtype)
    frames[..., 14:] = 2000
    expected = -np.log((frames.astype(float) - 100) / 2900)
    expected[:, 2, 13] = expected[:, 2, [12, 14]].mean(axis=1)
    frames[1, 2, 11:13] = bad
    expected[1, 2, 11:14] = np.interp([1, 2, 3], [0, 4], expected[1, 2, [10, 14]])
    got = Preprocessor(SCAN, dark=dark, flat=flat, saturation_counts=ceiling)(frames)
    np.testing.assert_allclose(got, linear(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("counts", "message"),
    [(65535, "expected a good pixel"), (100, "expected some beam"), (0, "expected some beam")],
)
def test_a_frame_that_says_nothing_is_refused(counts: int, message: str) -> None:
    """As an empty or an opaque view it would falsify every value of the slice."""
    dark, flat = np.full((ROWS, COLS), 100.0), np.full((ROWS, COLS), 3000.0)
    frames = np.full((2, ROWS, COLS), 1500, np.uint16)
    frames[1] = counts
    preprocess = Preprocessor(SCAN, dark=dark, flat=flat)
    with pytest.raises(ValueError, match=f"frame: {message}"):
        preprocess(frames)
    spotted = frames.astype(np.float32)
    spotted[:, 2, 3] = np.nan  # also where a pixel is no number
    with pytest.raises(ValueError, match="frame: expected some beam") if counts < 65535 else nullcontext():
        preprocess(spotted)
    expected = linear(np.full((1, ROWS, COLS), -math.log(1400 / 2900)))
    np.testing.assert_allclose(preprocess(frames[:1]), expected, atol=1e-6)


def test_an_unlit_margin_whose_dark_level_drifts_is_no_lost_beam() -> None:
    rng = np.random.default_rng(0)
    dark = np.full((ROWS, COLS), 100.0)
    flat = dark + rng.normal(0, 0.3, (ROWS, COLS))
    flat[:, : COLS // 2] += 3000
    frames = np.full((1, ROWS, COLS), 99, np.uint16)
    frames[..., : COLS // 2] = 1000
    assert np.isfinite(Preprocessor(SCAN, dark=dark, flat=flat)(frames)).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_single_pixels_that_are_no_numbers_are_no_lost_beam(number: float) -> None:
    frames = np.full((1, ROWS, COLS), 1500, np.float32)
    frames[0, 1, 2] = number
    got = Preprocessor(SCAN, flat=np.full((ROWS, COLS), 3000.0))(frames)
    np.testing.assert_allclose(got, linear(np.full((1, ROWS, COLS), math.log(2))), atol=1e-6)


def test_an_object_that_absorbs_nearly_all_is_no_lost_beam() -> None:
    dark, flat = np.full((ROWS, COLS), 100.0), np.full((ROWS, COLS), 60_000.0)
    frames = np.full((1, ROWS, COLS), 101, np.uint16)  # opaque, but for one column
    frames[..., -1] = 60_000
    assert np.isfinite(Preprocessor(SCAN, dark=dark, flat=flat)(frames)).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_a_linear_frame_of_no_numbers_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="frame: expected"):
        linear(np.full((1, ROWS, COLS), number))


def test_linear_frames_with_invalid_pixels_are_bridged_too() -> None:
    frames = np.random.default_rng(0).random((2, ROWS, COLS))
    expected = frames.copy()
    frames[1, 3, 4], frames[1, 3, 5] = np.nan, -np.inf
    expected[1, 3, 4:6] = np.interp([1, 2], [0, 3], expected[1, 3, [3, 6]])
    np.testing.assert_allclose(linear(frames), linear(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(), "flat: expected the mean flat field, or already linear frames, got None"),
        (dict(flat=np.ones((ROWS, COLS + 1))), r"flat: expected shape \(5, 24\), got \(5, 25\)"),
        (dict(flat=np.ones((ROWS, COLS)), dark=np.ones(3)), r"dark: expected shape \(5, 24\), got \(3,\)"),
        (dict(flat=np.ones((ROWS, COLS)), min_transmission=0.0), "min_transmission: expected a number between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessor(SCAN, **options)


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames: expected shape \(n, 5, 24\), got \(5, 24\)"):
        Preprocessor(SCAN, linear=True)(np.zeros((ROWS, COLS)))
