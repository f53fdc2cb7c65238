"""Peers on this computer, in the same minutes: each does its work in a process of its own, in turn with ours.

A slice of 512 x 512 pixels from 150 views of 768 columns (and 647 rows where the beam is a cone). Ours is from a cone
beam, and comes as its even and odd half, ready to be trained on. Peers without cone beams on processors (ASTRA,
scikit-image) do the two-dimensional parallel case, which is simpler; they filter their 150 rows as well, which is
little. Of RTK's FDK the filter is most of the work: it is compared as a whole with all of ours, and by its
backprojection, which is what its whole takes longer than for a slice of 8 x 8 pixels.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection

import numpy as np

from sim.bench.rows import Figure, Peer, Row
from sim.bench.scene import COLS, PIXEL_MM, ROWS, SCAN, SIDE, VIEWS, full_window, place
from sim.bench.timing import Effort, alternating, timed
from tango_jit.recon import backproject
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor

SMALL = 8
START_S, LONGEST_S = 120.0, 120.0  # until a peer is ready, and for one call
ASTRA, SKIMAGE = "ASTRA FBP, 2-D parallel", "scikit-image iradon, 2-D parallel"
FDK = "RTK FDK, the same cone"


class AbsentError(Exception):
    """A peer that cannot run here, and why."""


def astra_fbp() -> Callable[[], object]:
    """FBP by ASTRA on the processor, with its linear projector, the fastest of its three."""
    import astra

    volume = astra.create_vol_geom(SIDE, SIDE)
    rays = astra.create_proj_geom("parallel", 1.0, COLS, np.linspace(0, np.pi, VIEWS, endpoint=False))
    sinogram = np.random.default_rng(0).random((VIEWS, COLS), np.float32)
    config = astra.astra_dict("FBP")
    config["ProjectionDataId"] = astra.data2d.create("-sino", rays, sinogram)
    config["ReconstructionDataId"] = astra.data2d.create("-vol", volume)
    config["ProjectorId"] = astra.create_projector("linear", rays, volume)
    config["option"] = {"FilterType": "Ram-Lak"}
    return partial(astra.algorithm.run, astra.algorithm.create(config))


def skimage_iradon() -> Callable[[], object]:
    """FBP by scikit-image, of the same sinogram."""
    from skimage.transform import iradon

    sinogram = np.random.default_rng(0).random((COLS, VIEWS), np.float32)
    angles_deg = np.linspace(0, 180, VIEWS, endpoint=False)
    return partial(iradon, sinogram, theta=angles_deg, output_size=SIDE, circle=False)


def rtk_fdk(side: int) -> Callable[[], object]:
    """FDK by RTK of a horizontal slice: weights, ramp filter of all views, backprojection."""
    import itk
    from itk import RTK

    geometry = RTK.ThreeDCircularProjectionGeometry.New()
    for view in range(VIEWS):
        geometry.AddProjection(-SCAN.source_mm[1], SCAN.detector_mm[1] - SCAN.source_mm[1], 360 * view / VIEWS)
    image = itk.Image[itk.F, 3]
    views = itk.image_from_array(np.random.default_rng(0).random((VIEWS, ROWS, COLS), np.float32))
    pitch = float(np.linalg.norm(SCAN.u_mm))
    views.SetSpacing([pitch, pitch, 1.0])
    views.SetOrigin([-pitch * (COLS - 1) / 2, -pitch * (ROWS - 1) / 2, 0.0])
    empty = RTK.ConstantImageSource[image].New()
    empty.SetSize([side, 1, side])
    empty.SetSpacing([PIXEL_MM] * 3)
    empty.SetOrigin([-PIXEL_MM * (side - 1) / 2, 0.0, -PIXEL_MM * (side - 1) / 2])
    empty.SetConstant(0.0)
    fdk = RTK.FDKConeBeamReconstructionFilter[image].New()
    fdk.SetInput(0, empty.GetOutput())
    fdk.SetInput(1, views)
    fdk.SetGeometry(geometry)

    def work() -> None:
        views.Modified()
        fdk.Update()

    return work


@contextmanager
def peer(module: str, prepare: Callable[[], Callable[[], object]]) -> Iterator[Callable[[], float]]:
    """A peer in a process of its own: a call has it do its work once and says how long that took, in ms.

    Raises AbsentError if its module is not installed, or it fails.
    """
    if find_spec(module) is None:
        raise AbsentError(f"{module} is not installed")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(prepare, theirs))
    process.start()
    theirs.close()

    def ask(patience_s: float = LONGEST_S) -> float:
        try:
            answer = ours.recv() if ours.poll(patience_s) else f"no answer within {patience_s:.0f} s"
        except EOFError:
            process.join(10)
            answer = f"its process ended with exit status {process.exitcode}"
        if isinstance(answer, str):
            raise AbsentError(f"{module}: {answer}")
        return answer

    def clock() -> float:
        ours.send(None)
        return ask()

    try:
        ask(START_S)  # it is ready
        yield clock
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(prepare: Callable[[], Callable[[], object]], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its suite is asked to end, and ends it
    try:
        work = prepare()
        pipe.send(0.0)
        while True:
            pipe.recv()
            began = time.perf_counter()
            work()
            pipe.send(1e3 * (time.perf_counter() - began))
    except EOFError:
        return
    except Exception as error:  # whatever a peer may raise is the reason why it has no figure
        pipe.send(f"{type(error).__name__}: {error}")


def measure(effort: Effort) -> Iterator[Row]:
    backproject.get("cpu").warm_up()
    engine, window = Reconstructor(SCAN), full_window()
    geometry = place("horizontal")
    ours = partial(engine.reconstruct, window, geometry)
    for name, module, prepare, floor in (
        (ASTRA, "astra", astra_fbp, 3.0),
        (SKIMAGE, "skimage", skimage_iradon, None),
    ):
        try:
            with peer(module, prepare) as clock:
                figures = alternating({"peer": clock, "ours": _clock(ours)}, effort)
        except AbsentError as why:
            yield Row.not_run(f"{SIDE}² slice: faster than {name}", "times", str(why), target=floor)
            continue
        yield from _compared(f"{SIDE}² slice", figures["ours"], name, figures["peer"], floor)
    yield from _rtk(effort, ours)


def _rtk(effort: Effort, ours: Callable[[], object]) -> Iterator[Row]:
    filtered = _filtered(effort)
    try:
        with peer("itk", partial(rtk_fdk, SIDE)) as large, peer("itk", partial(rtk_fdk, SMALL)) as small:
            figures = alternating({"large": large, "small": small, "ours": _clock(ours)}, effort, warm_up=1)
    except AbsentError as why:
        yield Row.not_run(f"{SIDE}² slice, backprojection alone: faster than {FDK}", "times", str(why), target=20.0)
        return
    whole, without, mine = figures["large"], figures["small"], figures["ours"]
    alone = max(whole.value - without.value, 0.0)
    low, high = (max(whole.spread[i] - without.spread[1 - i], 0.0) for i in (0, 1))
    backprojection = Figure(alone, (low, high), max(whole.best - without.best, 0.0), whole.repeats)
    yield from _compared(f"{SIDE}² slice, backprojection alone", mine, FDK, backprojection, 20.0)
    total = mine.value + VIEWS * filtered.value
    spread = tuple(mine.spread[i] + VIEWS * filtered.spread[i] for i in (0, 1))
    everything = Figure(total, (spread[0], spread[1]), mine.best + VIEWS * filtered.best, mine.repeats)
    yield from _compared(f"{SIDE}² slice with the filter of its {VIEWS} views", everything, FDK, whole, None)


def _filtered(effort: Effort) -> Figure:
    """Ours: from the line integrals of one view to the filtered view."""
    preprocess = Preprocessor(SCAN, linear=True)
    return timed(partial(preprocess, np.random.default_rng(0).random((1, ROWS, COLS), np.float32)), effort)


def _compared(what: str, ours: Figure, name: str, theirs: Figure, floor: float | None) -> Iterator[Row]:
    """The peer's time, ours beside it, and how many times faster that is."""
    yield Row.of(f"{what}, {name}", "ms", theirs)
    yield Row.of(f"{what}, ours", "ms", ours, peer=Peer(name, theirs.value))
    if not theirs.value:
        yield Row.not_run(f"{what}: faster than {name}", "times", "its time is not above that of nothing", target=floor)
        return
    spread = theirs.spread[0] / ours.spread[1], theirs.spread[1] / ours.spread[0]
    ratio = Figure(theirs.value / ours.value, spread, theirs.best / ours.best, ours.repeats)
    yield Row.of(f"{what}: faster than {name}", "times", ratio, target=floor)


def _clock(work: Callable[[], object]) -> Callable[[], float]:
    def clock() -> float:
        began = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - began)

    return clock
