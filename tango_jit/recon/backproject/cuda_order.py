"""Who may touch a piece of device memory when several streams work on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tango_jit.recon.backproject import cuda_device


class Order:
    """Makes streams wait for each other: writing for all before it, reading for the last writing.

    The host does not wait. All is about the current stream of the calling thread; threads may call at the same time.
    """

    def __init__(self) -> None:
        # The very thread that holds it may give back a ring meanwhile, in a garbage collection.
        self._lock = threading.RLock()
        self._written: torch.cuda.Event | None = None
        self._read: dict[int, torch.cuda.Event] = {}  # by stream

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is queued inside reads."""
        with self._lock:
            stream = cuda_device.stream()
            if self._written is not None:
                stream.wait_event(self._written)
            try:
                yield
            finally:
                self._read.setdefault(stream.cuda_stream, cuda_device.event()).record(stream)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is queued inside writes."""
        with self._lock:
            stream = cuda_device.stream()
            for event in self._marks():
                stream.wait_event(event)
            try:
                yield
            finally:
                self._read.clear()  # whoever comes next waits for this writing, and so for them
                self._written = cuda_device.event()
                self._written.record(stream)

    def finish(self) -> None:
        """Wait, on the host, until all is done that was queued so far: before the memory is given back."""
        with self._lock:
            for event in self._marks():
                event.synchronize()

    def _marks(self) -> list[torch.cuda.Event]:
        return [event for event in (self._written, *self._read.values()) if event is not None]
