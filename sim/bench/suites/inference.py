"""Slices through the network: one image, and both halves of a slice denoised and scored as the denoiser does it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from sim.bench import threads
from sim.bench.networks import CARD, inference, original_inference, trainer
from sim.bench.rows import Peer, Row
from sim.bench.suites.training import ORIGINAL, ratio
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.learn import SETTINGS, Denoiser

FLOORS = {512: 50.0, 1024: 12.0}  # Hz
COMPARED = 512  # the size at which the slow original runs in turn
PAPER_HZ = 73.0  # at 1024²
PRESETS = {"PAPER": "Standard", "PRODUCT": "PRODUCT", "RELEASED": "what the released software ran"}


def measure(effort: Effort) -> Iterator[Row]:
    threads.use("denoising")
    for side, floor in FLOORS.items():
        for preset, called in PRESETS.items():
            work = inference(SETTINGS[preset].network, side)
            card = Peer(CARD, PAPER_HZ) if (preset, side) == ("PAPER", 1024) else None
            target = floor if preset != "RELEASED" else None
            figure = timed(work, effort).rate(1)
            yield Row.of(f"inference of {side}², {called}", "Hz", figure, target=target, peer=card)
    for preset in ("PAPER", "RELEASED"):
        config, called = SETTINGS[preset].network, PRESETS[preset]
        works = {"ours": inference(config, COMPARED), "original": original_inference(config, COMPARED)}
        figures = {name: figure.rate(1) for name, figure in side_by_side(works, effort, warm_up=1).items()}
        yield Row.of(f"inference of {COMPARED}², {called}, as Conv3d", "Hz", figures["original"])
        name = f"inference of {COMPARED}², {called}: faster than {ORIGINAL}"
        yield ratio(name, figures["ours"], figures["original"], None)
    weights = trainer(SETTINGS["PRODUCT"]).weights()
    denoiser = Denoiser(guard=False)
    denoiser.load(weights)
    for side in (384, 512, 1024, 2048):
        halves = np.random.default_rng(1).standard_normal((2, side, side)).astype(np.float32)
        figure = timed(partial(denoiser, halves[0], halves[1]), effort)
        yield Row.of(f"both halves of a {side}² slice denoised and scored, PRODUCT", "ms", figure)
