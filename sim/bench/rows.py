"""A figure and what is said of it: its spread, its target and whether that is met, a peer's figure beside it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

Better = Literal["higher", "lower"]
BETTER: Mapping[str, Better] = {
    "ms": "lower",
    "s": "lower",
    "MB": "lower",
    "%": "lower",  # of growth, of time taken away, of pictures that are not denoised
    "frames": "lower",  # lost ones
    "uses": "lower",  # of a pair
    "of noise": "lower",  # accuracy, eq. 3 of the paper
    "/s": "higher",
    "Hz": "higher",
    "Msamples/s": "higher",
    "GB/s": "higher",
    "times": "higher",  # faster than a peer
    "floors": "higher",  # of a row that asks for several things at once
}


@dataclass(frozen=True)
class Figure:
    """What repeats gave: their median, their interquartile range, the best of them, and how many there were."""

    value: float
    spread: tuple[float, float]
    best: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float], better: Better = "lower") -> Self:
        """Raises ValueError without values."""
        if not len(values):
            raise ValueError("figure: expected at least one value, got none")
        low, high = (float(x) for x in np.percentile(values, (25, 75)))
        best = min(values) if better == "lower" else max(values)
        return cls(statistics.median(values), (low, high), float(best), len(values))

    def shared(self, calls: int) -> Self:
        """Of times for so many calls: that of one."""
        low, high = self.spread
        return type(self)(self.value / calls, (low / calls, high / calls), self.best / calls, self.repeats)

    def rate(self, work: float) -> Self:
        """Of times in ms for `work` units each: units per second."""
        low, high = self.spread
        return type(self)(
            1e3 * work / self.value, (1e3 * work / high, 1e3 * work / low), 1e3 * work / self.best, self.repeats
        )


@dataclass(frozen=True)
class Peer:
    """Somebody else's figure for the same work, in the unit of the row."""

    name: str
    value: float


@dataclass(frozen=True)
class Row:
    """One line of the table; what each field means stands in docs/reference/benchmarks.md.

    `value` None: it was not measured, and `note` says why. `spread` is the interquartile range of the repeats, None
    where there is one value. `target` is a floor or, in units where less is better, a ceiling. Raises ValueError for
    an unknown unit, and where there is neither a value nor a reason.
    """

    name: str
    unit: str
    value: float | None
    spread: tuple[float, float] | None = None
    best: float | None = None
    repeats: int = 1
    target: float | None = None
    peer: Peer | None = None
    note: str = ""
    suite: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if self.unit not in BETTER:
            raise ValueError(f"unit of {self.name!r}: expected one of {', '.join(BETTER)}, got {self.unit!r}")
        if self.value is None and not self.note:
            raise ValueError(f"{self.name!r}: expected a value, or a note that says why there is none")

    @classmethod
    def of(
        cls,
        name: str,
        unit: str,
        figure: Figure,
        *,
        target: float | None = None,
        peer: Peer | None = None,
        note: str = "",
    ) -> Self:
        """The row of a figure in the same unit."""
        return cls(name, unit, figure.value, figure.spread, figure.best, figure.repeats, target, peer, note)

    @classmethod
    def not_run(cls, name: str, unit: str, why: str, *, target: float | None = None) -> Self:
        return cls(name, unit, None, repeats=0, target=target, note=f"not run: {why}")

    @property
    def better(self) -> Better:
        return BETTER[self.unit]

    @property
    def met(self) -> bool | None:
        """Does the median reach the target? None: there is no target, or no value."""
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    @property
    def missed_by(self) -> str:
        """By how much the target is missed, in words; empty: it is not."""
        if self.met is not False or self.value is None or self.target is None:
            return ""
        if self.target == 0:
            return f"{self.value:.3g} {self.unit} too many"
        return f"{100 * abs(self.value / self.target - 1):.0f} % {'below' if self.better == 'higher' else 'above'}"

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer's; None: one of both is missing or 0."""
        if self.peer is None or not self.value or not self.peer.value:
            return None
        return self.value / self.peer.value if self.better == "higher" else self.peer.value / self.value

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON: figures rounded to four digits; `from_dict` gives the row back."""
        spread = None if self.spread is None else [_short(x) for x in self.spread]
        return {
            "suite": self.suite,
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "better": self.better,
            "spread": spread,
            "best": _short(self.best),
            "repeats": self.repeats,
            "target": self.target,
            "met": self.met,
            "missed_by": self.missed_by,
            "peer": None if self.peer is None else self.peer.name,
            "peer_value": None if self.peer is None else _short(self.peer.value),
            "ratio": _short(self.ratio),
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises KeyError for a field that is missing."""
        peer = None if fields["peer"] is None else Peer(fields["peer"], fields["peer_value"])
        spread = None if fields["spread"] is None else (fields["spread"][0], fields["spread"][1])
        plain = {name: fields[name] for name in ("suite", "name", "unit", "value", "best", "repeats", "target", "note")}
        return cls(**plain, spread=spread, peer=peer)


@dataclass(frozen=True)
class Series:
    """A curve of a plot: `x` and `y` of equal length, what they are in their labels. Its suite and its plot name it."""

    plot: str
    curve: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str
    suite: str = field(default="", kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the curve back."""
        numbers = {"x": [_short(x) for x in self.x], "y": [_short(y) for y in self.y]}
        names = ("suite", "plot", "curve", "x_label", "y_label")
        return {name: getattr(self, name) for name in names} | numbers

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises KeyError or TypeError for other fields."""
        return cls(**{**fields, "x": tuple(fields["x"]), "y": tuple(fields["y"])})


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
