"""The figures of the paper, drawn from what was run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.paper.family import FORMS, NAMES
from benchmarks.paper.online import Online, OnlineTV
from benchmarks.paper.plan import online, shifts, trainings
from benchmarks.paper.runs import Shift, Training, longest
from benchmarks.paper.store import Store

Image = NDArray[np.float32]
CLASSES = ("Standard", "C", "V", "Z", "T")
LABELS = {"A": "Experiment (A), soap", "B": "Experiment (B), gel"}
GREY: Mapping[str, Any] = {"cmap": "gray", "interpolation": "nearest"}


def draw(store: Store, folder: Path) -> list[Path]:
    """All figures of which there is anything to show."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, figure in (("fig7", fig7), ("fig8", fig8), ("fig9", fig9), ("fig10", fig10), ("fig11", fig11)):
        drawn = figure(store)
        if drawn is not None:
            path = folder / f"paper_{name}.png"
            drawn.savefig(path, dpi=80)
            plt.close(drawn)
            with Picture.open(path) as picture:  # noise in few colours takes less than half
                few = picture.convert("RGB").quantize(256)
            few.save(path, optimize=True)
            made.append(path)
    return made


def column(curve: list[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in curve]


def fig7(store: Store) -> Figure | None:
    """Six shifts: the old network at home and in the new domain, the one that learned there."""
    done = [run for run in shifts() if isinstance(run, Shift) and store.done(run.name)]
    if not done:
        return None
    figure, grid = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")
    for axes, run in zip(grid.flat, done, strict=False):
        curve = store.result(run.name)["curve"]
        time_s = column(curve, "mark_s")
        axes.plot(time_s, column(curve, "old_at_home"), "C0-", label=f"trained and tested on D: {run.old.domain}")
        axes.plot(time_s, column(curve, "new"), "k--", label=f"trained and tested on E: {run.new.domain}")
        axes.plot(time_s, column(curve, "old"), "ro", markersize=4, label="trained on D, tested on E")
        axes.set(title=f"{run.title}: error {curve[-1]['error']:+.3f}", xscale="log", ylim=(0.5, 1.05))
        axes.legend(fontsize=7)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy (1: none, 0.5: perfect)")
    for axes in grid[1]:
        axes.set_xlabel("training, seconds of one core")
    return figure


def fig8(store: Store) -> Figure | None:
    """Accuracy over training time."""
    found = [longest(store, run.network, run.form, run.domain) for run in trainings()]
    done = [run for run in found if run is not None]
    if not done:
        return None
    figure, grid = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    colors = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(run.network for run in done))}
    for axes, domain in zip(grid, LABELS, strict=True):
        for run in (run for run in done if run.domain == domain):
            curve = store.result(run.name)["curve"]
            line = "-" if run.form == FORMS[0] else ":"
            label = run.network if run.form == FORMS[0] else f"{run.network}, as released"
            time_s, accuracy = column(curve, "spent_s"), column(curve, "accuracy")
            axes.plot(time_s, accuracy, line, color=colors[run.network], marker=".", label=label)
        axes.set(title=LABELS[domain], xscale="log", ylim=(0.5, 0.8), xlabel="training, seconds of one core")
        axes.legend(fontsize=8)
    grid[0].set_ylabel("accuracy on held-out samples")
    return figure


def best_of_classes(store: Store, domain: str) -> dict[str, Training]:
    """The one of the best accuracy in each class of Table 1, in the true form, of those that were run."""
    found: dict[str, tuple[float, Training]] = {}
    for name in NAMES:
        run = longest(store, name, FORMS[0], domain)
        kind = name if name == "Standard" else name[0]
        if run is not None:
            accuracy = store.result(run.name)["curve"][-1]["accuracy"]
            found[kind] = min(found.get(kind, (np.inf, run)), (accuracy, run), key=lambda one: one[0])
    return {kind: found[kind][1] for kind in CLASSES if kind in found}


def fig9(store: Store) -> Figure | None:
    """The best of each class beside input and truth."""
    best = {domain: best_of_classes(store, domain) for domain in LABELS}
    if not all(best.values()):
        return None
    columns = 2 + max(map(len, best.values()))
    figure, grid = plt.subplots(2, columns, figsize=(2.2 * columns, 3.9), layout="constrained")
    for axes, (domain, place) in zip(grid, (("A", "xz"), ("B", "xy")), strict=True):
        shots = {run.network: store.pictures(run.name) for run in best[domain].values()}
        first = next(iter(shots.values()))
        images = {"input": first[f"raw_{place}"]}
        images |= {name: shot[f"denoised_{place}"] for name, shot in shots.items()}
        images["noise-free"] = first[f"truth_{place}"]
        shown(axes, images, first[f"truth_{place}"])
        axes[0].set_ylabel(f"({domain}) {place}", visible=True)
    return figure


def shown(row: Any, images: Mapping[str, Image], scale: Image) -> None:
    """Images in a row of axes with the grey levels that `scale` needs; what is left of the row stays empty."""
    low, high = np.percentile(scale, (0.5, 99.5))
    margin = 0.15 * (high - low)
    for axes in row:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, (name, image) in zip(row, images.items(), strict=False):
        axes.imshow(image, vmin=low - margin, vmax=high + margin, **GREY)
        axes.set_title(name, fontsize=9)


def strategies(store: Store) -> dict[str, dict[str, Any]]:
    """Results of Fig. 10 by their labels, those of the first form of which there are any."""
    for form in FORMS:
        found = {}
        for run in online():
            if isinstance(run, Online) and run.form == form and store.done(run.name):
                found[label(run)] = store.result(run.name)
        if found:
            break
    else:
        return {}
    tv = OnlineTV().name
    return found | ({"total variation": store.result(tv)} if store.done(tv) else {})


def label(run: Online) -> str:
    return "pretrained" if run.pretrained else f"N = {run.buffer}" if run.buffer else "no buffer"


STYLES = {"N = 320": "r-", "N = 32": "b-", "no buffer": "k:", "pretrained": "k-", "total variation": "k--"}


def fig10(store: Store) -> Figure | None:
    """Accuracy, PSNR and SSIM over time."""
    found = strategies(store)
    if not found:
        return None
    figure, grid = plt.subplots(3, 1, figsize=(9, 8.5), sharex=True, layout="constrained")
    for name, result in found.items():
        curve = result["curve"]
        time_s = column(curve, "time_s")
        grid[0].plot(time_s, column(curve, "accuracy"), STYLES[name], label=name)
        for axes, key in zip(grid[1:], ("psnr_db", "ssim"), strict=True):
            axes.plot(time_s, [row["denoised"][key] for row in curve], STYLES[name])
    raw = next(result["curve"] for result in found.values() if "raw" in result["curve"][0])
    for axes, key, title in zip(
        grid[1:], ("psnr_db", "ssim"), ("PSNR of the slice, dB", "SSIM of the slice"), strict=True
    ):
        axes.plot(column(raw, "time_s"), [row["raw"][key] for row in raw], color="0.6", label="not denoised")
        axes.set_ylabel(title)
        axes.legend(fontsize=8)
    grid[0].set(ylabel="accuracy on new samples", ylim=(0.5, 1.2))
    grid[0].legend(fontsize=8)
    for axes in grid:
        jump(axes)
    grid[2].set_xlabel("seconds of the replay after the jump (the paper: 336 s)")
    return figure


def jump(axes: Axes) -> None:
    axes.axvline(0, color="0.7", linewidth=0.8)


def fig11(store: Store) -> Figure | None:
    """Slices before and after the jump, and what the two networks differ in."""
    runs = [run for run in online() if isinstance(run, Online)]
    tv = OnlineTV()
    for form in FORMS:
        new, old = (Online(320, form=form), Online(0, True, form=form))
        if all(store.done(run.name) for run in (new, old, tv)):
            break
    else:
        return None
    assert runs
    pictures = {name: store.pictures(run.name) for name, run in (("tv", tv), ("old", old), ("new", new))}
    figure, grid = plt.subplots(2, 6, figsize=(13, 4.7), layout="constrained")
    for row, frame in zip(grid, new.story.moments, strict=True):
        key = f"denoised_{frame}"
        truth = pictures["tv"][f"truth_{frame}"]
        images = {"input": pictures["tv"][f"raw_{frame}"], "total variation": pictures["tv"][key]}
        images |= {"pretrained": pictures["old"][key], "N = 320": pictures["new"][key], "noise-free": truth}
        shown(row, images, truth)
        difference = pictures["old"][key] - pictures["new"][key]
        most = float(np.percentile(np.abs(difference), 99.5))
        row[5].imshow(difference, vmin=-most, vmax=most, cmap="RdBu", interpolation="nearest")
        row[5].set_title("pretrained - N = 320", fontsize=9)
        row[0].set_ylabel(f"{new.story.time_s(frame):+.1f} s")
    return figure
