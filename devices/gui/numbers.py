"""Where a slice lies, in numbers that can be written."""

from __future__ import annotations

from dataclasses import fields

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
    """Enter, or leaving a field, moves the slice. While a field is edited it is left alone."""

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
            widget.editingFinished.connect(self.apply)
        undo = QPushButton("undo move")
        undo.clicked.connect(session.undo)
        layout.addRow(undo)
        self.slice.currentTextChanged.connect(self.show_place)
        session.slices_changed.connect(self._list)
        session.placed.connect(self._placed)

    def choose(self, name: str) -> None:
        self.slice.setCurrentText(name)

    def apply(self) -> None:
        """Bring the slice to what the fields say, if that is elsewhere."""
        name = self.slice.currentText()
        place = self._session.places.get(name)
        if place is None:
            return
        shown = {n: round(v, self.fields[n].decimals()) for n, v in vars(Placement.of(place)).items()}
        wanted = {n: round(widget.value(), widget.decimals()) for n, widget in self.fields.items()}
        if shown == wanted:
            return
        exact = vars(Placement.of(place))
        numbers = {n: exact[n] if shown[n] == wanted[n] else wanted[n] for n in wanted}  # what was not touched stays
        try:
            moved = Placement(**numbers).place(place)
        except ValueError as error:
            self._session.said.emit(f"{name}: {error}", True)
            return
        self._session.begin_move(name)
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
            self.show_place()

    def show_place(self, *_: str) -> None:
        """Fill the fields with where the slice is wanted."""
        place = self._session.places.get(self.slice.currentText())
        for widget in self.fields.values():
            widget.setEnabled(place is not None)
        if place is None:
            return
        for name, value in vars(Placement.of(place)).items():
            widget = self.fields[name]
            if not widget.hasFocus():
                widget.blockSignals(True)
                widget.setValue(value)
                widget.blockSignals(False)


def _field(name: str) -> QDoubleSpinBox:
    widget = QDoubleSpinBox()
    widget.setKeyboardTracking(False)
    degrees = name.endswith("_deg")
    widget.setDecimals(2 if degrees else 4)
    widget.setSuffix(" °" if degrees else " mm")
    least = 1e-4 if name in ("width_mm", "height_mm") else -LARGEST_MM
    widget.setRange(*((-360.0, 360.0) if degrees else (least, LARGEST_MM)))
    widget.setSingleStep(5.0 if degrees else 0.1)
    return widget
