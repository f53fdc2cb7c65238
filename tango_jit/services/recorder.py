"""The recorder: pictures in, files of runs out. It only listens, so that no picture ever waits for a disk."""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tango_jit.runs.ballast import BALLAST_BYTES
from tango_jit.services.arrivals import Pace
from tango_jit.services.backlog import Backlog, Shot
from tango_jit.services.facts_watch import Facts, FactsWatch
from tango_jit.services.making import digest
from tango_jit.services.projection_file import ProjectionFile
from tango_jit.services.recorder_signals import SIGNALS
from tango_jit.services.run_names import check, new_run
from tango_jit.services.run_recording import Keep, RunRecording
from tango_jit.services.service import Clock, Service, State
from tango_jit.streams import Denoised, Mailbox, Message, Subscriber, View, Weights

SILENCE_S = 5.0
WEIGHTS = 64  # versions that are remembered
WRITING_S = 0.2  # between two looks at the inbox
LOOK_S = 3.0  # that Finish waits for the settings of the last pictures
ENDING_S = 2.0  # for what waits when the recorder is stopped
RETRY_S = 5.0  # after something could not be written
TOLD_S = 30.0  # for so long a loss is an ALARM
ROOM = 1.1  # of the reserve, from which on a full disk is no longer full
VIEW = (b'{"htype":"view"',)
Endpoint = Callable[[], str | None]


class RecorderService(Service):
    """Keeps the newest pictures in memory, and from Record to Finish all of them in files."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        denoised: Endpoint,
        weights: Endpoint,
        filtered: Endpoint,
        projections: Endpoint,
        facts: Callable[[], Facts],
        *,
        budget_bytes: int = 512 << 20,
        clock: Clock = time.time,
    ) -> None:
        """The first four give the endpoints of the denoiser's, the trainer's and the reconstructor's stream, and of the
        copy of the detector's that may drop. `facts`: see `FactsWatch`. `budget_bytes`: of pictures that wait, and of
        projections."""
        super().__init__(clock)
        self._upstreams = ((denoised, (b"",)), (weights, (b"",)), (filtered, VIEW))
        self._projections, self._look = projections, facts
        self._budget_bytes = budget_bytes
        self._inbox = Mailbox(budget_bytes, "drop_oldest")
        self._subscribers: tuple[Subscriber, ...] = ()
        self._watch: FactsWatch | None = None
        self._backlog = Backlog(budget_bytes)
        self._shapes: dict[str, tuple[int, int]] = {}
        self._weights: OrderedDict[str, Weights] = OrderedDict()  # by digest, the newest last
        self._run_now: RunRecording | None = None
        self._frames: ProjectionFile | None = None
        self._dropped = 0  # by the inbox, before this run
        self._left: int | None = None  # pictures that are still to be written after Finish; None: nobody has ordered it
        self._ended_s = 0.0  # when it was ordered
        self._lost_seen, self._lost_at_s = (0, 0), -float("inf")
        self._pace = Pace(SILENCE_S)

    # ---- commands (any thread)

    def accept(self, name: str, value: Any) -> None:
        check(name, value)

    def record(self) -> None:
        """Begin a run. Raises ValueError for a folder that is none, RuntimeError if one is being recorded."""
        self.ask(self._record)

    def finish(self) -> None:
        """End the run: what has come until now is written, then its files are closed and `recording` is false.

        Raises RuntimeError if none is being recorded."""
        self.ask(self._finish)

    def mark(self, text: str) -> None:
        """Write a remark into the journal of the run. Raises RuntimeError if none is being recorded."""
        self.ask(lambda: self._recording("Mark").note(self.clock(), "mark", text=text))

    def _recording(self, command: str) -> RunRecording:
        if self._run_now is None:
            raise RuntimeError(f"{command}: expected a run that is being recorded, Record begins one")
        return self._run_now

    def _record(self) -> None:
        if self._run_now is not None:
            raise RuntimeError(f"Record: {self._run_now.path.name} is being recorded, Finish ends it")
        if not self._subscribers:
            raise RuntimeError("Record: expected a recorder at work, Start it")
        values, now = self.values, self.clock()
        path = new_run(values["folder"], values["file_name"], now)
        if why := self._full(path.parent):
            raise RuntimeError(f"Record: {why}")
        if self._watch is None or self._watch.last is None:
            raise RuntimeError("Record: expected the settings of the devices, they are being asked just now: try again")
        keep = Keep(
            **{name: values[f"keep_{name}"] for name in ("denoised", "raw", "weights")},
            every_s=values["every_s"],
            title=values["title"],
        )
        run = RunRecording(path, keep, self._watch, self._weights.get, now, self.trouble)
        run.note(now, "recording", pictures_before=len(self._backlog))
        self._run_now, self._dropped = run, self._inbox.dropped
        beside = path.with_name(f"{path.stem}_projections.nxs")
        if values["keep_projections"]:
            self._frames = ProjectionFile(
                self._projections,
                beside,
                budget_bytes=self._budget_bytes,
                full=lambda: self._full(path.parent),
                clock=self.clock,
            )
        self.publish(recording=True, file=str(path), projections_file=str(beside) if self._frames else "")

    def _finish(self) -> None:
        self._recording("Finish")
        if self._left is None:
            self._empty_inbox()
            self._left, self._ended_s = len(self._backlog), self.clock()
        if self._frames is not None:
            self._frames.end()

    def _close_run(self, run: RunRecording) -> None:
        """What is left could not be written."""
        run.lost += len(self._backlog) if self._left is None else self._left
        run.end(self.clock())
        if self._frames is not None:
            self._frames.close(ENDING_S)
        self.publish(recording=False, **self._counts(), **({} if run.parts else {"file": ""}))
        self._run_now, self._frames, self._left = None, None, None

    # ---- the worker

    def open(self) -> None:
        self._inbox = Mailbox(self._budget_bytes, "drop_oldest")
        self._subscribers = tuple(
            Subscriber(up, self._inbox, prefixes=prefixes, clock=self.clock) for up, prefixes in self._upstreams
        )
        self._watch = FactsWatch(self._look, self.clock)

    def wake(self) -> None:
        self._inbox.wake()

    def shut(self) -> None:
        try:
            if (run := self._run_now) is not None:
                try:
                    self._empty_inbox()
                    self._write(run, ENDING_S)
                finally:
                    self._close_run(run)
        finally:
            for subscriber in self._subscribers:
                subscriber.close()
            self._subscribers = ()
            self._backlog = Backlog(self._budget_bytes)
            if self._watch is not None:
                self._watch.close()

    def turn(self) -> None:
        run = self._run_now
        busy = run is not None and not run.held and len(self._backlog) > 0 and self._left != 0
        message = self._inbox.get(timeout=0.0 if busy else 0.1)
        if message is not None:
            self._take(message)
            self._empty_inbox()
        if run is not None:
            self._write(run, WRITING_S)
            if self._left is not None and self._all_written(run):
                self._close_run(run)

    def _all_written(self, run: RunRecording) -> bool:
        """May a run that Finish has ended be closed? Its last settings are known, too, if devices answer."""
        last = None if self._watch is None else self._watch.last
        known = (last is not None and last.begun_s >= self._ended_s) or abs(self.clock() - self._ended_s) > LOOK_S
        return bool(run.held or self._left == 0) and known and (self._frames is None or self._frames.ended)

    def _empty_inbox(self) -> None:
        for message in self._inbox.drain():
            self._take(message)

    def _write(self, run: RunRecording, seconds: float) -> None:
        """Some of the pictures that wait."""
        until = time.perf_counter() + seconds
        while len(self._backlog) and self._left != 0 and not run.held and time.perf_counter() < until:
            if why := self._full(run.path.parent):
                run.hold(self.clock(), why)
                return
            shot = self._backlog.pop()
            run.take(shot if shot.picture.slice in shot.shapes else shot._replace(shapes=self._shapes))
            if run.held:
                run.held_s = self.clock()
            if self._left is not None:
                self._left -= 1

    def _forget(self, pictures: int) -> None:
        """So many, the oldest, were forgotten before they were written."""
        if self._run_now is not None:
            self._run_now.lost += pictures
            if self._left is not None:
                self._left = max(self._left - pictures, 0)

    def _take(self, message: Message) -> None:
        match message:
            case View():
                self._shapes = {name: place.shape for name, place in message.slices.items()}
            case Weights():
                self._weights[digest(message)] = message
                while len(self._weights) > WEIGHTS:
                    self._weights.popitem(last=False)
            case Denoised():
                now = self.clock()
                self._pace.beat(now)
                if (used := message.made.get("weights_sha256")) in self._weights:
                    self._weights.move_to_end(used)  # frozen weights are old, and in use
                self._forget(self._backlog.add(Shot(message, now, self._shapes), self._patience_s))

    @property
    def _patience_s(self) -> float:
        """For how long pictures wait: for a Record, or for the disk; while they are written none is too old."""
        run = self._run_now
        return float("inf") if run is not None and not run.held else self.values["pre_trigger_s"]

    # ---- the disk

    def _full(self, folder: Path) -> str:
        """Why nothing may be written there now; empty: it may."""
        try:
            free_mb = shutil.disk_usage(folder).free / 1e6
        except OSError as error:
            return f"{folder}: {error.strerror}"
        run, reserve_mb = self._run_now, self.values["reserve_mb"]
        # Held, a run has given back what it kept for itself, and takes it again when it goes on.
        held_mb = reserve_mb * ROOM + 2 * BALLAST_BYTES / 1e6
        wanted_mb = held_mb if run is not None and run.held else reserve_mb
        return "" if free_mb >= wanted_mb else f"{folder} is full: {free_mb:.0f} MB free, {wanted_mb:.0f} are wanted"

    def _look_at_disk(self, run: RunRecording) -> None:
        now = self.clock()
        why = self._full(run.path.parent) or ("its file is gone" if run.is_gone() else "")
        if why and not run.held:
            run.hold(now, why)
        elif run.held and not why and abs(now - run.held_s) >= RETRY_S:
            run.resume(now)

    # ---- how it is

    def _counts(self) -> dict[str, Any]:
        """Figures of the run."""
        run, frames = self._run_now, self._frames
        if run is None:
            return {}
        counts = {
            "pictures_recorded": run.recorded,
            "pictures_lost": run.lost + self._inbox.dropped - self._dropped,
            "parts": run.parts,
            "write_ms": run.write_ms,
            "written_mb": (run.written_bytes + (frames.written_bytes if frames else 0)) / 1e6,
        }
        return counts | {
            "frames_recorded": frames.recorded if frames else 0,
            "frames_lost": frames.lost if frames else 0,
        }

    def counters(self) -> dict[str, Any]:
        run, now = self._run_now, self.clock()
        if run is not None:
            self._look_at_disk(run)
            run.note_changes(now)
        self._forget(self._backlog.trim(now, self._patience_s))
        try:
            free_mb = shutil.disk_usage(self.values["folder"] or "/").free / 1e6
        except OSError:
            free_mb = float("nan")
        return self._counts() | {
            "pictures_waiting": len(self._backlog),
            "waiting_s": self._backlog.span_s,
            "free_mb": free_mb,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def health(self) -> tuple[State, str]:
        run, frames, now = self._run_now, self._frames, self.clock()
        trouble = next((s.trouble for s in self._subscribers if s.trouble), "")
        silent = self._pace.silent(now)
        if run is None:
            if silent:
                return State.STANDBY, f"not recording, and no pictures come: {trouble or 'connected, no data'}"
            waiting = (
                f"the last {self._backlog.span_s:.0f} s wait for a Record" if len(self._backlog) else "nothing waits"
            )
            return State.STANDBY, f"not recording; {waiting}"
        told = f"{run.path.name}: {run.recorded} pictures, {run.written_bytes / 1e6:.0f} MB"
        counts = self._counts()
        if self._left is not None:
            return State.RUNNING, f"finishing {told}"
        if run.held:
            return State.ALARM, f"nothing is written, {run.held}; it goes on by itself ({told})"
        if frames is not None and frames.trouble:
            return State.ALARM, f"projections are not written: {frames.trouble} ({told})"
        lost = counts["pictures_lost"], counts["frames_lost"]
        if lost != self._lost_seen:
            self._ended_s = 0.0  # when it was ordered
        self._lost_seen, self._lost_at_s = lost, now
        if any(lost) and now - self._lost_at_s < TOLD_S:
            return State.ALARM, f"lost: {lost[0]} pictures, {lost[1]} projections ({told})"
        if run.missing:
            return State.ALARM, f"weights of kept pictures did not come: {len(run.missing)} versions ({told})"
        if unknown := self._watch.trouble if self._watch else "":
            return State.ALARM, f"settings are not known, {unknown} ({told})"
        if silent:
            return State.ALARM, f"no pictures come: {trouble or 'connected, no data'} ({told})"
        if frames is not None and frames.waiting:
            return State.ALARM, f"no projections come: {frames.waiting} ({told})"
        return State.RUNNING, f"recording {told}"
