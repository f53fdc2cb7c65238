"""The rates of every stage on this machine: `make bench`.

    python -m benchmarks.run [--json FILE] [--markdown FILE] [--repeats N] [--live SECONDS] [SUITE ...]

Suites: engine (preprocessing, backprojection), network (training, inference), transport (ZeroMQ, Tango), demo and htc
(all four servers live). Each figure is the median of its repeats after a warm-up, `best` the fastest repeat. `target`
is what was measured while planning, on two cores of the same kind: a place to start from, not a limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numba
import torch

from benchmarks import backproject, network, transport
from benchmarks.backproject import Row
from benchmarks.htc_live import live
from sim.report import machine
from tango_jit.recon.backproject import cpu
from tango_jit.threads import use_safe_layer

SUITES = ("engine", "network", "transport", "demo", "htc")


def demo(seconds: float) -> Iterator[Row]:
    """The demo as a user runs it: three slices of 384 x 384 pixels, 24 ms a frame."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "devices.cli", "demo", "--no-gui", "--duration", str(seconds)]
        subprocess.run([*command, "--report", str(report)], check=True, stdout=subprocess.DEVNULL)
        content: dict[str, Any] = json.loads(report.read_text())
    what = "demo, 647 x 768 pixels, three 384² slices, 24 ms a frame"
    frames = content["frames"]
    yield {"name": f"{what}: frames lost of {frames['sent']}", "value": frames["lost"], "target": "0"}
    for key, value in content["rates"].items():
        yield {"name": f"{what}: {key}", "value": value, "target": ""}
    for key, value in content["latency_ms"].items():
        yield {"name": f"{what}: latency {key} in ms, at a subscriber", "value": value, "target": ""}
    yield {"name": f"{what}: slice accuracy at the end", "value": round(content["accuracy"][-1][1], 3), "target": ""}


def htc(seconds: float) -> Iterator[Row]:
    """The real scan, live; see benchmarks.htc_live."""
    report = live(seconds, 0.024, "PRODUCT")
    what = f"HTC `ta` live, one 512² slice, {seconds:g} s of training"
    last = report["curve"][-1]
    yield {"name": f"{what}: gain in dB", "value": report["gain_db"], "target": "3.5"}
    yield {"name": f"{what}: PSNR raw in dB", "value": last["raw_db"], "target": ""}
    yield {"name": f"{what}: PSNR denoised in dB", "value": last["denoised_db"], "target": ""}
    yield {"name": f"{what}: frames lost of {report['frames_sent']}", "value": report["frames_lost"], "target": "0"}
    yield {"name": f"{what}: training steps per s", "value": report["steps_per_s"], "target": ""}
    yield {"name": f"{what}: new pairs per s", "value": report["samples_per_s"], "target": ""}


def rows(suites: list[str], repeats: int, live_s: float) -> Iterator[Row]:
    runs = {
        "engine": lambda: backproject.measure(repeats),
        "network": lambda: network.measure(repeats),
        "transport": lambda: transport.measure(repeats),
        "demo": lambda: demo(live_s),
        "htc": lambda: htc(live_s),
    }
    for suite in suites:
        for row in runs[suite]():
            yield {"suite": suite, **row}


def figure(row: Row) -> str:
    """The figure of a row in words."""
    if "ms" in row:
        rate = f", {row['Msamples_s']} Msamples/s" if "Msamples_s" in row else ""
        return f"{row['ms']:g} ms (best {row['best_ms']:g}){rate}"
    if "per_s" in row:
        return f"{row['per_s']} /s (best {row['best_per_s']})"
    return f"{row['value']}"


def markdown(measured: list[Row], where: dict[str, Any]) -> str:
    lines = ["| stage | measured | design |", "|---|---|---|"]
    lines += [f"| {row['name']} | {figure(row)} | {row['target']} |" for row in measured]
    machine_text = ", ".join(f"{key} {value}" for key, value in where.items())
    return f"Measured on {date.today():%Y-%m-%d}: {machine_text}.\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; default: all")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--live", type=float, default=60.0, metavar="SECONDS", help="length of the live runs")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(SUITES)
    if unknown:
        parser.error(f"suite: expected {', '.join(SUITES)}, got {', '.join(unknown)}")
    use_safe_layer()
    cpu.warm_up()
    torch.set_num_threads(numba.get_num_threads())
    where = machine() | {"threads": numba.get_num_threads(), "numba": numba.__version__, "torch": torch.__version__}
    measured = []
    for row in rows(arguments.suites or list(SUITES), arguments.repeats, arguments.live):
        print(f"{row['name']:72s} {figure(row)}", flush=True)
        measured.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": where, "rows": measured}, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(measured, where))


if __name__ == "__main__":
    main()
