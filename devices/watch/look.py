"""What a device says of itself, once a second: one reading of everything, which is of one moment.

Pictures are not among it; that there is a new one is told by the event of its frame number, and where events do not
come, with the next look.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tango
from numpy.typing import NDArray

from devices.errors import said
from devices.facts import plain

EVERY_S = 1.0
ANSWER_MS = 1500
LISTED_EVERY_S = 2.0
LARGEST = 1000  # elements of what is looked at
BELL = "frame_number_"  # attributes whose event tells of a new picture begin so


@dataclass(frozen=True)
class Seen:
    """One look at a device. `trouble` says why there is none: then the rest is empty.

    `values` as JSON has them (an enum as its label; None: not known); `settings` are the names that can be written;
    `past` has the times (s since the epoch) and values (2, n) of figures before the connection.
    """

    member: str
    device: str
    at_s: float
    state: str = ""
    status: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    settings: frozenset[str] = frozenset()
    past: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    events: bool = True  # frame numbers come as events
    trouble: str = ""


CORBA = {  # what its troubles mean
    "CallTimedout": "no answer in time",
    "ConnectFailed": "no connection",
    "OBJECT_NOT_EXIST": "its server has just begun, or ended",
    "NoUsableProfile": "no connection",
}


def why(error: tango.DevFailed) -> str:
    """What failed, in a line: the first of its errors, which is the device's own."""
    if not error.args:
        return str(error)
    text = said(error)
    return next((words for sign, words in CORBA.items() if "CORBA" in text and sign in text), text)


class Look:
    """Looks at one device in a thread of its own, until closed. It may start, die and come back at any time."""

    def __init__(
        self, member: str, device: str, told: Callable[[Seen], None], rung: Callable[[str, str], None]
    ) -> None:
        """`told` gets each look, `rung` the member and the name of a frame number that changed; both come from threads
        and must return at once."""
        self.member, self.device = member, device
        self._told, self._rung = told, rung
        self._proxy: Any = None
        self._kinds: dict[str, Any] = {}
        self._past: Mapping[str, NDArray[np.float64]] = {}
        self._listed_at = 0.0
        self._bells: dict[str, int] = {}  # frame number -> subscription
        self._silent: set[str] = set()  # those whose events do not come
        self._lock, self._numbers = threading.Lock(), dict[str, Any]()  # frame numbers that were told
        self._asked = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"look at {member}", daemon=True)
        self._thread.start()

    def now(self) -> None:
        """Look at once, also at which attributes there are; any thread."""
        self._listed_at = 0.0
        self._asked.set()

    def end(self) -> None:
        """Look no more. Events are not unsubscribed from: those on their way would be complained of by Tango."""
        self._ended = True
        self._asked.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread after `end`; False: it hangs in a call to its device."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while not self._ended:
                self._asked.clear()
                self._told(self._tried())
                self._asked.wait(EVERY_S)

    def _tried(self) -> Seen:
        """Nothing ends the looks: what is not foreseen is trouble, too."""
        try:
            return self._look()
        except Exception as error:
            self._forget()
            text = f"{self.device} cannot be looked at: {type(error).__name__}: {error}"
            return Seen(self.member, self.device, time.time(), trouble=text)

    def _look(self) -> Seen:
        try:
            self._reach()
            readings = self._proxy.read_attributes(["State", "Status", *self._kinds])
        except tango.DevFailed as error:
            self._forget()
            text = f"{self.device} does not answer, is its server running? {why(error)}"
            return Seen(self.member, self.device, time.time(), trouble=text)
        state, status, *readings = readings
        values = {one.name: plain(one, self._kinds[one.name]) for one in readings}
        if any(one.has_failed for one in readings):
            self._listed_at = 0.0  # attributes have come and gone
        self._ring(values)
        settings = frozenset(n for n, k in self._kinds.items() if k.writable != tango.AttrWriteType.READ)
        return Seen(
            self.member,
            self.device,
            time.time(),
            "UNKNOWN" if state.has_failed else str(state.value),
            "" if status.has_failed else str(status.value),
            values,
            settings,
            self._past,
            events=all(n in self._bells and n not in self._silent for n in values if n.startswith(BELL)),
        )

    def _reach(self) -> None:
        if self._proxy is None:
            proxy = tango.DeviceProxy(self.device)
            proxy.set_timeout_millis(ANSWER_MS)
            self._past = _hour(proxy)
            self._proxy, self._listed_at = proxy, 0.0
        if time.monotonic() - self._listed_at > LISTED_EVERY_S or not self._listed_at:
            kinds = {k.name: k for k in self._proxy.attribute_list_query_ex() if k.name not in ("State", "Status")}
            self._kinds = {n: k for n, k in kinds.items() if max(k.max_dim_x, 1) * max(k.max_dim_y, 1) <= LARGEST}
            self._listed_at = time.monotonic()
            self._listen()

    def _listen(self) -> None:
        """Subscribe to frame numbers that are new, and forget those that are gone."""
        wanted = [name for name in self._kinds if name.startswith(BELL)]
        for name in [n for n in self._bells if n not in wanted]:
            with contextlib.suppress(tango.DevFailed, KeyError):
                self._proxy.unsubscribe_event(self._bells.pop(name))
        for name in (n for n in wanted if n not in self._bells):
            with contextlib.suppress(tango.DevFailed):  # the next look tells of new pictures as well
                callback = _Bell(self._tell, self._silent, name)
                self._bells[name] = self._proxy.subscribe_event(name, tango.EventType.CHANGE_EVENT, callback)

    def _ring(self, values: Mapping[str, Any]) -> None:
        for name, number in ((n, v) for n, v in values.items() if n.startswith(BELL)):
            self._tell(name, number)

    def _tell(self, name: str, number: Any) -> None:
        """Of a frame number, once: from an event, or from a look where that was earlier."""
        with self._lock:
            new = self._numbers.get(name) != number
            self._numbers[name] = number
        if new and number is not None and not self._ended:
            self._rung(self.member, name)

    def _forget(self) -> None:
        """A device that comes back is another one: its events are subscribed to anew."""
        for subscription in self._bells.values():
            with contextlib.suppress(Exception):  # of a server that is gone
                self._proxy.unsubscribe_event(subscription)
        self._bells, self._silent, self._proxy = {}, set(), None
        with self._lock:
            self._numbers = {}


def _hour(proxy: Any) -> dict[str, NDArray[np.float64]]:
    """What a device remembers of its figures; one of another make remembers nothing."""
    hour, rows = proxy.read_attributes(["hour", "hour_rows"])
    if any(one.has_failed or one.quality == tango.AttrQuality.ATTR_INVALID for one in (hour, rows)):
        return {}
    table = dict(zip(rows.value.split(","), hour.value, strict=True))
    return {name: np.array([table["time"], row]) for name, row in table.items() if name != "time"}


class _Bell:
    """What Tango calls with an event."""

    def __init__(self, tell: Callable[[str, Any], None], silent: set[str], name: str) -> None:
        """`silent`: the names of those that Tango says do not come, which a firewall may do after all went well."""
        self._tell, self._silent, self._name = tell, silent, name

    def push_event(self, event: Any) -> None:
        if event.err:
            self._silent.add(self._name)
            return
        self._silent.discard(self._name)
        self._tell(self._name, event.attr_value.value)
