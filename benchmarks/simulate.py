"""How fast the simulated experiments are made, and in how much memory.

    python -m benchmarks.simulate [--experiments tablet-soap tablet-gel] [--frames 150] [--repeats 3] [--json FILE]

Each figure is measured in a process of its own that simulates frames of 647 x 768 pixels as `tango-jit simulate` does
(two threads, without the disk) and, beside it, with the disk. Exact and approximate noise take turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sim.report import machine

MEGABYTE = 2**20


def measure(experiment: str, fast: bool, frames: int, repeats: int) -> dict[str, Any]:
    """Frames per second and the largest memory of a process that simulates."""
    from sim.experiment import Experiment
    from sim.record import record
    from sim.scenario import load

    scenario = load(experiment).with_(fast=fast)
    simulated = Experiment(scenario)
    objects = [simulated.sample.at(time_s) for time_s in (0.0, 0.6, 1.2)]
    for _ in simulated.frames(range(8)):  # compiles
        pass
    rates, cpu = [], []
    for repeat in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        for _ in simulated.frames(range(repeat * frames, (repeat + 1) * frames)):
            pass
        rates.append(frames / (time.perf_counter() - began))
        cpu.append((time.process_time() - worked) / frames)
    with tempfile.TemporaryDirectory() as folder:
        stamps = [time.perf_counter()]
        record(
            scenario, Path(folder) / "scan.nxs", frames=frames, progress=lambda *_: stamps.append(time.perf_counter())
        )
    return {
        "experiment": experiment,
        "fast": fast,
        "frames": frames,
        "shape": [scenario.scanner.rows, scenario.scanner.cols],
        "moments": scenario.scanner.moments,
        "objects": round(statistics.mean(len(o.ellipsoids) + len(o.solids) for o in objects)),
        "frames_per_s": round(statistics.median(rates), 1),
        "frames_per_s_best": round(max(rates), 1),
        "cpu_ms_per_frame": round(1e3 * statistics.median(cpu), 1),
        "recorded_frames_per_s": round((frames - 1) / (stamps[-1] - stamps[1]), 1),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["tablet-soap", "tablet-gel"])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the report")
    arguments = parser.parse_args()
    rows = []
    spawn = multiprocessing.get_context("spawn")
    for experiment in arguments.experiments:
        for fast in (False, True):
            with spawn.Pool(1) as pool:
                rows.append(pool.apply(measure, (experiment, fast, arguments.frames, arguments.repeats)))
            print(rows[-1], flush=True)
    report = {"benchmark": "simulate", "machine": machine(), "target": {"exact": 15, "fast": 40}, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
