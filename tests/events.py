"""Tango events as a queue: tests wait for what they expect."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import tango


class Events:
    """Subscribes to one attribute; `wait` returns the first value that fits and says what it saw if none comes.

    `keep`: what of an event's reading is waited for.
    """

    def __init__(
        self,
        proxy: tango.DeviceProxy,
        attribute: str,
        kind: Any = tango.EventType.CHANGE_EVENT,
        keep: Callable[[Any], Any] = lambda reading: reading.value,
    ) -> None:
        self._proxy, self._name, self._keep = proxy, attribute, keep
        self._queue: queue.Queue[Any] = queue.Queue()
        self.seen: list[Any] = []
        self._id = proxy.subscribe_event(attribute, kind, self._put)
        time.sleep(0.2)  # Tango gives ZeroMQ 10 ms to tell the publisher: on a loaded machine the first events are lost

    def _put(self, event: Any) -> None:
        if not event.err and event.attr_value is not None:
            self._queue.put(self._keep(event.attr_value))

    def wait(self, fits: Callable[[Any], bool] = lambda value: True, timeout_s: float = 30.0) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                value = self._queue.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                raise AssertionError(
                    f"{self._name}: no such event within {timeout_s} s; seen {self.seen[-10:]}"
                ) from None
            self.seen.append(value)
            if fits(value):
                return value

    def close(self) -> None:
        self._proxy.unsubscribe_event(self._id)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = "") -> Any:
    """Ask a condition that has no event again and again; a DevFailed counts as not yet."""
    deadline = time.monotonic() + timeout_s
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except tango.DevFailed as error:
            last = error.args[0].desc
        else:
            if last:
                return last
        time.sleep(0.02)
    raise AssertionError(f"{what or condition} did not come true within {timeout_s} s; last: {last}")


def ordered(command: Callable[..., Any], *arguments: Any, timeout_s: float = 60.0) -> Any:
    """Do as the answer "busy: try again" of a device on a loaded machine says; nothing else is tried again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return command(*arguments)
        except tango.DevFailed as error:
            if "try again" not in error.args[0].desc or time.monotonic() > deadline:
                raise
