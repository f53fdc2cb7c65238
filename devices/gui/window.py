"""The operator window: slices in space and flat, curves, controls, settings, a journal."""

# pyright: reportIncompatibleMethodOverride=false
# (In the stubs of Qt the parameters of event handlers have no names of their own.)

from __future__ import annotations

from collections.abc import Mapping

from PyQt6.QtCore import QEvent, QSettings, QSize, Qt, QTimer
from PyQt6.QtGui import QCloseEvent, QShowEvent
from PyQt6.QtWidgets import (
    QDockWidget,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from devices.gui.contrast import Contrast
from devices.gui.controls import Controls
from devices.gui.curves import Curves
from devices.gui.grid import Grid
from devices.gui.journal import Journal
from devices.gui.numbers import Numbers
from devices.gui.session import Session
from devices.gui.settings import Settings
from devices.gui.space import Space
from devices.watch.look import Seen
from tango_jit.view.placing import Box

COLOURS = {
    "RUNNING": "#3f9a55",
    "STANDBY": "#8a8f3a",
    "INIT": "#4a78a8",
    "ALARM": "#c98a2b",
    "FAULT": "#c0483f",
    "UNKNOWN": "#7a5a9a",
}
GONE = "#555a62"
NARROW = 1300  # pixels
TROUBLE_MS = 20_000


class Window(QMainWindow):
    """One window for one set of devices. `remember`: where its panels are is kept for the next time."""

    def __init__(self, devices: Mapping[str, str], *, remember: bool = True) -> None:
        super().__init__()
        self.session = Session(devices)
        self._remember = remember
        self.setWindowTitle(f"tango-jit   {devices.get('denoiser', next(iter(devices.values()), ''))}")
        screen = self.screen()
        self.resize(QSize(1680, 1000) if screen is None else QSize(1680, 1000).boundedTo(screen.availableSize()))
        self.contrast = Contrast()
        self.grid, self.space = Grid(self.session, self.contrast), Space(self.session, self.contrast)
        self.curves, self.controls = Curves(self.session), Controls(self.session)
        self.numbers, self.settings = Numbers(self.session), Settings(self.session)
        self.journal = Journal(self.session)
        self._pills: dict[str, QLabel] = {}
        self.setCentralWidget(self.grid)
        self.addToolBar(self._devices())
        left, right, bottom = (
            Qt.DockWidgetArea.LeftDockWidgetArea,
            Qt.DockWidgetArea.RightDockWidgetArea,
            Qt.DockWidgetArea.BottomDockWidgetArea,
        )
        self.setCorner(Qt.Corner.BottomRightCorner, right)
        space = self._dock("3-D", self._with_slider(), left)
        place = self._dock("slice", self._scrolled(self.numbers), left)
        journal = self._dock("journal", self.journal, left)
        self.tabifyDockWidget(journal, place)
        contrast = self._dock("contrast", self.contrast, right)
        controls = self._dock("controls", self._scrolled(self.controls), right)
        settings = self._dock("settings", self.settings, right)
        self.tabifyDockWidget(controls, settings)
        controls.raise_()
        curves = self._dock("curves", self.curves, bottom)
        self._sizes = (
            ([curves], [210], Qt.Orientation.Vertical),
            ([space, contrast], [400, 300], Qt.Orientation.Horizontal),
            ([space, place, contrast, controls], [400, 380, 330, 450], Qt.Orientation.Vertical),
        )
        self._on_the_right, self._place = (contrast, settings, controls), place
        self._shown = False
        self._tell("")  # the line is there from the start: nothing moves when it has words
        self.grid.pointed.connect(self._tell)
        self.space.pointed.connect(self._tell)
        self.space.chosen.connect(self.numbers.choose)
        self.grid.region_drawn.connect(self._take_region)
        self.session.seen.connect(self._look)
        self.session.said.connect(self._said)

    # ---- how it is put together

    def _devices(self) -> QToolBar:
        bar = QToolBar("devices")
        bar.setObjectName("devices")
        bar.setMovable(False)
        for member, device in self.session.devices.items():
            pill = QLabel(member)
            pill.setToolTip(device)
            pill.setStyleSheet(_pill(GONE))
            bar.addWidget(pill)
            self._pills[member] = pill
        self.sentence = _Sentence("looking for the devices")
        bar.addWidget(self.sentence)
        return bar

    def _with_slider(self) -> QWidget:
        page, slider = QWidget(), QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, 100)
        slider.setValue(round(100 * self.space.opacity))
        slider.setToolTip("How much of the preview volume is seen")
        slider.valueChanged.connect(self.space.set_opacity)
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.space, 1)
        layout.addWidget(slider)
        return page

    def _scrolled(self, widget: QWidget) -> QScrollArea:
        area = QScrollArea()
        area.setWidget(widget)
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(widget.minimumSizeHint().width() + 18)
        return area

    def _dock(self, title: str, widget: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        dock.setWidget(widget)
        self.addDockWidget(area, dock)
        return dock

    def _restore(self) -> None:
        if not self._remember:
            return
        kept = QSettings("tango-jit", "window")
        if kept.contains("geometry"):
            self.restoreGeometry(kept.value("geometry"))
            self.restoreState(kept.value("state"))

    # ---- what it tells

    def _look(self, seen: Seen) -> None:
        pill = self._pills[seen.member]
        pill.setStyleSheet(_pill(GONE if seen.trouble else COLOURS.get(seen.state, COLOURS["UNKNOWN"])))
        pill.setText(f"{seen.member}  {'no answer' if seen.trouble else seen.state}")
        pill.setToolTip(f"{seen.device}\n{seen.trouble or seen.status}")
        self.sentence.setText("  " + self._summary().replace("\n", "; "))
        self.sentence.setToolTip(self.sentence.text())

    def _summary(self) -> str:
        """What the supervisor says of all; without it, who is in trouble."""
        supervisor = self.session.looks.get("supervisor")
        looks = [s for s in self.session.looks.values() if s.member != "supervisor"]
        if supervisor is not None and not supervisor.trouble:
            told = [supervisor.status]
        else:
            told = [f"{s.member}: {s.trouble or s.status}" for s in looks if s.trouble or s.state in ("ALARM", "FAULT")]
        silent = [s.member for s in looks if not s.trouble and not s.events]
        if silent:
            told.append(f"no events of {', '.join(silent)}: new pictures are seen once a second")
        return "; ".join(told) or "all devices answer"

    def _tell(self, text: str, for_ms: int = 0) -> None:
        bar = self.statusBar()
        assert bar is not None
        bar.showMessage(text, for_ms)

    def _said(self, text: str, trouble: bool) -> None:
        if trouble:  # the journal keeps it; here it would soon be of the past
            self._tell(text, TROUBLE_MS)

    def _take_region(self, box: Box) -> None:
        self.session.orders.write("trainer", "region", list(box))

    # ---- its life

    def showEvent(self, event: QShowEvent | None) -> None:
        """Panels have sizes once the window has one."""
        super().showEvent(event)
        if not self._shown:
            self._shown = True
            QTimer.singleShot(0, self._arrange)

    def _arrange(self) -> None:
        if self.width() < NARROW:
            for dock in self._on_the_right:  # where pictures would have no room beside them
                self.tabifyDockWidget(self._place, dock)
            self._place.raise_()
        for docks, sizes, direction in self._sizes:
            self.resizeDocks(docks, sizes, direction)
        self._restore()

    def changeEvent(self, event: QEvent | None) -> None:
        """A window that is put away reads no pictures."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.WindowStateChange:
            self.session.watch(not self.isMinimized())

    def closeEvent(self, event: QCloseEvent | None) -> None:
        if self._remember:
            kept = QSettings("tango-jit", "window")
            kept.setValue("geometry", self.saveGeometry())
            kept.setValue("state", self.saveState())
        self.hide()
        self.session.close()
        super().closeEvent(event)


class _Sentence(QLabel):
    """A text that takes the room there is, and asks for none."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def sizeHint(self) -> QSize:
        return QSize(40, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()


def _pill(colour: str) -> str:
    return f"background:{colour}; color:white; border-radius:7px; padding:2px 7px; margin:1px 2px; font-weight:600"
