"""The paper's supplementary video anew: slice, denoised slice, truth and the curve, as the stream goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from benchmarks.paper.family import FORMS
from benchmarks.paper.online import Online
from benchmarks.paper.plots import GREY, STYLES, column, jump, strategies
from benchmarks.paper.store import Store

FRAMES_S = 5  # of the video
SIZE = (960, 640)  # pixels: multiples of 16, which the encoder wants


def video(store: Store, path: Path) -> bool:
    """Write it (MP4, H.264); False where the run with a buffer of 320 pairs has not been done on this computer."""
    run = next((run for run in (Online(320, form=form) for form in FORMS) if store.shots(run.name).exists()), None)
    if run is None or not store.done(run.name):
        return False
    writer = imageio_ffmpeg.write_frames(str(path), SIZE, fps=FRAMES_S, codec="libx264", quality=5, macro_block_size=16)
    writer.send(None)
    for picture in pictures(store, run):
        writer.send(np.ascontiguousarray(picture))
    writer.close()
    return True


def pictures(store: Store, run: Online) -> Iterator[NDArray[np.uint8]]:
    """(rows, cols, 3) each."""
    with np.load(store.shots(run.name)) as stored:
        shots = {name: stored[name].astype(np.float32) for name in stored.files}
    curves = {name: result["curve"] for name, result in strategies(store).items()}
    for frame in (row["frame"] for row in store.result(run.name)["curve"]):
        now_s = run.story.time_s(frame)
        figure = plt.figure(figsize=(SIZE[0] / 80, SIZE[1] / 80), dpi=80, layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(1.35, 1))
        truth = shots[f"truth_{frame}"]
        low, high = np.percentile(truth, (0.5, 99.5))
        titles = {"raw": "slice", "denoised": "denoised, N = 320", "truth": "noise-free"}
        for number, (kind, title) in enumerate(titles.items()):
            axes = figure.add_subplot(grid[0, number])
            axes.imshow(shots[f"{kind}_{frame}"], vmin=low, vmax=high, **GREY)
            axes.set(title=title, xticks=[], yticks=[])
        axes = figure.add_subplot(grid[1, :])
        for name, curve in curves.items():
            past = [row for row in curve if row["time_s"] <= now_s]
            axes.plot(column(past, "time_s"), column(past, "accuracy"), STYLES[name], label=name)
        axes.set(xlim=(curves_start(run), run.story.time_s(run.story.end)), ylim=(0.5, 1.0))
        axes.set(xlabel="seconds after the jump", ylabel="accuracy", title=f"{now_s:+.1f} s")
        jump(axes)
        axes.legend(fontsize=8, loc="upper right")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3]
        plt.close(figure)


def curves_start(run: Online) -> float:
    return run.story.time_s(run.story.start)
