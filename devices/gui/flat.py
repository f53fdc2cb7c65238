"""One slice as a flat image of one kind: zoom, scale bar, where the others cut it, a region drawn in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal

from devices.watch.pictures import GROUPS
from tango_jit.geometry import SliceGeometry
from tango_jit.view.display import bar_length

Image = NDArray[np.float32]


class View(pg.ViewBox):
    """Left drag moves the picture, right drag and wheel zoom it; with `drawing` a left drag draws a rectangle.
    Shift and wheel step through the object."""

    drawn = pyqtSignal(object)  # QRectF in mm
    stepped = pyqtSignal(int)
    clicked = pyqtSignal(object)  # QPointF in mm
    whole = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(lockAspect=True, invertY=True, enableMenu=False, border=(70, 70, 70))
        self.drawing = False

    def mouseDragEvent(self, ev: Any, axis: Any = None) -> None:
        if not self.drawing or ev.button() != Qt.MouseButton.LeftButton:
            super().mouseDragEvent(ev, axis)
            return
        ev.accept()
        self.updateScaleBox(ev.buttonDownPos(), ev.pos())
        if ev.isFinish():
            self.rbScaleBox.hide()
            corners = (self.mapToView(p) for p in (ev.buttonDownPos(), ev.pos()))
            self.drawn.emit(QRectF(*corners).normalized())

    def mouseClickEvent(self, ev: Any) -> None:
        if ev.button() == Qt.MouseButton.LeftButton and not ev.double():
            ev.accept()
            self.clicked.emit(self.mapToView(ev.pos()))
        elif ev.double():
            ev.accept()
            self.whole.emit()

    def wheelEvent(self, ev: Any, axis: Any = None) -> None:
        if ev.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            ev.accept()
            self.stepped.emit(1 if ev.delta() > 0 else -1)
        else:
            super().wheelEvent(ev, axis)


class Pane:
    """An image of one slice, in mm along its edges from its corner. Values are shown as they are: float32."""

    def __init__(self, name: str, kind: str, colour: tuple[int, int, int]) -> None:
        self.name, self.kind, self.group = name, kind, GROUPS[kind]
        self.place: SliceGeometry | None = None
        self.values: Image | None = None
        self.view = View()
        self._image = pg.ImageItem(axisOrder="row-major")
        self._label = pg.LabelItem(justify="left", size="9pt")
        self._label.setParentItem(self.view)
        self._label.anchor((0, 0), (0, 0), offset=(4, 0))
        self._missing = pg.TextItem("", color=(220, 180, 90), anchor=(0.5, 0.5))
        self._bar: Any = pg.ScaleBar(
            size=1, suffix="", pen=pg.mkPen((230, 230, 230)), brush=pg.mkBrush((230, 230, 230))
        )
        self._bar.setParentItem(self.view)
        self._bar.anchor((1, 1), (1, 1), offset=(-12, -18))
        self._lines: dict[str, pg.PlotCurveItem] = {}
        self._region = pg.PlotCurveItem(pen=pg.mkPen((240, 200, 60), style=Qt.PenStyle.DashLine))
        for item in (self._image, self._missing, self._region):
            self.view.addItem(item)
        self._colour = colour
        self._whole = True  # until the operator zooms or moves it, the picture fills the pane
        self.view.sigRangeChanged.connect(self._fit_bar)
        self.view.sigRangeChangedManually.connect(self._chosen)
        self.view.sigResized.connect(self._fit)
        self.view.whole.connect(self.fit)
        self.say("waiting for a picture")

    def show(
        self, values: Image, place: SliceGeometry, text: str, levels: tuple[float, float], table: NDArray[np.uint8]
    ) -> None:
        """An image (rows, cols) of the slice at `place`; levels and table: see `colour`."""
        width, height = float(np.linalg.norm(place.u_mm)), float(np.linalg.norm(place.v_mm))
        resized = self.place is None or not np.allclose((width, height), self.size_mm(), rtol=1e-9)
        self.place, self.values = place, values
        self._image.setImage(values, autoLevels=False, levels=levels, lut=table)
        self._image.setRect(QRectF(0, 0, width, height))
        self._missing.setText("")
        self.title(text)
        if resized:
            self.fit()

    def fit(self) -> None:
        """Show the whole picture."""
        self._whole = True
        self._fit()

    def _fit(self, *_: Any) -> None:
        if self._whole and self.place is not None:
            self.view.setRange(QRectF(0, 0, *self.size_mm()), padding=0.02)
            self._fit_bar()

    def part(self) -> QRectF | None:
        """What the operator has chosen to see of the picture, in mm; None: all of it."""
        return None if self._whole or self.place is None else self.view.viewRect()

    def show_part(self, part: QRectF) -> None:
        self._whole = False
        self.view.setRange(part, padding=0)

    def _chosen(self, *_: Any) -> None:
        self._whole = False

    def say(self, text: str) -> None:
        """Words where there is no picture."""
        self.values = None
        self._image.clear()
        self._missing.setTextWidth(max(float(self.view.width()) - 16, 90))
        self._missing.setText(text)
        center = self.view.viewRect().center() if self.place is None else QPointF(*(n / 2 for n in self.size_mm()))
        self._missing.setPos(center)
        self.title("")

    def title(self, text: str) -> None:
        colour = "#{:02x}{:02x}{:02x}".format(*self._colour)
        name = f'<b style="color:{colour}">{self.name}</b>'
        self._label.setText(f'<span style="background:#181a1e; color:#ccc">{name} {self.kind}  {text}</span>')

    def colour(self, levels: tuple[float, float], table: NDArray[np.uint8]) -> None:
        """Levels in the unit of the values, and a table (n, 3) of colours."""
        self._image.setLevels(levels)
        self._image.setLookupTable(table)

    def cross(self, other: str, ends: NDArray[np.float64] | None, colour: tuple[int, int, int]) -> None:
        """Where another slice cuts this one, as fractions (2, 2) of its edges; None: it does not."""
        if other not in self._lines:
            self._lines[other] = pg.PlotCurveItem(pen=pg.mkPen((*colour, 170), width=1))
            self.view.addItem(self._lines[other], ignoreBounds=True)
        self._lines[other].setData(*(([], []) if ends is None or self.place is None else self._in_mm(ends).T))

    def frame_region(self, corners: NDArray[np.float64] | None) -> None:
        """The cut of the sampling region, as fractions (n, 2) of the edges, closed; None: it does not cut."""
        self._region.setData(*(([], []) if corners is None or self.place is None else self._in_mm(corners).T))

    def size_mm(self) -> NDArray[np.float64]:
        """(width, height)."""
        assert self.place is not None
        return np.array([np.linalg.norm(self.place.u_mm), np.linalg.norm(self.place.v_mm)], np.float64)

    def fractions(self, point: QPointF) -> tuple[float, float]:
        """A place of the view as fractions of the edges."""
        width, height = self.size_mm()
        return point.x() / width, point.y() / height

    def value_at(self, point: QPointF) -> float | None:
        """The pixel under a place of the view; None: there is none."""
        if self.values is None or self.place is None:
            return None
        column, row = self.fractions(point)
        if not (0 <= column < 1 and 0 <= row < 1):
            return None
        rows, cols = self.values.shape
        return float(self.values[int(row * rows), int(column * cols)])

    def _in_mm(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        return fractions * self.size_mm()

    def _fit_bar(self, *_: Any) -> None:
        width = self.view.viewRect().width()
        if not width > 0:
            return
        size = bar_length(width)
        if size != self._bar.size:
            self._bar.size = size
            self._bar.text.setText(f"{size:g} mm")
        self._bar.updateBar()


def link(panes: list[Pane]) -> None:
    """Zoom and move panes of one slice together."""
    for pane in panes[1:]:
        pane.view.setXLink(panes[0].view)
        pane.view.setYLink(panes[0].view)
