"""The command `tango-jit web`."""

from __future__ import annotations

import asyncio
import errno
import secrets
import signal
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

from devices.watch.command import Device, Folder, Instance, Prefix, devices_to_show, is_loopback, leave, page_address

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
            who = "look, and whoever listens in the network can read the key" if operate else "look"
            console.print(f"[yellow]everybody who reaches this computer can {who}[/]", highlight=False, soft_wrap=True)

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
        wrong = "--port: expected a free one" if error.errno == errno.EADDRINUSE else "--address: expected one of here"
        text = f"{wrong}, cannot listen at {address}:{port}: {error.strerror or error}"
        console.print(f"[red]{text}", highlight=False, soft_wrap=True)
        leave(1)
    leave(0)
