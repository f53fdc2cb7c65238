"""A suite in a process of its own: what it compiles, caps or breaks concerns no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from sim.bench.rows import Row, Series
from sim.bench.timing import Effort
from tango_jit.cores import Budget

SUITES = {
    "backprojection": "slices of 512² in four orientations from 150 views",
    "pairs": "batches of training pairs, from poses to the buffer",
    "stages": "every other step on the way of a frame",
    "training": "steps of each preset, and of the paper's network as its software ran it",
    "inference": "slices through the network",
    "sizes": "slices, slabs and sequences over their size: reconstruction, training, inference",
    "networks": "training and inference of the paper's fourteen networks",
    "peers": "ASTRA, scikit-image and RTK doing the same work in turn with ours",
    "transport": "frames by ZeroMQ, images by Tango, between two processes",
    "gpu": "the CUDA backend",
    "live": "all four servers at 12 ms a frame with three slices of 512²",
    "demo": "all four servers as the demo runs them: 24 ms a frame, three slices of 384²",
    "sustained": "the highest frame rate without a loss",
    "memory": "minutes of frames through all four servers",
}
LIVE = ("live", "demo", "sustained", "memory")  # whose servers share the cores as they do in operation
UNHURRIED = ("demo", "sustained", "memory")  # too long for --quick
LEAVE_S = 60.0  # servers get 10 s each to end


class SuiteError(RuntimeError):
    """A suite came to no end; what it had measured until then is worth keeping."""


def measure(suite: str, effort: Effort, share: Budget) -> Generator[Row | Series, None, None]:
    """What the suite measures, as it comes. Raises SuiteError with the reason where it breaks off.

    `share`: threads of each kind of work; live suites do without, their servers have their own.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with _threads(max(astuple(share))) if suite not in LIVE else nullcontext():
        process = context.Process(target=_work, args=(suite, effort, share, theirs), name=f"bench {suite}")
        process.start()
    theirs.close()
    try:
        yield from _received(suite, ours, process)
    finally:
        if process.is_alive():
            process.terminate()  # it ends its servers first
        process.join(LEAVE_S)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def _received(suite: str, ours: Connection, process: Any) -> Iterator[Row | Series]:
    while True:
        try:
            item = ours.recv()
        except EOFError:
            process.join(LEAVE_S)
            raise SuiteError(f"{suite} ended without a word, exit status {process.exitcode}") from None
        if isinstance(item, Row | Series):
            yield item
            continue
        process.join(LEAVE_S)
        if item is not None:
            raise SuiteError(item)
        return


def _work(suite: str, effort: Effort, share: Budget, out: Connection) -> None:
    """The child process."""
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        module = import_module(f"sim.bench.suites.{suite}")
        _begin(share)
        rows: Callable[[Effort], Iterator[Row | Series]] = module.measure
        for item in rows(effort):
            out.send(item)
        out.send(None)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # the parent goes on with the other suites, and says why this one has no figures
        traceback.print_exc()
        out.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _begin(share: Budget) -> None:
    """The engines on the threads that are meant for them, with memory as the denoiser's server has it."""
    from sim.bench import threads
    from tango_jit.heap import keep_freed
    from tango_jit.threads import use_safe_layer

    keep_freed()
    use_safe_layer()
    threads.begin(share)


def _interrupted(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """The environment that the child process and the servers that it starts inherit."""
    chosen = {"OMP_NUM_THREADS": str(number), "NUMBA_NUM_THREADS": str(number)}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
