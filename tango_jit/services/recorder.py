"""The recorder: pictures in, files of runs out. It only listens, so that no picture ever waits for a disk."""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tango_jit.services.arrivals import Pace
from tango_jit.services.backlog import Backlog, Shot
from tango_jit.services.facts_watch import Facts, FactsWatch
from tango_jit.services.making import digest
from tango_jit.services.projection_file import ProjectionFile
from tango_jit.services.recorder_signals import SIGNALS
from tango_jit.services.run_names import new_run
from tango_jit.services.run_recording import Keep, RunRecording
from tango_jit.services.service import Clock, Service, State
from tango_jit.streams import Denoised, Mailbox, Message, Subscriber, View, Weights

SILENCE_S = 5.0
WEIGHTS = 64  # versions that are remembered
AT_ONCE = 8  # pictures that are written between two looks at the inbox
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
        self._until_s = float("inf")  # when Finish was ordered: pictures that came later are not of this run
        self._lost_seen, self._lost_at_s = 0, -float("inf")
        self._pace = Pace(SILENCE_S)

    # ---- commands (any thread)

    def record(self) -> None:
        """Begin a run. Raises ValueError for a folder or name that cannot be, RuntimeError if one is being recorded."""
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
        keep = Keep(
            **{name: values[f"keep_{name}"] for name in ("denoised", "raw", "weights")},
            every_s=values["every_s"],
            title=values["title"],
        )
        facts = self._watch
        run = RunRecording(path, keep, lambda: facts.latest if facts else {}, self._weights.get, now)
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
        self._until_s = min(self._until_s, self.clock())
        if self._frames is not None:
            self._frames.end()

    def _close_run(self, run: RunRecording) -> None:
        run.end(self.clock())
        if self._frames is not None:
            self._frames.close()
        self.publish(recording=False, **self._counts())
        self._run_now, self._frames, self._until_s = None, None, float("inf")

    # ---- the worker

    def open(self) -> None:
        self._inbox = Mailbox(self._budget_bytes, "drop_oldest")
        self._subscribers = tuple(
            Subscriber(up, self._inbox, prefixes=prefixes, clock=self.clock) for up, prefixes in self._upstreams
        )
        self._watch = FactsWatch(self._look)

    def wake(self) -> None:
        self._inbox.wake()

    def shut(self) -> None:
        if (run := self._run_now) is not None:
            while len(self._backlog) and not run.held:
                run.take(self._backlog.pop())
            self._close_run(run)
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers = ()
        if self._watch is not None:
            self._watch.close()

    def turn(self) -> None:
        message = self._inbox.get(timeout=0.1)
        if message is not None:
            self._take(message)
        if (run := self._run_now) is not None:
            self._write(run)

    def _write(self, run: RunRecording) -> None:
        """Some of the pictures that wait; the end of the run when all of it are written."""
        for _ in range(AT_ONCE):
            if run.held or self._backlog.oldest_s > self._until_s or not len(self._backlog):
                break
            run.take(self._backlog.pop())
        written = run.held or self._backlog.oldest_s > self._until_s or not len(self._backlog)
        if self._until_s < float("inf") and written and (self._frames is None or self._frames.ended):
            self._close_run(run)

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
                lost = self._backlog.add(Shot(message, now, self._shapes), self._patience_s)
                if self._run_now is not None:
                    self._run_now.lost += lost

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
        wanted_mb = reserve_mb * (ROOM if run is not None and run.held else 1.0)
        return "" if free_mb >= wanted_mb else f"{folder} is full: {free_mb:.0f} MB free, {wanted_mb:.0f} are wanted"

    def _look_at_disk(self, run: RunRecording) -> None:
        why = self._full(run.path.parent)
        if why and not run.held:
            run.hold(self.clock(), why)
            self.trouble(why)
        elif run.held and not why:
            run.resume(self.clock())

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
            for change in self._watch.changes() if self._watch else ():
                run.note(now, "setting", **change._asdict())
        elif self._watch is not None:
            self._watch.changes()
        forgotten = self._backlog.trim(now, self._patience_s)
        if run is not None:
            run.lost += forgotten
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
        if self._until_s < float("inf"):
            return State.RUNNING, f"finishing {told}"
        if run.held:
            return State.ALARM, f"nothing is written, {run.held}; it goes on by itself ({told})"
        if frames is not None and frames.trouble:
            return State.ALARM, f"projections are not written: {frames.trouble} ({told})"
        lost = counts["pictures_lost"]
        if lost != self._lost_seen:
            self._lost_seen, self._lost_at_s = lost, now
        if lost and now - self._lost_at_s < TOLD_S:
            return State.ALARM, f"{lost} pictures were lost: the disk was full or too slow ({told})"
        if silent:
            return State.ALARM, f"no pictures come: {trouble or 'connected, no data'} ({told})"
        if frames is not None and (frames.lost or frames.waiting):
            return State.ALARM, f"projections: {frames.lost} lost, {frames.waiting or 'they come'} ({told})"
        return State.RUNNING, f"recording {told}"
