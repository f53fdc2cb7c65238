"""The last hour as curves: accuracy with its band, loss, rates, buffers, latency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyqtgraph as pg
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QVBoxLayout, QWidget

from devices.gui.figures import Figures
from devices.gui.session import Session
from devices.watch.history import LENGTH_S, History
from devices.watch.look import Seen
from devices.watch.plots import GREY, PLOTS, RED, Curve, Followed, Plot, accuracy_in_words, followed

FADED = 60
HEADING_PX = 44  # three lines
LINE = 24  # letters


class _Drawn:
    """One curve in its plot, with its band."""

    def __init__(self, followed: Followed, plot: pg.PlotItem) -> None:
        self.followed = followed
        curve = followed.curve
        self._line = plot.plot(pen=pg.mkPen(curve.colour, width=1.5), connect="finite")
        unseen = pg.mkPen(style=Qt.PenStyle.NoPen)  # without a pen a curve has no points for the band either
        self._edges = [plot.plot(pen=unseen, connect="finite") for _ in range(2)] if curve.band else []
        if self._edges:
            plot.addItem(pg.FillBetweenItem(*self._edges, brush=pg.mkBrush(*curve.colour, FADED)), ignoreBounds=True)

    def take(self, seen: Seen) -> None:
        self.followed.take(seen)
        self._line.setData(*self.followed.history.array())
        if self._edges:
            for edge, history in zip(self._edges, (self.followed.low, self.followed.high), strict=True):
                edge.setData(*history.array())


class Curves(QWidget):
    """All plots over the same time. Jumps of the experiment are upright lines in each."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._area: Any = pg.GraphicsLayoutWidget()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._area)
        self._drawn: list[_Drawn] = []
        self._plots: list[pg.PlotItem] = []
        self._lines: list[tuple[float, pg.PlotItem, pg.InfiniteLine]] = []
        self.setMinimumHeight(130)
        for column, (plot, curves) in enumerate(followed()):
            self._add(column, plot, curves)
        session.seen.connect(self._take)
        session.jumped.connect(self._mark)

    @property
    def histories(self) -> Mapping[tuple[str, str], History]:
        """By member and attribute."""
        curves = [drawn.followed for drawn in self._drawn]
        return {(one.curve.member, one.curve.attribute): one.history for one in curves}

    def _add(self, column: int, plot: Plot, curves: list[Followed]) -> None:
        axes = {"bottom": pg.DateAxisItem(orientation="bottom"), "left": Figures(orientation="left")}
        item = self._area.addPlot(0, column, axisItems=axes)
        _entitle(item, f"{plot.title}{f' ({plot.unit})' if plot.unit else ''}", plot.curves)
        item.showGrid(x=True, y=True, alpha=0.2)
        item.setLogMode(y=plot.logarithmic)
        item.setClipToView(True)
        if plot.title == "accuracy":
            for level in (0.5, 1.0):
                item.addItem(pg.InfiniteLine(level, angle=0, pen=pg.mkPen(*GREY, 120, style=Qt.PenStyle.DotLine)))
        if self._plots:
            item.setXLink(self._plots[0])
        self._plots.append(item)
        self._area.ci.layout.setColumnStretchFactor(column, 3 if column == 0 else 2)
        self._area.ci.layout.setColumnMinimumWidth(column, 60)
        self._drawn += [_Drawn(curve, item) for curve in curves]

    def _take(self, seen: Seen) -> None:
        for one in self._drawn:
            if one.followed.curve.member == seen.member:
                one.take(seen)
        if seen.member == "denoiser":
            _entitle(self._plots[0], accuracy_in_words(seen.values), PLOTS[0].curves)

    def _mark(self, at_s: float, text: str) -> None:
        for number, plot in enumerate(self._plots):
            label = {"label": "jump", "labelOpts": {"position": 0.95, "color": RED}} if number == 0 else {}
            line = pg.InfiniteLine(at_s, angle=90, pen=pg.mkPen(*RED, 180, style=Qt.PenStyle.DashLine), **label)
            line.setToolTip(text)
            plot.addItem(line, ignoreBounds=True)
            self._lines.append((at_s, plot, line))
        for old in [one for one in self._lines if one[0] < at_s - LENGTH_S]:
            old[1].removeItem(old[2])
            self._lines.remove(old)


def _entitle(item: Any, text: str, curves: Iterable[Curve]) -> None:
    """Above a plot what it shows, and the names of its curves in their colours: a legend would lie over them."""
    lines, length = [""], 0
    named = list(curves)
    for curve in named if len(named) > 1 else ():
        if length and length + len(curve.title) > LINE:
            lines.append("")
            length = 0
        length += len(curve.title)
        lines[-1] += f" <span style='color:rgb{curve.colour}'>{curve.title.replace(' ', '&nbsp;')}</span>&nbsp;"
    item.setTitle("<br>".join([text, *(f"<span style='font-size:8pt'>{line}</span>" for line in lines)]), size="9pt")
    item.titleLabel.setMaximumHeight(HEADING_PX)
    item.layout.setRowFixedHeight(0, HEADING_PX)
