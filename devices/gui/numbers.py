"""Where a slice lies, in numbers that can be written."""

# pyright: reportIncompatibleMethodOverride=false
# (In the stubs of Qt the parameters of event handlers have no names of their own.)

from __future__ import annotations

from dataclasses import fields, replace

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QWheelEvent
from PyQt6.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QPushButton, QWidget

from devices.gui.session import Session
from tango_jit.view.placing import Placement

TITLES = {
    "x_mm": "centre x",
    "y_mm": "centre y",
    "z_mm": "centre z",
    "azimuth_deg": "normal: azimuth",
    "elevation_deg": "normal: elevation",
    "roll_deg": "turn in its plane",
    "width_mm": "width",
    "height_mm": "height",
}
LARGEST_MM = 1e4


class Numbers(QWidget):
    """Enter, or leaving a field that was changed, moves the slice. While a field is written in it is left alone."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.slice = QComboBox()
        self.fields = {field.name: _field(field.name) for field in fields(Placement)}
        layout = QFormLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addRow("slice", self.slice)
        for name, widget in self.fields.items():
            layout.addRow(TITLES[name], widget)
            widget.valueChanged.connect(lambda value, n=name: self.apply(n, value))
        undo = QPushButton("undo move")
        undo.clicked.connect(session.undo)
        layout.addRow(undo)
        self.slice.currentTextChanged.connect(self.show_place)
        session.slices_changed.connect(self._list)
        session.placed.connect(self._placed)

    def choose(self, name: str) -> None:
        self.slice.setCurrentText(name)

    def apply(self, field: str, value: float) -> None:
        """Bring the slice to where a field says; the others stay as exact as they are."""
        name = self.slice.currentText()
        place = self._session.places.get(name)
        if place is None:
            return
        try:
            moved = replace(Placement.of(place), **{field: value}).place(place)
        except ValueError as error:
            self._session.said.emit(f"{name}: {error}", True)
            return
        self._session.begin_move(name, joins=True)
        self._session.move(name, moved)

    def _list(self) -> None:
        chosen = self.slice.currentText()
        self.slice.blockSignals(True)
        self.slice.clear()
        self.slice.addItems(list(self._session.names))
        self.slice.setCurrentText(chosen)
        self.slice.blockSignals(False)
        self.show_place()

    def _placed(self, name: str) -> None:
        if name == self.slice.currentText():
            self._fill(edited_too=False)

    def show_place(self, *_: str) -> None:
        """Fill the fields with where the slice is wanted; what was being written is given up."""
        self._fill(edited_too=True)

    def _fill(self, *, edited_too: bool) -> None:
        place = self._session.places.get(self.slice.currentText())
        for widget in self.fields.values():
            widget.setEnabled(place is not None)
        if place is None:
            return
        for name, value in vars(Placement.of(place)).items():
            widget = self.fields[name]
            line = widget.lineEdit()
            if edited_too or line is None or not line.isModified():
                widget.blockSignals(True)
                widget.setValue(value)
                widget.blockSignals(False)


class _Field(QDoubleSpinBox):
    """A field that the wheel changes only where somebody has put the cursor."""

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        elif event is not None:
            event.ignore()


def _field(name: str) -> QDoubleSpinBox:
    widget = _Field()
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.setKeyboardTracking(False)
    degrees = name.endswith("_deg")
    widget.setDecimals(2 if degrees else 4)
    widget.setSuffix(" °" if degrees else " mm")
    least = 1e-4 if name in ("width_mm", "height_mm") else -LARGEST_MM
    widget.setRange(*((-360.0, 360.0) if degrees else (least, LARGEST_MM)))
    widget.setSingleStep(5.0 if degrees else 0.1)
    return widget
