"""The commands `tango-jit gui` and `tango-jit snapshot`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from devices.watch.command import Device, Folder, Instance, Prefix, devices_to_show, leave

console = Console()
ENDING_S = 10.0
INSTALL = "pip install 'tango-jit[gui]'"
LIBRARIES = (
    "apt install libegl1 libgl1 libdbus-1-3 libfontconfig1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-keysyms1 libxcb-image0 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1"
)


def gui(prefix: Prefix = None, instance: Instance = None, folder: Folder = None, device: Device = None) -> None:
    """Open the operator window."""
    devices = devices_to_show(prefix, instance, folder, device)
    if not has_display():
        _fail("no display: expected DISPLAY or WAYLAND_DISPLAY to be set. `tango-jit snapshot` needs none.")
    window = _loaded()
    if os.environ.get("DISPLAY") and not os.environ.get("QT_QPA_PLATFORM") and (text := missing_library()):
        _fail(text)
    leave(window.show(devices))


def snapshot(
    out: Annotated[Path, typer.Argument(help="File to write: PNG.")],
    prefix: Prefix = None,
    instance: Instance = None,
    folder: Folder = None,
    device: Device = None,
    size: Annotated[tuple[int, int], typer.Option(min=200, max=8000, help="Width and height in pixels.")] = (
        1680,
        1000,
    ),
    patience: Annotated[float, typer.Option(min=0.0, max=600.0, help="Seconds to wait for all pictures.")] = 15.0,
) -> None:
    """Write what the operator window would show now as a picture; needs no display."""
    devices = devices_to_show(prefix, instance, folder, device)
    if not out.absolute().parent.is_dir() or out.is_dir():
        _fail(f"{out}: expected a file in a folder that exists")
    if not out.suffix:
        out = out.with_suffix(".png")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    try:
        missing = _loaded().snapshot(devices, out, size, patience)
    except OSError as error:
        _fail(str(error))
    console.print(f"wrote {out}", highlight=False, soft_wrap=True)
    for text in missing:
        console.print(f"[yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)
    leave(1 if missing else 0)


def has_display() -> bool:
    """Can a window be opened?"""
    chosen = os.environ.get("QT_QPA_PLATFORM", "")
    shown = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return chosen in ("offscreen", "minimal", "vnc") or shown or sys.platform != "linux"


@contextmanager
def opened(host: str, log: Path) -> Iterator[str]:
    """The window of the devices of a database while the block runs, in a process of its own; its words go to `log`.

    Gives why there is none; "" where there is one. Closing it ends nothing else.
    """
    if not has_display():
        yield "no operator window: there is no display"
        return
    if find_spec("PyQt6") is None or find_spec("taurus") is None:
        yield f"no operator window: it is not installed ({INSTALL})"
        return
    command = [sys.executable, "-m", "devices.cli", "gui"]
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, env=os.environ | {"TANGO_HOST": host}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield ""
    finally:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def missing_library() -> str:
    """Why Qt cannot open windows on an X display; "": it can. (Qt itself would abort the process.)"""
    from PyQt6.QtCore import QLibraryInfo

    plugins = Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.PluginsPath))
    try:
        ctypes.CDLL(str(plugins / "platforms" / "libqxcb.so"))
    except OSError as error:
        return f"Qt cannot open windows: {error}\nOn Debian and Ubuntu: {LIBRARIES}"
    return ""


def _loaded() -> Any:
    """The module with the window; ends the command in words where Qt is missing."""
    try:
        from devices.gui import application
    except ImportError as error:
        text = str(error)
        if ".so" in text:
            _fail(f"Qt cannot be loaded: {text}\nOn Debian and Ubuntu: {LIBRARIES}")
        _fail(f"the operator window is not installed ({text}): {INSTALL}")
    return application


def _fail(text: str) -> NoReturn:
    console.print(f"[red]{escape(text)}[/]", highlight=False, soft_wrap=True)
    raise typer.Exit(1)
