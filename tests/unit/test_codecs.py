"""Compressed frames: what areaDetector and HDF5 write comes back bit for bit, and nothing else gets through."""

import io
import struct
import zlib

import bitshuffle
import blosc
import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tango_jit.cameras.codecs import CodecError, decompress

DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def chunk(size: int, block: int, body: bytes) -> bytes:
    """With the header of an HDF5 chunk."""
    return struct.pack(">QI", size, block) + body


def lz4_chunk(pixels: np.ndarray, block: int) -> bytes:
    """As HDF5's filter 32004: blocks that do not get smaller are stored as they are."""
    raw, body = pixels.tobytes(), b""
    for at in range(0, len(raw), block):
        plain = raw[at : at + block]
        packed = lz4.block.compress(plain, store_size=False)
        kept = packed if len(packed) < len(plain) else plain
        body += struct.pack(">I", len(kept)) + kept
    return chunk(len(raw), block, body)


def packed(codec: str, pixels: np.ndarray) -> bytes:
    raw = pixels.tobytes()
    match codec:
        case "zlib":
            return zlib.compress(raw)
        case "blosc":
            return blosc.compress(raw, typesize=pixels.itemsize, cname="lz4")
        case "lz4":
            return lz4.block.compress(raw, store_size=False)
        case "lz4hdf5":
            return lz4_chunk(pixels, 512)
        case "lz4hdf5 in one":
            return lz4_chunk(pixels, 1 << 20)
        case "bslz4":
            return bitshuffle.compress_lz4(pixels).tobytes()
        case "bslz4 in a chunk":
            return chunk(len(raw), 64 * pixels.itemsize, bitshuffle.compress_lz4(pixels, 64).tobytes())
    raise ValueError(codec)


FORMS = ("zlib", "blosc", "lz4", "lz4hdf5", "lz4hdf5 in one", "bslz4", "bslz4 in a chunk")


def unpacked(form: str, payload: bytes, dtype: str, count: int) -> np.ndarray:
    codec = form.partition(" ")[0]
    return decompress(np.frombuffer(payload, np.uint8), codec, np.dtype(dtype), (1, count))[0]


def tried(form: str, payload: bytes, count: int) -> tuple[np.ndarray | None, str]:
    """Pixels, or why there are none."""
    try:
        return unpacked(form, payload, "<u2", count), ""
    except CodecError as error:
        return None, str(error)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [8, 1000, 4099])
def test_pixels_come_back_bit_for_bit(form, dtype, count):
    random = np.random.default_rng(1)
    pixels = random.integers(0, 60, count).astype(dtype)
    pixels[count // 2 :] = np.frombuffer(random.bytes(count * 8), dtype)[: count - count // 2]  # does not get smaller
    back = unpacked(form, packed(form, pixels), dtype, count)
    assert back.dtype == pixels.dtype
    assert back.tobytes() == pixels.tobytes()


@pytest.mark.parametrize(("name", "base"), [("lz4", 480), ("bslz4", 630)])
def test_captured_frames_of_a_real_area_detector(shared_data, name, base):
    payload = (shared_data / "epics_fixtures" / f"ad_{name}.bin").read_bytes()
    pixels = unpacked(name, payload, "<u2", 647 * 768).reshape(647, 768)
    rows, cols = np.ogrid[:647, :768]
    np.testing.assert_array_equal(pixels, base + rows + cols)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return np.frombuffer(file.getvalue(), np.uint8)


def test_jpeg_of_grey_pixels_is_read_and_others_are_refused():
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    back = decompress(jpeg(ramp), "jpeg", np.dtype("u1"), (48, 64))
    assert np.abs(back.astype(int) - ramp).max() <= 4
    for shape in ((10, 10), (64, 48)):
        with pytest.raises(CodecError, match=f"expected {shape[1]} x {shape[0]} grey pixels of 8 bits, got 64 x 48"):
            decompress(jpeg(ramp), "jpeg", np.dtype("u1"), shape)
    with pytest.raises(CodecError, match="in the mode RGB"):
        decompress(jpeg(np.stack([ramp] * 3, axis=-1)), "jpeg", np.dtype("u1"), (48, 64))


def test_a_jpeg_that_claims_to_be_enormous_is_refused():
    bomb = jpeg(np.zeros((16, 16), np.uint8)).copy()
    start = bytes(bomb).index(b"\xff\xc0") + 5
    bomb[start : start + 4] = 0xFF  # 65,535 x 65,535 pixels
    with pytest.raises(CodecError, match="jpeg"):
        decompress(bomb, "jpeg", np.dtype("u1"), (16, 16))


def test_an_unknown_codec_is_named():
    with pytest.raises(CodecError, match="expected one of jpeg, zlib, blosc, lz4, lz4hdf5, bslz4, got 'zstd'"):
        unpacked("zstd", b"abc", "u2", 4)


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_and_every_longer_payload_is_refused(form):
    pixels = np.arange(300, dtype=np.uint16)
    payload = packed(form, pixels)
    for end in range(len(payload)):
        with pytest.raises(CodecError):
            unpacked(form, payload[:end], "<u2", 300)
    if form != "zlib":  # that has an end of its own
        with pytest.raises(CodecError):
            unpacked(form, payload + b"\0\1\2", "<u2", 300)


@pytest.mark.parametrize("form", FORMS)
def test_other_sizes_than_the_frame_has_are_refused(form):
    payload = packed(form, np.arange(300, dtype=np.uint16))
    for count in (299, 301, 150, 600, 4_000_000):
        with pytest.raises(CodecError):
            unpacked(form, payload, "<u2", count)


@pytest.mark.parametrize("form", FORMS)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_hostile_bytes_give_pixels_or_an_error_in_words(form, flips):
    """Libraries in C read these: nothing may get out of bounds, and no other exception may come out."""
    payload = bytearray(packed(form, np.arange(3000, dtype=np.uint16)))
    for place, byte in flips:
        payload[int(place * len(payload))] = byte
    pixels, why = tried(form, bytes(payload), 3000)
    assert why.startswith(form.partition(" ")[0]) if pixels is None else pixels.shape == (3000,)


@given(payload=st.binary(max_size=400), codec=st.sampled_from(["jpeg", *FORMS]))
def test_noise_gives_an_error_in_words(payload, codec):
    pixels, why = tried(codec, payload, 64)
    assert why if pixels is None else pixels.shape == (64,)
