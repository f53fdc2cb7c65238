"""One recorded run: pictures into its files, part after part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tango_jit.runs import RunWriter
from tango_jit.services.backlog import Shapes, Shot
from tango_jit.services.run_names import numbered
from tango_jit.streams import Denoised, Weights

TROUBLE = (OSError, RuntimeError)  # h5py raises both when a disk is full


class Keep(NamedTuple):
    """What a run keeps, see the signals of the recorder."""

    every_s: float
    denoised: bool
    raw: bool
    weights: bool
    title: str


class RunRecording:
    """Takes shots in order and writes those that are due.

    `facts` gives what is known of the devices when a part begins; `weights` those of a digest, None: not known.
    """

    def __init__(
        self,
        path: Path,
        keep: Keep,
        facts: Callable[[], Mapping[str, Any]],
        weights: Callable[[str], Weights | None],
        started_s: float,
    ) -> None:
        self.path, self.started_s = path, started_s
        self.recorded = self.lost = self.parts = self.written_bytes = 0
        self.write_ms = 0.0
        self.held = ""
        """Why nothing is written now; empty: pictures are."""
        self._keep, self._facts, self._find = keep, facts, weights
        self._writer: RunWriter | None = None
        self._unit = ""
        self._kept: set[str] = set()  # digests of weights that are in the present part, or that nobody has
        self._at: dict[str, float] = {}  # when the last kept picture of each slice was of
        self._notes: list[tuple[float, str, dict[str, Any]]] = []  # for the next part

    def take(self, shot: Shot) -> None:
        """Write a picture, if it is due. Without room for it the run is held, and the picture lost."""
        picture = shot.picture
        since_s = picture.timestamp_s - self._at.get(picture.slice, -float("inf"))
        if 0 <= since_s < self._keep.every_s:
            return
        begun = time.perf_counter()
        try:
            writer = self._part(picture, shot.shapes)
            if writer is None:
                self.lost += 1
                return
            before = writer.written_bytes
            self._keep_weights(writer, picture, shot.received_s)
            writer.append(picture)
            writer.flush()
        except TROUBLE as error:
            self.lost += 1
            self.hold(shot.received_s, str(error))
            return
        self.written_bytes += writer.written_bytes - before
        self.write_ms = 1e3 * (time.perf_counter() - begun)
        self.recorded += 1
        self._at[picture.slice] = picture.timestamp_s

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

    def hold(self, now_s: float, why: str) -> None:
        """Close the present part; nothing is written before `resume`."""
        self.held = why
        self._notes.append((now_s, "held", {"why": why}))
        self._close(now_s)

    def resume(self, now_s: float) -> None:
        """Go on, in another part."""
        self.held = ""
        self._notes.append((now_s, "resumed", {"lost": self.lost}))

    def end(self, now_s: float) -> None:
        """No more pictures come."""
        if self._writer is not None:
            self.note(now_s, "ended", recorded=self.recorded, lost=self.lost)
        self._close(now_s)

    def _part(self, picture: Denoised, shapes: Shapes) -> RunWriter | None:
        """The file for this picture; None: it is of a slice that there is no more."""
        name, shape = picture.slice, picture.geometry.shape
        unit = "1/mm" if picture.task == "DENOISE" else "1"
        if self._writer is not None and self._writer.shapes.get(name) == shape and unit == self._unit:
            return self._writer
        if shapes.get(name) != shape:
            return None
        if self._writer is not None:
            self._notes.append((picture.timestamp_s, "continued", {"from": self._writer.path.name}))
            self._close(picture.timestamp_s)
        self._writer = RunWriter(
            numbered(self.path, self.parts + 1),
            shapes,
            started_s=self.started_s,
            facts=self._facts(),
            title=self._keep.title,
            raw=self._keep.raw,
            denoised=self._keep.denoised,
            weights=self._keep.weights,
            unit=unit,
        )
        self.parts, self._unit, self._kept = self.parts + 1, unit, set()
        while self._notes:
            time_s, kind, what = self._notes.pop(0)
            self._writer.note(time_s, kind, **what)
        return self._writer

    def _keep_weights(self, writer: RunWriter, picture: Denoised, now_s: float) -> None:
        digest = picture.made.get("weights_sha256", "")
        if not self._keep.weights or not digest or digest in self._kept:
            return
        self._kept.add(digest)
        weights = self._find(digest)
        if weights is None:
            writer.note(now_s, "weights missing", version=picture.weights_version, sha256=digest)
        else:
            writer.add_weights(weights, digest)

    def _close(self, now_s: float) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close(now_s)
            except TROUBLE as error:
                self._notes.append((now_s, "not closed", {"file": writer.path.name, "why": str(error)}))
