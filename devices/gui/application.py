"""The Qt application around the window."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("QT_API", "pyqt6")  # read by Taurus
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt6")

import tango
import taurus

taurus.setLogLevel(logging.ERROR)  # before its windows tell what they are made of

import pyqtgraph as pg  # noqa: E402
from PyQt6.QtCore import QTimer  # noqa: E402
from PyQt6.QtGui import QColor, QPalette  # noqa: E402
from taurus.qt.qtgui.application import TaurusApplication  # noqa: E402

from devices.gui.window import Window  # noqa: E402

DARK = {
    QPalette.ColorRole.Window: "#26292e",
    QPalette.ColorRole.Base: "#1d1f23",
    QPalette.ColorRole.AlternateBase: "#2b2e34",
    QPalette.ColorRole.Button: "#33373d",
    QPalette.ColorRole.ToolTipBase: "#33373d",
    QPalette.ColorRole.Highlight: "#3d6fb4",
}
LIGHT_TEXT = (
    QPalette.ColorRole.WindowText,
    QPalette.ColorRole.Text,
    QPalette.ColorRole.ButtonText,
    QPalette.ColorRole.ToolTipText,
    QPalette.ColorRole.HighlightedText,
)


def application() -> Any:
    """The one Qt application of this process, dark, as images want it."""
    existing = TaurusApplication.instance()
    if existing is not None:
        return existing
    app = TaurusApplication([], app_name="tango-jit", cmd_line_parser=None)
    # Taurus's clean-up at exit holds Python while Tango's waits for a thread of events, which may wait for Python.
    atexit.unregister(cast(Any, taurus.Manager()).cleanUp)
    atexit.unregister(cast(Any, taurus.Factory("tango")).cleanUp)
    app.setStyle("Fusion")
    palette = QPalette()
    for role, colour in DARK.items():
        palette.setColor(role, QColor(colour))
    for role in LIGHT_TEXT:
        palette.setColor(role, QColor("#d6d9de"))
    palette.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.ButtonText, QColor("#777c85"))
    app.setPalette(palette)
    app.setStyleSheet("QPushButton:checked { background: #3d6fb4; color: white; }")
    pg.setConfigOptions(background="#1d1f23", foreground="#b8bcc4")
    return app


def show(devices: Mapping[str, str]) -> int:
    """Open the window; returns when it is closed, or Ctrl-C was pressed."""
    app = application()
    window = Window(devices)
    window.show()
    tell_errors(window)
    signal.signal(signal.SIGINT, lambda *_: window.close())
    signal.signal(signal.SIGTERM, lambda *_: window.close())
    awake = QTimer()  # Python looks at signals only between its own instructions
    awake.timeout.connect(lambda: None)
    awake.start(200)
    return app.exec_()  # not exec(): without Taurus's own, attributes without events would stay empty


def tell_errors(window: Window) -> None:
    """What nobody caught goes into the journal as well, from any thread; the window lives on."""

    def tell(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
        traceback.print_exception(kind, error, trace)
        if not _of_a_form(error, trace):
            window.session.said.emit(f"error in this window: {kind.__name__}: {error}", True)

    sys.excepthook = tell
    threading.excepthook = lambda failed: tell(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _of_a_form(error: BaseException | None, trace: Any) -> bool:
    """Did a form of Taurus take the failure of a device for a value? The looks tell of it, and make the form anew."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    in_taurus = bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("taurus.")
    return in_taurus and isinstance(getattr(error, "obj", None), tango.DevFailed)


def snapshot(devices: Mapping[str, str], path: Path, size: tuple[int, int], patience_s: float) -> list[str]:
    """Write the window as a picture, once every slice has been shown. Returns what is missing in it, in words."""
    app = application()
    window = Window(devices, remember=False)
    window.resize(*size)
    window.show()
    deadline = time.monotonic() + patience_s

    def complete() -> bool:
        session = window.session
        answers = len(session.looks) == len(session.devices)
        pictures = bool(session.names) and set(session.names) <= set(session.pictures)
        return answers and pictures and window.space.is_complete  # its first drawing may have to be compiled

    def look() -> None:
        if complete() or time.monotonic() > deadline:
            QTimer.singleShot(600, app.quit)  # the preview and the last look
        else:
            QTimer.singleShot(100, look)

    look()
    app.exec_()
    missing = [f"{seen.member}: {seen.trouble}" for seen in window.session.looks.values() if seen.trouble]
    missing += [f"{m}: no answer yet" for m in window.session.devices if m not in window.session.looks]
    missing += [f"slice {name}: no picture" for name in window.session.names if name not in window.session.pictures]
    if not window.session.names:
        missing.append("no slices")
    elif not window.space.is_complete:
        missing.append("3-D view: not drawn yet")
    if not window.grab().save(str(path)):
        raise OSError(f"{path}: expected a file that can be written, of a kind that Qt knows (png, jpg)")
    window.close()
    return missing
