"""What a test does in a real window: let it live, look at it, use the mouse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psutil

from tests.events import wait_until


@contextmanager
def xvfb() -> Iterator[str]:
    """A display that ends by itself with its last window, however this process ends."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1800x1100x24", "-nolisten", "tcp", "-terminate"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    assert number, "Xvfb gave no display"
    yield f":{number}"
    if server.poll() is None and not _has_application():
        server.terminate()
    server.returncode = server.returncode or 0  # it ends with the Qt application of this process


def _has_application() -> bool:
    widgets = sys.modules.get("PyQt6.QtWidgets")
    return widgets is not None and widgets.QApplication.instance() is not None


def settle(seconds: float = 0.05) -> None:
    from PyQt6.QtWidgets import QApplication

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        QApplication.processEvents()
        time.sleep(0.01)


def until(condition: Callable[[], Any], timeout_s: float = 60, what: str = "") -> Any:
    """Let the window live until something is true."""

    def tried() -> Any:
        settle(0.02)
        return condition()

    return wait_until(tried, timeout_s, what)


def drag(widget: Any, start: Any, steps: list[tuple[int, int]], button: Any, modifier: Any = None) -> None:
    """Press, move in steps, release."""
    from PyQt6.QtCore import QEvent, QPointF, Qt
    from PyQt6.QtGui import QMouseEvent
    from PyQt6.QtWidgets import QApplication

    modifier = Qt.KeyboardModifier.NoModifier if modifier is None else modifier
    place = QPointF(start)

    def send(kind: Any, which: Any, held: Any) -> None:
        event = QMouseEvent(kind, place, QPointF(widget.mapToGlobal(place.toPoint())), which, held, modifier)
        QApplication.sendEvent(widget, event)

    send(QEvent.Type.MouseButtonPress, button, button)
    for dx, dy in steps:
        place += QPointF(dx, dy)
        send(QEvent.Type.MouseMove, Qt.MouseButton.NoButton, button)
        settle(0.03)
    send(QEvent.Type.MouseButtonRelease, button, Qt.MouseButton.NoButton)


def colours(widget: Any) -> np.ndarray:
    """What is on the screen: (rows, cols, 3)."""
    from PyQt6.QtGui import QImage

    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def find(window: Any, name: str) -> Any:
    """A place of the 3-D view where this slice is in front."""
    from PyQt6.QtCore import QPointF

    space = window.space
    for row in range(10, space.height() - 10, 12):
        for column in range(10, space.width() - 10, 12):
            if space.under(QPointF(column, row))[0] == name:
                return QPointF(column, row)
    raise AssertionError(f"{name} is nowhere in front")


def press_enter() -> None:
    """The question that comes next is answered by Enter, whatever that means there."""
    from PyQt6.QtCore import Qt, QTimer
    from PyQt6.QtTest import QTest
    from PyQt6.QtWidgets import QApplication

    keys: Any = QTest  # its stubs know no widget that may be none
    QTimer.singleShot(500, lambda: keys.keyClick(QApplication.activeModalWidget(), Qt.Key.Key_Return))


def drag_on(widget: Any, where: Any) -> None:
    """A movement of the pressed mouse, which QTest cannot send."""
    from PyQt6.QtCore import QEvent, QPointF, Qt
    from PyQt6.QtGui import QMouseEvent
    from PyQt6.QtWidgets import QApplication

    kind, none, left = QEvent.Type.MouseMove, Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
    place = QPointF(where)
    event = QMouseEvent(kind, place, QPointF(widget.mapToGlobal(where)), none, left, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(widget, event)


def answers(window: Any) -> list[tuple[str, bool]]:
    said: list[tuple[str, bool]] = []
    window.session.said.connect(lambda text, trouble: said.append((text, trouble)))
    return said


def has_drawn(pid: int) -> bool:
    """Has this process all its threads, and lived long enough to draw?"""
    process = psutil.Process(pid)
    return process.is_running() and time.time() - process.create_time() > 12 and process.num_threads() > 10


def windows_of(pid: int) -> list[psutil.Process]:
    """Windows among the children of a process; those that have just ended have no command line."""
    found = []
    for process in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[-2:] == ["devices.cli", "gui"]:
                found.append(process)
    return found
