"""Fig. 4 of the paper: time over size for slices, slabs of three slices, and sequences of three moments.

Reconstruction of both halves from 150 views, one step of training on 32 patches, inference of one image; by the
networks Standard, Z3 and T3. The moments of a sequence lie 60 projections apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from sim.bench import threads
from sim.bench.networks import TABLE, inference, trainer
from sim.bench.rows import Row, Series
from sim.bench.scene import SCAN, VIEWS, slab
from sim.bench.timing import Effort, timed
from tango_jit.recon import backproject
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window

KINDS = {"slice": "Standard", "slab of 3": "Z3", "sequence of 3": "T3"}
NETWORKS = {network.name: network.settings for network in TABLE}
IMAGES = (32, 64, 128, 256, 512, 1024)
PATCHES = (12, 20, 32, 48, 64, 100)
STRIDE = 60
LONGEST_S = 2.0


def measure(effort: Effort) -> Iterator[Row | Series]:
    backproject.get("cpu").warm_up()
    effort = replace(effort, longest_s=min(effort.longest_s, LONGEST_S))
    images, patches = (IMAGES, PATCHES) if not effort.quick else (IMAGES[:5:2], PATCHES[:5:2])
    windows = _moments()
    engine = Reconstructor(SCAN)
    for kind, network in KINDS.items():

        def reconstruction(side: int, kind: str = kind) -> Callable[[], object]:
            poses = slab(side, 3 if kind.startswith("slab") else 1)
            seen = windows if kind.startswith("sequence") else windows[-1:]
            return partial(_reconstruct, engine, seen, poses, side)

        settings = NETWORKS[network]

        def step(side: int, network: str = network) -> Callable[[], object]:
            return trainer(NETWORKS[network].edited(patch_size=side)).step

        threads.use("reconstruction")
        yield from _curve(f"reconstruction, {kind}", "reconstruction (ms)", images, reconstruction, effort)
        threads.use("training")
        yield from _curve(f"training step, {kind}", "training step, 32 patches (ms)", patches, step, effort)
        threads.use("denoising")
        yield from _curve(f"inference, {kind}", "inference (ms)", images, partial(inference, settings.network), effort)


def _curve(
    name: str, label: str, sides: tuple[int, ...], work: Callable[[int], Callable[[], object]], effort: Effort
) -> Iterator[Row | Series]:
    times = []
    for side in sides:
        figure = timed(work(side), effort)
        times.append(figure.value)
        yield Row.of(f"{name} of {side}²", "ms", figure)
    yield Series("sizes", name.split(", ")[1], tuple(map(float, sides)), tuple(times), "side (pixels)", label)


def _moments() -> list[Window]:
    """Windows that end `STRIDE` projections apart, each with views of its own."""
    ring, windows = ProjectionWindow(SCAN), list[Window]()
    view = np.random.default_rng(0).standard_normal((SCAN.rows, SCAN.cols)).astype(np.float32)
    for k in range(VIEWS + 2 * STRIDE):
        ring.add(k, 2 * np.pi * k / VIEWS, view)
        if k + 1 >= VIEWS and (k + 1 - VIEWS) % STRIDE == 0:
            window = ring.window()
            assert window is not None
            windows.append(window.copied())
    return windows


def _reconstruct(engine: Reconstructor, windows: list[Window], poses: np.ndarray, side: int) -> None:
    for window in windows:
        engine.reconstruct_pairs(window, poses, (side, side))
