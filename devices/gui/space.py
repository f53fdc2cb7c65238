"""The slices in space, with the preview volume around them; moved and turned by mouse."""

# pyright: reportIncompatibleMethodOverride=false
# (In the stubs of Qt the parameters of event handlers have no names of their own.)

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPoint, QPointF, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent, QWheelEvent
from PyQt6.QtWidgets import QWidget

from devices.gui.contrast import Contrast
from devices.gui.session import Session
from devices.watch.looks import why_no_pictures
from devices.watch.pictures import Preview, colour_of
from devices.watch.worker import Newest
from tango_jit.view import Camera, Haze, Hit, Plane, hit, placing, render, textured, whole
from tango_jit.view.scene import Colours

BACKGROUND = QColor(24, 26, 30)
REST_MS = 200  # after so long without a movement the picture is made in full resolution
MOST_PIXELS = 400_000  # more are stretched: some 50 ms on one core with the preview volume
GREY = np.full((1, 1, 3), 40, np.uint8)
RADIANS_PER_PIXEL = math.radians(0.4)
HELP = (
    "drag a slice: along its normal · Ctrl: in its plane · right button: tilt it · Shift and right button: turn it in "
    "its plane · wheel on a slice with Ctrl: zoom it · drag beside: look from elsewhere · wheel: nearer"
)


class Space(QWidget):
    """The view. What is dragged moves at once; its picture follows with the next update of the reconstructor."""

    pointed = pyqtSignal(str)
    chosen = pyqtSignal(str)  # a slice that was taken by the mouse
    _rendered = pyqtSignal(object, bool)  # QImage, from the thread that renders

    def __init__(self, session: Session, contrast: Contrast) -> None:
        super().__init__()
        self._session, self._contrast = session, contrast
        self.setMouseTracking(True)
        self.setMinimumSize(240, 200)
        self.setToolTip(HELP)
        self.camera = Camera()
        self._fitted = False
        self._haze: Haze | None = None
        self._preview: Preview | None = None
        self.opacity = 0.4
        self._taken: Hit | None = None
        self._name, self._moved = "", False
        self._at = QPoint()
        self._image: QImage | None = None
        self.is_complete = False  # every slice is seen with its picture
        self._coarse, self._textures = False, dict[str, tuple[tuple[object, ...], Colours]]()
        self._worker = Newest("3-D view", lambda text: session.said.emit(f"3-D view: {text}", True))
        session.workers.append(self._worker)
        self._rendered.connect(self._take_image)
        self._soon, self._rest = QTimer(self), QTimer(self)
        for timer in (self._soon, self._rest):
            timer.setSingleShot(True)
        self._soon.timeout.connect(self._draw)
        self._rest.timeout.connect(self._sharpen)
        session.picture.connect(self.redraw)
        session.placed.connect(self.redraw)
        session.preview.connect(self._take_preview)
        contrast.changed.connect(self._recolour)

    def set_opacity(self, percent: int) -> None:
        """Of the preview volume."""
        self.opacity = percent / 100
        self._recolour()

    # ---- the picture

    def redraw(self, *_: object) -> None:
        """Soon; many wishes are one picture."""
        if not self._soon.isActive():
            self._soon.start(15)

    def _move_camera(self, camera: Camera) -> None:
        self.camera = camera
        self._coarse = True
        self._rest.start(REST_MS)
        self.redraw()

    def _sharpen(self) -> None:
        self._coarse = False
        self.redraw()

    def _take_preview(self, preview: Preview) -> None:
        self._preview = preview
        self._recolour()
        if not self._fitted:
            self._fitted = True
            self.fit()

    def fit(self) -> None:
        """Look at the whole field of view."""
        size = max(self.width(), 1), max(self.height(), 1)
        camera = whole(self.camera, self._haze, list(self._session.places.values()), size)
        if camera is not None:
            self._move_camera(camera)

    def _recolour(self, *_: object) -> None:
        levels = self._contrast.scales["attenuation"].levels
        if self._preview is not None:
            volume = self._preview.data
            self._haze = Haze.of(volume, self._preview.twelve, levels or (0.0, float(volume.max())), self.opacity)
        self.redraw()

    def planes(self) -> dict[str, Plane]:
        """The slices where they are wanted, with their newest pictures: that of a new place follows."""
        found = {}
        for name, wanted in self._session.places.items():
            picture = self._session.pictures.get(name)
            image, scale = None, self._contrast.scales["attenuation"]
            if picture is not None:
                kind = "denoised" if "denoised" in picture.images else "raw"
                image, scale = picture.images.get(kind), self._contrast.scales[picture.group(kind)]
            made_of = (id(image), picture and picture.at_s, scale.levels, scale.map)
            if name not in self._textures or self._textures[name][0] != made_of:
                colours = GREY
                if image is not None and scale.levels is not None:
                    colours = textured(image, scale.levels, scale.table)
                self._textures[name] = (made_of, colours)
            colours = self._textures[name][1]
            found[name] = Plane(wanted, colours, colour_of(self._session.names, name))
        return found

    def _draw(self) -> None:
        if not self._fitted and self._session.places:
            self._fitted = True
            self.fit()
        part = (2 if self._coarse or self._taken else 1) * max(
            1.0, math.sqrt(self.width() * self.height() / MOST_PIXELS)
        )
        size = max(int(self.width() / part), 1), max(int(self.height() / part), 1)
        planes, haze, camera = list(self.planes().values()), self._haze, self.camera
        complete = bool(planes) and set(self._session.names) <= set(self._session.pictures)
        self._worker.put("picture", lambda: self._rendered.emit(_image(render(planes, haze, camera, size)), complete))

    def _take_image(self, image: QImage, complete: bool) -> None:
        self._image, self.is_complete = image, complete
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), BACKGROUND)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        box = None if self._haze is None else self._haze.corners_mm
        if box is not None:
            self._box(painter, box, behind=True)
        if self._image is not None:
            painter.drawImage(self.rect(), self._image)
        if box is not None:
            self._box(painter, box, behind=False)
        if self._image is None or not self._session.places:
            painter.setPen(QColor(220, 180, 90))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self._why_empty())

    def _why_empty(self) -> str:
        if self._session.places:
            return "preparing the 3-D view ..."
        return why_no_pictures(self._session.devices, self._session.looks)

    def _box(self, painter: QPainter, corners: NDArray[np.float64], *, behind: bool) -> None:
        """The edges of the field of view behind the slices, or in front of them, and the directions of x, y and z."""
        places = self.camera.project(corners, self.width(), self.height())
        farthest = int(np.argmax(places[:, 2]))
        painter.setPen(QPen(QColor(120, 125, 135, 110 if behind else 170), 1))
        for i in range(8):
            for bit in (1, 2, 4):
                j = i ^ bit
                if i < j and (farthest in (i, j)) == behind and min(places[i, 2], places[j, 2]) > 0:
                    painter.drawLine(QPointF(*places[i, :2]), QPointF(*places[j, :2]))
        if not behind:
            low, high = corners.min(axis=0), corners.max(axis=0)
            painter.setPen(QColor(190, 195, 205))
            for axis, letter in enumerate("xyz"):
                end = low.copy()
                end[axis] = high[axis]
                column, row, depth = self.camera.project(end + 0.05 * (end - low), self.width(), self.height())[0]
                if depth > 0:
                    painter.drawText(QPointF(column, row), f"{letter} {high[axis]:.3g} mm")

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        self.redraw()

    # ---- the mouse

    def under(self, position: QPointF) -> tuple[str, Hit | None]:
        """The slice under the mouse, and where."""
        places = self._session.places
        found = hit(list(places.values()), self.camera, position.x(), position.y(), (self.width(), self.height()))
        return ("", None) if found is None else (list(places)[found.index], found)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        assert event is not None
        self._name, self._taken = self.under(event.position())
        self._at = event.pos()
        self._moved = False
        if self._taken is not None:
            self.chosen.emit(self._name)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        assert event is not None
        if event.buttons() == Qt.MouseButton.NoButton:
            name, found = self.under(event.position())
            if found is not None:
                x, y, z = found.point_mm
                self.pointed.emit(f"{name}   x {x:.3f}  y {y:.3f}  z {z:.3f} mm")
            return
        moved = event.pos() - self._at
        self._at = event.pos()
        if self._taken is None:
            self._move_camera(self.camera.orbited(-moved.x() * RADIANS_PER_PIXEL, moved.y() * RADIANS_PER_PIXEL))
        elif self._name in self._session.places:
            self._drag(moved, event)

    def _drag(self, moved: QPoint, event: QMouseEvent) -> None:
        if not moved.manhattanLength():
            return
        if not self._moved:
            self._moved = True
            self._session.begin_move(self._name)
        place = self._session.places[self._name]
        right, up, _ = self.camera.axes
        shift = (moved.x() * right - moved.y() * up) * self.camera.mm_per_pixel(self.height())
        across = placing.normal(place)
        shifted, control = (
            event.modifiers() & Qt.KeyboardModifier.ShiftModifier,
            (event.modifiers() & Qt.KeyboardModifier.ControlModifier),
        )
        if event.buttons() & Qt.MouseButton.RightButton:
            if shifted:
                place = placing.turned(place, across, moved.x() * RADIANS_PER_PIXEL)
            else:
                axis = moved.x() * up + moved.y() * right  # as a ball is turned by a hand on it
                place = placing.turned(place, axis, math.hypot(moved.x(), moved.y()) * RADIANS_PER_PIXEL)
        elif control:
            place = placing.shifted(place, shift - across * (across @ shift))
        else:
            place = placing.shifted(place, across * self._along(across, moved))
        self._session.move(self._name, place)

    def _along(self, across: NDArray[np.float64], moved: QPoint) -> float:
        """How far along a direction the mouse was moved, in mm: as the direction appears in the picture."""
        ends = self.camera.project(
            [self._session.places[self._name].center_mm + n * across for n in (0.0, 1.0)], self.width(), self.height()
        )
        seen = ends[1, :2] - ends[0, :2]
        length = float(seen @ seen)
        slope = self.camera.mm_per_pixel(self.height())
        if length * slope**2 < 0.04:  # it points at the eye: up is away
            return -moved.y() * slope
        return float(np.array([moved.x(), moved.y()]) @ seen) / length

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        self._taken = None
        self.redraw()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        self.fit()

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        assert event is not None
        factor = 1.15 ** (event.angleDelta().y() / 120)
        name, found = self.under(event.position())
        if found is not None and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._session.begin_move(name, joins=True)
            self._session.move(name, placing.zoomed(self._session.places[name], 1 / factor, found.point_mm))
        else:
            self._move_camera(self.camera.nearer(factor))


def _image(picture: Colours) -> QImage:
    """Of a picture (height, width, 4), with memory of its own."""
    height, width = picture.shape[:2]
    shown = QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888_Premultiplied)
    return shown.copy()
