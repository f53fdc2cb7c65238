"""What the Tango database knows of the devices, looked at without ever waiting for long."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import tango

from devices.doctor.findings import Finding, ok, problem, together
from devices.registration import SERVERS, Server

PATIENCE_S = 2.0
LIMIT_S = 8.0
EXPORT = "export TANGO_HOST=HOST:PORT"
TANGO_HOST = re.compile(r"([^:,\s]+):(\d+)")
SOURCES = {"DetectorDevice": "detector", "ReconstructorDevice": "reconstructor", "TrainerDevice": "trainer"}
SOURCES |= {"DenoiserDevice": "denoiser", "RecorderDevice": "recorder"}


@dataclass(frozen=True)
class Entry:
    """A device as the database has it.

    `address` is where its server listens (None: it never did, or says so in an unknown way), `host` the name of its
    computer ("": unknown), `exported` whether it has started and not ended in order.
    """

    member: str
    device: str
    server: str
    exported: bool
    pid: int = 0
    host: str = ""
    address: tuple[str, int] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registry:
    """The devices that are registered, by member; `others` are the prefix/…/instance of more devices of our classes."""

    entries: Mapping[str, Entry]
    others: tuple[str, ...] = ()


def reach(tango_host: str | None) -> Finding:
    """Is there a Tango database at HOST:PORT? The address is tried first: Tango itself may wait for minutes."""
    check, up = "Tango database", "start it (`tango-jit up` starts one of its own), or set TANGO_HOST to another"
    if not tango_host:
        return problem(check, "TANGO_HOST is not set, and `tango-jit up` has started none", EXPORT)
    found = TANGO_HOST.fullmatch(tango_host)
    if not found or not 0 < int(found[2]) < 65536:
        return problem(check, f"TANGO_HOST is {tango_host!r}", f"expected one HOST:PORT: {EXPORT}")
    place = found[1], int(found[2])
    connect = {"connect": lambda: socket.create_connection(place, PATIENCE_S).close()}
    first = together(connect, PATIENCE_S + 1)["connect"]
    if isinstance(first, ConnectionRefusedError):
        return problem(check, f"nobody listens at {tango_host}", up)
    if isinstance(first, socket.gaierror):
        return problem(check, f"{tango_host}: no computer of that name is known", "correct TANGO_HOST")
    if isinstance(first, Exception):
        return problem(check, f"{tango_host} does not answer: {first}", "is the computer on, does a firewall block it?")
    second = together({"ask": lambda: tango.Database(*place).get_info()}, LIMIT_S)["ask"]
    if isinstance(second, Exception):
        return problem(
            check,
            f"{tango_host} can be connected to, but no Tango database answers there",
            "another program has that port, or the database stands still: correct TANGO_HOST, or start it again",
        )
    return ok(check, f"answers at {tango_host}")


def look(tango_host: str, names: Mapping[str, str]) -> Registry:
    """The devices `names` (member -> device). The detector is the one that the reconstructor names: it may be a camera.

    Raises DevFailed when the database fails in between.
    """
    host, _, port = tango_host.rpartition(":")
    database = tango.Database(host, int(port))
    hosts = _hosts(database)
    entries: dict[str, Entry] = {}
    for server in (*SERVERS[1:], SERVERS[0]):  # the reconstructor names the detector
        name = names[server.member]
        if server.member == "detector" and "reconstructor" in entries:
            name = entries["reconstructor"].properties.get("DetectorDevice") or name
        with suppress(tango.DevFailed):  # not registered
            entries[server.member] = _entry(database, server, name, hosts)
    others = _others(database, set(names.values()))
    return Registry({s.member: entries[s.member] for s in SERVERS if s.member in entries}, others)


def _entry(database: tango.Database, server: Server, name: str, hosts: Mapping[str, str]) -> Entry:
    known = database.get_device_info(name)
    names: Any = database.get_device_property_list(name, "*")
    listed = [str(one) for one in names]
    properties = {p: v[0] for p, v in database.get_device_property(name, listed).items() if len(v)} if listed else {}
    return Entry(
        server.member,
        name,
        known.ds_full_name,
        bool(known.exported),
        known.pid,
        hosts.get(known.ds_full_name.lower(), "") if known.exported else "",
        address_of(known.ior),
        properties,
    )


def _hosts(database: tango.Database) -> dict[str, str]:
    """Server -> the computer it was started on last."""
    return {
        server.lower(): host
        for host in database.get_host_list()
        for server in database.get_host_server_list(host)
        if server.startswith("tango-jit-")
    }


def _others(database: tango.Database, ours: set[str]) -> tuple[str, ...]:
    found = set()
    for server in SERVERS:
        for name in database.get_device_name("*", server.device_class):
            if name.lower() not in {one.lower() for one in ours}:
                prefix, _, instance = name.split("/")
                found.add(f"{prefix}/…/{instance}")
    return tuple(sorted(found))


def address_of(ior: str) -> tuple[str, int] | None:
    """Host and port in a CORBA reference, `IOR:` and hexadecimal digits; None: there is none to be read."""
    try:
        data = bytes.fromhex(ior.removeprefix("IOR:"))
        order = "<" if data[0] else ">"
        (length,) = struct.unpack_from(f"{order}I", data, 4)
        at = 8 + -(-length // 4) * 4  # past the type, to the next multiple of 4
        profiles, tag, size = struct.unpack_from(f"{order}III", data, at)
        profile = data[at + 12 : at + 12 + size]
        if not profiles or tag != 0:  # TAG_INTERNET_IOP
            return None
        order = "<" if profile[0] else ">"
        (length,) = struct.unpack_from(f"{order}I", profile, 4)
        host = profile[8 : 8 + length - 1].decode("ascii")
        (port,) = struct.unpack_from(f"{order}H", profile, -(-(8 + length) // 2) * 2)
    except (ValueError, IndexError, struct.error):
        return None
    return (host, port) if host and port else None
