"""The same work on a CUDA device. Targets: an H200.

Calls are queued one behind the other, as in operation, and the time is that of one of them; but from frame to denoised
slices each result is waited for, and copied to the host. `benchmarks/gpu.py` looks closer, and whether it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from sim.bench import peers_gpu
from sim.bench.networks import CARD, inference, predictor, trainer
from sim.bench.rows import Peer, Row
from sim.bench.scene import COLS, PLACES, ROWS, SCAN, SIDE, VIEWS, full_window, place
from sim.bench.suites.pairs import BATCH, PAPER_MS
from sim.bench.timing import Effort, clocked, timed, times
from tango_jit.learn import SETTINGS, PairBuffer, PatchSampler
from tango_jit.recon import backproject
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow

BACKENDS, CALLS = ("cuda", "cuda_half"), 20
PAIRS, FRAME, STEPS, IMAGES = (
    f"{BATCH} pairs of 60² at random orientation, from poses to the buffer",
    "three 1024² slices from frame to denoised, p99",
    f"training, Standard, {BATCH} patches of 20²",
    "inference of 1024², Standard",
)


def measure(effort: Effort) -> Iterator[Row]:
    why = backproject.obstacle("cuda")
    if why:
        yield Row.not_run(PAIRS, "ms", why, target=0.2)
        yield Row.not_run(FRAME, "ms", why, target=10.0)
        yield Row.not_run(STEPS, "/s", why, target=1500.0)
        yield Row.not_run(IMAGES, "Hz", why, target=1000.0)
        for called in peers_gpu.PEERS:
            yield Row.not_run(peers_gpu.name_of(called), "times", why)
        return
    for backend in BACKENDS:
        yield from _reconstruction(effort, backend)
    for preset in ("PAPER", "PRODUCT"):
        settings, target = SETTINGS[preset], 1500.0 if preset == "PAPER" else None
        step = timed(queued(trainer(settings, "cuda").step), effort).rate(CALLS)
        yield Row.of(STEPS if target else f"training, {preset}", "/s", step, target=target)
        for side in (512, 1024):
            work = queued(inference(settings.network, side, "cuda"))
            aimed = 1000.0 if (preset, side) == ("PAPER", 1024) else None
            name = f"inference of {side}², {'Standard' if preset == 'PAPER' else preset}"
            yield Row.of(name, "Hz", timed(work, effort).rate(CALLS), target=aimed)
    yield from peers_gpu.measure(effort)


def _reconstruction(effort: Effort, backend: str) -> Iterator[Row]:
    backproject.get(backend).warm_up()
    engine, window = Reconstructor(SCAN, backend), full_window(backend)
    for name in PLACES:
        work = queued(partial(engine.reconstruct, window, place(name)))
        figure = timed(work, effort).rate(CALLS * SIDE * SIDE * VIEWS / 1e6)
        yield Row.of(f"{backend}: {SIDE}² slice from {VIEWS} views, both halves, {name}", "Msamples/s", figure)
    for side in (20, 60):
        poses = PatchSampler(SCAN, side, "UNIFORM", seed=1).draw(BATCH, {}, window.matrices)
        buffer = PairBuffer(320, (side, side), "cuda")

        def batch(poses: np.ndarray = poses, buffer: PairBuffer = buffer, side: int = side) -> None:
            buffer.add(torch.as_tensor(engine.reconstruct_pairs(window, poses, (side, side))))

        name = f"{BATCH} pairs of {side}² at random orientation, from poses to the buffer"
        aimed = 0.2 if (backend, side) == ("cuda", 60) else None
        peer = Peer(CARD, PAPER_MS) if side == 60 else None
        figure = timed(queued(batch), effort).shared(CALLS)
        yield Row.of(f"{backend}: {name}", "ms", figure, target=aimed, peer=peer)
    yield _frame_to_denoised(effort, backend)


def _frame_to_denoised(effort: Effort, backend: str) -> Row:
    """A frame of counts filtered, put into the window, three slices made and both halves of each denoised."""
    flat = np.full((ROWS, COLS), 45000.0)
    counts = np.random.default_rng(0).integers(500, 40000, (1, ROWS, COLS)).astype(np.uint16)
    preprocess = Preprocessor(SCAN, dark=flat / 450, flat=flat, device="cuda", dtype=np.float16)
    ring, engine = ProjectionWindow(SCAN, backend=backend), Reconstructor(SCAN, backend)
    slices = [place(name, 1024) for name in ("horizontal", "vertical", "oblique")]
    predict = predictor(SETTINGS["PRODUCT"].network, "cuda")
    frame = iter(range(10_000_000))

    def add() -> None:
        number = next(frame)
        ring.add(number, 2 * np.pi * number / VIEWS, preprocess(counts)[0])

    def work() -> None:
        add()
        window = ring.window()
        assert window is not None
        for geometry in slices:
            halves = torch.as_tensor(engine.reconstruct(window, geometry)[:2])
            backproject.to_host(predict(halves).mean(0))

    for _ in range(VIEWS + 1):
        add()
    long = replace(effort, repeats=25 * effort.repeats)  # a 99th percentile wants hundreds
    taken = times({"": clocked(work)}, long, warm_up=5)[""]
    spread = float(np.percentile(taken, 25)), float(np.percentile(taken, 75))
    target = 10.0 if backend == "cuda" else None
    return Row(f"{backend}: {FRAME}", "ms", float(np.percentile(taken, 99)), spread, min(taken), len(taken), target)


def queued(work: Callable[[], object]) -> Callable[[], None]:
    """`CALLS` of them one behind the other, until the device has done all."""

    def calls() -> None:
        for _ in range(CALLS):
            work()
        torch.cuda.synchronize()

    return calls
