"""The Signal: one quantity that operators see or set, described once and shown by every door (Tango, EPICS, ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["bool", "int", "float", "str", "enum"]
Level = Literal["operator", "expert"]


@dataclass(frozen=True)
class Signal:
    """A quantity of a service.

    `kind` is the type of one element and `shape` () for a scalar, else the largest size of each axis (spectrum
    or image). `minimum` and `maximum` are inclusive limits of what may be written; `warning` and `alarm` are
    (low, high) bounds of what is normal, None on a side for no bound. `choices` are the labels of an enum:
    UPPERCASE identifiers. `writable` signals are settings and remembered over a restart if `memorized`.
    `pushed` signals are announced when they change; images never are (their frame number is). What `kept_an_hour` is in
    the signal `hour` of its service too.
    """

    name: str
    kind: Kind
    description: str
    unit: str = ""
    label: str = ""
    shape: tuple[int, ...] = ()
    default: Any = None
    writable: bool = False
    memorized: bool = True
    minimum: float | None = None
    maximum: float | None = None
    warning: tuple[float | None, float | None] = (None, None)
    alarm: tuple[float | None, float | None] = (None, None)
    choices: tuple[str, ...] = ()
    level: Level = "operator"
    dtype: str = ""
    format: str = ""
    kept_an_hour: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ValueError(f"signal name: expected a lower-case identifier, got {self.name!r}")
        if (self.kind == "enum") != bool(self.choices):
            raise ValueError(f"{self.name}: choices belong to an enum, and an enum needs them")
        if any(not c.isidentifier() or c != c.upper() for c in self.choices):
            raise ValueError(f"{self.name}: expected UPPERCASE identifiers as choices, got {self.choices}")

    @property
    def title(self) -> str:
        """What people read: the label, or the name without its unit, which stands beside it."""
        unit = {"%": "percent"}.get(self.unit, self.unit.lower().replace("1/", "per_"))
        return self.label or self.name.removesuffix(f"_{unit}").replace("_", " ").capitalize()

    @property
    def pushed(self) -> bool:
        """Announced on change: everything up to 1,000 elements (larger arrays freeze a server, see the docs)."""
        return math.prod(self.shape) <= 1000 if self.shape else True

    @property
    def initial(self) -> Any:
        """The default, or the empty value of the kind: NaN for a float that is not known yet."""
        if self.default is not None:
            return self.default
        if self.shape:
            return np.zeros((0,) * len(self.shape), self.dtype or {"int": "i8", "float": "f8"}[self.kind])
        return {"bool": False, "int": 0, "float": math.nan, "str": "", "enum": next(iter(self.choices), "")}[self.kind]

    def check(self, value: Any) -> Any:
        """The value in its Python type (enum: its label), or ValueError that says expected and got."""
        if self.shape:
            return self._check_array(value)
        if self.kind == "bool":
            return bool(value)
        if self.kind == "str":
            return str(value)
        if self.kind == "enum":
            return self._check_choice(value)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{self.name}: expected a finite number, got {value!r}")
        if self.kind == "int" and number != int(number):
            raise ValueError(f"{self.name}: expected a whole number, got {value!r}")
        low, high = self.minimum, self.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            unit = f" {self.unit}" if self.unit else ""
            raise ValueError(f"{self.name}: expected {_range(low, high)}{unit}, got {value!r}")
        return int(number) if self.kind == "int" else number

    def _check_choice(self, value: Any) -> str:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < len(self.choices):
            return self.choices[int(value)]
        if value not in self.choices:
            raise ValueError(f"{self.name}: expected one of {', '.join(self.choices)}, got {value!r}")
        return str(value)

    def _check_array(self, value: Sequence[Any]) -> np.ndarray:
        array = np.array(value, self.dtype or {"int": "i8", "float": "f8"}[self.kind])
        if array.ndim != len(self.shape) or any(n > limit for n, limit in zip(array.shape, self.shape, strict=True)):
            raise ValueError(f"{self.name}: expected at most {self.shape} elements, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{self.name}: expected finite numbers, got {value!r}")
        return array


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def setting(name: str, kind: Kind, description: str, **fields: Any) -> Signal:
    """A writable, memorized signal."""
    return Signal(name, kind, description, writable=True, **fields)


def history(name: str, description: str, unit: str = "") -> Signal:
    """A curve of at most 500 decimated (time in s, value) points, as an image of two rows."""
    return Signal(name, "float", description, unit=unit, shape=(2, 500))
