"""The other steps on the way of a frame, one by one, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from sim.bench import threads
from sim.bench.rows import Row
from sim.bench.scene import COLS, ROWS, SCAN, VIEWS, full_window
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.learn import SETTINGS, Denoiser, Trainer
from tango_jit.recon.center import find_center
from tango_jit.recon.preprocess import Corrections, Preprocessor, warm_up
from tango_jit.recon.window import ProjectionWindow
from tango_jit.streams import Image, decode

SWITCHES = {
    "": Corrections(),
    ", zingers removed": Corrections(zinger_excess=0.2),
    ", rings corrected": Corrections(ring_turns=2.0),
    ", scaled by air": Corrections(air_region=(0, 20, 0, ROWS - 1)),
    ", phase retrieved": Corrections(delta_beta=100.0, energy_kev=30.0),
    ", all of these": Corrections(0.2, 2.0, (0, 20, 0, ROWS - 1), 100.0, 30.0),
}


def measure(effort: Effort) -> Iterator[Row]:
    yield from _preprocessing(effort)
    yield from _window(effort)
    yield from _messages(effort)
    threads.use("training")
    trainer = Trainer(SETTINGS["PRODUCT"])
    size = trainer.settings.patch_size
    trainer.add(np.random.default_rng(0).standard_normal((32, 2, size, size)).astype(np.float32))
    yield Row.of("weights of the network packed", "ms", timed(trainer.weights, effort))
    versions = [trainer.weights() for _ in range(2)]
    threads.use("denoising")
    denoiser, turn = Denoiser(), iter(range(1_000_000))
    load = timed(lambda: denoiser.load(versions[next(turn) % 2]), effort)
    yield Row.of("weights unpacked and put in use", "ms", load)


def _preprocessing(effort: Effort) -> Iterator[Row]:
    warm_up()
    light, dark = np.full((ROWS, COLS), 45000.0), np.full((ROWS, COLS), 100.0)
    counts = np.random.default_rng(0).integers(500, 40000, (1, ROWS, COLS)).astype(np.uint16)
    works, angle = {}, iter(range(10_000_000))
    for what, corrections in SWITCHES.items():
        chain = Preprocessor(SCAN, dark=dark, flat=light, corrections=corrections)
        works[what] = lambda chain=chain: chain(counts, [2 * np.pi * next(angle) / VIEWS])
    works[", edges extended"] = partial(Preprocessor(SCAN, dark=dark, flat=light, edge_extend=True), counts)
    for what, figure in side_by_side(works, effort).items():
        yield Row.of(f"uint16 frame of {ROWS} x {COLS} to filtered view{what}", "ms", figure)


def _window(effort: Effort) -> Iterator[Row]:
    ring, frame = ProjectionWindow(SCAN), iter(range(10_000_000))
    view = np.random.default_rng(0).standard_normal((ROWS, COLS)).astype(np.float32)

    def add() -> None:
        number = next(frame)
        ring.add(number, 2 * np.pi * number / VIEWS, view)

    for _ in range(2 * VIEWS):
        add()
    yield Row.of("filtered view into the window", "ms", timed(add, effort))
    yield Row.of("weights and matrices of a new window", "ms", timed(ring.window, effort, before=add))
    seconds = Effort(repeats=3, longest_s=effort.longest_s)
    window = full_window()
    search = timed(lambda: list(find_center(window, SCAN)), seconds, warm_up=0)
    yield Row.of("search for the centre of rotation", "ms", search)


def _messages(effort: Effort) -> Iterator[Row]:
    frame = Image("series", 0, 0.0, 0.0, np.ones((ROWS, COLS), np.uint16), None)
    yield Row.of("frame packed as a message", "ms", timed(frame.parts, effort, warm_up=5))
    parts = frame.parts()
    yield Row.of("message checked and unpacked", "ms", timed(lambda: decode(parts), effort, warm_up=5))
