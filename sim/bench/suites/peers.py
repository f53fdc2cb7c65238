"""Peers on this computer, in the same minutes: each does its work in a process of its own, in turn with ours.

A slice of 512 x 512 pixels from 150 views of 768 columns (and 647 rows where the beam is a cone). Ours is from a cone
beam, and comes as its even and odd half, ready to be trained on; its views were filtered when they came. Peers
without cone beams on processors (ASTRA, scikit-image) do the two-dimensional parallel case, which is simpler, and
filter 150 rows of 768 pixels in it. RTK's FDK does the same cone; what it takes longer than for a slice of 8 x 8 pixels
is its backprojection, without the filter of the rows that a slice needs and without what it does once a call.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from sim.bench.rows import Figure, Peer, Row
from sim.bench.scene import COLS, PIXEL_MM, ROWS, SCAN, SIDE, VIEWS, full_window, place
from sim.bench.timing import Effort, alternating, clocked
from tango_jit.recon import backproject
from tango_jit.recon.reconstructor import Reconstructor

SMALL = 8
START_S, LONGEST_S = 300.0, 120.0  # until a peer is ready (RTK takes half a minute to load), and for one call
Works = Mapping[str, Callable[[], object]]
ASTRA, SKIMAGE = "ASTRA FBP, 2-D parallel", "scikit-image iradon, 2-D parallel"
FDK, PIECE = "RTK FDK, the same cone", "RTK FDK of a small piece"


class AbsentError(Exception):
    """A peer that cannot run here, and why."""


def astra_fbp() -> Works:
    """FBP by ASTRA on the processor, with its linear projector, the fastest of its three."""
    astra: Any = import_module("astra")

    volume = astra.create_vol_geom(SIDE, SIDE)
    rays = astra.create_proj_geom("parallel", 1.0, COLS, np.linspace(0, np.pi, VIEWS, endpoint=False))
    sinogram = np.random.default_rng(0).random((VIEWS, COLS), np.float32)
    config = astra.astra_dict("FBP")
    config["ProjectionDataId"] = astra.data2d.create("-sino", rays, sinogram)
    config["ReconstructionDataId"] = astra.data2d.create("-vol", volume)
    config["ProjectorId"] = astra.create_projector("linear", rays, volume)
    config["option"] = {"FilterType": "Ram-Lak"}
    return {ASTRA: partial(astra.algorithm.run, astra.algorithm.create(config))}


def skimage_iradon() -> Works:
    """FBP by scikit-image, of the same sinogram."""
    from skimage.transform import iradon

    sinogram = np.random.default_rng(0).random((COLS, VIEWS), np.float32)
    angles_deg = np.linspace(0, 180, VIEWS, endpoint=False)
    return {SKIMAGE: partial(iradon, sinogram, theta=angles_deg, output_size=SIDE, circle=False)}


def rtk_fdk() -> Works:
    """FDK by RTK of a horizontal slice, and of a small piece of it: weights, ramp filter, backprojection."""
    itk: Any = import_module("itk")
    geometry = itk.RTK.ThreeDCircularProjectionGeometry.New()
    for view in range(VIEWS):
        geometry.AddProjection(-SCAN.source_mm[1], SCAN.detector_mm[1] - SCAN.source_mm[1], 360 * view / VIEWS)
    image = itk.Image[itk.F, 3]
    views = itk.image_from_array(np.random.default_rng(0).random((VIEWS, ROWS, COLS), np.float32))
    pitch = float(np.linalg.norm(SCAN.u_mm))
    views.SetSpacing([pitch, pitch, 1.0])
    views.SetOrigin([-pitch * (COLS - 1) / 2, -pitch * (ROWS - 1) / 2, 0.0])

    def slice_of(side: int) -> Callable[[], object]:
        empty = itk.RTK.ConstantImageSource[image].New()
        empty.SetSize([side, 1, side])
        empty.SetSpacing([PIXEL_MM] * 3)
        empty.SetOrigin([-PIXEL_MM * (side - 1) / 2, 0.0, -PIXEL_MM * (side - 1) / 2])
        empty.SetConstant(0.0)
        fdk = itk.RTK.FDKConeBeamReconstructionFilter[image].New()
        fdk.SetInput(0, empty.GetOutput())
        fdk.SetInput(1, views)
        fdk.SetGeometry(geometry)

        def work() -> None:
            views.Modified()  # else it would know the result already
            empty.Modified()  # it is written over; and has to be named here, a pipeline does not keep its sources alive
            fdk.Update()

        return work

    return {FDK: slice_of(SIDE), PIECE: slice_of(SMALL)}


@contextmanager
def peer(module: str, prepare: Callable[[], Works]) -> Iterator[Callable[[str], float]]:
    """A peer in a process of its own: a call has it do the work of that name once, and says how long it took, in ms.

    Raises AbsentError if its module is not installed, or it fails.
    """
    if find_spec(module) is None:
        raise AbsentError(f"{module} is not installed")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(prepare, theirs))
    process.start()
    theirs.close()

    def answer(patience_s: float = LONGEST_S) -> float:
        try:
            said = ours.recv() if ours.poll(patience_s) else f"no answer within {patience_s:.0f} s"
        except EOFError:
            process.join(10)
            said = f"its process ended with exit status {process.exitcode}"
        if isinstance(said, str):
            raise AbsentError(f"{module}: {said}")
        return said

    def clock(work: str) -> float:
        ours.send(work)
        return answer()

    try:
        answer(START_S)  # it is ready
        yield clock
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(prepare: Callable[[], Works], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its suite is asked to end, and ends it
    try:
        works = prepare()
        pipe.send(0.0)
        while True:
            work = works[pipe.recv()]
            began = time.perf_counter()
            work()
            pipe.send(1e3 * (time.perf_counter() - began))
    except EOFError:
        return
    except Exception as error:  # whatever a peer may raise is the reason why it has no figure
        pipe.send(f"{type(error).__name__}: {error}")


def measure(effort: Effort) -> Iterator[Row]:
    backproject.get("cpu").warm_up()
    ours = clocked(partial(Reconstructor(SCAN).reconstruct, full_window(), place("horizontal")))
    for name, module, prepare, floor in (
        (ASTRA, "astra", astra_fbp, 3.0),
        (SKIMAGE, "skimage", skimage_iradon, None),
    ):
        try:
            with peer(module, prepare) as clock:
                figures = alternating({name: partial(clock, name), "ours": ours}, effort)
        except AbsentError as why:
            yield Row.not_run(f"{SIDE}² slice: faster than {name}", "times", str(why), target=floor)
            continue
        yield from compared(f"{SIDE}² slice", figures["ours"], name, figures[name], floor)
    yield from _rtk(effort, ours)


def _rtk(effort: Effort, ours: Callable[[], float]) -> Iterator[Row]:
    try:
        if effort.quick:
            raise AbsentError("--quick leaves it out, it takes long to load")
        with peer("itk", rtk_fdk) as clock:
            figures = alternating({name: partial(clock, name) for name in (FDK, PIECE)} | {"ours": ours}, effort)
    except AbsentError as why:
        yield Row.not_run(f"{SIDE}² slice: faster than {FDK}", "times", str(why), target=20.0)
        return
    whole, piece, mine = figures[FDK], figures[PIECE], figures["ours"]
    yield from compared(f"{SIDE}² slice", mine, FDK, whole, 20.0)
    low, high = (max(whole.spread[i] - piece.spread[1 - i], 0.0) for i in (0, 1))
    alone = Figure(max(whole.value - piece.value, 0.0), (low, high), max(whole.best - piece.best, 0.0), whole.repeats)
    yield from compared(f"{SIDE}² slice, backprojection alone", mine, FDK, alone, None)


def compared(what: str, ours: Figure, name: str, theirs: Figure, floor: float | None) -> Iterator[Row]:
    """The peer's time, ours beside it, and how many times faster that is."""
    yield Row.of(f"{what}, {name}", "ms", theirs)
    yield Row.of(f"{what}, ours in turn with it ({name.split()[0]})", "ms", ours, peer=Peer(name, theirs.value))
    if not theirs.value:
        yield Row.not_run(f"{what}: faster than {name}", "times", "its time is not above that of nothing", target=floor)
        return
    spread = theirs.spread[0] / ours.spread[1], theirs.spread[1] / ours.spread[0]
    ratio = Figure(theirs.value / ours.value, spread, theirs.best / ours.best, ours.repeats)
    yield Row.of(f"{what}: faster than {name}", "times", ratio, target=floor)
