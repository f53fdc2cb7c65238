"""Slices of 512 x 512 pixels from 150 views: rates in bilinear samples a second, each view once a pixel.

What they would be if all views were in the cache stands beside: the difference is what the memory takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from sim.bench import threads
from sim.bench.rows import Row
from sim.bench.scene import PLACES, SCAN, SIDE, VIEWS, full_window, place
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.recon import backproject
from tango_jit.recon.incremental import IncrementalSlices
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow

SAMPLES = SIDE * SIDE * VIEWS / 1e6
FLOORS = {"horizontal": 600.0}  # Msamples/s
ANY_FLOOR = 350.0


def measure(effort: Effort) -> Iterator[Row]:
    backproject.get("cpu").warm_up()
    engine, window = Reconstructor(SCAN), full_window()
    cached = replace(window, slots=0 * window.slots)
    for name in PLACES:
        seen = {"views": window, "one": cached}
        figures = side_by_side({key: partial(engine.reconstruct, x, place(name)) for key, x in seen.items()}, effort)
        yield Row.of(
            f"{SIDE}² slice from {VIEWS} views, both halves, {name}",
            "Msamples/s",
            figures["views"].rate(SAMPLES),
            target=FLOORS.get(name, ANY_FLOOR),
        )
        what = f"the same {VIEWS} times from one view, which stays in the cache, {name}"
        yield Row.of(what, "Msamples/s", figures["one"].rate(SAMPLES))
    threads.use("pairs")
    yield _memory(effort)
    threads.use("reconstruction")
    yield from _three_slices(effort, engine)


def _memory(effort: Effort) -> Row:
    """What the memory gives at best: as many bytes as the views have, read in order by all threads."""
    numbers = torch.ones(VIEWS * SCAN.rows * SCAN.cols // 2)
    figure = timed(numbers.sum, effort).rate(numbers.nbytes / 1e9)
    return Row.of(f"memory read in order, {numbers.nbytes / 1e6:.0f} MB", "GB/s", figure)


def _three_slices(effort: Effort, engine: Reconstructor) -> Iterator[Row]:
    """Three slices whenever some views more have come: anew, and by the difference."""
    view = np.random.default_rng(0).standard_normal((SCAN.rows, SCAN.cols)).astype(np.float32)
    slices = [place(name) for name in ("horizontal", "vertical", "vertical, rows along z")]
    for news in (60, 10, 1):
        ring, following, frame = ProjectionWindow(SCAN), IncrementalSlices(engine), 0

        def turn(views: int, ring: ProjectionWindow = ring) -> None:
            nonlocal frame
            for _ in range(views):
                ring.add(frame, 2 * np.pi * frame / VIEWS, view)
                frame += 1

        def update(ring: ProjectionWindow = ring, following: IncrementalSlices = following) -> None:
            window = ring.window()
            assert window is not None
            for geometry in slices:
                following.reconstruct(window, geometry)

        turn(VIEWS + 1)
        figure = timed(update, effort, before=partial(turn, news))
        yield Row.of(f"three {SIDE}² slices brought up to date after {news} new views", "ms", figure)
