"""Rates of preprocessing and backprojection: `python -m benchmarks.backproject [--json FILE]`.

150 views of 647 x 768 pixels, cone beam, white noise: what is in the views does not matter, where they are read does.
Each slice is also made with one view in all slots, which stays in the cache: the difference is what the memory takes,
and "views read once, in order" is the least that it could.
The number of threads is NUMBA_NUM_THREADS and OMP_NUM_THREADS. A rate is that of the median of the repeats, `best` that
of the fastest one: on a shared machine the two differ, and the truth of the code is nearer to the best.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite.binding import get_host_cpu_name

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.learn import PairBuffer, PatchSampler
from tango_jit.recon.backproject import cpu
from tango_jit.recon.backproject.fixed import FixedRing
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window
from tango_jit.threads import use_safe_layer

VIEWS, ROWS, COLS, SIDE = 150, 647, 768, 512
SCAN = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.15, source_axis_mm=200, source_detector_mm=300)

Row = dict[str, Any]


def timed(name: str, work: Callable[[], object], repeats: int, samples: int | None = None, target: str = "") -> Row:
    """Milliseconds per call, and Msamples/s where `samples` is the number of bilinear samples of a call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    middle, best = statistics.median(times), min(times)
    row: Row = {"name": name, "ms": round(middle, 2), "best_ms": round(best, 2), "target": target}
    if samples:
        row |= {"Msamples_s": round(samples / middle / 1e3), "best_Msamples_s": round(samples / best / 1e3)}
    return row


def full_window() -> Window:
    ring = ProjectionWindow(SCAN)
    view = np.random.default_rng(0).standard_normal((ROWS, COLS)).astype(np.float32)
    for k in range(VIEWS):
        ring.add(k, 2 * np.pi * k / VIEWS, view)
    window = ring.window()
    assert window is not None
    return window


def places() -> dict[str, SliceGeometry]:
    horizontal = default_slices(SCAN, (SIDE, SIDE))
    pixel = horizontal["xy"].pixel_mm[0]

    def at(u: tuple[float, ...], v: tuple[float, ...]) -> SliceGeometry:
        return SliceGeometry.centered((0, 0, 0), u, v, pixel_mm=pixel, shape=(SIDE, SIDE))

    return {
        "horizontal": horizontal["xy"],
        "vertical": horizontal["xz"],
        "vertical, rows along z": at((0, 0, 1), (1, 0, 0)),
        "oblique": at((1, 0.5, 1), (-1, 1, 0.5)),
    }


def patch_poses(count: int, size: int, *, flat: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixel = places()["horizontal"].pixel_mm[0]
    poses = []
    for _ in range(count):
        directions = (np.eye(3) if flat else np.linalg.qr(rng.standard_normal((3, 3)))[0]).tolist()
        center = (rng.uniform(-15, 15, 3) * (1, 1, not flat)).tolist()
        place = SliceGeometry.centered(center, directions[0], directions[1], pixel_mm=pixel, shape=(size, size))
        poses.append(place.pose)
    return np.array(poses)


@numba.njit(parallel=True)
def _total(numbers):
    total = 0
    for k in numba.prange(numbers.size):
        total += numbers[k]
    return total


def read_once(window: Window, repeats: int) -> Row:
    """How long it takes to read all views from memory, in order, by all threads."""
    assert isinstance(window.projections, FixedRing)
    numbers = window.projections.array[:VIEWS].reshape(-1).view(np.int64)
    row = timed(f"{VIEWS} views read once, in order", partial(_total, numbers), repeats)
    return row | {"GB_s": round(numbers.nbytes / row["best_ms"] / 1e6, 1)}


def pairs_made(window: Window, repeats: int) -> Row:
    """Pairs of 20² from drawing to the buffer, batches of 32, nothing else at work."""
    sampler, engine, buffer = PatchSampler(SCAN, 20), Reconstructor(SCAN), PairBuffer(1024, (20, 20))
    slices = {name: place for name, place in places().items() if name != "oblique"}

    def work() -> None:
        for _ in range(8):
            poses = sampler.draw(32, slices, window.matrices)
            buffer.add(torch.as_tensor(engine.reconstruct_pairs(window, poses, (20, 20))))

    row = timed("pairs of 20² drawn, reconstructed and kept", work, repeats)
    rates = {"per_s": round(8 * 32e3 / row["ms"]), "best_per_s": round(8 * 32e3 / row["best_ms"])}
    return {"name": row["name"], **rates, "target": "1500 /s"}


def measure(repeats: int) -> Iterator[Row]:
    window = full_window()
    halves = np.ascontiguousarray(window.weights[:2])

    def project(
        weights: np.ndarray, poses: np.ndarray, shape: tuple[int, int], slots: np.ndarray = window.slots
    ) -> Callable[[], object]:
        out = np.empty((len(poses), len(weights), *shape), np.float32)
        return lambda: cpu.backproject(window.projections, slots, window.matrices, weights, poses, shape, out)

    samples = SIDE * SIDE * VIEWS
    for name, place in places().items():
        target = "600 Msamples/s" if name == "horizontal" else "350 Msamples/s"
        work = project(halves, place.pose[None], place.shape)
        yield timed(f"{SIDE}² slice, both halves, {name}", work, repeats, samples, target)
        cached = project(halves, place.pose[None], place.shape, window.slots * 0)
        yield timed(f"{SIDE}² slice, {name}, from one view in the cache", cached, repeats, samples)
    yield read_once(window, repeats)
    whole = project(window.weights, places()["horizontal"].pose[None], (SIDE, SIDE))
    yield timed(f"{SIDE}² slice, halves and whole, horizontal", whole, repeats, samples)
    for size in (20, 40):
        for flat in (True, False):
            work = project(halves, patch_poses(32, size, flat=flat), (size, size))
            name = f"32 pairs of {size}², {'horizontal' if flat else 'at random orientation'}"
            yield timed(name, work, 4 * repeats, 32 * size**2 * VIEWS, "5 ms" if size == 20 else "")

    yield pairs_made(window, repeats)

    counts = np.random.default_rng(0).integers(500, 40000, (1, ROWS, COLS)).astype(np.uint16)
    flat_field = np.full((ROWS, COLS), 45000.0)
    for extend in (False, True):
        preprocess = Preprocessor(SCAN, dark=flat_field / 450, flat=flat_field, edge_extend=extend)
        name = f"uint16 frame of {ROWS} x {COLS} to filtered view{', edges extended' if extend else ''}"
        yield timed(name, partial(preprocess, counts), 4 * repeats)
    values = torch.rand(ROWS, COLS)
    yield timed(f"rfft and irfft of it alone ({2 * COLS} points)", partial(_there_and_back, values), 4 * repeats)


def _there_and_back(values: torch.Tensor) -> torch.Tensor:
    return torch.fft.irfft(torch.fft.rfft(values, n=2 * COLS), n=2 * COLS)


def figure(row: Row) -> str:
    """The figures of a row, the best in brackets."""
    if "per_s" in row:
        return f"{row['per_s']} /s (best {row['best_per_s']})"
    rate = f", {row['Msamples_s']} Msamples/s (best {row['best_Msamples_s']})" if "Msamples_s" in row else ""
    rate += f", {row['GB_s']} GB/s" if "GB_s" in row else ""
    return f"{row['ms']:g} ms (best {row['best_ms']:g}){rate}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where to write the rows; default: nowhere")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    use_safe_layer()
    cpu.warm_up()
    torch.set_num_threads(numba.get_num_threads())
    rows = []
    for row in measure(arguments.repeats):
        print(f"{row['name']:62s} {figure(row)}", flush=True)
        rows.append(row)
    if arguments.json:
        machine = {
            "processor": get_host_cpu_name(),
            "cores": os.cpu_count(),
            "threads": numba.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 2),  # above its own threads: others were at work
            "numba": numba.__version__,
            "torch": torch.__version__,
        }
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
