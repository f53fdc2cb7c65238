"""Peers on a CUDA device: a horizontal slice of 512 x 512 pixels from 150 views of the same cone, in turn with ours.

ASTRA's FDK takes its views from the host and filters them in every call; KernelKit's backprojection finds them on the
device, filtered, and copies them into textures. Ours got each view, filtered, when it came, and gives both halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

from sim.bench.rows import Row
from sim.bench.scene import COLS, PIXEL_MM, ROWS, SCAN, SIDE, VIEWS, full_window, place
from sim.bench.suites.peers import AbsentError, Works, compared, peer
from sim.bench.timing import Effort, alternating, clocked
from tango_jit.recon.reconstructor import Reconstructor

FDK, KERNELKIT = "ASTRA FDK_CUDA, views on the host", "KernelKit backprojection"
PITCH_MM, HALF_MM = float(np.linalg.norm(SCAN.u_mm)), PIXEL_MM * SIDE / 2
SOURCE_AXIS_MM, AXIS_DETECTOR_MM = -SCAN.source_mm[1], SCAN.detector_mm[1]
ANGLES_RAD = np.linspace(0, 2 * np.pi, VIEWS, endpoint=False)
LOWEST_MM, HIGHEST_MM = (-HALF_MM, -HALF_MM, -PIXEL_MM / 2), (HALF_MM, HALF_MM, PIXEL_MM / 2)


def astra_fdk() -> Works:
    """FDK by ASTRA. Raises RuntimeError where it finds no device: it would do nothing, and say so nowhere."""
    astra: Any = import_module("astra")
    if not astra.use_cuda():
        raise RuntimeError("FDK_CUDA: expected a CUDA device, ASTRA finds none")
    cone = astra.create_proj_geom("cone", PITCH_MM, PITCH_MM, ROWS, COLS, ANGLES_RAD, SOURCE_AXIS_MM, AXIS_DETECTOR_MM)
    (x, y, z), (far_x, far_y, far_z) = LOWEST_MM, HIGHEST_MM
    volume = astra.create_vol_geom(SIDE, SIDE, 1, x, far_x, y, far_y, z, far_z)
    views = np.random.default_rng(0).random((ROWS, VIEWS, COLS), np.float32)
    config = astra.astra_dict("FDK_CUDA")
    config["ProjectionDataId"] = astra.data3d.create("-sino", cone, views)
    config["ReconstructionDataId"] = astra.data3d.create("-vol", volume)
    return {FDK: partial(astra.algorithm.run, astra.algorithm.create(config))}


def kernelkit() -> Works:
    """Backprojection by ASTRA KernelKit, until the device is done."""
    cupy: Any = import_module("cupy")
    kit: Any = import_module("kernelkit")
    detector = kit.Detector(rows=ROWS, cols=COLS, pixel_height=PITCH_MM, pixel_width=PITCH_MM)
    first = kit.ProjectionGeometry(
        source_position=[-SOURCE_AXIS_MM, 0.0, 0.0], detector_position=[AXIS_DETECTOR_MM, 0.0, 0.0], detector=detector
    )
    volume = kit.VolumeGeometry((SIDE, SIDE, 1), 3 * (PIXEL_MM,), LOWEST_MM, HIGHEST_MM)
    back = kit.XrayTransform([kit.rotate(first, yaw=angle) for angle in ANGLES_RAD], volume).T
    views = cupy.asarray(np.random.default_rng(0).random((VIEWS, ROWS, COLS), np.float32))

    def work() -> None:
        back(views)
        cupy.cuda.Device().synchronize()

    return {KERNELKIT: work}


PEERS = {FDK: ("astra", astra_fdk), KERNELKIT: ("kernelkit", kernelkit)}


def name_of(called: str) -> str:
    return f"{SIDE}² slice: faster than {called}"


def measure(effort: Effort) -> Iterator[Row]:
    """Each peer beside the backend cuda, or why it cannot run."""
    engine, window = Reconstructor(SCAN, "cuda"), full_window("cuda")

    def ours() -> None:
        engine.reconstruct(window, place("horizontal"))
        torch.cuda.synchronize()

    for called, (module, prepare) in PEERS.items():
        try:
            with peer(module, prepare) as clock:
                figures = alternating({called: partial(clock, called), "ours": clocked(ours)}, effort)
        except AbsentError as why:
            yield Row.not_run(name_of(called), "times", str(why))
            continue
        yield from compared(f"{SIDE}² slice", figures["ours"], called, figures[called], None)
