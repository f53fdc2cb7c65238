"""Plots of a report: figures against targets, and every curve that a suite drew, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed, and none is asked for
from matplotlib import pyplot

from sim.bench.report import Report
from sim.bench.rows import Row, Series

LOGARITHMIC = ("sizes",)  # plots whose axes are both logarithmic
DISTRIBUTIONS = ("latency",)  # cumulative
SUPTITLES = {
    "sizes": "Time over size: one side of the image, in pixels",
    "latency": "From the arrival of the last needed frame to the denoised slice",
    "memory": "Memory of the servers",
    "sustained": "Frames that are due, and frames that arrive",
}
MET, MISSED = "#3a7d44", "#b23a48"


def draw(report: Report, folder: Path) -> list[Path]:
    """Write the PNGs; returns their paths. A plot has a panel for each suite and for each label of its y axis."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    aimed = [row for row in report.rows if row.target is not None and row.value is not None]
    if aimed:
        paths.append(_saved(_targets(aimed), folder / "targets.png"))
    for plot in dict.fromkeys(series.plot for series in report.series):
        curves = [series for series in report.series if series.plot == plot]
        paths.append(_saved(_curves(plot, curves), folder / f"{plot}.png"))
    return paths


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _targets(rows: Sequence[Row]) -> Any:
    """How many times better than its target each figure is, on a logarithmic axis: right of 1 it is met."""
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.3 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        shown = _times_better(row)
        axes.barh(place, math.log2(shown), color=MET if row.met else MISSED)
        text = f" {row.value:.3g} {row.unit} "
        axes.text(math.log2(shown), place, text, va="center", ha="left" if shown >= 1 else "right", fontsize=7)
    axes.set_yticks(range(len(rows)), [f"{row.suite}: {row.name}"[:90] for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.2)
    axes.set_xlim(min(axes.get_xlim()[0], -1), max(axes.get_xlim()[1], 1))
    axes.xaxis.set_major_formatter(lambda value, _: f"{2.0**value:.3g}x")
    axes.set_xlabel("times better than the target (1: just met)")
    figure.suptitle("Figures against their targets")
    return figure


def _times_better(row: Row) -> float:
    """Of a figure with a target, from 1/16 to 16."""
    assert row.value is not None and row.target is not None
    if row.better == "higher":
        times = row.value / row.target
    elif row.target == 0:
        times = 1.0 if row.value <= 0 else 1 / 16
    else:
        times = row.target / row.value if row.value > 0 else 16.0
    return min(max(times, 1 / 16), 16.0)


def _curves(plot: str, curves: Sequence[Series]) -> Any:
    panels = list(dict.fromkeys((series.suite, series.y_label) for series in curves))
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(1.5 + 4.2 * len(panels), 4.2), layout="constrained", squeeze=False
    )
    for axes, panel in zip(grid[0], panels, strict=True):
        inside = [series for series in curves if (series.suite, series.y_label) == panel]
        for series in inside:
            marker = "o" if len(series.x) < 20 else None
            style = "steps-post" if plot in DISTRIBUTIONS else "default"
            axes.plot(series.x, series.y, marker=marker, markersize=3, drawstyle=style, label=series.curve)
        if plot in LOGARITHMIC:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
        axes.set_xlabel(inside[0].x_label)
        axes.set_ylabel(panel[1])
        if len({suite for suite, _ in panels}) > 1:
            axes.set_title(panel[0], fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.suptitle(SUPTITLES.get(plot, plot))
    return figure
