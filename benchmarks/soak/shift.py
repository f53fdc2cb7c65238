"""The servers of a shift, its log, and what is sampled of them meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import psutil
import tango

from devices.deployment import Deployment
from devices.registration import SERVERS

SAMPLE_S = 5.0
SERVED = tuple(server.member for server in SERVERS)
INSIDE = Path(__file__).with_name("inside")


class Memory(NamedTuple):
    """MB of a process after `seconds` of the shift. In use is what is resident less what its heap keeps free."""

    seconds: float
    resident: float
    in_use: float


class Shift:
    """A running system. Every line of the log has the time since the beginning; `wrong` are those that must not be."""

    def __init__(self, deployment: Deployment, out: TextIO) -> None:
        self.deployment, self._out = deployment, out
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.events: list[str] = []
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        with self._lock:
            line = f"{self.seconds():7.1f} s  {text}"
            self.events.append(line)
            print(line, file=self._out, flush=True)
            print(line, flush=True)

    def fail(self, text: str) -> None:
        self.wrong.append(text)
        self.say(f"WRONG  {text}")

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def proxy(self, member: str) -> Any:
        """A device, through a proxy that is new each time, as a script would have it."""
        host = self.deployment.recorded()["tango_host"]
        return tango.DeviceProxy(f"tango://{host}/{self.deployment.devices[member]}")

    def read(self, member: str, attribute: str) -> Any:
        """The value of an attribute; None: not known, or nobody answers."""
        with suppress(tango.DevFailed):
            reading = self.proxy(member).read_attribute(attribute)
            if reading.quality != tango.AttrQuality.ATTR_INVALID:
                return reading.value
        return None

    def until(self, condition: Callable[[], Any], timeout_s: float) -> float | None:
        """Seconds until something was true; None: it was not within the time. A device that is away counts as not."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            with suppress(tango.DevFailed):
                if condition():
                    return time.monotonic() - began
            time.sleep(0.1)
        return None

    def expect(self, what: str, condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
        """Wait, and say how long it took; it is wrong if it does not come."""
        took = self.until(condition, timeout_s)
        if took is None:
            self.fail(f"{what}: not within {timeout_s:g} s")
        else:
            self.say(f"    {what}: after {took:.1f} s")

    def process(self, member: str) -> psutil.Process:
        return self.deployment.processes()[member]

    def new_picture(self, name: str = "xy") -> Callable[[], bool]:
        """Is there a picture newer than now?"""
        number = self.read("denoiser", f"frame_number_{name}")
        return lambda: self.read("denoiser", f"frame_number_{name}") not in (number, None, -1)


class Samples:
    """Memory of every process and counters that must stand still, every few seconds, in a thread."""

    def __init__(self, shift: Shift, heaps: Path) -> None:
        self._shift, self._heaps = shift, heaps
        self.memory: dict[str, dict[int, list[Memory]]] = {}  # member -> pid
        self.frames_lost = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)

    def __enter__(self) -> Samples:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while not self._ended.wait(SAMPLE_S):
                for member, process in self._shift.deployment.processes().items():
                    with suppress(psutil.Error):
                        resident = process.memory_info().rss / 2**20
                        now = Memory(self._shift.seconds(), resident, resident - self._free(process.pid))
                        self.memory.setdefault(member, {}).setdefault(process.pid, []).append(now)
                lost = self._shift.read("reconstructor", "frames_lost") or 0
                if lost > self.frames_lost:
                    self._shift.fail(f"the reconstructor has lost {lost} frames")
                self.frames_lost = lost

    def _free(self, pid: int) -> float:
        with suppress(FileNotFoundError):  # it has just begun, or its C library does not tell
            return int((self._heaps / str(pid)).read_text()) / 2**20
        return 0.0


@contextmanager
def on_shift(folder: Path, heaps: Path, out: TextIO) -> Iterator[Shift]:
    """All servers, in a folder of their own, who tell of their heaps; ended afterwards, whatever happens."""
    heaps.mkdir()
    os.environ["TANGO_JIT_HEAPS"] = str(heaps)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH")])])
    deployment = Deployment(folder)
    try:
        deployment.up()
        yield Shift(deployment, out)
    finally:
        deployment.down()
