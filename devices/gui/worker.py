"""One thread that does the newest of what is wanted: what came in between is passed over."""

from __future__ import annotations

import threading
from collections.abc import Callable

import tango

Job = Callable[[], None]


class Newest:
    """Jobs by key, each key's newest only, in the order in which the keys came. Jobs must not raise."""

    def __init__(self, name: str) -> None:
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, key: str, job: Job) -> None:
        """Any thread. A job of this key that has not begun is replaced."""
        with self._changed:
            self._jobs[key] = job
            self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """The job at hand is ended, the others are not begun."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._jobs or self._ended)
                    if self._ended:
                        return
                    job = self._jobs.pop(next(iter(self._jobs)))
                job()
