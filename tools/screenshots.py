"""Pictures of the operator window and the web page for the documents: python -m tools.screenshots

Starts servers of its own, replays the simulated experiment until the network has learned, and takes pictures of the
window and, by Chromium, of the page without a display. Some two minutes on two cores.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import tango
import typer
from PIL import Image
from PyQt6.QtCore import QBuffer, QIODevice, QTimer
from PyQt6.QtWidgets import QDockWidget, QWidget
from rich.console import Console
from selenium import webdriver

from devices.deployment import Deployment
from devices.gui.application import application
from devices.gui.window import Window
from sim.demo import fit_slices
from sim.prepared import prepared
from sim.scenario import load
from tango_jit.view import placing

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LEARNED = 0.6  # slice accuracy from which the pictures are worth a look
PATIENCE_S = 400.0


def main(out: Path = IMAGES) -> None:
    """Write window.png (all slices), window_slice.png (one, all kinds), window_settings.png and web.png."""
    recording = prepared(load("tablet-soap"), Console())
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(Path(folder))
        try:
            host = deployment.up()
            devices = {member: f"tango://{host}/{name}" for member, name in deployment.devices.items()}
            proxies = {member: tango.DeviceProxy(name) for member, name in devices.items()}
            shown = Path(folder) / "tablet-soap.nxs"  # pictures show the path: that of no user
            shown.symlink_to(recording)
            proxies["detector"].recording = str(shown)
            proxies["detector"].loop = True
            proxies["detector"].Start()
            until(lambda: fit_slices(proxies["reconstructor"], 384))
            with page(Path(folder)) as address:
                take(devices, proxies, out)
                take_page(address, out)
        finally:
            deployment.down()


def take(devices: dict[str, str], proxies: dict[str, Any], out: Path) -> None:
    """The pictures, one after the other."""
    application()
    window = Window(devices, remember=False)
    window.resize(1600, 960)
    window.show()
    until(lambda: window.session.value("denoiser", "accuracy", 1.0) < LEARNED)
    tilted = placing.turned(window.session.places["yz"], (0, 0, 1), 0.5)
    window.session.move("yz", placing.shifted(tilted, (0, 0, 4)))
    pause(20)
    write(window, out / "window.png")
    proxies["denoiser"].uncertainty = True
    window.grid.choose("xz")
    for button in window.grid.kinds.values():
        button.setChecked(True)
    pause(6)
    write(window.grid, out / "window_slice.png")
    dock = next(dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() == "settings")
    dock.raise_()
    until(lambda: "trainer" in window.settings.forms)
    pause(4)
    write(dock, out / "window_settings.png")
    window.close()


@contextmanager
def page(folder: Path) -> Iterator[str]:
    """The web page of an installation; its address."""
    command = [sys.executable, "-m", "devices.cli", "web", "--port", "0", "--dir", str(folder)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    try:
        yield program.stdout.readline().strip()
    finally:
        program.terminate()
        program.wait(10)
        program.stdout.close()


def take_page(address: str, out: Path) -> None:
    """The page as a wall shows it."""
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.binary_location = "/usr/bin/chromium"
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        size = {"width": 1500, "height": 1250, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(address)
        drawn = "return document.querySelectorAll('.slice img[data-shown]').length > 5 && !!drawnAt"
        until(lambda: driver.execute_script(f"{drawn} && !!document.querySelector('#space img').dataset.shown"))
        pause(6)
        save(driver.get_screenshot_as_png(), out / "web.png")
    finally:
        driver.quit()


def until(condition: Callable[[], Any]) -> None:
    """Let the window live until something is true. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {PATIENCE_S:.0f} s")
        pause(0.1)


def pause(seconds: float) -> None:
    """The loop of Taurus: without it forms stay empty."""
    app = application()
    QTimer.singleShot(round(1e3 * seconds), app.exit)  # quit() would close the window
    app.exec_()


def write(widget: QWidget, path: Path) -> None:
    """What a widget shows."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")
    save(bytes(buffer.data().data()), path)


def save(png: bytes, path: Path) -> None:
    """As it is: a palette would give the curves the colours of others."""
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(path, optimize=True)
    print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
