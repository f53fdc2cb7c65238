"""Keeps the projections of a run in a file beside it, on a thread of its own: they never hold up the pictures."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tango_jit.recordings import RecordingWriter, create_recording
from tango_jit.services.run_names import numbered
from tango_jit.streams import Dark, Flat, FrameCount, Header, Image, Mailbox, Message, SeriesEnd, Subscriber

FLUSH_S = 1.0
TROUBLE = (OSError, ValueError, RuntimeError)  # h5py raises all three


class ProjectionFile:
    """Writes the frames of a detector's stream to NXtomo files from now until `close`, a file for each series.

    `resolve` gives the endpoint of the stream; it is a copy that may drop frames, and those are counted. `full` says
    why nothing may be written now, empty: it may.
    """

    def __init__(
        self,
        resolve: Callable[[], str | None],
        path: Path,
        *,
        budget_bytes: int,
        full: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.recorded = self.written_bytes = 0
        self.trouble = ""
        self._full = full
        self._files = 0
        self._writer: RecordingWriter | None = None
        self._header: Header | None = None
        self._dark: Dark | None = None
        self._flat: Flat | None = None
        self._count, self._before, self._unused = FrameCount(), 0, 0
        self._inbox = Mailbox(budget_bytes, "drop_oldest")
        self._ending = threading.Event()
        self._subscriber = Subscriber(resolve, self._inbox, clock=clock)
        self._thread = threading.Thread(target=self._run, name="projections", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Frames that were sent since the first one, and are in no file."""
        return self._before + self._count.lost + self._unused

    @property
    def waiting(self) -> str:
        """Why nothing comes; empty: frames come."""
        return self._subscriber.trouble

    def end(self) -> None:
        """Take no more frames; what has arrived is written, then the file is `ended`."""
        self._subscriber.close()
        self._ending.set()
        self._inbox.wake()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the file, and wait for it."""
        self.end()
        self._thread.join()

    def _run(self) -> None:
        flushed_at = time.monotonic()
        while not (self._ending.is_set() and not len(self._inbox)):
            message = self._inbox.get(timeout=0.1)
            try:
                if message is not None:
                    self._take(message)
                if self._writer is not None and time.monotonic() - flushed_at > FLUSH_S:
                    self._writer.flush()
                    flushed_at = time.monotonic()
            except TROUBLE as error:
                self.trouble = str(error)
                self._give_up()
        self._end()

    def _take(self, message: Message) -> None:
        match message:
            case Header(stage="raw"):
                if self._header is None or message.series != self._header.series:
                    self._end()
                    self._before, self._count = self._before + self._count.lost, FrameCount()
                    self._header, self._dark, self._flat = message, None, None
            case Dark():
                self._dark = message
            case Flat():
                self._flat = message
            case SeriesEnd():
                self._end()
            case Image():
                self._keep(message)

    def _keep(self, image: Image) -> None:
        if self._header is None or image.series != self._header.series:
            return  # its header is still to come
        if self._count.observe(image.frame) == "duplicate":
            return
        if why := self._full():
            self._unused += 1
            self.trouble = why
            self._end()
            return
        try:
            if self._writer is None:
                self._files += 1
                path = numbered(self.path, self._files)
                self._writer = create_recording(path, self._header, self._dark, self._flat, format="nxtomo")
            self._writer.append(image)
        except TROUBLE:
            self._unused += 1
            raise
        self.trouble = ""
        self.recorded += 1
        self.written_bytes += image.nbytes

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _give_up(self) -> None:
        """After an error: the next frame begins another file. What is damaged cannot be completed either."""
        with contextlib.suppress(*TROUBLE):
            self._end()
