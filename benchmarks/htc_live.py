"""How well a denoiser learns live: a real scan through all four server processes.

    python -m benchmarks.htc_live --seconds 60 --json benchmarks/results/htc_live.json

HTC phantom `ta`, 720 views as 4 interleaved rotations of 180, played in a loop through simulated detector,
reconstructor, trainer and denoiser with an embedded Tango database. Time counts from the first full window, that is the
first rotation. PSNR of the slice on display as in `benchmarks.htc_learning`: in the disc, against the slice of all 720
views. `better_than_tv_s`: from when on the denoised slice is always better than total variation makes the raw one, its
weight chosen by looking at that reference; null: never.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import tango

from benchmarks.htc_learning import SLICE, HtcScan, machine
from benchmarks.lab.experiment import Image
from benchmarks.lab.tv import COARSE, best, denoised
from devices.deployment import Deployment
from tests.events import wait_until
from tests.real_scans import htc_stream


def live(
    seconds: float, frame_period_s: float, preset: str, reuse: float | None = None, threads: int | None = None
) -> dict[str, Any]:
    """One live run; returns the report."""
    scan = HtcScan()
    with tempfile.TemporaryDirectory(prefix="htc-live-") as folder:
        recording = htc_stream(Path(folder))
        deployment = Deployment(Path(folder) / "run")
        try:
            host = deployment.up()
            devices = {m: tango.DeviceProxy(f"tango://{host}/{name}") for m, name in deployment.devices.items()}
            if threads is not None:
                devices["trainer"].put_property({"Threads": threads})
                devices["trainer"].Init()
            if reuse is not None:
                devices["trainer"].reuse_wanted = reuse
            settings = {
                "frame_period_s": frame_period_s,
                "preset": preset,
                "reuse_wanted": devices["trainer"].reuse_wanted,
                "trainer_threads": int(devices["trainer"].get_property("Threads")["Threads"][0] if threads else 0),
            }
            prepare(devices, recording, frame_period_s, preset)
            return follow(devices, scan, seconds) | {"settings": settings}
        finally:
            deployment.down()


def prepare(devices: dict[str, Any], recording: Path, frame_period_s: float, preset: str) -> None:
    """Start the replay with one slice, where the reference is."""
    for name, value in {"recording": str(recording), "frame_period_s": frame_period_s, "loop": True}.items():
        devices["detector"].write_attribute(name, value)
    if preset != "PRODUCT":
        devices["trainer"].network = preset
        devices["trainer"].ResetNetwork()
    devices["reconstructor"].geometry_xy = SLICE.nine
    devices["detector"].Start()
    devices["reconstructor"].shape_xy = list(SLICE.shape)
    wait_until(lambda: devices["reconstructor"].fill == 1, 60, "a full window")


def follow(devices: dict[str, Any], scan: HtcScan, seconds: float) -> dict[str, Any]:
    """Look at the slice on display every second."""
    started, curve = time.monotonic(), []
    raws: list[Image] = []
    rates: dict[str, list[float]] = {"steps_per_s": [], "samples_per_s": []}
    seen = -1
    while (elapsed := time.monotonic() - started) < seconds:
        time.sleep(min(1.0, seconds - elapsed))
        names = ["denoised_xy", "raw_xy", "frame_number_xy", "accuracy", "latency_ms", "weights_version"]
        shown, raw, number, accuracy, latency, version = (a.value for a in devices["denoiser"].read_attributes(names))
        if number == seen or raw is None or raw.shape != SLICE.shape:
            continue
        seen = number
        raws = [*raws[-7:], raw]
        curve.append(
            {
                "t_s": round(time.monotonic() - started, 1),
                "steps": devices["trainer"].steps,
                "raw_db": round(scan.psnr_db(raw), 2),
                "denoised_db": round(scan.psnr_db(shown), 2),
                "accuracy": None if accuracy is None else round(accuracy, 3),
                "latency_ms": round(latency, 1),
                "weights_version": version,
            }
        )
        for name, values in rates.items():
            values.append(devices["trainer"].read_attribute(name).value)
        print(" ".join(f"{k} {v}" for k, v in curve[-1].items()), flush=True)
    last, tv_db = curve[-9:], statistics.median(total_variation_db(scan, raw) for raw in raws[::2])
    worse = [number for number, point in enumerate(curve) if point["denoised_db"] < tv_db]
    better = curve[worse[-1] + 1 if worse else 0 :]
    return {
        "benchmark": "htc_live",
        "machine": machine(),
        "frames_sent": devices["detector"].frames_sent,
        "frames_lost": devices["reconstructor"].frames_lost,
        "frames_held_back": devices["detector"].frames_held_back,
        "trainer_frames_lost": devices["trainer"].frames_lost,
        "gain_db": round(statistics.median(p["denoised_db"] - p["raw_db"] for p in last), 2),
        "total_variation_db": round(tv_db, 2),
        "better_than_tv_s": better[0]["t_s"] if better else None,
        **{name: round(statistics.median(values), 1) for name, values in rates.items()},
        "curve": curve,
    }


def total_variation_db(scan: HtcScan, raw: Image) -> float:
    """PSNR of a slice (512, 512) in mm^-1 after total variation with its best weight."""

    def score(log_weight: float) -> float:
        return scan.psnr_db(denoised(raw, scan.peak, math.exp(log_weight)))

    return score(best(score, [math.log(weight) for weight in COARSE]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--frame-period", type=float, default=0.024, help="s")
    parser.add_argument("--preset", default="PRODUCT")
    parser.add_argument("--reuse", type=float, help="reuse_wanted of the trainer; default: as it is delivered")
    parser.add_argument("--threads", type=int, help="Threads of the trainer; default: as it is delivered")
    parser.add_argument("--json", type=Path, help="where to write the report")
    arguments = parser.parse_args()
    report = live(arguments.seconds, arguments.frame_period, arguments.preset, arguments.reuse, arguments.threads)
    print({k: v for k, v in report.items() if k != "curve"})
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
