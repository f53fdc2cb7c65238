"""One recorded run: pictures into its files, part after part."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tango_jit.runs import Ballast, PictureError, RunWriter
from tango_jit.services.backlog import Shapes, Shot
from tango_jit.services.facts_watch import FactsWatch
from tango_jit.services.run_names import numbered
from tango_jit.streams import Denoised, Weights

TROUBLE = (OSError, RuntimeError, ValueError, KeyError)  # h5py raises all of them when a disk is full
NOTES = 1000


class Keep(NamedTuple):
    """What a run keeps, see the signals of the recorder."""

    every_s: float
    denoised: bool
    raw: bool
    weights: bool
    title: str


class RunRecording:
    """Takes shots in order and writes those that are due.

    `facts` tells what is known of the devices, `weights` gives those of a digest, None: not known. `tell` hears what
    goes wrong.
    """

    def __init__(
        self,
        path: Path,
        keep: Keep,
        facts: FactsWatch,
        weights: Callable[[str], Weights | None],
        started_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self.path, self.started_s = path, started_s
        self.recorded = self.lost = self.parts = self.written_bytes = 0
        self.write_ms = 0.0
        self.held, self.held_s = "", 0.0
        """Why nothing is written now, and since when; empty: pictures are."""
        self.missing: set[str] = set()
        """Digests of weights that pictures of the present part were made with, and that did not come."""
        self._keep, self._facts, self._find, self._tell = keep, facts, weights, tell
        self._number = 0  # of the last file
        self._writer: RunWriter | None = None
        self._ballast: Ballast | None = None  # on the disk of the present part
        self._stored: set[str] = set()  # digests of weights that are in the present part
        self._at: dict[str, float] = {}  # when the last kept picture of each slice was of
        self._changes_noted = 0
        self._notes: deque[tuple[float, str, dict[str, Any]]] = deque(maxlen=NOTES)  # for the next part

    def take(self, shot: Shot) -> None:
        """Write a picture, if it is due. Where it cannot be written the run is held."""
        picture = shot.picture
        if 0 <= picture.timestamp_s - self._at.get(picture.slice, -float("inf")) < self._keep.every_s:
            return
        begun = time.perf_counter()
        try:
            written = self._write(shot)
        except PictureError as error:
            self._tell(str(error))
            written = False
        except TROUBLE as error:
            written = self._write_again(shot)
            self.hold(shot.received_s, str(error))
        if not written:
            self.lost += 1
            return
        self.write_ms = 1e3 * (time.perf_counter() - begun)
        self.recorded += 1
        self._at[picture.slice] = picture.timestamp_s

    def _write(self, shot: Shot) -> bool:
        """Write a picture; False: its slice has another shape since."""
        writer = self._part(shot.picture, shot.shapes)
        if writer is None:
            return False
        before = writer.written_bytes
        if self._keep.weights:
            self._keep_weights(writer, shot.picture, shot.received_s)
        writer.append(shot.picture)
        writer.flush()
        self.written_bytes += writer.written_bytes - before
        return True

    def _write_again(self, shot: Shot) -> bool:
        """The same with the room that was kept back for it; a file that cannot take it even so is given up."""
        if self._writer is None:
            return False
        self._give_room()
        try:
            return self._write(shot)
        except TROUBLE as error:
            self._give_up(error)
            return False

    def note(self, time_s: float, kind: str, **what: Any) -> None:
        """Into the journal of the present part, or of the next one."""
        if self._writer is None:
            self._notes.append((time_s, kind, what))
            return
        try:
            self._writer.note(time_s, kind, **what)
            self._writer.flush()
        except TROUBLE as error:
            self._notes.append((time_s, kind, what))
            self.hold(time_s, str(error))

    def note_changes(self, time_s: float) -> None:
        """What other devices are set to since the last time."""
        if self._writer is not None:
            try:
                self._note_changes(-float("inf"))
                self._writer.flush()
            except TROUBLE as error:
                self.hold(time_s, str(error))

    def hold(self, now_s: float, why: str) -> None:
        """Close the present part; nothing is written before `resume`."""
        self.held, self.held_s = why, now_s
        self._tell(f"{self.path.name}: nothing is written: {why}")
        self._close(now_s, "held", why=why)

    def resume(self, now_s: float) -> None:
        """Go on, in another part."""
        self.held = ""
        self._notes.append((now_s, "resumed", {"lost": self.lost}))

    def is_gone(self) -> bool:
        """Has somebody removed the file that is written to?"""
        return self._writer is not None and not self._writer.path.exists()

    def end(self, now_s: float) -> None:
        """No more pictures come."""
        self._close(now_s, "ended", recorded=self.recorded, lost=self.lost)
        if not self.parts:
            self._tell(f"{self.path.name}: no picture came, so there is no such file")
        elif self._notes:
            self._tell(f"{self.path.name}: not in its journal: {', '.join(kind for _, kind, _ in self._notes)}")

    def _part(self, picture: Denoised, shapes: Shapes) -> RunWriter | None:
        """The file for this picture; None: its slice has another shape since."""
        name, shape = picture.slice, picture.geometry.shape
        if self._writer is not None and self._writer.shapes.get(name) == shape:
            return self._writer
        if shapes.get(name, shape) != shape:
            return None
        if self._writer is not None:
            self._notes.append((picture.timestamp_s, "continued", {"from": self._writer.path.name}))
            self._close(picture.timestamp_s, "closed")
        self._ballast = Ballast(self.path.parent)
        while (path := numbered(self.path, self._number + 1)).exists():
            self._number += 1
        look = self._facts.last
        self._writer = RunWriter(
            path,
            {**shapes, name: shape},
            started_s=self.started_s,
            facts={} if look is None else look.facts,
            facts_s=None if look is None else look.ended_s,
            title=self._keep.title,
            raw=self._keep.raw,
            denoised=self._keep.denoised,
            weights=self._keep.weights,
            unit="1/mm" if picture.task == "DENOISE" else "1",
        )
        self._number, self.parts, self._stored, self.missing = self._number + 1, self.parts + 1, set(), set()
        while self._notes:
            time_s, kind, what = self._notes[0]
            self._writer.note(time_s, kind, **what)
            self._notes.popleft()
        self._changes_noted = 0
        self._note_changes(picture.timestamp_s)
        return self._writer

    def _note_changes(self, since_s: float) -> None:
        """Also those of before this part that tell what its first pictures were made with."""
        for serial, change in self._facts.changes(self._changes_noted):
            if change.time_s >= since_s and self._writer is not None:
                told = change._asdict()
                self._writer.note(told.pop("time_s"), "setting", **told)
            self._changes_noted = serial

    def _keep_weights(self, writer: RunWriter, picture: Denoised, now_s: float) -> None:
        """Those of this picture, and those that came since for earlier ones."""
        digest = picture.made.get("weights_sha256", "")
        if digest and digest not in self._stored | self.missing:
            self.missing.add(digest)
            if self._find(digest) is None:
                writer.note(now_s, "weights missing", version=picture.weights_version, sha256=digest)
        self._store_missing(writer)

    def _store_missing(self, writer: RunWriter) -> None:
        for digest in sorted(self.missing):
            weights = self._find(digest)
            if weights is not None:
                writer.add_weights(weights, digest)
                self._stored.add(digest)
                self.missing.discard(digest)

    def _give_room(self) -> None:
        ballast, self._ballast = self._ballast, None
        if ballast is not None:
            ballast.release()

    def _give_up(self, error: Exception) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()
            self._tell(f"{writer.path}: could not be written to its end: {error}")

    def _close(self, now_s: float, kind: str, **what: Any) -> None:
        """End the present part with this line. Its settings are known up to the last look."""
        self._give_room()
        if self._writer is not None:
            look = self._facts.last
            try:
                self._store_missing(self._writer)
                self._note_changes(-float("inf"))
                self._writer.note(now_s, kind, settings_until_s=None if look is None else look.begun_s, **what)
                self._writer.close(now_s)
            except TROUBLE as error:
                self._give_up(error)
        self._writer = None
