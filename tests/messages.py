"""Messages of every kind: examples, and strategies for all that are allowed."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams.messages import (
    Dark,
    Denoised,
    Flat,
    Header,
    Image,
    Message,
    SeriesEnd,
    Slice,
    View,
    Volume,
    Weights,
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


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    place, first = draw(places), draw(st.integers(0, 1000))
    shape = (draw(st.integers(1, 4)), *place.shape)
    return Volume(
        generation=draw(whole),
        geometry=place,
        step_mm=draw(st.tuples(number, number, number)),
        series=draw(text),
        first_frame=first,
        last_frame=first + draw(st.integers(0, 1000)),
        timestamp_s=draw(number),
        data=draw(arrays(np.float32, shape, elements=st.floats(-1, 1, width=32))),
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
    "volume": volumes(),
    "denoised": pictures(Denoised),
    "weights": st.builds(
        Weights,
        whole,
        st.dictionaries(label, st.none() | st.booleans() | whole | number | label, max_size=5),
        st.floats(1e-300, 1e300),
        st.none() | number,
        whole,
        st.sampled_from(["halves", "turns"]),
        st.binary(min_size=1, max_size=50),
    ),
}
any_message = st.one_of(*MESSAGES.values())

IMAGE = Image("s", 7, 0.25, 1.5, np.arange(6, dtype=np.uint16).reshape(2, 3))
SLICE = Slice("xy", 2, PLACE, "s", 10, 20, 1.5, True, np.zeros((2, 1, 4, 6), np.float32))
WEIGHTS = Weights(3, {"preset": "DEFAULT", "features": 8, "residual": True}, 0.03, 0.6, 1, "turns", b"tensors")
EXAMPLES: dict[str, Message] = {
    "header": Header("s", "raw", SCAN, False),
    "dark": Dark("s", np.zeros((3, 5), np.float32), 10),
    "flat": Flat("s", np.ones((3, 5), np.float32), 10),
    "image": IMAGE,
    "view": View(2, "ram-lak", {"xy": PLACE}),
    "series_end": SeriesEnd("s", 100),
    "slice": SLICE,
    "volume": Volume(2, PLACE, (0.0, 0.1, -0.5), "s", 10, 20, 1.5, np.zeros((3, 4, 6), np.float32)),
    "denoised": Denoised(**vars(SLICE), weights_version=3, accuracy=0.55, task="SEGMENT", made={"mode": "full"}),
    "weights": WEIGHTS,
}
