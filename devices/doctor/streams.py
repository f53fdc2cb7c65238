"""Do the streams flow? Tells "cannot connect" from "connected, no data" from "data"; takes no frame from anybody."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from devices.doctor.database import Entry
from devices.doctor.devices import LOOPBACK, Answer, is_here, used_by
from devices.doctor.findings import Finding, ok, problem, together, warning
from tango_jit.streams.probe import Contact, Heard, address, contact, listen

PATIENCE_S = 2.0
LIMIT_S = 6.0  # beside the time that is listened for
KINDS = {  # attribute with the endpoint -> how what is alive in it begins
    "monitor_endpoint": b'{"htype":"image"',
    "filtered_endpoint": b'{"htype":"image"',
    "slices_endpoint": b'{"htype":"slice"',
    "weights_endpoint": b'{"htype":"weights"',
    "denoised_endpoint": b'{"htype":"denoised"',
}
RETAINED = ("weights_endpoint",)  # the last message comes at once to every new listener, old as it may be


@dataclass(frozen=True)
class Stream:
    """One stream and what was seen of it.

    `attribute` tells the endpoint; where the device did not say it, it is the one that was allotted. `heard` None: not
    listened to. `listener` is the process of this computer that has the port: number and name; None: none, or unknown.
    """

    member: str
    attribute: str
    endpoint: str
    reached: Contact = "unknown"
    heard: Heard | None = None
    listener: tuple[int, str] | None = None

    @property
    def name(self) -> str:
        return self.attribute.removesuffix("_endpoint")


def look(entries: Mapping[str, Entry], answers: Mapping[str, Answer], seconds: float) -> list[Stream]:
    """Connect to all of them at once, and listen for `seconds` where that takes nothing from anybody."""
    owners = _listeners()
    actions = {}
    for member, entry in entries.items():
        for attribute, endpoint in endpoints(entry, answers[member]).items():
            stream = Stream(member, attribute, endpoint)
            if not _elsewhere(stream, answers[member], entry):
                actions[f"{member} {attribute}"] = lambda one=stream: _look(one, owners, seconds)
            else:
                actions[f"{member} {attribute}"] = lambda one=stream: one
    found = together(actions, LIMIT_S + seconds)
    return [
        one if isinstance(one, Stream) else Stream(*name.split(" "), endpoint="", reached="unreachable")
        for name, one in found.items()
    ]


def endpoints(entry: Entry, answer: Answer) -> dict[str, str]:
    """Attribute -> endpoint of the streams of a device: as it says, else as allotted (property WeightsEndpoint)."""
    said = {name: str(v) for name, v in answer.values.items() if name.endswith("_endpoint") and v}
    allotted = {
        f"{name.removesuffix('Endpoint').lower()}_endpoint": value
        for name, value in entry.properties.items()
        if name.endswith("Endpoint") and address(value)
    }
    return allotted | said


def _look(stream: Stream, owners: Mapping[int, tuple[int, str]], seconds: float) -> Stream:
    place = address(stream.endpoint)
    listener = owners.get(place[1]) if place and _local(place[0]) else None
    reached = contact(stream.endpoint, PATIENCE_S)
    heard = None
    if reached == "stream" and stream.attribute in KINDS:
        heard = listen(stream.endpoint, KINDS[stream.attribute], seconds)
    return Stream(stream.member, stream.attribute, stream.endpoint, reached, heard, listener)


def _listeners() -> dict[int, tuple[int, str]]:
    """Port -> who listens there on this computer; of other users only root may know."""
    found: dict[int, tuple[int, str]] = {}
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.pid and one.laddr:
                with suppress(psutil.Error):
                    found[one.laddr.port] = (one.pid, psutil.Process(one.pid).name())
    return found


def _local(host: str) -> bool:
    own = {str(a.address) for addresses in psutil.net_if_addrs().values() for a in addresses}
    with suppress(OSError):
        return bool(LOOPBACK.match(host)) or socket.gethostbyname(host) in own
    return False


def _elsewhere(stream: Stream, answer: Answer, entry: Entry) -> bool:
    """Published on the loopback of another computer, where nobody from here can look."""
    place, host = address(stream.endpoint), answer.host or entry.host
    return bool(place and LOOPBACK.match(place[0]) and host and not is_here(host))


# ---- what is said of it


def judge(stream: Stream, entries: Mapping[str, Entry], answers: Mapping[str, Answer]) -> Finding | None:
    """One line for a stream; None: its device does not run, and nothing is wrong with its port."""
    entry, answer = entries[stream.member], answers[stream.member]
    check = f"{entry.device}: {stream.name} stream"
    running = answer.reached in ("answers", "hangs")
    if stranger := _stranger(stream, entry, running):
        return problem(
            check,
            f"cannot connect: port {stream.endpoint} belongs to another program ({stranger})",
            f"end that program, or change the property {_property(stream)} and start {entry.server} again",
        )
    if not running:
        return None
    if _elsewhere(stream, answer, entry):
        return _afar(check, stream, entry, answer, entries, answers)
    if stream.reached != "stream":
        return problem(check, f"cannot connect: {_why(stream)}", _cure(stream, entry, answer))
    if stream.heard is None:
        return ok(check, f"can be connected to ({stream.endpoint}); not listened to, frames go to one receiver alone")
    if not stream.heard.connected:
        return problem(check, f"cannot connect: ZeroMQ begins at {stream.endpoint}, but does not shake hands", "Init")
    return _flow(check, stream, entry, answer)


def _flow(check: str, stream: Stream, entry: Entry, answer: Answer) -> Finding:
    heard = stream.heard
    assert heard is not None
    kept = min(heard.messages, 1) if stream.attribute in RETAINED else 0
    if heard.messages > kept:
        rate = heard.rate_hz
        return ok(check, f"data, {rate:.3g} messages/s" if rate else "data, one message while listening")
    said = "connected, no data"
    if kept:
        return ok(check, "data: the last weights came, none newer while listening")
    if answer.state == "RUNNING":
        return warning(
            check,
            f"{said}, though {entry.device} is RUNNING",
            "listen for longer (--seconds 30): pictures may be rare. Else: the streams above it, and its log",
        )
    text = f"{said}: {entry.device} is {answer.state or 'not answering'}"
    if answer.state in ("STANDBY", "ON", "OFF"):
        return ok(check, f"{text}, so none is to be expected")
    return warning(check, text, f"see the line of {entry.device}")


def _stranger(stream: Stream, entry: Entry, running: bool) -> str:
    """Who else listens at the port of a stream; empty: nobody, or it is its own server."""
    if stream.listener is None or (running and stream.listener[0] == entry.pid):
        return ""
    return f"{stream.listener[1]}, process {stream.listener[0]}"


def _why(stream: Stream) -> str:
    return {
        "refused": f"nobody listens at {stream.endpoint}",
        "silent": f"{stream.endpoint} takes connections, but nobody speaks: a process that stands still",
        "foreign": f"what listens at {stream.endpoint} does not speak ZeroMQ",
        "unreachable": f"no answer from {stream.endpoint or 'its endpoint'}",
        "unknown": f"expected tcp://address:port as its endpoint, got {stream.endpoint!r}",
    }[stream.reached]


def _cure(stream: Stream, entry: Entry, answer: Answer) -> str:
    if answer.reached == "hangs" or stream.reached == "silent":
        return f"see the line of {entry.device}: its process has to go on, or to be started again"
    if answer.state == "FAULT":
        return f"see the line of {entry.device}"
    if stream.reached == "unreachable":
        return f"does a firewall block it? Is the address right? (property {_property(stream)})"
    return f"the property {_property(stream)}, then Init of {entry.device}"


def _afar(
    check: str,
    stream: Stream,
    entry: Entry,
    answer: Answer,
    entries: Mapping[str, Entry],
    answers: Mapping[str, Answer],
) -> Finding:
    host = answer.host or entry.host
    advice = f"set the property {_property(stream)} to an address of {host}, then Init (docs/how-to/own-database.md)"
    if users := away(entry, host, entries, answers):
        return problem(check, f"{stream.endpoint} can be reached on {host} alone, and {', '.join(users)} not", advice)
    return warning(check, f"{stream.endpoint} can be reached on {host} alone: not looked at", f"run this on {host}")


def away(entry: Entry, host: str, entries: Mapping[str, Entry], answers: Mapping[str, Answer]) -> list[str]:
    """The devices that take data from this one and run on other computers than `host`; the supervisor only asks."""
    users = [m for m in used_by(entries, entry.device) if m != "supervisor"]
    hosts = {m: answers[m].host or entries[m].host for m in users}
    return [f"{entries[m].device} runs on {hosts[m]}" for m in users if hosts[m] and hosts[m] != host]


def reachable_for_all(stream: Stream, entries: Mapping[str, Entry], answers: Mapping[str, Answer]) -> Finding | None:
    """A stream of this computer at 127.0.0.1 that a device on another one needs; None: there is none such."""
    entry, answer = entries[stream.member], answers[stream.member]
    host, place = answer.host or entry.host, address(stream.endpoint)
    if not place or not LOOPBACK.match(place[0]) or _elsewhere(stream, answer, entry):
        return None
    users = away(entry, host, entries, answers)
    if not users:
        return None
    return problem(
        f"{entry.device}: {stream.name} endpoint",
        f"{stream.endpoint} can be reached on {host} alone, and {', '.join(users)}",
        f"set the property {_property(stream)} to an address of {host}, then Init (docs/how-to/own-database.md)",
    )


def _property(stream: Stream) -> str:
    return f"{stream.name.capitalize()}Endpoint"
