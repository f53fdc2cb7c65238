"""Do the devices answer, and what do they say? Looks first, then judgements of what was seen."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil
import tango

from devices.doctor.database import SOURCES, Entry, Registry
from devices.doctor.findings import Finding, Level, ok, problem, together, warning
from devices.facts import plain
from tango_jit import __version__

PATIENCE_S = 2.0
ANSWER_MS = 3000
LIMIT_S = 10.0
READ = ("folder", "weights_folder", "slice_names", "free_mb")
NEEDED = ("reconstructor", "trainer", "denoiser")  # the others may be left off on purpose
LOOPBACK = re.compile(r"127\.|localhost$|::1$")
Reached = Literal["answers", "refused", "unreachable", "elsewhere", "hangs", "not started"]


@dataclass(frozen=True)
class Answer:
    """What came of asking a device. `why` explains it where it does not answer, in a line.

    `stopped`: its process is on this computer and stands still. `host` is where it runs, as it says itself;
    `version` that of its tango-jit ("": it is of another make). `uid` is the user of its process (None: unknown).
    """

    reached: Reached
    why: str = ""
    state: str = ""
    status: str = ""
    version: str = ""
    host: str = ""
    stopped: bool = False
    uid: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def look(tango_host: str, entries: Mapping[str, Entry]) -> dict[str, Answer]:
    """Ask all of them at once; who does not answer in time hangs."""
    asked = {member: (lambda entry=entry: _ask(tango_host, entry)) for member, entry in entries.items()}
    answers = {}
    for member, came in together(asked, LIMIT_S).items():
        if isinstance(came, Answer):
            answers[member] = came
        else:
            entry = entries[member]
            answers[member] = Answer("hangs", str(came), stopped=_stands_still(entry), uid=_uid(entry))
    return answers


def _ask(tango_host: str, entry: Entry) -> Answer:
    if not entry.exported:
        return Answer("not started")
    if entry.address is not None:
        try:
            socket.create_connection(entry.address, PATIENCE_S).close()
        except ConnectionRefusedError:
            place = f"{entry.address[0]}:{entry.address[1]}"
            if LOOPBACK.match(entry.address[0]) and entry.host and not is_here(entry.host):
                return Answer("elsewhere", f"it listens at {place} of {entry.host} alone")
            return Answer("refused", f"nobody listens at {place}")
        except OSError as error:
            return Answer("unreachable", f"{entry.address[0]}:{entry.address[1]}: {error}")
    with tango.EnsureOmniThread():
        try:
            proxy = tango.DeviceProxy(f"tango://{tango_host}/{entry.device}")
            proxy.set_timeout_millis(ANSWER_MS)
            state, status = str(proxy.command_inout("State")), str(proxy.command_inout("Status"))
            info, kinds = proxy.info(), {one.name: one for one in proxy.attribute_list_query_ex()}
            camera = entry.properties.get("DetectorAttribute", "")
            wanted = [n for n in kinds if n in (*READ, camera) or n.endswith("_endpoint") or n.startswith("slice_")]
            small = [name for name in wanted if kinds[name].data_format == tango.AttrDataFormat.SCALAR]
            values = {one.name: plain(one, kinds[one.name]) for one in proxy.read_attributes(small)} if small else {}
        except tango.DevFailed as error:
            why = error.args[-1].desc.strip().splitlines()[0]
            return Answer("hangs", why, stopped=_stands_still(entry), uid=_uid(entry))
    values |= {name: True for name in wanted if name not in small}  # images: they are there
    version = info.version_info.get("tango-jit", "")
    return Answer("answers", "", state, status, version, info.server_host, uid=_uid(entry), values=values)


def is_here(host: str) -> bool:
    """Is this the name of this computer?"""
    return host.lower() in (socket.gethostname().lower(), socket.getfqdn().lower())


def _process(entry: Entry) -> psutil.Process | None:
    """The process of the server, where it runs on this computer."""
    with suppress(psutil.Error):
        if is_here(entry.host) and entry.pid:
            return psutil.Process(entry.pid)
    return None


def _stands_still(entry: Entry) -> bool:
    with suppress(psutil.Error):
        process = _process(entry)
        return process is not None and process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


def _uid(entry: Entry) -> int | None:
    with suppress(psutil.Error):
        process = _process(entry)
        return process.uids().effective if process else None
    return None


# ---- what is said of it


def registered(registry: Registry, names: Mapping[str, str]) -> list[Finding]:
    """Are the devices in the database, and do they name devices that are there?"""
    check, entries = "registered", registry.entries
    missing = [names[m] for m in names if m not in entries]
    if missing:
        others = (
            f"; there are {', '.join(registry.others)}: --prefix and --instance name them" if registry.others else ""
        )
        found = f"{', '.join(missing)} missing" if entries else f"none of {', '.join(missing)}"
        return [problem(check, found, f"`tango-jit register` writes what is missing{others}")]
    findings = [ok(check, f"{len(entries)} devices")]
    for member, entry in entries.items():
        empty = [p for p in _sources(member) if not entry.properties.get(p)]
        if empty:
            text = f"property {', '.join(empty)} is not set"
            findings.append(problem(f"{entry.device}: sources", text, "`tango-jit register` sets it; then Init"))
    return findings


def _sources(member: str) -> tuple[str, ...]:
    """The properties without which a device cannot be built."""
    return {
        "reconstructor": ("DetectorDevice",),
        "trainer": ("ReconstructorDevice",),
        "denoiser": ("ReconstructorDevice", "TrainerDevice"),
        "recorder": ("DetectorDevice", "ReconstructorDevice", "TrainerDevice", "DenoiserDevice"),
        "supervisor": ("ReconstructorDevice", "TrainerDevice", "DenoiserDevice"),
    }.get(member, ())


def judge(entry: Entry, answer: Answer) -> Finding:
    """One line for a device."""
    check, start = entry.device, f"start {entry.server.replace('/', ' ')} (Starter, systemd, or `tango-jit up`)"
    where = f" on {entry.host}" if entry.host else ""
    if answer.reached == "not started":
        found = f"its server {entry.server} is not running"
        if entry.member in NEEDED:
            return problem(check, found, start)
        return warning(check, found, f"{start}, unless it is left off on purpose")
    if answer.reached == "refused":
        return problem(check, f"its server{where} is gone without an end (process {entry.pid}): {answer.why}", start)
    if answer.reached == "elsewhere":
        cure = "set ORBendPoint of that server to an address of its computer: docs/how-to/own-database.md"
        return problem(check, f"nobody can reach it from here: {answer.why}", cure)
    if answer.reached == "unreachable":
        text = "is that computer on? Does a firewall block it?"
        return problem(check, f"cannot connect{where}: {answer.why}", text)
    if answer.reached == "hangs":
        if answer.stopped:
            return problem(
                check,
                f"its process {entry.pid} stands still (stopped by a signal or a debugger)",
                f"kill -CONT {entry.pid}",
            )
        return problem(
            check,
            f"connected, but it does not answer (process {entry.pid}{where}): {answer.why}",
            "is the computer overloaded? If it stays: end the process and start the server again",
        )
    return _of_state(entry, answer)


def _of_state(entry: Entry, answer: Answer) -> Finding:
    check, said = entry.device, f"{answer.state}: {answer.status}"
    if entry.member == "supervisor" and answer.state in ("FAULT", "ALARM"):
        level = Level.PROBLEM if answer.state == "FAULT" else Level.WARNING
        return Finding(check, level, said, "it tells of others: see the lines of the devices that it names")
    if answer.state == "FAULT":
        return problem(check, said, "correct what it names, then Start; after a change of properties Init")
    if answer.state == "ALARM":
        return warning(check, said, "docs/how-to/operate.md says what to do for each of these sentences")
    if answer.state in ("INIT", "UNKNOWN"):
        return warning(check, said, "wait; if it stays: its log")
    return ok(check, said)


def versions(entries: Mapping[str, Entry], answers: Mapping[str, Answer], own: str = __version__) -> list[Finding]:
    """Do all devices run the same version of tango-jit, which is that of this program?"""
    told = {entries[m].device: one.version for m, one in answers.items() if one.version}
    if not told:
        return []
    if set(told.values()) == {own}:
        return [ok("versions", f"tango-jit {own} everywhere")]
    found = ", ".join(f"{device} {number}" for device, number in told.items())
    return [
        warning(
            "versions", f"{found}; this program {own}", "install the same version everywhere, start the servers again"
        )
    ]


def slices(entries: Mapping[str, Entry], answers: Mapping[str, Answer]) -> list[Finding]:
    """Has the reconstructor slices, and the denoiser the same?"""
    one, other = (answers.get(m, Answer("not started")) for m in ("reconstructor", "denoiser"))
    if not one.values:
        return []
    made = sorted(name.removeprefix("slice_") for name in one.values if name.startswith("slice_"))
    if not made:
        return [problem("slices", f"{entries['reconstructor'].device} has none", "AddSlice, with the name of one")]
    shown = other.values.get("slice_names")
    lacking = sorted(set(made) - set(shown.split())) if shown is not None else []
    if lacking:
        return [
            warning(
                "slices",
                f"{entries['denoiser'].device} does not show {', '.join(lacking)}, which the reconstructor makes",
                "they come with the next update; if they do not: do slices come there? (the streams, below)",
            )
        ]
    return [ok("slices", ", ".join(made))]


def used_by(entries: Mapping[str, Entry], device: str) -> list[str]:
    """The members that name this device as a source."""
    return [
        member
        for member, entry in entries.items()
        if any(entry.properties.get(p, "").lower() == device.lower() for p in SOURCES)
    ]
