"""Training pairs: from drawn poses to the buffer, as the trainer makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from sim.bench import threads
from sim.bench.rows import Figure, Peer, Row
from sim.bench.scene import SCAN, full_window, place
from sim.bench.timing import Effort, timed
from tango_jit.learn import SETTINGS, PairBuffer, PatchSampler, Trainer
from tango_jit.learn.patches import Sampling
from tango_jit.recon import backproject
from tango_jit.recon.reconstructor import Reconstructor

BATCH = 32
PAPER_MS, PAPER_PER_S = 64.0, 288.0  # a batch of 60² patches, and pairs while training went on; RTX 2080 Ti
PLACED: dict[Sampling, str] = {"UNIFORM": "at random orientation", "NEAR_SLICES": "in two slices"}
ROUNDS_A_SLICE = 8  # of a rate: the spread is that of so many batches at a time


def measure(effort: Effort) -> Iterator[Row]:
    threads.use("pairs")
    backproject.get("cpu").warm_up()
    engine, window = Reconstructor(SCAN), full_window()
    slices = {name: place(name) for name in ("horizontal", "vertical")}
    for side in (20, 40, 60):
        buffer = PairBuffer(320, (side, side))
        for sampling, where in PLACED.items():
            poses = PatchSampler(SCAN, side, sampling, seed=1).draw(BATCH, slices, window.matrices)

            def batch(poses: np.ndarray = poses, buffer: PairBuffer = buffer, side: int = side) -> None:
                buffer.add(torch.as_tensor(engine.reconstruct_pairs(window, poses, (side, side))))

            yield Row.of(
                f"{BATCH} pairs of {side}² {where}, from poses to the buffer",
                "ms",
                timed(batch, effort),
                target=5.0 if (side, sampling) == (20, "UNIFORM") else None,
                peer=Peer("the paper, 60² on an RTX 2080 Ti", PAPER_MS) if sampling == "UNIFORM" else None,
            )
    for preset in ("PAPER", "PRODUCT"):
        settings = SETTINGS[preset]
        side, sampler = settings.patch_size, PatchSampler(SCAN, settings.patch_size, seed=1)
        buffer, trainer = PairBuffer(320, (side, side)), Trainer(settings)

        def made(sampler: PatchSampler = sampler, side: int = side) -> np.ndarray:
            poses = sampler.draw(BATCH, slices, window.matrices)
            return engine.reconstruct_pairs(window, poses, (side, side))

        kept = partial(_keep, made, buffer)
        yield Row.of(
            f"pairs of {side}² drawn, reconstructed and kept, no training",
            "/s",
            _rate(kept, effort),
            target=1500.0 if preset == "PAPER" else None,
            peer=Peer("the paper, while training, RTX 2080 Ti", PAPER_PER_S),
        )
        scored = partial(_score, made, trainer)
        yield Row.of(f"the same, scored by the network of {preset} as well", "/s", _rate(scored, effort))


def _keep(made: Callable[[], np.ndarray], buffer: PairBuffer) -> None:
    buffer.add(torch.as_tensor(made()))


def _score(made: Callable[[], np.ndarray], trainer: Trainer) -> None:
    trainer.add(made())


def _rate(work: Callable[[], None], effort: Effort) -> Figure:
    """Pairs a second over several batches at a time."""

    def batches() -> None:
        for _ in range(ROUNDS_A_SLICE):
            work()

    return timed(batches, effort, warm_up=1).rate(ROUNDS_A_SLICE * BATCH)
