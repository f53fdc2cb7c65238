"""Images of areaDetector as plain values: types, axes, regions, and what is no image."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.cameras.ntndarray import Dimension, NTNDArray, NTNDArrayError, exposure

ROWS, COLS = 3, 4
AXES = (Dimension(COLS), Dimension(ROWS))


def image(value, axes=AXES, **fields) -> NTNDArray:
    return NTNDArray(7, axes, value, timestamp_s=1.7e9, **fields)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_plain_types_stay_and_rows_come_last(dtype):
    frame = exposure(image(np.arange(12).astype(dtype)))
    assert (frame.number, frame.timestamp_s) == (7, 1.7e9)
    assert frame.data.dtype == dtype
    np.testing.assert_array_equal(frame.data, np.arange(12).reshape(ROWS, COLS))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u8", "f8"])
def test_other_types_become_float32(dtype):
    frame = exposure(image(np.arange(12).astype(dtype) - 3 * (dtype[0] != "u")))
    assert frame.data.dtype == np.float32
    np.testing.assert_array_equal(frame.data.reshape(-1), np.arange(12) - 3 * (dtype[0] != "u"))


@pytest.mark.parametrize(
    ("parameters", "dtype"),
    [
        (5, "u1"), (6, "u2"), (7, "u4"), (9, "f4"), (2, "i2"), (3, "i4"), (10, "f8"),  # ScalarType
        (1, "u1"), (3, "u2"), (5, "u4"), (8, "f4"), (0, "i1"), (6, "i8"), (7, "u8"), (4, "i4"),  # NDDataType
    ],
)  # fmt: skip
def test_the_type_of_compressed_pixels_is_told_in_two_ways(parameters, dtype):
    pixels = np.arange(12).astype(dtype)
    payload = np.frombuffer(zlib.compress(pixels.tobytes()), np.uint8)
    frame = exposure(image(payload, codec="zlib", parameters=parameters, uncompressed_size=pixels.nbytes))
    np.testing.assert_array_equal(frame.data.reshape(-1), pixels)


@pytest.mark.parametrize("parameters", [None, 11, 42, 9, -1])
def test_a_type_that_does_not_fit_the_size_is_refused(parameters):
    payload = np.frombuffer(zlib.compress(bytes(24)), np.uint8)
    with pytest.raises(NTNDArrayError, match=f"type of 12 pixels in 24 bytes, got {parameters}"):
        exposure(image(payload, codec="zlib", parameters=parameters, uncompressed_size=24))


def test_region_and_binning_come_with_the_frame():
    frame = exposure(image(np.zeros(12, "u2"), (Dimension(COLS, 100, 2), Dimension(ROWS, 40, 4))))
    assert frame.offset == (40, 100)
    assert frame.binning == (4, 2)


def test_axes_against_those_of_the_sensor_are_turned_round():
    pixels = np.arange(12, dtype="u2")
    axes = (Dimension(COLS, 100, 1, reverse=True), Dimension(ROWS))
    np.testing.assert_array_equal(exposure(image(pixels, axes)).data, pixels.reshape(ROWS, COLS)[:, ::-1])
    axes = (Dimension(COLS), Dimension(ROWS, reverse=True))
    turned = exposure(image(pixels, axes)).data
    np.testing.assert_array_equal(turned, pixels.reshape(ROWS, COLS)[::-1])
    assert turned.flags.c_contiguous


def test_axes_of_one_pixel_at_the_end_are_none():
    assert exposure(image(np.zeros(12, "u2"), (*AXES, Dimension(1)))).data.shape == (ROWS, COLS)
    assert exposure(image(np.zeros(4, "u2"), (Dimension(COLS), Dimension(1)))).data.shape == (1, COLS)


@pytest.mark.parametrize(
    ("value", "axes", "fields", "message"),
    [
        (None, AXES, {}, "expected pixels, got none"),
        (np.zeros(11, "u2"), AXES, {}, "expected 12 numbers"),
        (np.zeros(12, "?"), AXES, {}, "expected 12 numbers, got bool"),
        (np.zeros(12, "u2"), (), {}, "got nothing"),
        (np.zeros(12, "u2"), (Dimension(12),), {}, "expected columns x rows"),
        (
            np.zeros(12, "u2"),
            (Dimension(3), Dimension(2), Dimension(2)),
            {"attributes": {"ColorMode": 2}},
            "ColorMode 2",
        ),
        (np.zeros(12, "u2"), (Dimension(-4), Dimension(-3)), {}, "expected 1 to 65536 columns"),
        (np.zeros(12, "u2"), (Dimension(0), Dimension(3)), {}, "expected 1 to 65536 columns"),
        (np.zeros(12, "u2"), (Dimension(65536), Dimension(65536)), {}, "at most"),
        (np.zeros(12, "u2"), (Dimension(4, -1), Dimension(3)), {}, "columns"),
        (np.zeros(6, "u2"), AXES, {"codec": "lz4", "parameters": 6, "uncompressed_size": 24}, "expected bytes"),
    ],
)
def test_what_is_no_image_is_refused_in_words(value, axes, fields, message):
    with pytest.raises(NTNDArrayError, match=message):
        exposure(image(value, axes, **fields))


@given(
    sizes=st.lists(st.integers(-5, 70_000), max_size=4),
    codec=st.sampled_from(["", "lz4", "bslz4", "blosc", "zlib", "jpeg", "none"]),
    parameters=st.one_of(st.none(), st.integers(-3, 20)),
    uncompressed=st.integers(-10, 1 << 40),
    value=st.one_of(st.none(), st.binary(max_size=64)),
    stamp=st.floats(),
)
def test_hostile_images_give_an_exposure_or_an_error_in_words(sizes, codec, parameters, uncompressed, value, stamp):
    fields = {"codec": codec, "parameters": parameters, "uncompressed_size": uncompressed, "timestamp_s": stamp}
    pixels = None if value is None else np.frombuffer(value, np.uint8)
    try:
        frame = exposure(NTNDArray(1, [Dimension(size) for size in sizes], pixels, **fields))
    except NTNDArrayError:
        return
    assert frame.data.ndim == 2
    assert frame.timestamp_s >= 0
