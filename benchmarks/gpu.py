"""What the CUDA backend does on the device at hand: `python -m benchmarks.gpu [--json FILE]`.

First whether it is right, then how fast: backprojection, pairs, the way from a frame to denoised slices, training and
inference. It needs nothing but the science (torch, CuPy, NumPy, numba, SciPy, h5py, safetensors), and a checkout.

A figure is the median of its repeats after a warm-up. `device` is the time of the device alone: the calls are queued
behind something long, so that it never waits for the host. `call` is the time from call to call, queued one behind the
other, and `waited` that of one call until its result is there. A part that fails says so and the others go on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.learn import PAPER, PRODUCT, Denoiser, PairBuffer, Trainer, TrainerSettings
from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.unet import UNet
from tango_jit.recon import backproject
from tango_jit.recon.backproject import cuda_device, memory, reference, to_host
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window
from tests.backprojections import KINDS, on_the_edge, problem

Row = dict[str, Any]
Work = Callable[[], object]

DEVICE, BACKENDS = "cuda", ("cuda", "cuda_half")
WORST = {"cuda": 1e-5, "cuda_half": 1e-2}  # of the largest value, white noise
VIEWS, ROWS, COLS = 150, 647, 768
SCAN = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.15, source_axis_mm=200, source_detector_mm=300)
PLACES = {
    "horizontal": ((1, 0, 0), (0, -1, 0)),
    "vertical": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((1, 0.5, 1), (-1, 1, 0.5)),
}


# ---- clocks


def device_ms(work: Work, repeats: int, at_once: int = 10) -> float:
    """Milliseconds of the device for a call, see the top."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    taken = []
    for _ in range(repeats + 2):
        torch.cuda._sleep(50_000_000)  # some 30 ms: meanwhile all is queued
        start.record()
        for _ in range(at_once):
            work()
        end.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(end) / at_once)
    return statistics.median(taken[2:])


def call_ms(work: Work, repeats: int, at_once: int = 50) -> float:
    """Milliseconds from call to call, queued one behind the other."""
    taken = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(at_once):
            work()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start) / at_once)
    return statistics.median(taken[1:])


def waited_ms(work: Work, repeats: int) -> list[float]:
    """Milliseconds of each call until its result is there."""
    taken = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[5:]


def row(name: str, value: float, unit: str, target: float | None = None, **more: Any) -> Row:
    """`target` is a ceiling for times and a floor for rates."""
    met = None if target is None else value <= target if unit in ("ms", "of largest") else value >= target
    return {"name": name, "value": float(f"{value:.4g}"), "unit": unit, "target": target, "met": met, **more}


# ---- what is measured


def correctness(_: int) -> Iterator[Row]:
    """The largest error over random geometries; white noise. Raises AssertionError where it is too large."""
    for name in BACKENDS:
        backend = backproject.get(name)
        backend.warm_up()
        worst = 0.0
        for kind in KINDS:
            for seed in range(4):
                arguments = problem(kind, 100 + seed, 4, (24, 37), planes=1 + seed)
                expected, got = reference.backproject(*arguments), to_host(backend.backproject(*arguments))
                clear = ~on_the_edge(arguments)[:, None].repeat(expected.shape[1], 1)
                worst = max(worst, float(np.abs(got - expected)[clear].max() / np.abs(expected).max()))
        yield row(f"{name}: largest error, random geometries, white noise", worst, "of largest", WORST[name])
        assert worst <= WORST[name], f"{name}: expected errors up to {WORST[name]}, got {worst}"


def ceilings(repeats: int) -> Iterator[Row]:
    source = torch.rand(1 << 29, device=DEVICE)
    target = torch.empty_like(source)
    yield row(
        "copy on the device", 2 * 4 * source.numel() / device_ms(lambda: target.copy_(source), repeats) / 1e6, "GB/s"
    )


def window_of(backend: str) -> Window:
    ring = ProjectionWindow(SCAN, backend=backend)
    rng = np.random.default_rng(0)
    views = [rng.standard_normal((ROWS, COLS)).astype(np.float32) for _ in range(5)]
    for number in range(VIEWS + 1):
        ring.add(number, 2 * np.pi * number / VIEWS, views[number % len(views)])
    window = ring.window()
    assert window is not None
    return window


def place(name: str, side: int) -> SliceGeometry:
    return SliceGeometry.centered((0, 0, 0), *PLACES[name], pixel_mm=2 * SCAN.radius_mm / side, shape=(side, side))


def slices(repeats: int) -> Iterator[Row]:
    for backend in BACKENDS:
        engine, window = Reconstructor(SCAN, backend), window_of(backend)
        for side in (512, 1024, 2048):
            for name in PLACES:
                ms = device_ms(partial(engine.reconstruct, window, place(name, side)), repeats)
                rate = side * side * len(window.slots) / ms / 1e6
                text = f"{backend}: {side}² slice, {len(window.slots)} views, both halves, {name}"
                yield row(text, rate, "Gsamples/s", device_ms=round(ms, 4))


def poses(count: int, side: int) -> np.ndarray:
    """At random places and orientations, wholly inside."""
    rng, pixel, made = np.random.default_rng(1), 2 * SCAN.radius_mm / 512, []
    for _ in range(count):
        u, v, _w = np.linalg.qr(rng.standard_normal((3, 3)))[0].tolist()
        center = rng.uniform(-12, 12, 3).tolist()
        made.append(SliceGeometry.centered(center, u, v, pixel_mm=pixel, shape=(side, side)).pose)
    return np.array(made)


def pairs(repeats: int) -> Iterator[Row]:
    """From poses to a slot of the pair buffer: the whole call, random orientation."""
    for backend in BACKENDS:
        engine, window = Reconstructor(SCAN, backend), window_of(backend)
        for side in (20, 48, 60):
            buffer, queue = torch.empty(320, 2, side, side, device=DEVICE), PairBuffer(320, (side, side), DEVICE)
            made = partial(engine.reconstruct_pairs, window, poses(32, side), (side, side))
            straight = partial(made, buffer[64:96])
            target = 0.2 if (backend, side) == ("cuda", 60) else None
            name = f"{backend}: 32 pairs of {side}²"
            alone = round(device_ms(straight, repeats), 4)
            yield row(f"{name} into a slot, call", call_ms(straight, repeats), "ms", target, device_ms=alone)
            queued = call_ms(partial(_into, queue, made), repeats)
            yield row(f"{name} through the pair buffer, call", queued, "ms", target)


def _into(queue: PairBuffer, made: Callable[[], Any]) -> None:
    queue.add(made())


def frames(repeats: int) -> Iterator[Row]:
    """The filter in batches, and views into the ring."""
    flat = np.full((ROWS, COLS), 45000.0)
    rng = np.random.default_rng(0)
    for count in (1, 8, 32):
        counts = rng.integers(500, 40000, (count, ROWS, COLS)).astype(np.uint16)
        preprocess = Preprocessor(SCAN, dark=flat / 450, flat=flat, device=DEVICE)
        ms = call_ms(partial(preprocess, counts), repeats, 5)
        yield row(f"counts of {ROWS} x {COLS} on the host to filtered views, {count} at a time", 1e3 * count / ms, "/s")
    view = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    for backend in BACKENDS:
        ring = backproject.get(backend).make_ring(8, ROWS, COLS)
        for text, given in (("host", view), ("device", torch.from_numpy(view).to(DEVICE))):
            yield row(
                f"{backend}: a view from the {text} into the ring", call_ms(partial(ring.put, 3, given), repeats), "ms"
            )


def trainer(settings: TrainerSettings) -> Trainer:
    """One with a full buffer of noise around a step edge, on the device."""
    images, size = settings.network.images, settings.patch_size
    shape = (settings.buffer_size, 2, size, size) if images == 1 else (settings.buffer_size, 2, images, size, size)
    pairs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pairs[..., size // 2 :] += 3
    made = Trainer(settings, device=DEVICE)
    made.add(pairs.to(DEVICE))
    return made


def training(repeats: int) -> Iterator[Row]:
    several = PAPER.edited(frames=3)
    for name, settings, target in (("Standard", PAPER, 1500), ("T3", several, 1500), ("PRODUCT", PRODUCT, None)):
        made = trainer(settings)
        what = f"training, {name}, {settings.batch_size} patches of {settings.patch_size}²"
        yield row(what, 1e3 / call_ms(made.step, repeats), "/s", target, trouble=made.trouble)


def inference(repeats: int) -> Iterator[Row]:
    for name, settings in (("Standard", PAPER), ("PRODUCT", PRODUCT)):
        made = trainer(settings)
        made.step()
        for side in (512, 1024):
            image = torch.randn(1, 1, side, side, device=DEVICE)
            predict = Predictor(made.averaged(), "auto", torch.device(DEVICE), Passes())
            target = 1000.0 if (name, side) == ("Standard", 1024) else None
            ms = call_ms(partial(predict, image), repeats)
            kind = predict.precision
            yield row(f"inference of {side}², {name}, on the device, {kind}", 1e3 / ms, "Hz", target)
            denoiser = Denoiser(device=DEVICE, guard=False)
            denoiser.load(made.weights())
            halves = np.random.default_rng(1).standard_normal((2, side, side)).astype(np.float32)
            ms = call_ms(partial(denoiser, halves[0], halves[1]), repeats, 10)
            yield row(f"both halves of {side}² denoised and scored, {name}, host to host", 1e3 / ms, "Hz")


class Live:
    """A frame of counts on the host until three denoised slices are on the host."""

    def __init__(self, backend: str, network: UNet, side: int = 1024) -> None:
        flat = np.full((ROWS, COLS), 45000.0)
        self._counts = np.random.default_rng(0).integers(500, 40000, (8, 1, ROWS, COLS)).astype(np.uint16)
        self._preprocess = Preprocessor(SCAN, dark=flat / 450, flat=flat, device=DEVICE, dtype=np.float16)
        self._ring, self._engine = ProjectionWindow(SCAN, backend=backend), Reconstructor(SCAN, backend)
        self._predict = Predictor(network, "auto", torch.device(DEVICE), Passes())
        self._places = [place(name, side) for name in PLACES]
        self._number = 0
        for _ in range(VIEWS + 1):
            self.add()

    def add(self) -> None:
        view = self._preprocess(self._counts[self._number % 8])[0]
        self._ring.add(self._number, 2 * np.pi * self._number / VIEWS, view)
        self._number += 1

    def __call__(self) -> list[np.ndarray]:
        self.add()
        window = self._ring.window()
        assert window is not None
        made = [self._predict(torch.as_tensor(self._engine.reconstruct(window, p)[:2])).mean(0) for p in self._places]
        return [to_host(picture) for picture in made]


def live(repeats: int) -> Iterator[Row]:
    made = trainer(PRODUCT)
    made.step()
    for backend in BACKENDS:
        taken = waited_ms(Live(backend, made.averaged()), 20 * repeats)
        p50, p99 = (float(np.percentile(taken, part)) for part in (50, 99))
        target = 10.0 if backend == "cuda" else None
        yield row(f"{backend}: three 1024² slices from frame to denoised, p99", p99, "ms", target, p50=round(p50, 3))


PARTS = {part.__name__: part for part in (correctness, ceilings, slices, pairs, frames, training, inference, live)}


def machine() -> Row:
    properties = torch.cuda.get_device_properties(0)
    cupy = __import__("cupy")
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_mb": properties.total_memory >> 20,
        "free": memory.megabytes(cuda_device.free_bytes()),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cupy": cupy.__version__,
        "python": sys.version.split()[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--json", type=Path, help="where to write the rows, again after every part")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"part: expected {', '.join(PARTS)}, got {', '.join(unknown)}")
    if why := backproject.obstacle("cuda"):
        print(f"nothing is measured: the backend cuda cannot run here, because {why}")
        return 2
    where, rows, failed = machine(), [], False
    print(where, flush=True)
    for name in arguments.parts or PARTS:
        try:
            for made in PARTS[name](arguments.repeats):
                rows.append({"part": name, **made})
                aimed = (
                    ""
                    if made["target"] is None
                    else f"   target {made['target']:g}: {'met' if made['met'] else 'MISSED'}"
                )
                more = "".join(f", {key} {made[key]}" for key in ("device_ms", "p50", "trouble") if made.get(key))
                print(f"{made['name']:75s} {made['value']:10g} {made['unit']}{more}{aimed}", flush=True)
        except Exception as error:  # the time on a device is short: the other parts go on
            failed = True
            traceback.print_exc()
            rows.append({"part": name, "failed": f"{type(error).__name__}: {error}"})
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
