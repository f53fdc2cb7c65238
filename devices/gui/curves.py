"""The last hour as curves: accuracy with its band, loss, rates, buffers, latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QVBoxLayout, QWidget

from devices.gui.history import LENGTH_S, History
from devices.gui.look import Seen
from devices.gui.session import Session

FADED = 60
BLUE, ORANGE, GREEN, RED, GREY = (92, 150, 255), (235, 160, 60), (96, 200, 110), (232, 96, 88), (170, 170, 175)


class Curve(NamedTuple):
    """One figure: whose attribute it is, its name in the legend, its colour; `band` is an attribute that says how
    far it may be off, `history` one that has its past. `scale` multiplies what is read."""

    member: str
    attribute: str
    title: str
    colour: tuple[int, int, int]
    band: str = ""
    history: str = ""
    scale: float = 1.0


class Plot(NamedTuple):
    title: str
    unit: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False


PLOTS = (
    Plot(
        "accuracy",
        "",
        (
            Curve("denoiser", "accuracy", "slices", BLUE, "accuracy_band", "accuracy_history"),
            Curve("trainer", "patch_accuracy", "patches", ORANGE, "patch_accuracy_band", "accuracy_history"),
        ),
    ),
    Plot("loss", "", (Curve("trainer", "loss", "loss", ORANGE),), True),
    Plot(
        "rates",
        "1/s",
        (
            Curve("detector", "actual_rate_hz", "frames sent", GREY),
            Curve("reconstructor", "frame_rate_hz", "frames", RED),
            Curve("trainer", "steps_per_s", "steps", ORANGE),
            Curve("trainer", "samples_per_s", "pairs", GREEN),
            Curve("denoiser", "rate_hz", "pictures", BLUE),
        ),
        True,
    ),
    Plot(
        "fill",
        "%",
        (
            Curve("trainer", "buffer_fill", "buffer", ORANGE, scale=100),
            Curve("reconstructor", "fill", "window", RED, scale=100),
            Curve("denoiser", "share", "shown of the network", BLUE),
        ),
    ),
    Plot(
        "latency",
        "ms",
        (
            Curve("reconstructor", "latency_ms", "reconstructed", RED),
            Curve("denoiser", "latency_ms", "denoised", BLUE),
            Curve("detector", "lateness_ms", "detector late", GREY),
        ),
        True,
    ),
)


class _Drawn:
    """One curve in its plot, with its history and band."""

    def __init__(self, curve: Curve, plot: pg.PlotItem, logarithmic: bool) -> None:
        self.curve, self.history = curve, History()
        self._low, self._high = History(), History()
        self._logarithmic = logarithmic
        self._line = plot.plot(name=curve.title, pen=pg.mkPen(curve.colour, width=1.5), connect="finite")
        unseen = pg.mkPen(style=Qt.PenStyle.NoPen)  # without a pen a curve has no points for the band either
        self._edges = [plot.plot(pen=unseen, connect="finite") for _ in range(2)] if curve.band else []
        if self._edges:
            plot.addItem(pg.FillBetweenItem(*self._edges, brush=pg.mkBrush(*curve.colour, FADED)), ignoreBounds=True)
        self._remembered = False

    def take(self, seen: Seen) -> None:
        value = seen.values.get(self.curve.attribute)
        number = np.nan if value is None else self.curve.scale * float(value)
        if self._logarithmic and not number > 0:
            number = np.nan
        if not self._remembered and self.curve.history and not seen.trouble:
            past = np.array(seen.values.get(self.curve.history) or np.zeros((2, 0)), np.float64)
            if past.ndim == 2 and past.shape[0] == 2 and past.size:
                past[0] -= max(past[0, -1] - seen.at_s, 0)  # the clock of its computer is ahead of ours
                self.history.before(past.T)
            self._remembered = True
        self.history.add(seen.at_s, number)
        if self._edges:
            told = seen.values.get(self.curve.band)
            band = np.nan if told is None else float(told)
            self._low.add(seen.at_s, number - band)
            self._high.add(seen.at_s, number + band)

    def draw(self) -> None:
        self._line.setData(*self.history.array())
        if self._edges:
            for edge, history in zip(self._edges, (self._low, self._high), strict=True):
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
        self._jumps = -1
        self._lines: list[tuple[float, pg.PlotItem, pg.InfiniteLine]] = []
        self.setMinimumHeight(130)
        for column, plot in enumerate(PLOTS):
            self._add(column, plot)
        session.seen.connect(self._take)

    @property
    def histories(self) -> Mapping[tuple[str, str], History]:
        """By member and attribute."""
        return {(d.curve.member, d.curve.attribute): d.history for d in self._drawn}

    def _add(self, column: int, plot: Plot) -> None:
        axis = pg.DateAxisItem(orientation="bottom")
        item = self._area.addPlot(0, column, axisItems={"bottom": axis})
        item.setTitle(f"{plot.title}{f' ({plot.unit})' if plot.unit else ''}", size="9pt")
        item.showGrid(x=True, y=True, alpha=0.2)
        item.addLegend(offset=(4, 2), labelTextSize="7pt", verSpacing=-8, colCount=2, brush=pg.mkBrush(29, 31, 35, 190))
        item.setLogMode(y=plot.logarithmic)
        if plot.logarithmic:
            item.getAxis("left").setStyle(maxTickLevel=0)  # decades; the others lie over each other
        item.setClipToView(True)
        if plot.title == "accuracy":
            for level in (0.5, 1.0):
                item.addItem(pg.InfiniteLine(level, angle=0, pen=pg.mkPen(*GREY, 120, style=Qt.PenStyle.DotLine)))
        if self._plots:
            item.setXLink(self._plots[0])
        self._plots.append(item)
        self._area.ci.layout.setColumnStretchFactor(column, 3 if column == 0 else 2)
        self._area.ci.layout.setColumnMinimumWidth(column, 60)
        self._drawn += [_Drawn(curve, item, plot.logarithmic) for curve in plot.curves]

    def _take(self, seen: Seen) -> None:
        for one in self._drawn:
            if one.curve.member == seen.member:
                one.take(seen)
                one.draw()
        if seen.member == "denoiser":
            self._tell_validity(seen)
        if seen.member == "trainer" and not seen.trouble:
            jumps = int(seen.values.get("jumps") or 0)
            if 0 <= self._jumps < jumps:
                self._mark(seen.at_s, str(seen.values.get("last_jump") or "jump"))
            self._jumps = jumps

    def _tell_validity(self, seen: Seen) -> None:
        """In the title of the accuracy: what it is, how sure, and what it rests on."""
        accuracy, band = seen.values.get("accuracy"), seen.values.get("accuracy_band")
        if accuracy is None or not np.isfinite(accuracy):
            text = "not known"
        else:
            text = f"{accuracy:.3f}"
            text += f" ± {band:.3f}" if band is not None and np.isfinite(band) else ""
            text += " · below 0.5: streaks or motion" if accuracy < 0.5 else ""
        evidence = seen.values.get("evidence")
        told = {"TURNS": "against the turn before", "HALVES": "half against half"}.get(str(evidence), "no evidence")
        guard = " · guard shows raw" if seen.values.get("guard_active") else ""
        self._plots[0].setTitle(f"accuracy {text} ({told}){guard}", size="9pt")

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
