"""What recording costs the pictures: all servers live, with and without it, one after the other and again.

    python -m benchmarks.recorder --seconds 30 --repeats 2 --json benchmarks/results/recorder.json

Experiment (A), frames of 647 x 768 pixels every 24 ms, three slices of 512 x 512, training on. `off`: the recorder only
listens. `pictures`: raw and denoised pictures and weights. `projections`: the projections as well. Medians over the
repeats; latency is that of a ZeroMQ client. `recorder_cpu_percent` is of one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sim.bench.machine import describe
from sim.bench.observe import observe
from sim.bench.station import Setup, Station, await_, require, station

KINDS = ("off", "pictures", "projections")


def stretch(live: Station, kind: str, seconds: float) -> dict[str, float]:
    """One stretch of live operation."""
    recorder = live.devices["recorder"]
    if kind != "off":
        recorder.keep_projections = kind == "projections"
        recorder.Record()
        require(await_(lambda: recorder.pictures_recorded > 0, 30), "a picture in the file")
    process = live.processes["recorder"]
    before, began = process.cpu_times(), time.monotonic()
    seen = observe(live, seconds)
    used = process.cpu_times()
    latency = seen.latency_ms()
    found = {
        "slices_per_s": seen.rate("denoiser.slices_denoised").value,
        "steps_per_s": seen.rate("trainer.steps").value,
        "latency_p50_ms": float(np.percentile(latency, 50)),
        "latency_p99_ms": float(np.percentile(latency, 99)),
        "frames_lost": seen.grown("reconstructor.frames_lost"),
        "recorder_cpu_percent": 100 * (sum(used[:2]) - sum(before[:2])) / (time.monotonic() - began),
        "recorder_memory_mb": process.memory_info().rss / 2**20,
    }
    if kind != "off":
        found |= {
            "pictures_lost": float(live.value("recorder", "pictures_lost")),
            "projections_lost": float(live.value("recorder", "frames_lost")),
            "written_mb": float(live.value("recorder", "written_mb")),
            "write_ms": float(live.value("recorder", "write_ms")),
        }
        recorder.Finish()
        require(await_(lambda: not recorder.recording, 60), "the end of the run")
    return found


def measure(seconds: float, repeats: int, folder: Path) -> dict[str, Any]:
    """The kinds side by side in one run of the servers."""
    with station(Setup(0.024, 512)) as live:
        live.devices["recorder"].folder = str(folder)
        live.devices["recorder"].pre_trigger_s = 0.0
        rounds = [{kind: stretch(live, kind, seconds) for kind in KINDS} for _ in range(repeats)]
    medians = {
        kind: {name: statistics.median(one[kind][name] for one in rounds) for name in rounds[0][kind]} for kind in KINDS
    }
    return {"medians": medians, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each stretch")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files go meanwhile; without it: a temporary folder")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="recorder-") as folder:
        found = measure(given.seconds, given.repeats, Path(folder))
    settings = {"seconds": given.seconds, "repeats": given.repeats, "frame_period_s": 0.024, "side": 512}
    text = json.dumps({"machine": describe(), "settings": settings, **found}, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
