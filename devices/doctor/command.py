"""The command `tango-jit doctor`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import tango
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devices.deployment import installation
from devices.doctor import database, devices, libraries, machine, streams
from devices.doctor.database import Registry
from devices.doctor.devices import Answer
from devices.doctor.findings import Finding, Level, problem, together
from tango_jit import __version__

console = Console()
COLORS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
MACHINE_S, ASKING_S = 20.0, 30.0  # a network disk that does not answer; a database that stands still in between


def doctor(
    prefix: Annotated[str | None, typer.Option(help="First part of the device names; as `up`, else jit.")] = None,
    instance: Annotated[str | None, typer.Option(help="Last part of the device names; as `up`, else 1.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="Folder of an installation that `up` runs from.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=600.0, help="How long to listen to each stream.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Look for what is wrong, and say what to do; exit code 1 if there is a problem, 0 for warnings."""
    host, names = installation(folder, prefix, instance)
    with Console(stderr=True).status("looking ..."):
        findings = examine(host, names, seconds)
    broken = any(one.level is Level.PROBLEM for one in findings)
    if as_json:
        lines = [{"check": f.check, "level": f.level.value, "found": f.found, "advice": f.advice} for f in findings]
        print(json.dumps({"version": __version__, "tango_host": host, "ok": not broken, "findings": lines}, indent=1))
    else:
        show(findings)
    sys.stdout.flush()
    os._exit(int(broken))  # a look that hangs in a library would hold up an ordinary end


def examine(host: str | None, names: Mapping[str, str], seconds: float) -> list[Finding]:
    """All checks, of the database `host` (HOST:PORT; None: there is none) and the devices `names` (member -> name)."""
    looks: dict[str, Callable[[], object]] = {
        "installation": machine.installation,
        "cores": lambda: [machine.cores()],
        "memory": lambda: [machine.memory()],
        "libraries": libraries.look,
        "tango": lambda: _tango(host, names, seconds),
    }
    seen = together(looks, max(libraries.LIMIT_S + MACHINE_S, ASKING_S + seconds))
    findings: list[Finding] = []
    for name in ("installation", "cores", "memory"):
        findings += _or_problem(name, seen[name])
    found = seen["tango"] if isinstance(seen["tango"], tuple) else ([*_or_problem("Tango", seen["tango"])], [])
    loaded = seen["libraries"]
    findings += libraries.judge(loaded, found[1]) if isinstance(loaded, list) else _or_problem("libraries", loaded)
    return findings + found[0]


def _or_problem(check: str, found: object) -> list[Finding]:
    """The findings; of a check that failed that it did."""
    if isinstance(found, list):
        return found
    text = found.args[0].desc if isinstance(found, tango.DevFailed) else str(found) or type(found).__name__
    return [problem(check, f"the check itself came to no end: {text.strip()}", "run it again; if it stays, report it")]


def _tango(host: str | None, names: Mapping[str, str], seconds: float) -> tuple[list[Finding], list[str]]:
    """What is found in the control system, and which devices of this computer ask for a GPU."""
    findings = [database.reach(host)]
    if findings[0].level is Level.PROBLEM or host is None:
        return findings, []
    registry = database.look(host, names)
    entries, answers = registry.entries, devices.look(host, registry.entries)
    findings += devices.registered(registry, names)
    findings += [devices.judge(entries[member], answers[member]) for member in entries]
    findings += devices.versions(entries, answers) + devices.slices(entries, answers)
    for stream in streams.look(entries, answers, seconds):
        for judge in (streams.judge, streams.reachable_for_all):
            if (finding := judge(stream, entries, answers)) is not None:
                findings.append(finding)
    return [*findings, *_folders(registry, answers)], list(_want_gpu(registry))


def _want_gpu(registry: Registry) -> Iterator[str]:
    for entry in registry.entries.values():
        backend = entry.properties.get("Backend", "")
        if backend.startswith("cuda") and (not entry.host or devices.is_here(entry.host)):
            yield f"{entry.device} ({backend})"


def _folders(registry: Registry, answers: Mapping[str, Answer]) -> list[Finding]:
    """The folders that servers of this computer write to; one on a disk that hangs costs its own check alone."""
    checks = {}
    for member, attribute in (("recorder", "folder"), ("trainer", "weights_folder")):
        answer = answers.get(member)
        path = answer.values.get(attribute) if answer and devices.is_here(answer.host) else None
        if answer and path:
            check = f"{registry.entries[member].device}: {attribute}"
            checks[check] = partial(machine.folder, check, Path(path), answer.uid, made=member == "trainer")
    found = together(checks, MACHINE_S)
    return [
        one
        if isinstance(one, Finding)
        else problem(check, str(one) or type(one).__name__, "does the disk answer? Name a folder on another one")
        for check, one in found.items()
    ]


def show(findings: list[Finding]) -> None:
    """Print a table: what is wrong stands out, and says what to do."""
    table = Table("check", "", "found", show_lines=False, pad_edge=False)
    for one in findings:
        color = COLORS[one.level]
        advice = f"\n[{color}]→ {escape(one.advice)}[/]" if one.advice else ""
        table.add_row(escape(one.check), f"[{color}]{one.level.value}[/]", escape(one.found) + advice)
    console.print(table, highlight=False)
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    console.print(f"{len(findings)} checks, {problems} problems, {warnings} warnings", highlight=False)
