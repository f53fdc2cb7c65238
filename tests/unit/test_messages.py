"""Messages: the round trip, what stands on the wire, and everything that is no message."""

import json
import math
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams.messages import (
    KINDS,
    Dark,
    Denoised,
    Flat,
    Header,
    Image,
    Message,
    MessageError,
    SeriesEnd,
    Slice,
    View,
    Weights,
    decode,
)

SCAN = ScanGeometry.cone(rows=3, cols=5, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=300, axis_column=2.25)
PLACE = SliceGeometry((-1.0, 2.0, 0.5), (2.0, 0.1, 0.0), (0.0, -3.0, 0.2), 4, 6)

text = st.text(min_size=1, max_size=20).filter(str.isprintable)
label = st.just("") | text
names = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
whole = st.integers(0, 2**53 - 1)
number = st.floats(allow_nan=False, allow_infinity=False)
places = st.builds(
    lambda x, size, rows, cols: SliceGeometry((x, -x, 0.1), (size, 0, 0), (0, size / 3, size), rows, cols),
    st.floats(-100, 100),
    st.floats(1e-3, 1e3),
    st.integers(1, 5),
    st.integers(1, 5),
)
scans = st.builds(
    lambda rows, cols, pixel, cone: (
        ScanGeometry.cone(rows=rows, cols=cols, pixel_mm=pixel, source_axis_mm=50, source_detector_mm=90)
        if cone
        else ScanGeometry.parallel(rows=rows, cols=cols, pixel_mm=pixel)
    ),
    st.integers(1, 65536),
    st.integers(1, 65536),
    st.floats(1e-4, 10),
    st.booleans(),
)
frames = st.sampled_from(["uint8", "uint16", "uint32", "float32", ">u2", ">f4"]).flatmap(
    lambda dtype: arrays(np.dtype(dtype), array_shapes(min_dims=2, max_dims=2, max_side=6))
)
means = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6))


@st.composite
def pictures(draw: st.DrawFn, kind: type[Slice] | type[Denoised]) -> Message:
    place = draw(places)
    planes = draw(st.sampled_from([2, 3])) if kind is Slice else 2
    data = draw(
        arrays(np.float32, (planes, draw(st.integers(1, 3)), *place.shape), elements=st.floats(-1, 1, width=32))
    )
    first = draw(st.integers(0, 1000))
    own = {} if kind is Slice else {"weights_version": draw(whole), "accuracy": draw(st.none() | number)}
    return kind(
        slice=draw(names),
        generation=draw(whole),
        geometry=place,
        series=draw(text),
        first_frame=first,
        last_frame=first + draw(st.integers(0, 1000)),
        timestamp_s=draw(number),
        complete=draw(st.booleans()),
        data=data,
        **own,
    )


MESSAGES: dict[str, st.SearchStrategy[Message]] = {
    "header": st.builds(
        Header,
        text,
        st.sampled_from(["raw", "filtered"]),
        scans,
        st.booleans(),
        st.none() | text,
        st.none() | number,
        label,
    ),
    "dark": st.builds(Dark, text, means, whole),
    "flat": st.builds(Flat, text, means, whole),
    "image": st.builds(Image, text, whole, number, number, frames, st.none() | st.tuples(*[number] * 12)),
    "view": st.builds(View, whole, text, st.dictionaries(names, places, max_size=4)),
    "series_end": st.builds(SeriesEnd, text, whole),
    "slice": pictures(Slice),
    "denoised": pictures(Denoised),
    "weights": st.builds(
        Weights,
        whole,
        st.dictionaries(label, st.none() | st.booleans() | whole | number | label, max_size=5),
        st.floats(1e-300, 1e300),
        st.none() | number,
        whole,
        st.binary(min_size=1, max_size=50),
    ),
}
any_message = st.one_of(*MESSAGES.values())

IMAGE = Image("s", 7, 0.25, 1.5, np.arange(6, dtype=np.uint16).reshape(2, 3))
SLICE = Slice("xy", 2, PLACE, "s", 10, 20, 1.5, True, np.zeros((2, 1, 4, 6), np.float32))
WEIGHTS = Weights(3, {"preset": "DEFAULT", "features": 8, "residual": True}, 0.03, 0.6, 1, b"tensors")
EXAMPLES: dict[str, Message] = {
    "header": Header("s", "raw", SCAN, False),
    "dark": Dark("s", np.zeros((3, 5), np.float32), 10),
    "flat": Flat("s", np.ones((3, 5), np.float32), 10),
    "image": IMAGE,
    "view": View(2, "ram-lak", {"xy": PLACE}),
    "series_end": SeriesEnd("s", 100),
    "slice": SLICE,
    "denoised": Denoised(**vars(SLICE), weights_version=3, accuracy=0.55),
    "weights": WEIGHTS,
}


def test_every_kind_is_tested() -> None:
    assert set(MESSAGES) == set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("kind", MESSAGES)
def test_round_trip(kind: str) -> None:
    @given(MESSAGES[kind])
    @settings(max_examples=50, deadline=None)
    def check(message: Message) -> None:
        parts = [bytes(part) for part in message.parts()]
        back = decode(parts)
        assert back == message
        assert [bytes(part) for part in back.parts()] == parts
        assert message.nbytes == sum(map(len, parts[1:]))

    check()


@pytest.mark.parametrize("kind", MESSAGES)
def test_header_is_compact_json_that_begins_with_its_kind(kind: str) -> None:
    header = bytes(EXAMPLES[kind].parts()[0])
    assert header.startswith(b'{"htype":"%s"' % kind.encode())
    assert json.dumps(json.loads(header), separators=(",", ":")).encode() == header


def test_examples_of_the_reference_are_messages() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "streams.md"
    kinds = set()
    for example in re.findall(r"^```json\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        fields = json.loads(example)
        parts = [example.encode()]
        if "shape" in fields:
            parts.append(np.zeros(fields["shape"], fields["type"]).tobytes())
        elif "size" in fields:
            parts.append(bytes(fields["size"]))
        back = json.loads(bytes(decode(parts).parts()[0]))
        assert (list(back), back) == (list(fields), fields)
        kinds.add(fields["htype"])
    assert kinds == set(KINDS)


def test_subscribers_may_choose_a_slice_by_prefix() -> None:
    assert bytes(SLICE.parts()[0]).startswith(b'{"htype":"slice","slice":"xy",')
    assert bytes(EXAMPLES["denoised"].parts()[0]).startswith(b'{"htype":"denoised","slice":"xy",')


def test_image_on_the_wire() -> None:
    header, payload = IMAGE.parts()
    assert json.loads(bytes(header)) == {
        "htype": "image",
        "series": "s",
        "frame": 7,
        "angle_rad": 0.25,
        "timestamp_s": 1.5,
        "shape": [2, 3],
        "type": "uint16",
    }
    assert bytes(payload) == b"\0\0\1\0\2\0\3\0\4\0\5\0"


def test_header_on_the_wire() -> None:
    (header,) = Header("a", "filtered", SCAN, True, "hann", 0.01, "sand").parts()
    assert json.loads(bytes(header)) == {
        "htype": "header",
        "series": "a",
        "stage": "filtered",
        "scan": {
            "geometry": json.loads(json.dumps(SCAN.to_dict())),
            "linear": True,
            "filter": "hann",
            "exposure_s": 0.01,
            "name": "sand",
            "full_turn": False,
        },
    }


def test_big_endian_and_strided_arrays_go_out_little_endian_and_contiguous() -> None:
    values = np.arange(24, dtype=">u4").reshape(4, 6)
    message = replace(IMAGE, data=values[::2, ::-1])
    back = decode([bytes(part) for part in message.parts()])
    assert isinstance(back, Image)
    np.testing.assert_array_equal(back.data, values[::2, ::-1])


def test_decoded_arrays_are_read_only_views_of_the_parts() -> None:
    data = np.arange(60, dtype=np.float32).reshape(6, 10)
    parts = [bytes(part) for part in replace(IMAGE, data=data).parts()]
    back = decode(parts)
    assert isinstance(back, Image)
    assert np.shares_memory(back.data, np.frombuffer(parts[1], np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        back.data[0, 0] = 1


def test_unaligned_parts_give_aligned_arrays() -> None:
    header, payload = (bytes(part) for part in IMAGE.parts())
    back = decode([header, memoryview(b"x" + payload)[1:]])
    assert isinstance(back, Image)
    assert back.data.flags.aligned
    np.testing.assert_array_equal(back.data, IMAGE.data)


def test_making_a_message_neither_copies_nor_locks_the_array() -> None:
    data = np.zeros((2, 3), np.float32)
    message = replace(IMAGE, data=data)
    assert np.shares_memory(message.data, data)
    assert data.flags.writeable
    assert not message.data.flags.writeable


def test_equality_looks_at_values_and_types() -> None:
    assert replace(IMAGE) == IMAGE
    assert replace(IMAGE, frame=8) != IMAGE
    assert replace(IMAGE, data=IMAGE.data + np.uint16(1)) != IMAGE
    assert replace(IMAGE, data=IMAGE.data.astype(np.uint32)) != IMAGE
    nan = replace(IMAGE, data=np.full((2, 2), np.nan, np.float32))
    assert replace(nan) == nan
    field = np.ones((3, 5), np.float32)
    assert Dark("s", field, 1) != Flat("s", field, 1)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("header", {"stage": "cooked"}),
        ("header", {"linear": 1}),
        ("header", {"exposure_s": math.nan}),
        ("header", {"name": "a\nb"}),
        ("header", {"geometry": PLACE}),
        ("dark", {"mean": np.zeros((3, 5))}),
        ("dark", {"mean": [[1.0]]}),
        ("dark", {"count": 1.0}),
        ("image", {"series": ""}),
        ("image", {"series": "x" * 257}),
        ("image", {"series": "\ud800"}),
        ("image", {"frame": -1}),
        ("image", {"frame": True}),
        ("image", {"frame": 2**53}),
        ("image", {"frame": 1.0}),
        ("image", {"angle_rad": math.inf}),
        ("image", {"angle_rad": "0"}),
        ("image", {"timestamp_s": None}),
        ("image", {"timestamp_s": 10**400}),
        ("image", {"data": np.zeros((0, 3), np.uint16)}),
        ("image", {"data": np.zeros((1, 2, 3), np.uint16)}),
        ("image", {"data": np.zeros((1, 65537), np.uint8)}),
        ("image", {"data": np.array([["text"]])}),
        ("image", {"data": np.array([[object()]])}),
        ("image", {"pose": (1.0,) * 11}),
        ("image", {"pose": (1.0,) * 11 + (math.nan,)}),
        ("image", {"pose": "twelve chars"}),
        ("view", {"slices": {"Bad Name": PLACE}}),
        ("view", {"slices": {f"s{i}": PLACE for i in range(65)}}),
        ("view", {"slices": None}),
        ("series_end", {"frames": -1}),
        ("slice", {"slice": "xy "}),
        ("slice", {"slice": "a" * 17}),
        ("slice", {"first_frame": 21}),
        ("slice", {"complete": 1}),
        ("slice", {"data": np.zeros((1, 1, 4, 6), np.float32)}),
        ("slice", {"data": np.zeros((2, 1, 6, 4), np.float32)}),
        ("slice", {"data": np.zeros((2, 65, 4, 6), np.float32)}),
        ("denoised", {"data": np.zeros((3, 1, 4, 6), np.float32)}),
        ("denoised", {"accuracy": math.nan}),
        ("weights", {"scale": 0.0}),
        ("weights", {"scale": -math.inf}),
        ("weights", {"patch_accuracy": math.nan}),
        ("weights", {"network": {"a": [1]}}),
        ("weights", {"network": {"a": math.inf}}),
        ("weights", {"network": {"a": 10**400}}),
        ("weights", {"network": [1]}),
        ("weights", {"tensors": b""}),
        ("weights", {"tensors": "text"}),
    ],
)
def test_wrong_values_are_refused_by_name(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match=f"^{kind}: {next(iter(fields))}: .*expected .*got "):
        replace(EXAMPLES[kind], **fields)


def tampered(kind: str, path: str, value: object) -> list[bytes]:
    """The example's parts with the JSON field at `path` (dots between levels) replaced; `...` removes it."""
    header, *payload = (bytes(part) for part in EXAMPLES[kind].parts())
    fields = json.loads(header)
    inner, names = fields, path.split(".")
    for name in names[:-1]:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is ...:
        del inner[names[-1]]
    else:
        inner[names[-1]] = value
    return [json.dumps(fields).encode(), *payload]


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("image", "htype", "img"),
        ("image", "htype", ["image"]),
        ("image", "htype", None),
        ("image", "htype", ...),
        ("image", "frame", ...),
        ("image", "frame", True),
        ("image", "frame", -1),
        ("image", "frame", 1e300),
        ("image", "angle_rad", math.nan),
        ("image", "angle_rad", math.inf),
        ("image", "angle_rad", {"a": [[]]}),
        ("image", "pose", [math.nan] * 12),
        ("image", "shape", ...),
        ("image", "shape", [3, 3]),
        ("image", "shape", [6]),
        ("image", "shape", [-2, -3]),
        ("image", "shape", [2.0, 3.0]),
        ("image", "shape", [True, 6]),
        ("image", "shape", [2**32, 2**32]),
        ("image", "shape", [10**400, 1]),
        ("image", "shape", "ab"),
        ("image", "type", ...),
        ("image", "type", "float64"),
        ("image", "type", "object"),
        ("image", "type", "uint32"),
        ("image", "type", ["uint16"]),
        ("dark", "type", "uint16"),
        ("header", "scan", ...),
        ("header", "scan", []),
        ("header", "scan.linear", ...),
        ("header", "scan.name", ...),
        ("header", "scan.geometry", None),
        ("header", "scan.geometry", [1]),
        ("header", "scan.geometry.rows", ...),
        ("header", "scan.geometry.rows", 0),
        ("header", "scan.geometry.rows", True),
        ("header", "scan.geometry.rows", [3]),
        ("header", "scan.geometry.colour", 1),
        ("header", "scan.geometry.beam", "fan"),
        ("header", "scan.geometry.beam", {}),
        ("header", "scan.geometry.u_mm", "123"),
        ("header", "scan.geometry.u_mm", ["1", "0", "0"]),
        ("header", "scan.geometry.u_mm", [1, 0]),
        ("header", "scan.geometry.u_mm", {"1": 0, "2": 0, "3": 0}),
        ("header", "scan.geometry.u_mm", [10**400, 0, 0]),
        ("header", "scan.geometry.v_mm", [0.2, 0, 0]),
        ("view", "slices.0.name", "X"),
        ("view", "slices.0.geometry", ...),
        ("view", "slices.0.geometry.rows", 10**9),
        ("view", "slices", [{"name": "xy", "geometry": PLACE.to_dict()}] * 2),
        ("view", "slices", [1]),
        ("slice", "geometry.rows", 5),
        ("slice", "shape", [2, 1, 6, 4]),
        ("slice", "shape", [1, 2, 4, 6]),
        ("weights", "size", 8),
        ("weights", "size", True),
        ("weights", "size", ...),
        ("weights", "network", {"a": {"b": {}}}),
    ],
)
def test_tampered_headers_are_refused(kind: str, path: str, value: object) -> None:
    decode(tampered(kind, "unknown", 1))  # the untampered message is one, and unknown fields do no harm
    with pytest.raises(MessageError, match="expected"):
        decode(tampered(kind, path, value))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_field_is_required(kind: str) -> None:
    fields = json.loads(bytes(EXAMPLES[kind].parts()[0]))
    optional = {"full_turn"}  # sources that know nothing of it mean no
    paths = [f"scan.{name}" for name in fields["scan"] if name not in optional] if kind == "header" else list(fields)
    for path in paths:
        with pytest.raises(MessageError, match=rf"{path.split('.')[-1]}"):
            decode(tampered(kind, path, ...))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_parts_missing_added_or_cut_are_refused(kind: str) -> None:
    header, *payload = (bytes(part) for part in EXAMPLES[kind].parts())
    wrong = [[header, *payload, b"more"], [header[:-1], *payload], [header + b"x", *payload]]
    if payload:
        wrong += [[header], [header, payload[0][:-1]], [header, payload[0] + b"\0"], [payload[0], header]]
    for parts in wrong:
        with pytest.raises(MessageError, match="expected"):
            decode(parts)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"htype"',
        b"{}",
        b"[" * 200_000,
        b'{"a":' * 40_000,
        b'{"htype":"image","frame":' + b"9" * 5000 + b"}",
        b'{"htype":"series_end","series":"s","frames":1,"x":1e999}',
        b'{"htype":"series_end","series":"s","frames":1,"x":-Infinity}',
        b'{"htype":"series_end","series":"s","frames":1,"x":NaN}',
        b'{"htype":"series_end","series":"' + b"s" * 300_000 + b'","frames":1}',
        '{"htype":"series_end","series":"s","frames":1}'.encode("utf-16"),
    ],
)
def test_headers_that_are_no_json_are_refused(header: bytes) -> None:
    with pytest.raises(MessageError, match="expected") as caught:
        decode([header])
    assert len(str(caught.value)) < 1000


def test_no_parts_are_refused() -> None:
    with pytest.raises(MessageError, match="expected"):
        decode([])


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_raise_only_message_errors(parts: list[bytes]) -> None:
    with pytest.raises(MessageError):
        decode(parts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(any_message, st.data())
@settings(max_examples=300, deadline=None)
def test_random_json_in_any_field_raises_only_message_errors(message: Message, data: st.DataObject) -> None:
    header, *payload = (bytes(part) for part in message.parts())
    fields = json.loads(header)
    inner: dict[str, Any] = fields
    name = data.draw(st.sampled_from(sorted(inner)))
    while isinstance(inner[name], dict) and inner[name] and data.draw(st.booleans()):
        inner = inner[name]
        name = data.draw(st.sampled_from(sorted(inner)))
    inner[name] = data.draw(json_values)
    with suppress(MessageError):
        decode([json.dumps(fields).encode(), *payload])


@given(any_message, st.data())
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_raise_only_message_errors(message: Message, data: st.DataObject) -> None:
    parts = [bytearray(part) for part in message.parts()]
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from(parts))
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MessageError):
        decode([bytes(part) for part in parts])
