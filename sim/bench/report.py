"""What was measured so far: rows and curves of suites, as JSON that later suites join, and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from sim.bench.machine import check_same
from sim.bench.rows import Row, Series


@dataclass(frozen=True)
class Report:
    """`suites` says of each suite when it ran, for how long, of which revision and with which versions (files from
    before may lack these two), how busy the computer was, and why it failed, if so."""

    machine: Mapping[str, Any]
    suites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    series: tuple[Series, ...] = ()

    @classmethod
    def read(cls, path: Path, machine: Mapping[str, Any]) -> Self:
        """What the file holds, to be gone on with on this computer; empty if there is no file.

        Raises ValueError for a file of another computer, or of another kind.
        """
        if not path.exists():
            return cls(machine)
        try:
            content = json.loads(path.read_text())
            rows = tuple(Row.from_dict(row) for row in content["rows"])
            series = tuple(Series.from_dict(curve) for curve in content["series"])
            report = cls(machine, dict(content["suites"]), rows, series)
            earlier = dict(content["machine"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"--json: expected a file that `tango-jit bench` wrote, got {path}: {error!r}") from error
        check_same(earlier, machine)
        return report

    def with_suite(self, name: str, facts: Mapping[str, Any], measured: Iterable[Row | Series]) -> Self:
        """This suite measured anew; the others as they are, in the order in which they first came.

        Raises ValueError for two rows of one name, which later runs could not be compared with.
        """
        measured = list(measured)
        names = [item.name for item in measured if isinstance(item, Row)]
        if twice := {row for row in names if names.count(row) > 1}:
            raise ValueError(f"suite {name}: expected a name for each row, got twice: {', '.join(sorted(twice))}")
        order = [*self.suites, *([] if name in self.suites else [name])]
        rows, series = [r for r in self.rows if r.suite != name], [s for s in self.series if s.suite != name]
        for item in measured:
            (rows if isinstance(item, Row) else series).append(replace(item, suite=name))  # type: ignore[arg-type]
        rows.sort(key=lambda row: order.index(row.suite))
        suites = {**self.suites, name: {**facts, **_software(self.machine)}}
        return replace(self, suites=suites, rows=tuple(rows), series=tuple(series))

    def write(self, path: Path) -> None:
        """The whole as JSON; the file is complete or as it was."""
        content = {
            "machine": self.machine,
            "suites": self.suites,
            "rows": [row.to_dict() for row in self.rows],
            "series": [series.to_dict() for series in self.series],
        }
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        part.replace(path)

    def markdown(self) -> str:
        """The targets first, then every suite with all of its figures."""
        aimed = [row for row in self.rows if row.target is not None]
        others = any(_other_software(facts, self.machine) for facts in self.suites.values())
        kept = " Suites of another revision or other versions say so." if others else ""
        parts = [f"Measured on {_where(self.machine)}.{kept}\n"]
        if aimed:
            verdicts = [row.met for row in aimed]
            counts = f"{verdicts.count(True)} met, {verdicts.count(False)} missed, {verdicts.count(None)} not run"
            parts.append(f"## Targets: {counts}\n\n{_table(aimed)}")
        for suite, facts in self.suites.items():
            lines = [f"## {suite}\n\n{_circumstances(facts)}{_other_software(facts, self.machine)}\n"]
            rows = [row for row in self.rows if row.suite == suite]
            parts.append("\n".join(lines) + ("\n" + _table(rows) if rows else ""))
        return "\n".join(parts)


def shown(value: float | None) -> str:
    """Three digits, and no exponent where a reader would not expect one."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(rows: Iterable[Row]) -> str:
    lines = [
        "| figure | median | interquartile range | target | met | peer | times better |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = row.note if row.value is None else f"{shown(row.value)} {row.unit}"
        spread = "" if row.spread is None else f"{shown(row.spread[0])} to {shown(row.spread[1])}"
        target = "" if row.target is None else f"{'≥' if row.better == 'higher' else '≤'} {shown(row.target)}"
        met = {True: "yes", False: f"no, {row.missed_by}", None: ""}[row.met]
        peer = "" if row.peer is None else f"{row.peer.name}: {shown(row.peer.value)}"
        ratio = "" if row.ratio is None else shown(row.ratio)
        name = f"{row.name} ({row.note})" if row.note and row.value is not None else row.name
        lines.append("| " + " | ".join((name, value, spread, target, met, peer, ratio)) + " |")
    return "\n".join(lines) + "\n"


def _where(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, Python "
        f"{machine['python']}, {versions}, revision {machine['revision'] or 'unknown'}"
    )


def _software(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {"revision": machine["revision"], "versions": {"Python": machine["python"], **machine["versions"]}}


def _other_software(facts: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """What a suite was measured with, as far as that is not what the machine has now; empty: nothing differs."""
    if "revision" not in facts:
        return " Revision and versions are not known."
    now = _software(machine)
    told = [] if facts["revision"] == now["revision"] else [f"revision {facts['revision'] or 'unknown'}"]
    for name, version in facts["versions"].items():
        if version != now["versions"].get(name):
            told.append(f"{name} {version or 'missing'}")
    return f" Measured with {', '.join(told)}." if told else ""


def _circumstances(facts: Mapping[str, Any]) -> str:
    before, after = facts["load_average"]
    steal = "not known" if facts["steal_percent"] is None else f"{facts['steal_percent']} %"
    failed = f" **Failed: {facts['failed']}**" if facts["failed"] else ""
    how = f"{_threads(facts['threads'])}{', quick' if facts['quick'] else ''}"
    return (
        f"{facts['measured']}, {facts['took_s']:g} s, {how}; load average {before} before and {after} after, "
        f"taken away by the host: {steal}.{failed}"
    )


def _threads(told: Mapping[str, int] | int | None) -> str:
    """Of each kind of work; one number: of all (earlier files); None: servers share the cores among themselves."""
    if told is None:
        return "threads as the servers share them"
    if isinstance(told, int):
        return f"{told} threads"
    return "threads: " + ", ".join(f"{work} {number}" for work, number in told.items())
