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
        """Pushes nothing more. Waits for the thread only where the device goes away with its lock.

        After Init the device goes on: a push that waits for its lock, which Init holds, then finds that it is not
        wanted any more. Waiting for it here would take as long as Tango lets it wait, 3.2 s.
        """
        with self._wake:
            self._stopped = True
            self._wake.notify()
        util, name = tango.Util.instance(), self._door.get_name()
        if util.is_svr_shutting_down() or util.is_svr_starting() or util.is_device_restarting(name):
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
                    self._guarded(self.follow_tables)
                for name, value in news.items():
                    self._guarded(lambda name=name, value=value: self._door.push(name, value))

    def _guarded(self, action: Callable[[], None]) -> None:
        """A device that is busy for longer than Tango waits, or an attribute just removed, costs this event only."""
        try:
            with tango.AutoTangoMonitor(self._door):
                if not self._stopped:
                    action()
        except tango.DevFailed as error:
            log.warning("%s: event not pushed: %s", self._door.get_name(), error.args[0].desc)
