"""What is no message is refused by name: wrong values, tampered headers, cut payloads, any bytes."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango_jit.streams.messages import Message, MessageError, decode
from tests.messages import EXAMPLES, PLACE, any_message


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
        ("volume", {"step_mm": (0.0, 1.0)}),
        ("volume", {"step_mm": "abc"}),
        ("volume", {"step_mm": (0.0, 0.0, math.inf)}),
        ("volume", {"first_frame": 21}),
        ("volume", {"data": np.zeros((3, 6, 4), np.float32)}),
        ("volume", {"data": np.zeros((4, 6), np.float32)}),
        ("volume", {"data": np.zeros((1025, 4, 6), np.float32)}),
        ("volume", {"data": np.zeros((3, 4, 6))}),
        ("denoised", {"data": np.zeros((3, 1, 4, 6), np.float32)}),
        ("denoised", {"accuracy": math.nan}),
        ("weights", {"scale": 0.0}),
        ("weights", {"scale": -math.inf}),
        ("weights", {"patch_accuracy": math.nan}),
        ("weights", {"network": {"a": [1]}}),
        ("weights", {"network": {"a": math.inf}}),
        ("weights", {"network": {"a": 10**400}}),
        ("weights", {"network": [1]}),
        ("weights", {"split": "thirds"}),
        ("weights", {"split": None}),
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
        ("volume", "shape", [6, 3, 4]),
        ("volume", "shape", [72]),
        ("volume", "step_mm", [0, 0]),
        ("volume", "step_mm", {"0": 0, "1": 0, "2": 0}),
        ("weights", "split", "both"),
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
