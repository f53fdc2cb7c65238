"""Keeps the projections of a run in a file beside it, on a thread of its own: they never hold up the pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tango_jit.recordings import RecordingWriter, create_recording
from tango_jit.runs import Ballast
from tango_jit.services.run_names import numbered
from tango_jit.streams import Dark, Flat, FrameCount, Header, Image, Mailbox, Message, SeriesEnd, Subscriber

FLUSH_S = 1.0
RETRY_S = 5.0  # after something could not be written
MOST_PENDING = 16  # frames between two flushes
TROUBLE = (OSError, RuntimeError, ValueError, KeyError)  # h5py raises all of them
_ABANDONED: list[RecordingWriter] = []  # HDF5 crashes the process when a file that cannot be written is forgotten


class ProjectionFile:
    """Writes the frames of a detector's stream to NXtomo files from now until `close`, a file for each series, and for
    each dark and flat of it.

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
        self._count, self._before, self._unused, self._newest = FrameCount(), 0, 0, -1
        self._pending = self._pending_bytes = 0  # taken, but not yet on the disk
        self._in_file = 0
        self._ballast: Ballast | None = None
        self._again_at = 0.0
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

    def close(self, patience_s: float) -> None:
        """End the file, and wait for it; what is not written by then is lost."""
        self.end()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._unused += sum(isinstance(message, Image) for message in self._inbox.drain())
            self._thread.join(patience_s)  # a disk that hangs is left to the thread

    def _run(self) -> None:
        flushed_at = time.monotonic()
        while not (self._ending.is_set() and not len(self._inbox)):
            message = self._inbox.get(timeout=0.1)
            if message is not None:
                self._guarded(message)
            if time.monotonic() - flushed_at > FLUSH_S:
                self._flush()
                flushed_at = time.monotonic()
        self._end()

    def _guarded(self, message: Message) -> None:
        try:
            self._take(message)
        except Exception as error:  # whatever it is, the next frame may be better
            self._give_up(error)

    def _take(self, message: Message) -> None:
        match message:
            case Header(stage="raw"):
                if self._header is None or message.series != self._header.series:
                    self._end()
                    self._before, self._count = self._before + self._count.lost, FrameCount()
                    self._header, self._dark, self._flat, self._newest = message, None, None, -1
            case Dark():
                if message != self._dark:
                    self._end()  # a file has one dark and one flat
                self._dark = message
            case Flat():
                if message != self._flat:
                    self._end()
                self._flat = message
            case SeriesEnd():
                if self._header is not None and message.series == self._header.series and self._newest >= 0:
                    self._before += max(message.frames - 1 - self._newest, 0)  # what was lost at the end
                    self._newest = message.frames
                self._end()
            case Image():
                self._keep(message)

    def _keep(self, image: Image) -> None:
        if self._header is None or image.series != self._header.series:
            return  # its header is still to come
        if self._count.observe(image.frame) == "duplicate":
            return
        self._newest = max(self._newest, image.frame)
        if why := self._full():
            self._unused += 1
            self._end()
            self.trouble, self._again_at = why, time.monotonic() + RETRY_S
            return
        if image.data.shape != (self._header.geometry.rows, self._header.geometry.cols):
            self._unused += 1
            self.trouble = f"frame {image.frame}: expected the shape of its header, got {image.data.shape}"
            return
        if self._writer is None and time.monotonic() < self._again_at:
            self._unused += 1
            return
        self._pending += 1
        try:
            if self._writer is None:
                self._writer = self._new_file(self._header)
            self._writer.append(image)
        except TROUBLE as error:
            self._give_up(error)
            return
        self._pending_bytes += image.nbytes
        if self._pending >= MOST_PENDING:
            self._flush()

    def _new_file(self, header: Header) -> RecordingWriter:
        self._ballast = Ballast(self.path.parent)
        while (path := numbered(self.path, self._files + 1)).exists():
            self._files += 1
        self._in_file = 0
        try:
            return create_recording(path, header, self._dark, self._flat, format="nxtomo")
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _flush(self) -> None:
        """Put on the disk what was taken; only then it counts as recorded."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except TROUBLE as error:
            self._give_up(error)
            return
        self._settle()

    def _settle(self) -> None:
        self.trouble = ""
        self._in_file += self._pending
        self.recorded, self._pending = self.recorded + self._pending, 0
        self.written_bytes, self._pending_bytes = self.written_bytes + self._pending_bytes, 0

    def _end(self) -> None:
        """Close the file, with the room that was kept back for it."""
        self._give_room()
        self._flush()
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except TROUBLE as error:
                _ABANDONED.append(writer)
                self.trouble = str(error)

    def _give_up(self, error: Exception) -> None:
        """The next frame begins another file. With the room that was kept back this one is closed, without the frames
        since the last flush: HDF5 does not tell which of them it could write."""
        self._give_room()
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.revert()
                writer.close()
                if not self._in_file:
                    Path(writer.path).unlink()
            except TROUBLE:
                _ABANDONED.append(writer)
        self._unused += self._pending
        self._pending = self._pending_bytes = 0
        self._again_at = time.monotonic() + RETRY_S
        self.trouble = str(error)

    def _give_room(self) -> None:
        ballast, self._ballast = self._ballast, None
        if ballast is not None:
            ballast.release()
