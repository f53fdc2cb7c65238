"""Frames of an EPICS camera that nobody here wrote: how many arrive, how late, and what that costs.

    python -m benchmarks.epics_camera --seconds 60 --json benchmarks/results/epics_camera.json

pvapy's simulated areaDetector streams 150 frames of 647 x 768 pixels (16 bits, Poisson of 200 counts) again and
again, one each 12 ms as in the paper's scan and twice as fast, as they are and compressed. The service of the
camera takes them and pushes them to a subscriber that pulls, as a reconstructor does. Latency is from the camera's
time stamp to the end of that way; one clock, one computer. `cpu_percent` is of one core: that of the service with
its subscriber, and of the simulator.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import psutil

from devices.epics.source import PvaCamera, PVs
from devices.registration import free_port
from sim.bench.machine import describe
from tango_jit.services.camera import CameraService
from tango_jit.services.service import State
from tango_jit.streams import Image, Mailbox, Subscriber

FRAMES, ROWS, COLS = 150, 647, 768
PV = "bench:Pva1:Image"
CODECS: dict[str, Mapping[str, Any]] = {
    "none": {},
    "bslz4": hdf5plugin.Bitshuffle(),
    "lz4": hdf5plugin.LZ4(),
    "blosc": hdf5plugin.Blosc(),
}


def loopback() -> dict[str, str]:
    """Settings of PVAccess for this run alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        search = str(probe.getsockname()[1])
    port = str(free_port())
    names = {"ADDR_LIST": "127.0.0.1", "AUTO_ADDR_LIST": "NO", "SERVER_PORT": port, "BROADCAST_PORT": search}
    client = {f"EPICS_PVA_{name}": value for name, value in names.items()}
    server = {"INTF_ADDR_LIST": "127.0.0.1", "BEACON_ADDR_LIST": "127.0.0.1", "AUTO_BEACON_ADDR_LIST": "NO"}
    server |= {"SERVER_PORT": port, "BROADCAST_PORT": search}
    return client | {f"EPICS_PVAS_{name}": value for name, value in server.items()}


def write(folder: Path, codec: str) -> Path:
    """The frames as a file, a chunk each."""
    path = folder / f"{codec}.h5"
    frames = np.random.default_rng(1).poisson(200, (FRAMES, ROWS, COLS)).astype(np.uint16)
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=frames, chunks=(1, ROWS, COLS), **CODECS[codec])
    return path


@contextmanager
def camera(path: Path, fps: float, compressed: bool, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """The simulator; it is killed afterwards, for its orderly end takes long."""
    program = Path(sys.executable).parent / "pvapy-ad-sim-server"
    command = [sys.executable, program, "-cn", PV, "-if", path, "-hds", "exchange/data", "-fps", f"{fps:.3f}"]
    command += ["-rt", "3600", "-std", "3", "-dc", "-rp", "100000", *(["-hcm"] if compressed else [])]
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)


def seconds_of(process: psutil.Process) -> float:
    """Processor time so far."""
    times = process.cpu_times()
    return times.user + times.system


def stretch(path: Path, codec: str, fps: float, seconds: float) -> dict[str, float]:
    """One camera, watched for so long once its frames come."""
    environment = loopback()
    service = CameraService(PvaCamera(PVs(PV), conf=environment))
    mailbox = Mailbox(256 << 20, "lossless")
    subscriber = Subscriber(lambda: service.values["raw_endpoint"], mailbox, kind="pull")
    latency_ms: list[float] = []
    numbers: list[int] = []
    try:
        service.write("linear", True)
        service.start()
        with camera(path, fps, codec != "none", environment) as simulator:
            _until_running(service, mailbox)
            own = psutil.Process()
            before, began = (seconds_of(own), seconds_of(simulator)), time.monotonic()
            while time.monotonic() - began < seconds:
                message = mailbox.get(0.1)
                if isinstance(message, Image):
                    latency_ms.append(1e3 * (mailbox.received_at - message.timestamp_s))
                    numbers.append(message.frame)
            took_s = time.monotonic() - began
            spent = seconds_of(own) - before[0], seconds_of(simulator) - before[1]
        figures = service.values
        return {
            "offered_hz": fps,
            "received_hz": len(numbers) / took_s,
            "lost": numbers[-1] - numbers[0] + 1 - len(set(numbers)),
            "dropped": figures["frames_dropped"],
            "refused": figures["frames_refused"],
            "untaken": figures["frames_untaken"],
            "latency_p50_ms": float(np.percentile(latency_ms, 50)),
            "latency_p99_ms": float(np.percentile(latency_ms, 99)),
            "cpu_percent": 100 * spent[0] / took_s,
            "simulator_cpu_percent": 100 * spent[1] / took_s,
        }
    finally:
        service.close()
        subscriber.close()


def _until_running(service: CameraService, mailbox: Mailbox) -> None:
    """Until frames come, and a second more; what came by then is not counted."""
    deadline = time.monotonic() + 60
    while service.values["state"] is not State.RUNNING:
        mailbox.drain()
        if time.monotonic() > deadline:
            raise SystemExit(f"expected frames within 60 s, got: {service.values['status']}")
        time.sleep(0.1)
    time.sleep(1)
    mailbox.drain()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each stretch")
    parser.add_argument("--periods-ms", type=float, nargs="+", default=[12.0, 6.0], help="between two frames")
    parser.add_argument("--codecs", nargs="+", choices=list(CODECS), default=list(CODECS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="epics-camera-") as folder:
        for codec in given.codecs:
            path = write(Path(folder), codec)
            for period_ms in given.periods_ms:
                rows.append({"codec": codec} | stretch(path, codec, 1e3 / period_ms, given.seconds))
                print(json.dumps(rows[-1]), flush=True)
    settings = {"seconds": given.seconds, "frames": FRAMES, "rows": ROWS, "cols": COLS, "dtype": "uint16"}
    text = json.dumps({"machine": describe(), "settings": settings, "rows": rows}, indent=1)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
