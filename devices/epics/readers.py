"""What PVs tell, from p4p's values to ours. A server may send anything in any structure: no exception comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.cameras import Angles, Event, FieldMean, FirstNumber, Position, Refused, Role, RoleNow, role_of
from tango_jit.cameras.angles import LARGEST_DEG
from tango_jit.cameras.ntndarray import LARGEST_PIXELS, LARGEST_SIDE, Dimension, NTNDArray, believed

ANGLES_MOST = 10_000_000
ATTRIBUTES = 256  # of a frame that are looked at,
TEXT = 256  # and the longest text of one


def read(role: str, value: Any) -> Event | NTNDArray | None:
    """What a PV tells; None: nothing yet. Whatever it sends, there is no exception."""
    try:
        return READERS[role](value)
    except Exception as error:  # a server may send anything in any structure
        return Refused(f"{role}: {type(error).__name__}: {error}"[:500])


def ntndarray(value: Any) -> NTNDArray | None:
    """The fields of a p4p Value; None before the camera's first frame."""
    pixels = value["value"]
    if pixels is None:
        return None
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"value: expected an array, got {type(pixels).__name__}")
    codec = value.get("codec")
    parameters = codec.get("parameters") if codec is not None else None
    stamps = (_seconds(value.get(name)) for name in ("dataTimeStamp", "timeStamp"))
    return NTNDArray(
        int(value["uniqueId"]),
        [
            Dimension(int(d["size"]), int(d["offset"]), int(d["binning"] or 1), bool(d["reverse"]))
            for d in value["dimension"]
        ],
        pixels,
        str(codec.get("name", ""))[:64] if codec is not None else "",
        None if parameters is None else int(parameters),
        int(value.get("uncompressedSize") or 0),
        next((stamp for stamp in stamps if stamp), 0.0),
        dict(_attributes(value.get("attribute") or ())),
    )


def _attributes(attributes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of the plain ones: numbers and short texts."""
    for one in islice(attributes, ATTRIBUTES):
        value = one["value"]
        plain = _scalar(value) if hasattr(value, "getID") else value
        if isinstance(plain, (bool, int, float, np.number)) or (isinstance(plain, str) and len(plain) <= TEXT):
            yield str(one["name"])[:TEXT], plain


def _angles(value: Any) -> Event | None:
    degrees = _numbers(value, np.float64)
    if len(degrees) > ANGLES_MOST or not (np.abs(degrees) <= LARGEST_DEG).all():
        raise ValueError(f"expected at most {ANGLES_MOST} angles within {LARGEST_DEG:g} degrees, got {len(degrees)}")
    return Angles(degrees) if len(degrees) else None


def _field(role: Role) -> Callable[[Any], Event | None]:
    def field(value: Any) -> Event | None:
        pixels, cols, rows = _numbers(value, np.float32), int(value["sizex"]), int(value["sizey"])
        if not pixels.size:
            return None
        sides = 0 < rows <= LARGEST_SIDE and 0 < cols <= LARGEST_SIDE
        if not (sides and rows * cols == pixels.size <= LARGEST_PIXELS):
            raise ValueError(f"expected {cols} x {rows} numbers, at most {LARGEST_SIDE} a side, got {pixels.size}")
        return FieldMean(role, pixels.reshape(rows, cols))

    return field


def _numbers(value: Any, dtype: type) -> NDArray[Any]:
    """The array `value`, (n,); empty where nothing was written yet."""
    found = value["value"]
    return np.zeros(0, dtype) if found is None else np.asarray(found, dtype).reshape(-1)


def _first_projection(value: Any) -> Event | None:
    return FirstNumber(int(_scalar(value)) + 1)  # numbers of areaDetector begin at 1


def _position(value: Any) -> Event | None:
    degrees = float(_scalar(value))
    if not abs(degrees) <= LARGEST_DEG:
        raise ValueError(f"expected at most {LARGEST_DEG:g} degrees, got {degrees}")
    return Position(_seconds(value["timeStamp"]), degrees)


def _frame_type(value: Any) -> Event | None:
    return RoleNow(role_of(_scalar(value)))


READERS: dict[str, Callable[[Any], Event | NTNDArray | None]] = {
    "image": ntndarray,
    "angles": _angles,
    "first_projection": _first_projection,
    "position": _position,
    "frame_type": _frame_type,
    "dark": _field("dark"),
    "flat": _field("flat"),
}


def _scalar(value: Any) -> Any:
    """The value of an NTScalar, or the word of an NTEnum."""
    inner = value["value"]
    if not hasattr(inner, "getID"):
        return inner
    index, choices = int(inner["index"]), inner["choices"]
    if not 0 <= index < len(choices):
        raise ValueError(f"expected one of {len(choices)} choices, got number {index}")
    return choices[index]


def _seconds(stamp: Any) -> float:
    """s since the epoch; 0: there is no time that can be believed."""
    return 0.0 if stamp is None else believed(float(stamp["secondsPastEpoch"]) + 1e-9 * float(stamp["nanoseconds"]))
