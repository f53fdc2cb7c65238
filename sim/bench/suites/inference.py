"""Slices through the network: one image, and both halves of a slice denoised and scored as the denoiser does it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from sim.bench.networks import CARD, inference, original_inference, trainer
from sim.bench.rows import Peer, Row
from sim.bench.suites.training import ORIGINAL, ratio
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.learn import SETTINGS, Denoiser

FLOORS = {512: 50.0, 1024: 12.0}  # Hz
PAPER_HZ = 73.0  # at 1024²


def measure(effort: Effort) -> Iterator[Row]:
    for side, floor in FLOORS.items():
        for preset, called in (("PAPER", "Standard"), ("RELEASED", "what the released software ran")):
            config = SETTINGS[preset].network
            works = {"ours": inference(config, side), "original": original_inference(config, side)}
            figures = {name: figure.rate(1) for name, figure in side_by_side(works, effort).items()}
            card = Peer(CARD, PAPER_HZ) if side == 1024 and preset == "PAPER" else None
            target = floor if preset == "PAPER" else None
            yield Row.of(f"inference of {side}², {called}", "Hz", figures["ours"], target=target, peer=card)
            yield Row.of(f"inference of {side}², {called}, as Conv3d", "Hz", figures["original"])
            name = f"inference of {side}², {called}: faster than {ORIGINAL}"
            yield ratio(name, figures["ours"], figures["original"], None)
        work = inference(SETTINGS["PRODUCT"].network, side)
        yield Row.of(f"inference of {side}², PRODUCT", "Hz", timed(work, effort).rate(1), target=floor)
    weights = trainer(SETTINGS["PRODUCT"]).weights()
    denoiser = Denoiser(guard=False)
    denoiser.load(weights)
    for side in (384, 512, 1024, 2048):
        halves = np.random.default_rng(1).standard_normal((2, side, side)).astype(np.float32)
        figure = timed(partial(denoiser, halves[0], halves[1]), effort)
        yield Row.of(f"both halves of a {side}² slice denoised and scored, PRODUCT", "ms", figure)
