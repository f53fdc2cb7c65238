"""One thread that does the newest of what is wanted: what came in between is passed over."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

import tango

Job = Callable[[], None]


class Newest:
    """Jobs by key, each key's newest only, in the order in which the keys came.

    One that raises is told, and the next one done.
    """

    def __init__(self, name: str, failed: Callable[[str], None]) -> None:
        """`failed` gets the traceback of a job that raised, in the thread."""
        self._failed = failed
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

    def end(self) -> None:
        """The job at hand is ended, the others are not begun."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread after `end`; False: it hangs in its job."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._jobs or self._ended)
                    if self._ended:
                        return
                    job = self._jobs.pop(next(iter(self._jobs)))
                try:
                    job()
                except Exception:
                    self._failed(traceback.format_exc())
