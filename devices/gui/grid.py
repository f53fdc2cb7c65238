"""The slices as flat images: one column a slice, one row a kind; or one slice with all its kinds, large."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import QPointF, QRectF, pyqtSignal
from PyQt6.QtWidgets import QComboBox, QPushButton, QToolBar, QVBoxLayout, QWidget

from devices.gui.contrast import Contrast
from devices.gui.flat import Pane, link
from devices.gui.session import Session
from devices.watch.looks import why_no_pictures
from devices.watch.pictures import GROUPS, UNITS, Picture, colour_of, images_of
from tango_jit.view import placing
from tango_jit.view.placing import Box

KINDS = tuple(GROUPS)
ALL = "all slices"


class Grid(QWidget):
    """Panes and what is chosen of them. A click in one puts the other slices through that point."""

    pointed = pyqtSignal(str)
    region_drawn = pyqtSignal(object)  # Box

    def __init__(self, session: Session, contrast: Contrast) -> None:
        super().__init__()
        self._session, self._contrast = session, contrast
        self.panes: dict[tuple[str, str], Pane] = {}
        self._parts: dict[str, QRectF | None] = {}  # slice -> what was seen of it when panes were last made anew
        self._area: Any = pg.GraphicsLayoutWidget()
        self._area.ci.layout.setSpacing(3)
        self._area.ci.layout.setContentsMargins(0, 0, 0, 0)
        self._slice = QComboBox()
        self._slice.setToolTip("Which slices are shown flat")
        self.kinds = {kind: _switch(kind, kind in KINDS[:2]) for kind in KINDS}
        self.region = _switch("draw region", False)
        everywhere = QPushButton("whole region")
        everywhere.setToolTip("The trainer takes its samples from the whole field of view again")
        everywhere.clicked.connect(lambda: session.orders.write("trainer", "region", np.zeros(0)))
        self.region.setToolTip("Drag a rectangle in a picture: there the trainer takes its samples from")
        undo, whole, cut = QPushButton("undo move"), QPushButton("whole"), QPushButton("zoom into view")
        cut.setToolTip("Reconstruct what the pictures show of the chosen slice now, with all its pixels")
        whole.setToolTip("Twice as wide and high, up to the whole field of view")
        bar = QToolBar()  # what has no room in it is found behind an arrow
        for widget in (self._slice, *self.kinds.values(), self.region, everywhere, cut, whole, undo):
            bar.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(bar)
        layout.addWidget(self._area)
        undo.clicked.connect(session.undo)
        cut.clicked.connect(self.zoom_into_view)
        whole.clicked.connect(self.widen)
        self._slice.currentTextChanged.connect(self.arrange)
        for button in self.kinds.values():
            button.toggled.connect(self.arrange)
        self.region.toggled.connect(self._draw)
        session.picture.connect(self._show)
        session.placed.connect(self._cross)
        session.slices_changed.connect(self._list)
        session.seen.connect(self._look)
        contrast.changed.connect(self._colour)
        self._area.scene().sigMouseMoved.connect(self._point)
        self._list()

    # ---- which panes there are

    def _list(self) -> None:
        chosen = self._slice.currentText()
        self._slice.blockSignals(True)
        self._slice.clear()
        self._slice.addItems([ALL, *self._session.names])
        self._slice.setCurrentText(chosen if chosen in self._session.names else ALL)
        self._slice.blockSignals(False)
        self.arrange()

    def choose(self, name: str) -> None:
        """Show one slice, or ALL."""
        self._slice.setCurrentText(name)

    @property
    def chosen(self) -> str:
        """The slice that is shown alone; where all are, the first one; "" without any."""
        name = self._slice.currentText()
        return name if name in self._session.names else next(iter(self._session.names), "")

    def arrange(self, *_: Any) -> None:
        """Make the panes anew, and fill them with what there is."""
        names = self._session.names if self._slice.currentText() == ALL else (self.chosen,)
        kinds = [kind for kind, button in self.kinds.items() if button.isChecked()]
        for name, kind in self.panes:
            self._contrast.take(name, kind, GROUPS[kind], None)
        self._parts |= {name: pane.part() for (name, _), pane in self.panes.items()}
        self._area.clear()
        self.panes = {}
        for column, name in enumerate(n for n in names if n):
            for row, kind in enumerate(kinds):
                pane = Pane(name, kind, colour_of(self._session.names, name))
                where = (row, column) if len(names) > 1 else divmod(row, 2 if len(kinds) > 1 else 1)
                self._area.addItem(pane.view, *where)
                pane.view.clicked.connect(lambda point, p=pane: self._clicked(p, point))
                pane.view.stepped.connect(lambda steps, p=pane: self._stepped(p, steps))
                pane.view.drawn.connect(lambda part, p=pane: self._drawn(p, part))
                pane.view.drawing = self.region.isChecked()
                self.panes[name, kind] = pane
            link([pane for (n, _), pane in self.panes.items() if n == name])
        for picture in self._session.pictures.values():
            self._show(picture)
        for key, pane in self.panes.items():
            if (part := self._parts.get(key[0])) is not None:
                pane.show_part(part)
        if not self.panes:
            self._say_empty()
        self._session.show({"raw", "denoised", *kinds} - {"difference"})

    def _say_empty(self) -> None:
        """Words where there is no slice at all."""
        text = why_no_pictures(self._session.devices, self._session.looks)
        if not any(button.isChecked() for button in self.kinds.values()):
            text = "choose what to see of the slices, above"
        self._area.clear()
        self._area.addLabel(escape(text).replace("\n", "<br>"), color="#dcb45a", size="11pt")

    # ---- what they show

    def _show(self, picture: Picture) -> None:
        images = images_of(picture)
        for kind in KINDS:
            pane = self.panes.get((picture.name, kind))
            if pane is None:
                continue
            place, group = picture.place or self._session.places.get(picture.name), picture.group(kind)
            if kind not in images or place is None:
                self._contrast.take(picture.name, kind, group, None)
                pane.say(self._missing(kind, picture))
                continue
            pane.group = group
            self._contrast.take(picture.name, kind, group, images[kind])
            scale = self._contrast.scales[group]
            if scale.levels is None:
                pane.say(f"{kind}: the picture has no numbers")
            else:
                pane.show(images[kind], place, _figures(kind, picture), scale.levels, scale.table)
        self._cross(picture.name)

    def _missing(self, kind: str, picture: Picture) -> str:
        if self._session.source != "denoiser":
            seen = self._session.looks.get("denoiser")
            return f"no {kind} picture: {seen.trouble or seen.status}" if seen else f"no {kind} picture: no denoiser"
        if kind == "difference" and picture.probability:
            return "no difference: the denoised picture is a probability"
        if kind == "uncertainty":
            return "no map: switch on 'uncertainty' of the denoiser"
        return f"no {kind} picture yet"

    def _look(self, seen: Any) -> None:
        """Where no picture is, the words of whoever keeps it back."""
        if not self.panes:
            self._say_empty()
        if seen.member != self._session.source:
            return
        for (name, kind), pane in self.panes.items():
            if pane.values is None and name not in self._session.pictures:
                pane.say(f"{kind}: {seen.trouble or seen.status}")
        self._frame_region()

    def _colour(self, group: str) -> None:
        scale = self._contrast.scales[group]
        for pane in self.panes.values():
            if pane.group == group and scale.levels is not None and pane.values is not None:
                pane.colour(scale.levels, scale.table)

    def _cross(self, _: str = "") -> None:
        """Draw where the slices, as they are wanted now, cut the pictures."""
        for (name, _kind), pane in self.panes.items():
            for other, place in self._session.places.items():
                if other != name and pane.place is not None:
                    colour = colour_of(self._session.names, other)
                    pane.cross(other, placing.crossing(pane.place, place), colour)

    def _frame_region(self) -> None:
        region = self._session.value("trainer", "region")
        for pane in self.panes.values():
            if pane.place is not None:
                box = tuple(region) if region is not None and np.shape(region) == (6,) else None
                pane.frame_region(placing.cut_of_box(pane.place, box) if box else None)

    # ---- what the mouse does

    def _clicked(self, pane: Pane, point: QPointF) -> None:
        if pane.place is None or pane.view.drawing:
            return
        target = placing.at(pane.place, *pane.fractions(point))
        others = [name for name in self._session.places if name != pane.name]
        if others:
            self._session.begin_move(*others)
        for name in others:
            self._session.move(name, placing.through(self._session.places[name], target))

    def _stepped(self, pane: Pane, steps: int) -> None:
        place = self._session.places.get(pane.name)
        if place is not None:
            self._session.begin_move(pane.name, joins=True)
            across = placing.normal(place) * steps * 2 * min(place.pixel_mm)
            self._session.move(pane.name, placing.shifted(place, across))

    def _draw(self, on: bool) -> None:
        for pane in self.panes.values():
            pane.view.drawing = on

    def _drawn(self, pane: Pane, part: QRectF) -> None:
        self.region.setChecked(False)
        around = self.field_of_view()
        if pane.place is None or around is None:
            self._session.said.emit("region: expected a picture and a preview volume to draw it in, got none yet", True)
            return
        (left, top), (right, bottom) = (pane.fractions(p) for p in (part.topLeft(), part.bottomRight()))
        try:
            self.region_drawn.emit(placing.region_of(pane.place, left, top, right, bottom, around))
        except ValueError as error:
            self._session.said.emit(f"region: {error}", True)

    def field_of_view(self) -> Box | None:
        """The upright box around the preview volume; None: not known yet."""
        twelve, size = (self._session.value("reconstructor", f"preview_{n}") for n in ("geometry", "size"))
        if np.shape(twelve) != (12,):
            return None
        origin, u, v, step = np.reshape(twelve, (4, 3))
        start = origin - step / 2
        corners = np.array([start + a * u + b * v + c * step * size for a in (0, 1) for b in (0, 1) for c in (0, 1)])
        x0, y0, z0, x1, y1, z1 = (float(n) for n in (*corners.min(axis=0), *corners.max(axis=0)))
        return x0, y0, z0, x1, y1, z1

    def zoom_into_view(self) -> None:
        """Bring the chosen slice to what its pane shows of it."""
        name = self.chosen
        pane = next((p for (n, _), p in self.panes.items() if n == name and p.place is not None), None)
        if pane is None or pane.place is None:
            return
        part = pane.view.viewRect()
        (left, top), (right, bottom) = (pane.fractions(p) for p in (part.topLeft(), part.bottomRight()))
        middle, size = ((left + right) / 2, (top + bottom) / 2), min(right - left, bottom - top)
        edges = (middle[0] - size / 2, middle[1] - size / 2, middle[0] + size / 2, middle[1] + size / 2)
        self._session.begin_move(name)
        self._session.move(name, placing.cut_out(pane.place, *edges))

    def widen(self) -> None:
        """Twice the edges for the chosen slice, no more than the field of view; then it lies in its middle."""
        name, around = self.chosen, self.field_of_view()
        place = self._session.places.get(name)
        if place is None or around is None:
            return
        most = max(around[3] - around[0], around[4] - around[1], around[5] - around[2])
        longest = float(max(np.linalg.norm(place.u_mm), np.linalg.norm(place.v_mm)))
        wide = placing.zoomed(place, min(2.0, most / longest))
        if 2 * longest >= most:
            middle = (np.array(around[:3]) + np.array(around[3:])) / 2
            in_plane = middle - wide.center_mm
            across = placing.normal(wide)
            wide = placing.shifted(wide, in_plane - across * (across @ in_plane))
        self._session.begin_move(name)
        self._session.move(name, wide)

    def _point(self, position: QPointF) -> None:
        """What is under the mouse, in words."""
        for (name, _), pane in self.panes.items():
            if not pane.view.sceneBoundingRect().contains(position) or pane.place is None:
                continue
            point = pane.view.mapSceneToView(position)
            x, y, z = placing.at(pane.place, *pane.fractions(point))
            found = [(p, p.value_at(point)) for (n, _), p in self.panes.items() if n == name]
            values = "   ".join(f"{p.kind} {v:.5g} {UNITS[p.group]}".rstrip() for p, v in found if v is not None)
            self.pointed.emit(f"{name}   x {x:.3f}  y {y:.3f}  z {z:.3f} mm   {values}")
            return


def _switch(text: str, on: bool) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setChecked(on)
    return button


def _figures(kind: str, picture: Picture) -> str:
    number, quality = picture.figures.get("frame_number"), picture.figures.get("quality")
    if kind == "denoised" and quality is not None and np.isfinite(quality):
        return f"frame {number:.0f}, {quality:.1f} dB less noise"
    return "" if number is None else f"frame {number:.0f}"
