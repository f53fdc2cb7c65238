"""Settings of the devices as Taurus forms: labels, units, limits and choices are those of the attributes."""

from __future__ import annotations

from collections.abc import Mapping

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QLabel, QTabWidget, QVBoxLayout, QWidget

from devices.gui.session import Session
from devices.watch.look import Seen

SHOWN: Mapping[str, tuple[str, ...]] = {  # what a shift needs; `all` of a device is `taurus device`
    "trainer": (
        "network", "buffer_size", "buffer_auto", "learning_rate", "batch_size", "patch_size", "publish_every_s",
        "sampling", "wanted_hz",
    ),
    "denoiser": ("enabled", "mode", "guard", "uncertainty", "compared_version"),
    "reconstructor": (
        "update_every", "filter", "center_offset_px", "ring_turns", "zinger_excess", "preview_every_s",
    ),
    "detector": ("recording", "frame_period_s", "loop", "position", "dose"),
    "recorder": ("folder", "file_name", "title", "every_s", "keep_raw", "keep_projections", "pre_trigger_s"),
}  # fmt: skip

LIGHT = """
QScrollArea, QScrollArea > QWidget > QWidget, QLineEdit, QComboBox, QAbstractSpinBox { background-color: #dcdee2 }
QLabel, QLineEdit, QComboBox, QAbstractSpinBox { color: #16181c }
"""


class Settings(QTabWidget):
    """A form for each device, made when it first answers: until then words stand in its place."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.forms: dict[str, QWidget] = {}
        self._pages: dict[str, QVBoxLayout] = {}
        self._words: dict[str, QLabel] = {}
        for member in SHOWN:
            if member in session.devices:
                page, label = QWidget(), QLabel(f"looking for {session.devices[member]}")
                label.setWordWrap(True)
                layout = QVBoxLayout(page)
                layout.setContentsMargins(0, 0, 0, 0)
                layout.addWidget(label, alignment=Qt.AlignmentFlag.AlignTop)
                self._pages[member], self._words[member] = layout, label
                self.addTab(page, member)
        self.currentChanged.connect(self._fill)
        session.seen.connect(self._look)

    def _look(self, seen: Seen) -> None:
        if seen.trouble and seen.member in self.forms:  # Taurus may give up its listeners meanwhile: a new one later
            form = self.forms.pop(seen.member)
            self._pages[seen.member].removeWidget(form)
            form.deleteLater()
        label = self._words.get(seen.member)
        if label is not None:
            label.setText(seen.trouble)
            label.setVisible(bool(seen.trouble) or seen.member not in self.forms)
        self._fill()

    def _fill(self, *_: int) -> None:
        """Make the form that is to be seen. (A form of a device that is gone would hold the window for seconds.)"""
        member = self.tabText(self.currentIndex())
        seen = self._session.looks.get(member)
        if member in self.forms or seen is None or seen.trouble or not self.isVisible():
            return
        from taurus.qt.qtgui.panel import TaurusForm  # slow to load

        form = TaurusForm(withButtons=True)
        form.setModel([f"{self._session.devices[member]}/{name}" for name in SHOWN[member] if name in seen.settings])
        # Taurus tells the quality of a reading by a bright background; its labels are black.
        form.setStyleSheet(LIGHT)
        self._pages[member].addWidget(form)
        self._words[member].hide()
        self.forms[member] = form
