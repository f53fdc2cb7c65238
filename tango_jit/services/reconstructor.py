"""The reconstructor: raw frames in, filtered frames and slices (even and odd half) out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import psutil
import torch

from tango_jit.cores import budget, usable_cores
from tango_jit.cuda_streams import take
from tango_jit.recon import preprocess, volume
from tango_jit.recon.backproject import to_host
from tango_jit.recon.pipeline import Options, Pipeline, full_slice
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import WindowOverflowError
from tango_jit.services.arrivals import Arrivals
from tango_jit.services.backends import FAILURES, BackendChoice
from tango_jit.services.calibration import Calibration
from tango_jit.services.preview import preview_bytes
from tango_jit.services.rates import Rate
from tango_jit.services.reconstructor_condition import LOSS_ALARM_S, condition
from tango_jit.services.reconstructor_settings import check, options
from tango_jit.services.reconstructor_signals import SIGNALS
from tango_jit.services.service import Clock, Service, State
from tango_jit.services.slices import SliceTable, reconstructor_signals
from tango_jit.services.spare_time import SpareTime
from tango_jit.services.updates import Updates
from tango_jit.streams import Dark, Flat, Header, Image, Mailbox, Message, Publisher, SeriesEnd, Slice, Subscriber, View

SILENCE_S = 2.0


class ReconstructorService(Service):
    """Keeps a window of filtered projections and reconstructs every slice from it each `update_every` frames."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        raw: Callable[[], str | None],
        *,
        filtered_endpoint: str = "tcp://127.0.0.1:*",
        slices_endpoint: str = "tcp://127.0.0.1:*",
        backend: str = "cpu",
        threads: int = 0,
        slices: SliceTable | None = None,
        budget_bytes: int = 256 << 20,
        clock: Clock = time.time,
    ) -> None:
        """`raw` gives the endpoint of the frames (see `Subscriber`). Raises ValueError for an unknown backend."""
        super().__init__(clock)
        self._raw = raw
        self._budget_bytes = budget_bytes
        self._backend = BackendChoice(backend)
        share = budget(usable_cores())
        self._frame_threads, self._slice_threads = min(threads or share.frames, share.frames), threads or share.slices
        self._filtered = Publisher(filtered_endpoint, budget_bytes=budget_bytes)
        self._slices_out = Publisher(slices_endpoint, budget_bytes=budget_bytes)
        self._slices_out.expect(preview_bytes(self.values["preview_size"]))
        self._table = slices or SliceTable()
        self._moved_at = 0.0  # when slices were last placed: pictures of the new place cannot be older
        self._inbox = Mailbox(budget_bytes, "lossless")
        self._subscriber: Subscriber | None = None
        self._spare_time = SpareTime(self._backend.name)
        self._forget_scan()
        self.replace_signals(
            tuple(s for name in self._table.names for s in reconstructor_signals(name)),
            backend_wanted=backend,
            slices=self._table.to_json(),
            filtered_endpoint=self._filtered.endpoint,
            slices_endpoint=self._slices_out.endpoint,
        )
        self.publish(**self._table.values())

    def _forget_scan(self) -> None:
        self._header: Header | None = None
        self._calibration = Calibration()
        self._pipeline: Pipeline | None = None
        self._stale = True  # the pipeline is not that of the present header, dark and flat
        self._tried: Options | None = None  # what the pipeline was made with, or could not be
        self._refills = 0
        self._filtered_series = ""  # one for every filling of the window, so that nobody downstream mixes two
        self._arrivals = Arrivals(SILENCE_S)
        self._unused = 0  # frames of series that were not announced, or that nothing can be done with yet
        self._frame_rate, self._slice_rate = Rate(), Rate()
        self._updates = Updates(self._budget_bytes)
        for command, progress in self._spare_time.asked.items():
            self.trouble(f"{command} was given up: its window is gone for good")
            self.publish(**{progress: 0.0})
        self._spare_time = SpareTime(self._backend.name)
        self.publish(fill=0.0)

    # ---- commands (any thread)

    def add_slice(self, name: str) -> None:
        """A new slice at a default place. Raises ValueError or KeyError in words."""
        with self._lock:
            self._retable(self._table.add(name))

    def remove_slice(self, name: str) -> None:
        """Raises KeyError in words."""
        with self._lock:
            self._retable(self._table.remove(name))

    def move_slice(self, name: str, nine: Any) -> None:
        """Put a slice elsewhere: `nine` numbers in mm (origin, u, v)."""
        with self._lock:
            self.write(f"geometry_{self._table.known(name)}", nine)

    def reset(self) -> None:
        """Forget the window and the counters and start anew with the next frame."""
        with self._lock:
            self._stale = True
            self._arrivals.forget_losses()
            self._unused = 0

    def find_center(self) -> None:
        """Search the centre of rotation in the present window, between frames; `progress` and `center_...` tell.

        Raises ValueError before a window is full.
        """
        method = self.values["center_method"].lower()
        self._order("FindCenter", lambda: self._spare_time.search.begin(method), "progress")

    def make_preview(self) -> None:
        """Make a preview volume of the present window, between frames; `preview_progress` and its frame number tell.

        Raises ValueError before a window is full.
        """
        self._order("MakePreview", lambda: self._spare_time.preview.begin(), "preview_progress")

    def _order(self, command: str, begin: Callable[[], None], progress: str) -> None:
        with self._lock:  # the worker may be about to give up the window
            if (fill := 0.0 if (pipeline := self._pipeline) is None else pipeline.fill) < 1:
                raise ValueError(f"{command}: expected a full window, got {math.floor(100 * fill)}% of it")
            begin()
            self.publish(**{progress: 0.0})
        self.wake()

    # ---- settings

    def accept(self, name: str, value: Any) -> None:
        header = self._header  # the worker may take it away between two looks
        check(name, {**self.values, name: value}, None if header is None else header.geometry)
        if name == "preview_size":
            self._slices_out.expect(preview_bytes(value))
        kind, _, item = name.partition("_")
        if kind in ("geometry", "shape") and item in self._table.names:
            place = self._table.edited(kind, item, value)
            if header is not None:
                engine = Reconstructor(header.geometry, self._backend.name)
                try:
                    engine.refuse_off_plane(place.pose[None], place.shape)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
            self._retable(self._table.place(item, place))

    def _retable(self, table: SliceTable) -> None:
        """Make `table` the slices, with signals and a new generation to match."""
        before, self._table = set(self._known_slices()), table
        self._moved_at = self.clock()
        names = set(table.names)
        for gone in before - names:
            self._updates.problems.pop(gone, None)
        added = tuple(s for n in table.names if n not in before for s in reconstructor_signals(n))
        removed = tuple(s.name for n in before - names for s in reconstructor_signals(n))
        if added or removed:
            self.replace_signals(added, removed)
        places = {k: v for k, v in table.values().items() if not np.array_equal(v, self.values[k])}
        self.publish(slices=table.to_json(), generation=self.values["generation"] + 1, **places)

    def _known_slices(self) -> list[str]:
        return [name.removeprefix("geometry_") for name in self.signals if name.startswith("geometry_")]

    # ---- the worker

    def open(self) -> None:
        numba.set_num_threads(min(self._slice_threads, numba.get_num_threads()))
        torch.set_num_threads(self._frame_threads)  # after numba, which starts its threads and sets those of PyTorch
        self.set_state(State.INIT, "compiling the backprojector: the first start takes a while")
        preprocess.warm_up()
        volume.warm_up()
        self._backend.choose()
        take("live", self._backend.device)
        self.publish(backend=self._backend.name)
        self._forget_scan()
        self._inbox = Mailbox(self._budget_bytes, "lossless")
        self._subscriber = Subscriber(self._raw, self._inbox, kind="pull", clock=self.clock)

    def wake(self) -> None:
        self._inbox.wake()

    def shut(self) -> None:
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
        with self._lock:
            self._forget_scan()

    def close(self) -> None:
        super().close()
        self._filtered.close()
        self._slices_out.close()

    def turn(self) -> None:
        try:
            self._advance()
        except FAILURES as error:
            self._backend.fall_back(error)
            self.trouble(self._backend.why)
            self._spare_time.restart(self._backend.name)
            self._stale = True  # what it kept of the window is lost
            self.publish(backend=self._backend.name)

    def _advance(self) -> None:
        message = self._inbox.get(timeout=0.0 if self._spare_time.busy else 0.1)
        if message is not None:
            self._take(message)
        if self._header is None:
            return
        self._follow_settings()
        if busy := self._due():
            self._update()
        if self._pipeline is not None and self._spare_time.has_turn(frames_wait=busy or len(self._inbox) > 0):
            self._use_spare_time(self._pipeline)

    def _use_spare_time(self, pipeline: Pipeline) -> None:
        """Some milliseconds for what nobody waits for: the centre of rotation, or else the preview."""
        done = self._spare_time.step(pipeline, self.values, self._updates.taken_at_s, self.clock())
        self.publish(**done.news)
        if done.trouble:
            self.trouble(done.trouble)
        if done.volume is not None and self._header is not None:
            self._slices_out.send(done.volume.message(self._header.series, self.values["generation"]))
            self.announce(**done.volume.values())

    def _take(self, message: Message) -> None:
        match message:
            case Header():
                self._begin(message)
            case Dark() | Flat():
                self._calibrate(message)
            case Image():
                self._frame(message)
            case SeriesEnd():
                self._arrivals.ended = self._header is not None and message.series == self._header.series
                if self._filtered_series:
                    self._filtered.send(SeriesEnd(self._filtered_series, message.frames))

    def _begin(self, header: Header) -> None:
        """A new series; the repeat of the running one is a no-op."""
        if header == self._header:
            return
        with self._lock:
            self._forget_scan()
            self._header = header
            if header.geometry.radius_mm > 0:  # else the pipeline refuses it in words
                self._retable(self._table.on(header.geometry))
            self._moved_at = 0.0  # that was nobody's wish
        self.publish(series=header.series)

    def _calibrate(self, field: Dark | Flat) -> None:
        if self._header is None or field.series != self._header.series:
            return
        if self._calibration.take(field, self._inbox.received_at):
            self._stale = True  # a new dose: never mix it with the old one

    def _follow_settings(self) -> None:
        """A new pipeline, and so an empty window, when a setting, the dose or the scan is another."""
        wanted = options(self.values)
        if self._header is not None and (self._stale or wanted != self._tried):
            self._rebuild(self._header, wanted)

    def _rebuild(self, header: Header, wanted: Options) -> None:
        self._stale, self._tried, self._pipeline = False, wanted, None
        self._spare_time.restart(self._backend.name)
        self.publish(progress=0.0, preview_progress=0.0)
        if not header.linear and self._calibration.flat is None:
            self._updates.problems["scan"] = "expected a flat field before the frames, none came"
            return
        try:
            fields = self._calibration.dark, self._calibration.flat
            self._pipeline = Pipeline(header, *fields, wanted, self._backend.name)
        except ValueError as error:
            self._updates.problems["scan"] = str(error)
            self.trouble(f"series {header.series}: {error}")
            return
        self._updates.begin()
        self._refills += 1
        self._filtered_series = f"{header.series}#{self._refills}"
        self._filtered.forget("view")  # a view names the filter it belongs to
        self._filtered.send(self._pipeline.filtered_header(self._filtered_series), retain="header")
        with self._lock:
            self.publish(generation=self.values["generation"] + 1)

    def _frame(self, image: Image) -> None:
        header, arrivals = self._header, self._arrivals
        if header is None or image.series != header.series:
            self._unused += 1
            return
        self._follow_settings()
        if not arrivals.add(image.frame, self._inbox.received_at):
            return
        self._frame_rate.add(arrivals.at_s)
        if self._pipeline is None:
            self._unused += 1  # why, the status tells
            return
        try:
            filtered = self._pipeline.filter(image)
            self._filtered.send(replace(image, series=self._filtered_series, data=to_host(filtered)))
            if self._pipeline.add(image, filtered) == "stale":
                raise ValueError("older than the window, or out of place")
            self._updates.count_frame(arrivals.at_s)
        except (*FAILURES, ValueError) as error:
            news = arrivals.refuse(f"frame {image.frame}: {error}")
            if not isinstance(error, (WindowOverflowError, ValueError)):
                raise
            self._backend.raise_shortage(error)
            if news:
                self.trouble(arrivals.why)

    def _due(self) -> bool:
        if self._pipeline is None or self._pipeline.fill < 1:
            return False
        every, generation, waiting = self.values["update_every"], self.values["generation"], len(self._inbox) > 0
        return self._updates.due(every, generation, waiting=waiting, arrived_s=self._arrivals.at_s, now_s=self.clock())

    def _update(self) -> None:
        """Reconstruct and publish every slice from the window as it is now."""
        assert self._pipeline is not None and self._header is not None
        window = self._pipeline.window()
        if window is None:
            return
        with self._lock:
            generation, geometries = self.values["generation"], dict(self._table.geometries)
        if generation != self._updates.shown_generation:
            view = View(generation, self._pipeline.options.filter, geometries)
            self._filtered.send(view, retain="view")
            self._slices_out.send(view, retain="view")
        started, since = time.perf_counter(), max(self._updates.taken_at_s, self._moved_at)
        pictures: dict[str, Any] = {}
        stacks = self._updates.stacks.of(geometries, self._pipeline.geometry, self._slices_out)
        self._pipeline.keep(place for stack in stacks.values() for place in stack)
        for name, geometry in geometries.items():
            planes = self._updates.reconstruct(self._pipeline, window, name, stacks[name])
            if planes is not None:
                span = (window.first_frame, window.last_frame, since, window.complete)
                self._slices_out.send(Slice(name, generation, geometry, self._header.series, *span, planes))
                pictures |= {f"slice_{name}": full_slice(planes), f"frame_number_{name}": window.last_frame}
        now = self.clock()
        self._slice_rate.add(now, len(pictures) // 2)
        self._updates.done(generation, now, time.perf_counter() - started)
        with self._lock:
            known = self.signals
            self._updates.forget_all_but(self._table.names)
            self.announce(
                shown_generation=generation,
                slices_reconstructed=self.values["slices_reconstructed"] + len(pictures) // 2,
                reconstruction_ms=1e3 * (time.perf_counter() - started),
                latency_ms=1e3 * (now - since),
                depth=self._updates.stacks.depth,
                **{k: v for k, v in pictures.items() if k in known},
            )

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        now = self.clock()
        return {
            **self._arrivals.figures(),
            "frames_refused": self._unused + self._arrivals.refused,
            "fill": 0.0 if self._pipeline is None else self._pipeline.fill,
            "pixels_replaced_percent": 0.0 if self._pipeline is None else 100 * self._pipeline.replaced,
            "frame_rate_hz": self._frame_rate.per_second(now),
            "rate_hz": self._slice_rate.per_second(now),
            **self._calibration.ages(now),
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def health(self) -> tuple[State, str]:
        return self._backend.told(*self._condition())

    def _condition(self) -> tuple[State, str]:
        now, subscriber, arrivals = self.clock(), self._subscriber, self._arrivals
        lossy = arrivals.lost_within(LOSS_ALARM_S, now)  # looks at every loss, also where something else is told
        if self._header is None or subscriber is None:
            trouble = (subscriber.trouble if subscriber else "") or "connected, no data yet"
            return State.STANDBY, f"waiting for a detector: {trouble}"
        problems = self._updates.told()
        waiting, series = len(self._inbox), self._header.series
        told = condition(series, arrivals, problems, self._pipeline, waiting=waiting, lossy=lossy, now_s=now)
        rate, count = self._slice_rate.per_second(now), len(self._table.geometries)
        return told or (State.RUNNING, f"{rate:.1f} slices/s from {count} slices")
