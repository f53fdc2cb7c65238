"""The command `tango-jit web`."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import signal
import socket
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

from devices.watch.command import Device, Folder, Instance, Prefix, devices_to_show, leave

console = Console()


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any free one.")] = 8420,
    address: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: all of this computer.")] = "127.0.0.1",
    operate: Annotated[
        bool, typer.Option("--operate", help="Take orders from who has the address with its key.")
    ] = False,
    prefix: Prefix = None,
    instance: Instance = None,
    folder: Folder = None,
    device: Device = None,
) -> None:
    """Serve a page with slices, curves and states for phones and walls, until Ctrl-C or SIGTERM."""
    missing = [name for name in ("aiohttp", "plotly") if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)}: not installed: pip install 'tango-jit[web]'")
    from devices.web.server import serve
    from devices.web.wall import Wall

    devices = devices_to_show(prefix, instance, folder, device)
    key = secrets.token_urlsafe(12) if operate else ""

    def told(found: int) -> None:
        # Behind # the key is not sent to anybody, and is in no log.
        console.print(f"{page_address(address, found)}{f'#key={key}' if key else ''}", highlight=False, soft_wrap=True)
        if not is_loopback(address):
            console.print("[yellow]everybody who reaches this computer can look[/]", highlight=False)

    async def run() -> None:
        end = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
        wall = Wall(devices)
        try:
            await serve(wall, address, port, key, told, end)
        finally:
            wall.end()

    try:
        asyncio.run(run())
    except OSError as error:
        text = f"--port: expected a free one, cannot listen at {address}:{port}: {error.strerror or error}"
        console.print(f"[red]{text}", highlight=False, soft_wrap=True)
        leave(1)
    leave(0)


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
