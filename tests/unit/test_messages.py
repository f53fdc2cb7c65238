"""Messages: the round trip, and what stands on the wire."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tango_jit.streams.messages import KINDS, Dark, Flat, Header, Image, Message, decode
from tests.messages import EXAMPLES, IMAGE, MESSAGES, SCAN, SLICE


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
