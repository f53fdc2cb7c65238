"""The messages on the wire: a JSON header, then at most one raw little-endian payload.

A message is a frozen value that is checked when it is made, on either side of the wire, so a message that
exists is a valid one. `parts()` gives what a socket sends, `decode()` the message back. Nothing is ever
unpickled, and no header makes the reader allocate: an array is a view of the payload that came.

Arrays are held, not copied. Who goes on writing into an array changes the message made from it; the sockets
of this package copy on `send`, so buffers may be used again once `send` has returned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams import _checks as checks
from tango_jit.streams._checks import MessageError
from tango_jit.streams._payloads import ArrayPayload, BytesPayload

__all__ = [
    "Dark",
    "Denoised",
    "Flat",
    "Header",
    "Image",
    "Message",
    "MessageError",
    "SeriesEnd",
    "Slice",
    "View",
    "Volume",
    "Weights",
    "decode",
]

HEADER_BYTES = 1 << 18
"""Largest JSON header; the longest real one, a view of 64 slices, has a tenth of it."""

Text = Annotated[str, checks.text]
SliceName = Annotated[str, checks.slice_name]
Whole = Annotated[int, checks.whole]
Number = Annotated[float, checks.number]
Flag = Annotated[bool, checks.flag]
Figure = Annotated[float | None, checks.optional(checks.number)]
Place = Annotated[SliceGeometry, checks.slice_geometry]
Frame = Annotated[NDArray[Any], ArrayPayload(2, ("uint8", "uint16", "uint32", "float16", "float32"))]
MeanFrame = Annotated[NDArray[np.float32], ArrayPayload(2, ("float32",))]
Planes = Annotated[NDArray[np.float32], ArrayPayload(4, ("float32",))]
Voxels = Annotated[NDArray[np.float32], ArrayPayload(3, ("float32",), depth=1024)]


@dataclass(frozen=True, eq=False)
class Message:
    """Base of all messages. Two are equal when they are of one kind and all their fields are, arrays included.

    Each field is annotated with its check, which serves the constructor and the decoder alike. Constructors
    raise MessageError, a ValueError, that names the field with what was expected and what came.
    """

    htype: ClassVar[str] = ""
    _payload: ClassVar[str | None] = None  # name of the field that is no JSON
    _checks: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        cls._checks = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}

    def __post_init__(self) -> None:
        for name, check in self._checks.items():
            value = checks.named(f"{self.htype}: {name}", check, getattr(self, name))
            object.__setattr__(self, name, value)  # the way to set a field of a frozen value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(map(_same, vars(self).values(), vars(other).values()))

    @property
    def nbytes(self) -> int:
        """Size of the payload in bytes; 0 for messages without one."""
        return 0 if self._payload is None else memoryview(getattr(self, self._payload)).nbytes

    def parts(self) -> list[bytes | memoryview]:
        """What goes on the wire: the JSON header (`htype` first, then the fields in their order), then the payload.

        The payload is a view of the message's own array: it holds as long as nobody writes into that.
        """
        fields: dict[str, Any] = {"htype": self.htype, **self._to_json()}
        buffers: list[bytes | memoryview] = []
        if self._payload is not None:
            form, value = self._checks[self._payload], getattr(self, self._payload)
            fields |= form.describe(value)
            buffers.append(form.buffer(value))
        return [json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode(), *buffers]

    def _to_json(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != self._payload}
        return {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in values.items()}

    @classmethod
    def _from_json(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The constructor's arguments without the payload, as yet unchecked."""
        return {name: _taken(fields, name) for name in cls._checks if name != cls._payload}

    @classmethod
    def _received(cls, fields: Mapping[str, Any], payload: Sequence[memoryview]) -> Self:
        expected = 1 if cls._payload is None else 2
        try:
            if len(payload) + 1 != expected:
                raise MessageError(f"expected {expected} parts, got {len(payload) + 1}")
            values = cls._from_json(fields)
            if cls._payload is not None:
                values[cls._payload] = cls._checks[cls._payload].read(fields, payload[0])
        except MessageError as error:
            raise MessageError(f"{cls.htype}: {error}") from None
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Header(Message):
    """Begins a series, and tells late listeners which one is running.

    `series` is the same in all messages of a series. `linear`: -log of the transmission is already applied.
    `filter`: the ramp filter that filtered projections went through; None for raw ones. `exposure_s`: s, or
    None when unknown. `name`: what the sample is called; may be empty. `full_turn`: windows of a parallel beam are to
    span 360 instead of 180 degrees.
    """

    htype = "header"

    series: Text
    stage: Annotated[Literal["raw", "filtered"], checks.one_of("raw", "filtered")]
    geometry: Annotated[ScanGeometry, checks.scan_geometry]
    linear: Flag
    filter: Annotated[str | None, checks.optional(checks.text)] = None
    exposure_s: Figure = None
    name: Annotated[str, checks.label] = ""
    full_turn: Flag = False

    def _to_json(self) -> dict[str, Any]:
        fields = super()._to_json()
        outer = {name: fields.pop(name) for name in ("series", "stage")}
        return {**outer, "scan": fields}

    @classmethod
    def _from_json(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        scan = _taken(fields, "scan")
        if not isinstance(scan, dict):
            raise MessageError(f"scan: {checks.refused('named fields', scan)}")
        scan = {"full_turn": False, **scan}  # sources that know nothing of it mean no
        return super()._from_json({**scan, "series": _taken(fields, "series"), "stage": _taken(fields, "stage")})


@dataclass(frozen=True, eq=False)
class _Calibration(Message):
    """`mean` (rows, cols) float32 in detector counts, over `count` frames."""

    _payload = "mean"

    series: Text
    mean: MeanFrame = field(repr=False)
    count: Whole


class Dark(_Calibration):
    """The mean of `count` frames without beam; `mean` (rows, cols) float32 in detector counts."""

    htype = "dark"


class Flat(_Calibration):
    """The mean of `count` frames without a sample; `mean` (rows, cols) float32 in detector counts."""

    htype = "flat"


@dataclass(frozen=True, eq=False)
class Image(Message):
    """One projection, raw or filtered; the header of its series says which.

    `frame` counts from any number and tells losses. `angle_rad` is unwrapped and taken at mid-exposure,
    `timestamp_s` is seconds since the epoch. `data` (rows, cols): uint8, uint16, uint32, float32, or float16 once it is
    filtered; NaN is allowed. `pose`: the four ASTRA vectors of this very view in mm (source or ray, detector centre, u,
    v), already turned by the angle; None: the scan geometry turned by the angle.
    """

    htype = "image"
    _payload = "data"

    series: Text
    frame: Whole
    angle_rad: Number
    timestamp_s: Number
    data: Frame = field(repr=False)
    pose: Annotated[tuple[float, ...] | None, checks.optional(checks.pose)] = None

    def _to_json(self) -> dict[str, Any]:
        fields = super()._to_json()
        if self.pose is None:
            del fields["pose"]
        return fields

    @classmethod
    def _from_json(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        return super()._from_json({"pose": None, **fields})


@dataclass(frozen=True, eq=False)
class View(Message):
    """What the operator looks at, by slice name: so the trainer samples at that place, pixel size and filter.

    `generation` counts up with every change that must not be mixed with what was before.
    """

    htype = "view"

    generation: Whole
    filter: Text
    slices: Annotated[Mapping[str, SliceGeometry], checks.slices]

    def _to_json(self) -> dict[str, Any]:
        slices = [{"name": name, "geometry": geometry.to_dict()} for name, geometry in self.slices.items()]
        return {**super()._to_json(), "slices": slices}


@dataclass(frozen=True, eq=False)
class SeriesEnd(Message):
    """No more frames of this series; `frames` were sent."""

    htype = "series_end"

    series: Text
    frames: Whole


@dataclass(frozen=True, eq=False)
class _Picture(Message):
    _payload = "data"
    _planes: ClassVar[tuple[int, ...]] = ()

    slice: SliceName
    generation: Whole
    geometry: Place
    series: Text
    first_frame: Whole
    last_frame: Whole
    timestamp_s: Number
    complete: Flag
    data: Planes = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_frame > self.last_frame:
            raise MessageError(f"{self.htype}: first_frame: expected at most {self.last_frame}, got {self.first_frame}")
        planes, _, rows, cols = self.data.shape
        if planes not in self._planes or (rows, cols) != self.geometry.shape:
            expected = f"{' or '.join(map(str, self._planes))} planes, depth, {self.geometry.shape}"
            raise MessageError(f"{self.htype}: data: expected the shape ({expected}), got {self.data.shape}")


@dataclass(frozen=True, eq=False)
class Slice(_Picture):
    """One reconstructed slice in mm^-1, from the frames `first_frame` to `last_frame`.

    `data` (planes, depth, rows, cols) float32. Planes: the half of the even frames, that of the odd ones, and
    where those are not `complete` and equal a third, the full slice with weights of its own. `depth`: the
    slice and its neighbours, in the middle the slice itself. `timestamp_s`: when the last of its frames reached the
    reconstructor or, where that is later, the slice was moved; seconds since the epoch.
    """

    htype = "slice"
    _planes = (2, 3)


@dataclass(frozen=True, eq=False)
class Denoised(_Picture):
    """A denoised slice: fields as in Slice, but `data` (2, depth, rows, cols) is (denoised, raw).

    `weights_version` 0: there is no network yet and denoised is the raw slice. `accuracy`: None when it cannot be told.
    `task`: what denoised is, see learn.tasks. `made`: how, so that it can be made again, see services.making.
    """

    htype = "denoised"
    _planes = (2,)

    weights_version: Whole
    accuracy: Figure
    task: Text = "DENOISE"
    made: Annotated[Mapping[str, Any], checks.settings] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Volume(Message):
    """A coarse volume of the whole field of view in mm^-1, from the frames `first_frame` to `last_frame`.

    `data` (slices, rows, cols) float32; `geometry` is the place of slice 0, and `step_mm` leads from a slice to the
    next. `timestamp_s`: when the last of its frames reached the reconstructor, in seconds since the epoch.
    """

    htype = "volume"
    _payload = "data"

    generation: Whole
    geometry: Place
    step_mm: Annotated[tuple[float, ...], checks.vector]
    series: Text
    first_frame: Whole
    last_frame: Whole
    timestamp_s: Number
    data: Voxels = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_frame > self.last_frame:
            raise MessageError(f"volume: first_frame: expected at most {self.last_frame}, got {self.first_frame}")
        if self.data.shape[1:] != self.geometry.shape:
            expected = f"(slices, {self.geometry.rows}, {self.geometry.cols})"
            raise MessageError(f"volume: data: expected the shape {expected}, got {self.data.shape}")


@dataclass(frozen=True, eq=False)
class Weights(Message):
    """A trained network.

    `network`: what to build (preset, features, ...), plain values. `scale` in mm^-1: samples are divided by it, what
    the network gives is multiplied by it. `patch_accuracy`: the trainer's figure, None while there is none.
    `generation`: that of the view it was trained on. `split`: it was trained on the halves of one turn, or on whole
    slices of two turns. `tensors`: a safetensors file.
    """

    htype = "weights"
    _payload = "tensors"

    version: Whole
    network: Annotated[Mapping[str, Any], checks.settings]
    scale: Annotated[float, checks.positive]
    patch_accuracy: Figure
    generation: Whole
    split: Annotated[Literal["halves", "turns"], checks.one_of("halves", "turns")]
    tensors: Annotated[bytes, BytesPayload()] = field(repr=False)


KINDS: dict[str, type[Message]] = {
    kind.htype: kind for kind in (Header, Dark, Flat, Image, View, SeriesEnd, Slice, Volume, Weights, Denoised)
}


def decode(parts: Sequence[bytes | memoryview]) -> Message:
    """The message in `parts`, as a socket received them; arrays are read-only views of the parts.
    Fields that this version does not know are ignored. Raises MessageError, and nothing else, for all that is
    no message, with what was expected and what came.
    """
    try:
        header, *payload = [memoryview(part).cast("B") for part in parts]
    except (TypeError, ValueError) as error:
        raise MessageError(f"expected a JSON header and at most one payload, got {len(parts)} parts: {error}") from None
    fields = _parsed(header)
    kind = checks.named("htype", checks.one_of(*KINDS), fields.get("htype"))
    return KINDS[kind]._received(fields, payload)


def _parsed(header: memoryview) -> dict[str, Any]:
    if header.nbytes > HEADER_BYTES:
        raise MessageError(f"header: expected at most {HEADER_BYTES} bytes, got {header.nbytes}")
    try:
        fields = json.loads(str(header, "utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested too deep
        raise MessageError(f"header: expected JSON, got {checks.shortened(bytes(header[:80]))} ({error})") from None
    if not isinstance(fields, dict):
        raise MessageError(f"header: {checks.refused('a JSON object', fields)}")
    return fields


def _refuse_constant(name: str) -> float:
    raise MessageError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MessageError(f"{checks.shortened(digits)} is beyond what a double holds")
    return value


def _taken(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise MessageError(f"expected the field {name}, got {checks.shortened(sorted(fields))}")
    return fields[name]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    return bool(a == b)
