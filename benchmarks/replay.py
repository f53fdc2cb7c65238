"""Minutes of replay through all four server processes: what is lost, how late frames are, whether memory grows.

    python -m benchmarks.replay [--experiment tablet-soap] [--minutes 5] [--periods 24 12] [--json FILE]

The looped recording of the demo (647 x 768 pixels, 150 views a turn) at so many ms a frame, with three slices of
384 x 384 pixels of 0.25 mm, training and denoising. Memory is that of each server (resident, without the page cache),
once a second; it is flat if the last third is not above the middle third.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import tango
from rich.console import Console

from devices.deployment import Deployment
from sim.demo import fit_slices
from sim.prepared import prepared
from sim.report import machine
from sim.scenario import load

SLICE_PIXELS = 384
DETECTOR = ("frames_sent", "frames_held_back", "lateness_ms", "lateness_p50_ms", "lateness_p99_ms", "jitter_ms")
RECONSTRUCTOR = ("frames_received", "frames_lost", "frames_late", "slices_reconstructed")


def replay(recording: Path, period_ms: float, seconds: float) -> dict[str, Any]:
    """One run; returns its figures."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        deployment = Deployment(Path(folder))
        try:
            host = deployment.up()
            devices = {m: tango.DeviceProxy(f"tango://{host}/{name}") for m, name in deployment.devices.items()}
            processes = {name: psutil.Process(p.pid) for name, p in deployment.processes().items() if name in devices}
            settings = {"recording": str(recording), "frame_period_s": period_ms / 1e3, "loop": True}
            for name, setting in settings.items():
                devices["detector"].write_attribute(name, setting)
            devices["detector"].Start()
            while not fit_slices(devices["reconstructor"], SLICE_PIXELS):
                time.sleep(0.1)
            figures = follow(devices, processes, seconds)
            devices["detector"].Stop()
            time.sleep(2)
            return {"period_ms": period_ms, "seconds": seconds} | figures | {
                name: value(devices["reconstructor"], name) for name in RECONSTRUCTOR
            } | {"trainer_frames_lost": value(devices["trainer"], "frames_lost")}  # fmt: skip
        finally:
            deployment.down()


def value(device: Any, name: str) -> Any:
    """An attribute; None: it has no value, or there is no such attribute."""
    try:
        return device.read_attribute(name).value
    except tango.DevFailed:
        return None


def follow(devices: dict[str, Any], processes: dict[str, psutil.Process], seconds: float) -> dict[str, Any]:
    """Sample once a second; the first ten seconds warm up."""
    began, lateness, p50, p99, jitter, latency = time.monotonic(), [], [], [], [], []
    memory: dict[str, list[float]] = {name: [] for name in processes}
    while (elapsed := time.monotonic() - began) < seconds:
        time.sleep(1.0)
        if elapsed < 10:
            continue
        now = {name: value(devices["detector"], name) for name in DETECTOR}
        lateness.append(now["lateness_ms"])
        p50.append(now["lateness_p50_ms"])
        p99.append(now["lateness_p99_ms"])
        jitter.append(now["jitter_ms"])
        latency.append(value(devices["denoiser"], "latency_ms"))
        for name, process in processes.items():
            memory[name].append(process.memory_full_info().uss / 2**20)
    third = len(lateness) // 3
    return {
        "frames_sent": value(devices["detector"], "frames_sent"),
        "frames_held_back": value(devices["detector"], "frames_held_back"),
        "lateness_p50_ms": round(statistics.median(p50), 2),
        "lateness_p99_ms": round(statistics.median(p99), 2),
        "lateness_p99_worst_ms": round(max(p99), 2),
        "jitter_ms": round(statistics.median(jitter), 2),
        "latency_ms": round(statistics.median(x for x in latency if x is not None), 1),
        "accuracy": value(devices["denoiser"], "accuracy"),
        "steps_per_s": value(devices["trainer"], "steps_per_s"),
        "memory_mb": {
            name: {
                "middle_third": round(statistics.mean(values[third : 2 * third]), 1),
                "last_third": round(statistics.mean(values[2 * third :]), 1),
                "most": round(max(values), 1),
            }
            for name, values in memory.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="tablet-soap")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--periods", type=float, nargs="+", default=[24.0, 12.0], help="ms")
    parser.add_argument("--json", type=Path, help="where to write the report")
    arguments = parser.parse_args()
    recording, runs = prepared(load(arguments.experiment), Console()), []
    for period_ms in arguments.periods:
        runs.append(replay(recording, period_ms, 60 * arguments.minutes))
        print(runs[-1], flush=True)
    if arguments.json:
        report = {"benchmark": "replay", "machine": machine(), "experiment": arguments.experiment, "runs": runs}
        arguments.json.write_text(json.dumps(report, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
