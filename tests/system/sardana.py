"""A Sardana of its own beside a deployment: its server as a process, and its Door as an operator uses it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tango

from devices.sardana.registration import register_sardana
from tests.events import wait_until

RUNNING, PAUSED = tango.DevState.RUNNING, tango.DevState.STANDBY
CHANNELS = ("Output", "Info", "Warning", "Error")


class Sardana:
    """The server of a Pool, a MacroServer and a Door, in a process of its own that `close` ends."""

    def __init__(self, host: str, folder: Path, instance: str = "test") -> None:
        self.host, self.folder = host, folder
        server, port = host.split(":")
        self.names = register_sardana(tango.Database(server, int(port)), instance, environment=folder / "environment")
        self._start(instance)
        self._instance = instance
        self._said: queue.Queue[str] = queue.Queue()
        self._states: queue.Queue[Any] = queue.Queue()
        self._listen()

    def _start(self, instance: str) -> None:
        environment = os.environ | {"TANGO_HOST": self.host, "ORBendPoint": "giop:tcp:127.0.0.1:0"}
        environment |= {"HOME": str(self.folder), "TANGO_LOG_PATH": str(self.folder), "PYTHONFAULTHANDLER": "1"}
        self.log = self.folder / "sardana.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("Sardana")), instance],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.door = self.device(self.names["Door"])
        try:
            wait_until(lambda: self.door.state() == tango.DevState.ON, 120, "the Door")
        except BaseException:
            self._end()
            raise

    def _listen(self) -> None:
        hearers = dict.fromkeys(CHANNELS, self._hear) | {"State": self._hear_state}
        kind = tango.EventType.CHANGE_EVENT
        self._events = [self.door.subscribe_event(name, kind, hear) for name, hear in hearers.items()]
        wait_until(self._is_heard, 60, "events of the Door")

    def _is_heard(self) -> bool:
        """Run a small macro, and see whether its events come: a subscription takes a moment to be in effect."""
        self.door.RunMacro(["senv", "Rehearsal", "1"])
        with suppress(AssertionError):
            self._await_state(lambda state: state == RUNNING, 1)
            self._await_state(lambda state: state == tango.DevState.ON, 10)
            return bool(self.heard())
        return False

    def restart(self) -> None:
        """End the server, and start it again with what it has remembered."""
        self.close()
        self._start(self._instance)
        self._listen()

    def device(self, name: str) -> Any:
        return tango.DeviceProxy(f"tango://{self.host}/{name}")

    def element(self, name: str) -> Any:
        """The device of an element of the Pool."""
        return self.device(name)

    def _hear(self, event: Any) -> None:
        if not event.err and event.attr_value is not None and event.attr_value.value:
            for line in event.attr_value.value:
                self._said.put(line)

    def _hear_state(self, event: Any) -> None:
        if not event.err and event.attr_value is not None:
            self._states.put(event.attr_value.value)

    def begin(self, *command: Any) -> None:
        """Start a macro; what was said before is forgotten."""
        for heard in (self._said, self._states):
            while not heard.empty():
                heard.get_nowait()
        self.door.RunMacro([str(part) for part in command])
        self._await_state(lambda state: state == RUNNING, 30)

    def await_end(self, timeout_s: float = 120) -> str:
        """Wait for the end of the macro; returns its output. Raises MacroError with it where it failed."""
        state = self._await_state(lambda state: state not in (RUNNING, PAUSED), timeout_s)
        text = self.heard()
        if state != tango.DevState.ON:
            raise MacroError(f"{state}: {text}")
        return text

    def await_text(self, text: str, timeout_s: float = 60) -> str:
        """Wait until a running macro has said this; returns what was said since the last look."""
        lines: list[str] = []
        deadline = time.monotonic() + timeout_s
        while text not in "\n".join(lines):
            try:
                lines.append(self._said.get(timeout=max(deadline - time.monotonic(), 0.001)))
            except queue.Empty:
                raise AssertionError(f"expected {text!r} within {timeout_s} s, heard {lines}") from None
        return "\n".join(lines)

    def _await_state(self, fits: Callable[[Any], bool], timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                state = self._states.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                trouble = f"the Door was not as expected within {timeout_s} s: {self.heard()}"
                raise AssertionError(trouble + self._how_it_ended()) from None
            if fits(state):
                return state

    def _how_it_ended(self) -> str:
        """Empty where the server runs."""
        code = self.process.poll()
        return "" if code is None else f"\nthe server has ended, {code}: {self.log.read_text()[-3000:]}"

    def heard(self) -> str:
        """What was said since the last look."""
        lines = []
        while not self._said.empty():
            lines.append(self._said.get_nowait())
        return "\n".join(lines)

    def run(self, *command: Any, timeout_s: float = 120) -> str:
        """Run a macro to its end; returns what it said."""
        self.begin(*command)
        return self.await_end(timeout_s)

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        for event in self._events:
            self.door.unsubscribe_event(event)
        self._end()


class MacroError(AssertionError):
    """A macro ended in another state than ON: with what it said."""
