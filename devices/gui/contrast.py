"""Levels and colours: a histogram that is dragged, for each group of pictures (see GROUPS) apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QCheckBox, QComboBox, QGridLayout, QPushButton, QWidget

from devices.watch.pictures import UNITS
from tango_jit.view.display import even_levels, following, levels

Image = NDArray[np.float32]

MAPS = {
    "grey": "CET-L1",
    "viridis": "viridis",
    "magma": "magma",
    "inferno": "inferno",
    "cividis": "cividis",
    "blue to red": "CET-D4",
}
FIRST = {"attenuation": "grey", "probability": "grey", "difference": "blue to red", "uncertainty": "magma"}
BINS = 200


@dataclass
class Scale:
    """Of one group of images: levels (None: no image yet), colours, and do the levels follow the images."""

    map: str
    levels: tuple[float, float] | None = None
    follows: bool = True
    images: dict[tuple[str, str], Image] = field(default_factory=dict)

    @property
    def table(self) -> NDArray[np.uint8]:
        """(256, 3)."""
        colours: Any = pg.colormap.get(MAPS[self.map])
        return colours.getLookupTable(nPts=256, alpha=False)


class Contrast(QWidget):
    """Shows the scale of one group, and changes it."""

    changed = pyqtSignal(str)  # the group whose levels or colours are others now

    def __init__(self) -> None:
        super().__init__()
        self.scales = {group: Scale(table) for group, table in FIRST.items()}
        self.scales["probability"].levels, self.scales["probability"].follows = (0.0, 1.0), False
        self._group, self._maps, self._follows = QComboBox(), QComboBox(), QCheckBox("follow")
        self._group.addItems(list(self.scales))
        self._maps.addItems(list(MAPS))
        self._follows.setToolTip("The levels follow the pictures: 0.5 % of all pixels are below, and above")
        fit = QPushButton("fit")
        fit.setToolTip("Fit the levels to the pictures once")
        self._histogram: Any = pg.HistogramLUTWidget(fillHistogram=True)
        self._histogram.item.gradient.hide()
        self._histogram.setMinimumSize(110, 120)
        layout = QGridLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(self._group, 0, 0, 1, 2)
        layout.addWidget(self._maps, 1, 0, 1, 2)
        layout.addWidget(self._follows, 2, 0)
        layout.addWidget(fit, 2, 1)
        layout.addWidget(self._histogram, 3, 0, 1, 2)
        self._group.currentTextChanged.connect(self._show)
        self._maps.currentTextChanged.connect(self._choose_map)
        self._follows.toggled.connect(self._follow)
        fit.clicked.connect(lambda: self.fit(self._group.currentText()))
        self._histogram.item.sigLevelsChanged.connect(self._dragged)
        self._show()

    def take(self, name: str, kind: str, group: str, image: Image | None) -> None:
        """The image that a pane shows now, and its group; None: none any more."""
        for scale in self.scales.values():
            scale.images.pop((name, kind), None)
        if image is None:
            return
        scale = self.scales[group]
        scale.images[name, kind] = image
        wanted = self._wanted(group)
        new = following(scale.levels, wanted) if scale.follows else scale.levels or wanted
        if new is not None and new != scale.levels:
            self.set_levels(group, new)
        elif group == self._group.currentText():
            self._draw_histogram()

    def fit(self, group: str) -> None:
        wanted = self._wanted(group)
        if wanted is not None:
            self.set_levels(group, wanted)

    def set_levels(self, group: str, wanted: tuple[float, float]) -> None:
        """In the unit of the group."""
        self.scales[group].levels = wanted
        if group == self._group.currentText():
            self._show()
        self.changed.emit(group)

    def _wanted(self, group: str) -> tuple[float, float] | None:
        images: Iterable[Image] = self.scales[group].images.values()
        return even_levels(images) if group == "difference" else levels(images)

    def _show(self, *_: str) -> None:
        scale = self.scales[self._group.currentText()]
        self._histogram.item.axis.setLabel(UNITS[self._group.currentText()])
        for widget in (self._maps, self._follows, self._histogram.item):
            widget.blockSignals(True)
        self._maps.setCurrentText(scale.map)
        self._follows.setChecked(scale.follows)
        if scale.levels is not None:
            self._histogram.item.setLevels(*scale.levels)
        self._draw_histogram()
        for widget in (self._maps, self._follows, self._histogram.item):
            widget.blockSignals(False)

    def _draw_histogram(self) -> None:
        scale = self.scales[self._group.currentText()]
        values = [image.ravel()[:: max(1, image.size // 20_000)] for image in scale.images.values()]
        merged = np.concatenate(values) if values else np.zeros(0, np.float32)
        merged = merged[np.isfinite(merged)]
        if len(merged):
            counts, edges = np.histogram(merged, BINS)
            self._histogram.item.plot.setData((edges[:-1] + edges[1:]) / 2, np.sqrt(counts))

    def _choose_map(self, name: str) -> None:
        group = self._group.currentText()
        self.scales[group].map = name
        self.changed.emit(group)

    def _follow(self, on: bool) -> None:
        group = self._group.currentText()
        self.scales[group].follows = on
        if on:
            self.fit(group)

    def _dragged(self) -> None:
        group = self._group.currentText()
        low, high = (float(x) for x in self._histogram.item.getLevels())
        self.scales[group].levels = (low, high)
        self.scales[group].follows = False
        self._follows.blockSignals(True)
        self._follows.setChecked(False)
        self._follows.blockSignals(False)
        self.changed.emit(group)
