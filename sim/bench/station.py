"""All four servers on this computer, replaying the demo's recording, and clients that look on."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tango
from numpy.typing import NDArray
from rich.console import Console

from devices.deployment import Deployment
from devices.server import upstream_endpoint
from sim.demo import fit_slices
from sim.prepared import prepared
from sim.scenario import Scenario, load
from tango_jit.services.slices import DEFAULTS
from tango_jit.streams import Denoised, Mailbox, Subscriber

READY_S, LEARNING_S = 240.0, 60.0  # the first start on a computer compiles
ROWS_APART = 16  # of those that tell whether a picture is denoised
EVENT = tango.EventType.CHANGE_EVENT


@dataclass(frozen=True)
class Setup:
    """What is replayed to whom: frames every `period_s`, three slices of `side` x `side` pixels.

    `update_every` projections; None: as the reconstructor is delivered. Training is on.
    """

    period_s: float
    side: int
    update_every: int | None = None


@dataclass(frozen=True)
class Station:
    """The devices (member -> proxy) and the processes of the servers."""

    devices: dict[str, Any]
    processes: dict[str, psutil.Process]

    def value(self, member: str, name: str) -> Any:
        """An attribute; None while it has no value."""
        return self.devices[member].read_attribute(name).value


@contextmanager
def station(setup: Setup) -> Iterator[Station]:
    """Servers that show all three slices, and have denoised them with trained weights; ended afterwards.

    Raises RuntimeError if they show nothing. Where training does not come so far in time they are left to it: what
    does not work is for the figures to show.
    """
    recording = prepared(load(Scenario.BUILT_IN[0]), Console(stderr=True))
    before = os.environ.get("TANGO_HOST")
    with tempfile.TemporaryDirectory(prefix="tango-jit-bench-", ignore_cleanup_errors=True) as folder:
        deployment = Deployment(Path(folder))
        try:
            host = deployment.up()
            devices: dict[str, Any] = {
                member: tango.DeviceProxy(f"tango://{host}/{name}") for member, name in deployment.devices.items()
            }
            _replay(devices, recording, setup)
            yield Station(devices, {n: p for n, p in deployment.processes().items() if n in devices})
            devices["detector"].Stop()
        finally:
            deployment.down()
            if before is None:
                os.environ.pop("TANGO_HOST", None)
            else:
                os.environ["TANGO_HOST"] = before


def _replay(devices: dict[str, Any], recording: Path, setup: Setup) -> None:
    if setup.update_every is not None:
        devices["reconstructor"].update_every = setup.update_every
    for name, value in {"recording": str(recording), "frame_period_s": setup.period_s, "loop": True}.items():
        devices["detector"].write_attribute(name, value)
    devices["detector"].Start()
    require(await_(lambda: fit_slices(devices["reconstructor"], setup.side), READY_S), "the shape of the slices")
    for name in DEFAULTS:
        devices["reconstructor"].write_attribute(f"shape_{name}", [setup.side, setup.side])

    def shown() -> bool:
        shapes = [devices["denoiser"].read_attribute(f"denoised_{name}").value.shape for name in DEFAULTS]
        return shapes == len(DEFAULTS) * [(setup.side, setup.side)]

    require(await_(shown, READY_S), "slices at the denoiser")
    await_(lambda: devices["denoiser"].weights_version > 1, LEARNING_S)


def await_(condition: Callable[[], bool], patience_s: float) -> bool:
    """Ask until it is true, or for so long; a device that does not answer, or has no value yet, counts as not yet."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with suppress(tango.DevFailed, AttributeError):
            if condition():
                return True
        time.sleep(0.1)
    return False


def require(came: bool, what: str) -> None:
    """Raises RuntimeError if it did not."""
    if not came:
        raise RuntimeError(f"{what}: expected within {READY_S:.0f} s of replay, got none")


@dataclass(frozen=True)
class Seen:
    """A denoised slice as a client got it: all of it, not just the news of it."""

    slice: str
    last_frame: int
    at_s: float
    needed_at_s: float | None = None
    """When its last needed frame arrived at the reconstructor; None: this client was not told."""
    weights_version: int = 0
    guarded: bool = False
    """Was it shown as it was reconstructed, although there is a network (the guard, or denoising switched off)?"""

    @property
    def denoised(self) -> bool:
        return self.weights_version > 0 and not self.guarded


class ZmqClient:
    """Receives the denoiser's stream on a thread of its own, until `close`."""

    def __init__(self, station: Station) -> None:
        self._inbox = Mailbox(512 << 20, "drop_oldest")
        denoiser = station.devices["denoiser"]
        # With its database: a process that met another one before would ask that.
        name = f"tango://{denoiser.get_db_host()}:{denoiser.get_db_port()}/{denoiser.name()}"
        endpoint = upstream_endpoint(name, "denoised_endpoint")
        self._subscriber = Subscriber(endpoint, self._inbox)

    def take(self) -> list[Seen]:
        """What has come since the last call; to be called about once a second."""
        seen = []
        while (message := self._inbox.get(timeout=0.0)) is not None:
            if isinstance(message, Denoised):
                at = self._inbox.received_at
                version, raw = message.weights_version, is_raw(message.data)
                seen.append(
                    Seen(message.slice, message.last_frame, at, message.timestamp_s, version, version > 0 and raw)
                )
        return seen

    def close(self) -> None:
        self._subscriber.close()


def is_raw(pictures: NDArray[np.float32]) -> bool:
    """(2, depth, rows, cols): is the denoised picture the raw one? No network leaves the pixels of whole rows alone."""
    denoised, raw = pictures[..., ::ROWS_APART, :]
    return bool(np.array_equal(denoised, raw, equal_nan=True))


class TangoClient:
    """Reads each denoised slice as soon as an event tells of its new frame number, as an operator's window does."""

    def __init__(self, station: Station) -> None:
        self._denoiser = station.devices["denoiser"]
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._seen: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="Tango client", daemon=True)
        self._thread.start()
        self._events = [self._denoiser.subscribe_event(f"frame_number_{name}", EVENT, self._told) for name in DEFAULTS]

    def _told(self, event: Any) -> None:
        if not event.err and event.attr_value is not None:
            self._news.put(event.attr_value.name.removeprefix("frame_number_"))

    def _read(self) -> None:
        while (name := self._news.get()) is not None:
            with suppress(tango.DevFailed):  # then it is not among those seen, and that is counted
                picture, number = self._denoiser.read_attributes([f"denoised_{name}", f"frame_number_{name}"])
                if picture.value is not None:
                    self._seen.put(Seen(name, int(number.value), time.time()))

    def take(self) -> list[Seen]:
        """What was read since the last call."""
        return [self._seen.get() for _ in range(self._seen.qsize())]

    def close(self) -> None:
        for event in self._events:
            self._denoiser.unsubscribe_event(event)
        self._news.put(None)
        self._thread.join(10)
