"""Checks of message fields: each takes a value from Python or from JSON and returns it in its one proper form.

They raise MessageError with what was expected and what came; the message adds the name of the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from reprlib import repr as shortened
from typing import Any, TypeVar

import numpy as np

from tango_jit.geometry import ScanGeometry, SliceGeometry

_SLICES = 64
_COUNT = 2**53 - 1  # whole numbers that survive readers who know doubles alone
_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")

Check = Callable[[Any], Any]
Geometry = TypeVar("Geometry", ScanGeometry, SliceGeometry)


class MessageError(ValueError):
    """A message that is not what the protocol says; the text gives expected and got."""


def refused(expected: str, got: object) -> MessageError:
    return MessageError(f"expected {expected}, got {shortened(got)}")


def named(name: str, check: Check, value: Any) -> Any:
    """What `check` makes of the value; its error begins with the name."""
    try:
        return check(value)
    except MessageError as error:
        raise MessageError(f"{name}: {error}") from None


def label(value: Any) -> str:
    """Printable text that may be empty."""
    if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
        raise refused("printable text of at most 256 characters", value)
    return value


def text(value: Any) -> str:
    if not label(value):
        raise refused("printable text of 1 to 256 characters", value)
    return value


def slice_name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refused("a lower-case name of at most 16 letters, digits and _", value)
    return value


def one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise refused(f"one of {', '.join(choices)}", value)
        return value

    return check


def flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise refused("true or false", value)
    return bool(value)


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= _COUNT:
        raise refused("a whole number from 0 to 2**53 - 1", value)
    return int(value)


def number(value: Any) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:  # a whole number beyond what a double holds
            result = math.inf
        if math.isfinite(result):
            return result
    raise refused("a finite number", value)


def positive(value: Any) -> float:
    result = number(value)
    if result <= 0:
        raise refused("a number above 0", value)
    return result


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def vector(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)) or len(value) != 3:
        raise refused("3 numbers (mm)", value)
    return tuple(number(x) for x in value)


def pose(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)) or len(value) != 12:
        raise refused("12 numbers (source or ray, detector centre, u, v; mm)", value)
    return tuple(number(x) for x in value)


def _geometry(kind: type[Geometry], value: Any) -> Geometry:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise refused("a geometry with named fields", value)
    fields = {name: item if name == "beam" else _coordinates(item) for name, item in value.items()}
    try:
        with np.errstate(all="ignore"):  # lengths near the limit of doubles overflow while they are judged
            return kind.from_dict(fields)
    except (ValueError, TypeError) as error:
        raise MessageError(str(error)) from None


def _coordinates(value: Any) -> list[float] | int:
    """A vector or a count of plain numbers; the geometry itself would read "123" as three numbers."""
    return [number(x) for x in value] if isinstance(value, (list, tuple)) else whole(value)


def scan_geometry(value: Any) -> ScanGeometry:
    return _geometry(ScanGeometry, value)


def slice_geometry(value: Any) -> SliceGeometry:
    return _geometry(SliceGeometry, value)


def slices(value: Any) -> dict[str, SliceGeometry]:
    """By name, from a mapping or from the wire's list of {name, geometry}."""
    if isinstance(value, list) and all(isinstance(item, dict) and {"name", "geometry"} <= set(item) for item in value):
        pairs = [(item["name"], item["geometry"]) for item in value]
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        raise refused("a list of slices with name and geometry", value)
    if len(pairs) > _SLICES:
        raise MessageError(f"expected at most {_SLICES} slices, got {len(pairs)}")
    result = {slice_name(name): slice_geometry(geometry) for name, geometry in pairs}
    if len(result) != len(pairs):
        raise refused("every slice once", [name for name, _ in pairs])
    return result


def settings(value: Any) -> dict[str, str | int | float | bool | None]:
    """A flat table of plain values."""
    if not isinstance(value, Mapping) or len(value) > 64:
        raise refused("a table of at most 64 plain values", value)
    return {label(name): _plain(item) for name, item in value.items()}


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return label(value)
    if isinstance(value, int) and abs(value) <= _COUNT:
        return value
    return number(value)
