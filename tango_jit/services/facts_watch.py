"""Asks again and again what the other devices are set to, and remembers what has changed."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LOOK_EVERY_S = 1.0
MOST = 10_000

Facts = Mapping[str, Mapping[str, Any]]


class Change(NamedTuple):
    """A setting that is another than at the look before: it changed between `after_s` and `time_s`."""

    after_s: float
    time_s: float
    device: str
    name: str
    before: Any
    now: Any


class Look(NamedTuple):
    """What was told, and when it was asked for and known."""

    begun_s: float
    ended_s: float
    facts: Facts


class FactsWatch:
    """Calls `look` once a second on a thread of its own, from construction to `close`.

    `look` gives what is known of each device by its member name; what stands there under `settings` is compared, and
    where a device does not answer (`trouble`), what it said last stands for it. `clock` gives seconds since the epoch.
    """

    def __init__(self, look: Callable[[], Facts], clock: Callable[[], float] = time.time) -> None:
        self.last: Look | None = None
        """The newest look; None: there was none yet."""
        self._look, self._clock = look, clock
        self._failed = ""
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}  # settings as each device last told them, and when
        self._changes: deque[tuple[int, Change]] = deque(maxlen=MOST)
        self._serial = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="facts", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What is not known now, and why; empty: all is."""
        facts = {} if self.last is None else self.last.facts
        silent = (f"{name}: {told['trouble']}" for name, told in facts.items() if told.get("trouble"))
        return self._failed or "; ".join(silent)

    def changes(self, after: int) -> list[tuple[int, Change]]:
        """Those with a serial number above `after`, the oldest first."""
        return [one for one in list(self._changes) if one[0] > after]

    def close(self) -> None:
        """Look no more; a look that hangs is left to end by itself."""
        self._ending.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ending.is_set():
            begun_s = self._clock()
            try:
                facts = self._look()
            except Exception as error:  # whatever it is, the next look may be better
                self._failed = str(error)
            else:
                self._failed = ""
                self._take(facts, begun_s, self._clock())
            self._ending.wait(LOOK_EVERY_S)

    def _take(self, facts: Facts, begun_s: float, now_s: float) -> None:
        for member, told in facts.items():
            if "settings" not in told:
                continue
            at_s, known = self._known.get(member, (now_s, told["settings"]))
            for name, before, now in differences(known, told["settings"]):
                self._serial += 1
                self._changes.append((self._serial, Change(at_s, now_s, member, name, before, now)))
            self._known[member] = begun_s, told["settings"]
        told_or_known = {
            member: told
            if "settings" in told or member not in self._known
            else {**told, "settings": self._known[member][1]}
            for member, told in facts.items()
        }
        self.last = Look(begun_s, now_s, told_or_known)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that are in both and differ; no number is as good as another."""
    return [
        (name, before[name], now[name])
        for name in sorted(before.keys() & now.keys())
        if json.dumps(before[name], default=str) != json.dumps(now[name], default=str)
    ]
