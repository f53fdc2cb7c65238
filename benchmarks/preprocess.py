"""What each step from a raw frame to a filtered view costs: `python -m benchmarks.preprocess [--json FILE]`.

Frames of 647 x 768 uint16 in counts, a ball in a noisy beam, one thread. Processor time, not wall time: others may
share the machine. The variants take turns, so that all of them meet the same disturbances; the best of the repeats is
nearest to the truth of the code, the median to that of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite.binding import get_host_cpu_name

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess import Corrections, Preprocessor
from tango_jit.recon.preprocess.rings import bias_of

ROWS, COLS, FRAMES = 647, 768, 8
SCAN = ScanGeometry.cone(rows=ROWS, cols=COLS, pixel_mm=0.15, source_axis_mm=200, source_detector_mm=300)
VARIANTS: dict[str, dict[str, Any]] = {
    "counts to a filtered view, float32": {},
    "the same, float16": {"dtype": "float16"},
    "edges extended": {"edge_extend": True},
    "air region of 20 columns": {"corrections": Corrections(air_region=(0, 19, 0, ROWS - 1))},
    "zingers": {"corrections": Corrections(zinger_excess=0.2)},
    "rings, between two turns": {"corrections": Corrections(ring_turns=5)},
    "phase retrieval": {"corrections": Corrections(delta_beta=100, energy_kev=30)},
    "all four": {"corrections": Corrections(0.2, 5, (0, 19, 0, ROWS - 1), 100, 30)},
}
PLAIN = next(iter(VARIANTS))

Row = dict[str, Any]


def frames() -> np.ndarray:
    """(FRAMES, ROWS, COLS) uint16: a ball that moves by two pixels a frame, in light of 30,000 photons."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:ROWS, :COLS]
    made = np.empty((FRAMES, ROWS, COLS), np.uint16)
    for k, frame in enumerate(made):
        chord = np.sqrt(np.maximum(250**2 - (x - 384 - 2 * k) ** 2 - (y - 323) ** 2, 0))
        frame[:] = 450 + rng.poisson(30_000 * np.exp(-chord / 150))
    return made


def works() -> dict[str, Callable[[], object]]:
    counts = frames()
    dark, flat = np.full((ROWS, COLS), 450.0), np.full((ROWS, COLS), 30_450.0)

    def filtered(preprocess: Preprocessor) -> Callable[[], object]:
        # One step of a slow rotation: no turn is ever complete.
        turning = cycle(range(FRAMES))
        return lambda: preprocess(counts[(k := next(turning)) : k + 1], [1e-3 * k])

    made = {name: filtered(Preprocessor(SCAN, dark=dark, flat=flat, **options)) for name, options in VARIANTS.items()}
    padded = torch.zeros(ROWS, 2 * COLS)

    def transforms() -> None:
        torch.fft.irfft(torch.fft.rfft(padded), n=2 * COLS)

    return {"Fourier transforms alone, there and back": transforms, **made}


def measure(repeats: int) -> list[Row]:
    made = works()
    times: dict[str, list[float]] = {name: [] for name in made}
    for repeat in range(repeats + 2):
        for name, work in made.items():
            start = time.thread_time()
            work()
            if repeat >= 2:
                times[name].append(1e3 * (time.thread_time() - start))
    plain = min(times[PLAIN])
    return [
        {
            "name": name,
            "best_cpu_ms": round(min(taken), 2),
            "median_cpu_ms": round(statistics.median(taken), 2),
            "beyond_plain_ms": round(min(taken) - plain, 2),
        }
        for name, taken in times.items()
    ]


def learning() -> Row:
    """What the ring correction does once a turn, beside what it does in every frame."""
    means = torch.randn(2, ROWS, COLS)
    taken = []
    for _ in range(10):
        start = time.thread_time()
        bias_of(means)
        taken.append(1e3 * (time.thread_time() - start))
    best, middle = round(min(taken), 2), round(statistics.median(taken), 2)
    return {"name": "rings, once a turn", "best_cpu_ms": best, "median_cpu_ms": middle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where to write the rows; default: nowhere")
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [*measure(arguments.repeats), learning()]
    for row in rows:
        print(f"{row['name']:42s} best {row['best_cpu_ms']:6.2f} ms, median {row['median_cpu_ms']:6.2f} ms")
    if arguments.json:
        machine = {
            "processor": get_host_cpu_name(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load_average": round(os.getloadavg()[0], 2),  # above 1: others were at work
            "torch": torch.__version__,
        }
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
