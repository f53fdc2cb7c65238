"""What happened, with its time."""

from __future__ import annotations

import time
from html import escape

from PyQt6.QtWidgets import QPlainTextEdit

from devices.gui.session import Session

LINES = 2000


class Journal(QPlainTextEdit):
    """Orders and how they went, states that changed, troubles; the newest at the end."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setMaximumBlockCount(LINES)
        session.said.connect(self.say)

    def say(self, text: str, trouble: bool) -> None:
        colour = "#e8a060" if trouble else "#b0b4ba"
        self.appendHtml(f'<span style="color:{colour}">{time.strftime("%H:%M:%S")}  {escape(text)}</span>')
