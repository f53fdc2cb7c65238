"""Who the servers are, and how their devices are written into a Tango database."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tango

PORTS = range(18_000, 32_000)  # below the ephemeral ports of Linux (32768 and up)


@dataclass(frozen=True)
class Server:
    """One device server: its executable name, device class, device member name and the streams it publishes."""

    script: str
    device_class: str
    member: str
    endpoints: tuple[str, ...] = ()
    upstream: Mapping[str, str] = field(default_factory=dict)  # property -> member of the upstream device
    folder: str = ""  # property with the folder that it keeps files in

    def device(self, prefix: str, instance: str) -> str:
        return f"{prefix}/{self.member}/{instance}"


DETECTOR = {"DetectorDevice": "detector"}
RECONSTRUCTOR = {"ReconstructorDevice": "reconstructor"}
BOTH = RECONSTRUCTOR | {"TrainerDevice": "trainer"}
ALL = DETECTOR | BOTH | {"DenoiserDevice": "denoiser"}
SERVERS = (
    Server("tango-jit-detector", "SimulatedDetector", "detector", ("RawEndpoint", "MonitorEndpoint")),
    Server(
        "tango-jit-reconstructor",
        "Reconstructor",
        "reconstructor",
        ("FilteredEndpoint", "SlicesEndpoint"),
        DETECTOR,
    ),
    Server("tango-jit-trainer", "JitTrainer", "trainer", ("WeightsEndpoint",), RECONSTRUCTOR, "WeightsFolder"),
    Server(
        "tango-jit-denoiser",
        "Denoiser",
        "denoiser",
        ("DenoisedEndpoint",),
        BOTH,
    ),
    Server("tango-jit-recorder", "Recorder", "recorder", (), ALL),
    Server("tango-jit-supervisor", "Supervisor", "supervisor", (), ALL | {"RecorderDevice": "recorder"}),
)


def weights_folder(device: str, folder: Path) -> Path:
    """Where a trainer keeps weights, in the folder of an installation or of a user."""
    return folder / "weights" / device.lower().replace("/", "_")


def free_port(host: str = "127.0.0.1", wanted: int | None = None) -> int:
    """A port nobody listens on now, from the range that the system does not give to others by itself.

    `wanted`: taken where it is free; None: any. For an address of another machine it is one that is free here: that
    machine cannot be asked.
    """
    for port in (*([] if wanted is None else [wanted]), *random.SystemRandom().sample(PORTS, 200)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one just left is free
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    continue
        return port
    raise RuntimeError(f"no free port from {PORTS[0]} to {PORTS[-1]} on {host}: expected one in 200 tries")


def register(
    database: tango.Database,
    *,
    prefix: str = "jit",
    instance: str = "1",
    host: str = "127.0.0.1",
    folder: Path | None = None,
) -> list[str]:
    """Write the devices into a Tango database; endpoints that are allotted already stay. Returns device names.

    `folder`: devices keep their files in it; None: where they do by themselves.
    """
    names = []
    for server in SERVERS:
        name = server.device(prefix, instance)
        add_device(database, name, server.device_class, f"{server.script}/{instance}")
        wanted = properties(server, prefix=prefix, instance=instance, host=host, folder=folder)
        known = database.get_device_property(name, list(wanted))
        database.put_device_property(name, {p: [v] for p, v in wanted.items() if not list(known[p])})
        names.append(name)
    return names


def properties(server: Server, *, prefix: str, instance: str, host: str, folder: Path | None = None) -> dict[str, str]:
    """The properties that a new device gets: endpoints with ports that are free now, sources, its folder."""
    folders = {server.folder: str(weights_folder(server.device(prefix, instance), folder))} if folder else {}
    endpoints = {p: f"tcp://{host}:{free_port(host)}" for p in server.endpoints}
    sources = {p: f"{prefix}/{member}/{instance}" for p, member in server.upstream.items()}
    return endpoints | sources | {p: path for p, path in folders.items() if p}


def dsconfig(*, prefix: str = "jit", instance: str = "1", host: str = "127.0.0.1") -> dict[str, Any]:
    """What `register` writes into a new database, as the program json2tango (package dsconfig) takes it."""
    tree: dict[str, Any] = {}
    for server in SERVERS:
        wanted = properties(server, prefix=prefix, instance=instance, host=host)
        device = {"properties": {name: [value] for name, value in wanted.items()}}
        tree[server.script] = {instance: {server.device_class: {server.device(prefix, instance): device}}}
    return {"servers": tree}


def add_device(database: tango.Database, name: str, device_class: str, server: str) -> None:
    """Add a device, unless it is there as it should be: adding it again would cut off a server that is running."""
    with suppress(tango.DevFailed):  # not there yet
        known = database.get_device_info(name)
        if (known.class_name, known.ds_full_name) == (device_class, server):
            return
    info = tango.DbDevInfo()
    info.name, info._class, info.server = name, device_class, server
    database.add_device(info)
