"""Asks again and again what the other devices are set to, and what has changed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LOOK_EVERY_S = 1.0
MOST = 10_000

Facts = Mapping[str, Mapping[str, Any]]


class Change(NamedTuple):
    """A setting that is another than a moment ago."""

    device: str
    name: str
    before: Any
    now: Any


class FactsWatch:
    """Calls `look` once a second on a thread of its own, from construction to `close`.

    `look` gives what is known of each device by its member name; what stands there under `settings` is compared. It may
    take its time; what it raises is kept as `trouble`.
    """

    def __init__(self, look: Callable[[], Facts]) -> None:
        self.latest: Facts = {}
        self.trouble = ""
        self._look = look
        self._changes: deque[Change] = deque(maxlen=MOST)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="facts", daemon=True)
        self._thread.start()

    def changes(self) -> list[Change]:
        """Those since the last call."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def close(self) -> None:
        """Look no more; a look that hangs is left to end by itself."""
        self._ending.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                facts = self._look()
                self.trouble = ""
            except Exception as error:  # whatever it is, the next look may be better
                self.trouble = str(error)
            else:
                self._changes.extend(changes(self.latest, facts))
                self.latest = facts
            self._ending.wait(LOOK_EVERY_S)


def changes(before: Facts, now: Facts) -> list[Change]:
    """Settings of devices that are in both and differ."""
    found = []
    for member in before.keys() & now.keys():
        old, new = (facts[member].get("settings", {}) for facts in (before, now))
        found += [
            Change(member, name, old[name], new[name])
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        ]
    return found
