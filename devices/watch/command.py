"""What commands that look at devices have in common: which devices, and how they end."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from devices.deployment import installation

Prefix = Annotated[str | None, typer.Option(help="First part of the device names; as `up` runs them, else jit.")]
Instance = Annotated[str | None, typer.Option(help="Last part of the device names; as `up` runs them, else 1.")]
Folder = Annotated[Path | None, typer.Option("--dir", help="Folder of an installation that `up` runs from.")]
Device = Annotated[
    list[str] | None,
    typer.Option(help="MEMBER=NAME: another device for a member, also of another database; empty: there is none."),
]


def devices_to_show(
    prefix: str | None, instance: str | None, folder: Path | None, others: list[str] | None
) -> dict[str, str]:
    """Member -> device with its database. TANGO_HOST names the database, else what `tango-jit up` runs.

    Raises RuntimeError where no database is named, and ValueError for one of `others` that is not MEMBER=NAME.
    """
    host, names = installation(folder, prefix, instance)
    if not host:
        raise RuntimeError(
            "TANGO_HOST: expected HOST:PORT of a Tango database, it is not set, and `tango-jit up` has started none"
        )
    devices = {member: f"tango://{host}/{name}" for member, name in names.items()}
    for text in others or ():
        member, given, name = text.partition("=")
        if not given or member not in devices:
            raise ValueError(f"--device: expected MEMBER=NAME, MEMBER one of {', '.join(devices)}, got {text}")
        devices[member] = name if "://" in name or not name else f"tango://{host}/{name}"
    return {member: name for member, name in devices.items() if name}


def leave(code: int) -> NoReturn:
    """End the process without the clean-up of Tango and Taurus, which waits for calls to devices that hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def page_address(address: str, port: int) -> str:
    """What a browser is to be given; of all addresses of this computer by its name."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"http://{address}:{port}/"
    if parsed.is_unspecified:
        return f"http://{socket.gethostname()}:{port}/"
    return f"http://[{address}]:{port}/" if parsed.version == 6 else f"http://{address}:{port}/"


def is_loopback(address: str) -> bool:
    """Can nobody but this computer reach it?"""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
