"""The thread of a door that tells Tango what changed, so that the service never waits for Tango."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import tango

from tango_jit.services.service import Listener
from tango_jit.signals import Signal

if TYPE_CHECKING:
    from devices.base import Door

log = logging.getLogger(__name__)


class Pump(Listener):
    """Pushes what changed from a thread of its own: the newest value of each signal, in bounded memory."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._news: dict[str, Any] = {}
        self._tables: list[tuple[tuple[Signal, ...], tuple[Signal, ...]]] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def changed(self, values: Mapping[str, Any]) -> None:
        with self._wake:
            self._news |= values
            self._wake.notify()

    def signals_changed(self, added: tuple[Signal, ...], removed: tuple[Signal, ...]) -> None:
        with self._wake:
            self._tables.append((added, removed))
            self._wake.notify()

    def follow_tables(self) -> None:
        """Add and remove attributes; to be called while holding the device, so that no two threads do it at once."""
        with self._wake:
            tables, self._tables = self._tables, []
        for added, removed in tables:
            self._door.refresh(added, removed)

    def stop(self) -> None:
        """Ends the thread: a push may wait for the device's lock, which the caller may hold (Tango: 3.2 s)."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(5.0)

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._stopped or self._news or self._tables)
                    if self._stopped:
                        return
                    news, self._news = self._news, {}
                    tables = bool(self._tables)
                if tables:
                    self._guarded(self._follow_tables_alone)
                for name, value in news.items():
                    if self._stopped:
                        return
                    self._guarded(lambda name=name, value=value: self._door.push(name, value))

    def _follow_tables_alone(self) -> None:
        with tango.AutoTangoMonitor(self._door):
            self.follow_tables()

    def _guarded(self, action: Callable[[], None]) -> None:
        """A device that is busy for longer than Tango waits, or an attribute just removed, costs this event only."""
        try:
            action()
        except tango.DevFailed as error:
            log.warning("%s: event not pushed: %s", self._door.get_name(), error.args[0].desc)
