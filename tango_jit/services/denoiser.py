"""The denoiser: slices and weights in, denoised slices out, side by side with what they were made from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tango_jit.cores import budget, usable_cores
from tango_jit.learn import noise2inverse
from tango_jit.learn.denoiser import Denoiser, Result
from tango_jit.learn.unet import NetworkConfig
from tango_jit.services.arrivals import Pace
from tango_jit.services.backends import FAILURES, BackendChoice
from tango_jit.services.denoiser_signals import BEST_ACCURACY, SIGNALS
from tango_jit.services.rates import Curve, Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.services.slices import denoiser_signals
from tango_jit.services.snapshot import write_snapshot
from tango_jit.services.trainer_settings import check_network
from tango_jit.streams import Denoised, Mailbox, Message, Publisher, Slice, Subscriber, View, Weights

SILENCE_S = 5.0
SLICE_FIELDS = tuple(f.name for f in dataclasses.fields(Slice) if f.name != "data")
STALE_S = 30.0  # weights of a trainer that should publish every second or so


class DenoiserService(Service):
    """Passes every slice through the newest network; without one, slices pass as they are."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        slices: Callable[[], str | None],
        weights: Callable[[], str | None],
        *,
        denoised_endpoint: str = "tcp://127.0.0.1:*",
        backend: str = "cpu",
        budget_bytes: int = 256 << 20,
        threads: int = 0,
        clock: Clock = time.time,
    ) -> None:
        """`slices` and `weights` give the endpoints of the reconstructor's and the trainer's streams.

        `backend` is "cpu" or "cuda". `threads` 0: see `cores.budget`. Raises ValueError for an unknown backend.
        """
        super().__init__(clock)
        self._upstreams = (slices, weights)
        self._backend = BackendChoice(backend, backprojects=False)  # what is refused must not keep an endpoint
        self._threads = threads or budget(usable_cores()).denoising
        self._denoised_out = Publisher(denoised_endpoint, budget_bytes=budget_bytes)
        self._budget_bytes = budget_bytes
        self._inbox = Mailbox(budget_bytes, "newest")
        self._subscribers: tuple[Subscriber, ...] = ()
        self._engine = Denoiser()
        self._latest: dict[str, Denoised] = {}
        self._scores: dict[str, noise2inverse.Errors] = {}  # of the newest picture of each slice
        self._guarded: set[str] = set()
        self._helped = False  # this network was seen to help on this series: before that a guard is no reason to worry
        self._series = ""
        self._curve, self._rate = Curve(), Rate()
        self._weights_at = 0.0
        self._pace = Pace(SILENCE_S)  # of the updates
        self.publish(denoised_endpoint=self._denoised_out.endpoint)

    # ---- commands (any thread)

    def rollback(self) -> None:
        """Back to the weights before the present ones, and keep them. Raises RuntimeError if there are none."""
        version = self._engine.rollback()
        self._weights_at = self.clock()
        self.publish(weights_version=version, frozen=True)

    def accept(self, name: str, value: Any) -> None:
        if name == "frozen":
            before = self._engine.weights
            self._engine.freeze(value)
            if self._engine.weights is not before:
                self._weights_at = self.clock()
        elif name == "guard":
            self._engine.guard = value

    def snapshot(self, path: Path) -> None:
        """Write all slices of this moment to an HDF5 file. Raises ValueError or OSError in words."""
        latest = dict(self._latest)
        if not latest:
            raise ValueError("Snapshot: expected a picture, none has come yet")
        write_snapshot(path.expanduser().absolute(), latest)

    # ---- the worker

    def open(self) -> None:
        torch.set_num_threads(self._threads)
        self._backend.choose()
        self._use_backend()
        self._inbox = Mailbox(self._budget_bytes, "newest")
        self._subscribers = tuple(Subscriber(up, self._inbox, clock=self.clock) for up in self._upstreams)

    def _use_backend(self) -> None:
        self._backend.use(self._engine.move)
        self.publish(backend=self._backend.name)
        if self._backend.why:
            self.trouble(self._backend.why)

    def wake(self) -> None:
        self._inbox.wake()

    def shut(self) -> None:
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers = ()
        self.publish(weights_age_s=np.nan)  # nobody looks at the clock any more

    def close(self) -> None:
        super().close()
        self._denoised_out.close()

    def turn(self) -> None:
        message = self._inbox.get(timeout=0.1)
        if message is None:
            return
        try:
            self._take(message)
        except FAILURES as error:
            self._backend.fall_back(error)
            self._use_backend()

    def _take(self, message: Message) -> None:
        match message:
            case Weights():
                self._load(message)
            case Slice():
                self._denoise(message)
            case View():
                self._follow(set(message.slices))

    def _load(self, weights: Weights) -> None:
        try:
            check_network(NetworkConfig.from_dict(weights.network))
            if self._engine.load(weights):
                self._weights_at = self.clock()
                if weights.patch_accuracy is None:  # reset, loaded or rolled back: the trainer has not scored it yet
                    self._helped = False
        except ValueError as error:
            self.trouble(f"weights {weights.version} refused: {error}")
            return

    def _follow(self, names: set[str]) -> None:
        """Signals for the slices that there are now."""
        known = {s.removeprefix("raw_") for s in self.signals if s.startswith("raw_")}
        if known == names:
            return
        added = tuple(s for name in sorted(names - known) for s in denoiser_signals(name))
        removed = tuple(s.name for name in known - names for s in denoiser_signals(name))
        for name in known - names:
            self._latest.pop(name, None)
            self._scores.pop(name, None)
            self._guarded.discard(name)
            self._engine.forget(name)
        self.replace_signals(added, removed)
        self.publish(guard_active=bool(self._guarded), **self._accuracies())

    def _denoise(self, message: Slice) -> None:
        if f"denoised_{message.slice}" not in self.signals:
            return  # removed meanwhile, or its view is still to come
        if message.series != self._series:
            self._begin(message.series)
        started = time.perf_counter()
        values = self.values
        even, odd, *full = message.data[:, message.data.shape[1] // 2]
        # A half with a gap is dim or streaky where its views are missing: then only the whole says how much is there.
        mode = "full" if values["mode"] == "FULL" or not message.complete else "halves"
        result = self._engine(
            even, odd, full[0] if full else None, mode=mode, name=message.slice, complete=message.complete
        )
        picture = result.image if values["enabled"] else result.raw
        inference_ms = 1e3 * (time.perf_counter() - started)
        fields = {name: getattr(message, name) for name in SLICE_FIELDS}
        denoised = Denoised(
            **fields,
            weights_version=result.weights_version,
            accuracy=result.accuracy,
            data=np.stack([picture, result.raw])[:, None],
        )
        self._latest[message.slice] = denoised
        self._denoised_out.send(denoised)
        self._show(message, picture, result, inference_ms)

    def _show(self, message: Slice, picture: np.ndarray, result: Result, inference_ms: float) -> None:
        """Publish one picture and what is known of it, in one step."""
        now = self.clock()
        if message.slice == next(iter(self._latest)):  # once an update
            self._pace.beat(now)
        self._rate.add(now)
        self._guarded = self._guarded | {message.slice} if result.guarded else self._guarded - {message.slice}
        self._helped |= result.weights_version > 0 and not result.guarded
        self._scores.pop(message.slice, None)
        if len(result.errors):
            self._scores[message.slice] = result.errors
        accuracies = self._accuracies()
        if len(result.errors):
            self._curve.add(now, accuracies["accuracy"])
        self.announce(
            **{
                f"denoised_{message.slice}": picture,
                f"raw_{message.slice}": result.raw,
                f"frame_number_{message.slice}": message.last_frame,
                f"accuracy_{message.slice}": np.nan if result.accuracy is None else result.accuracy,
            },
            **accuracies,
            generation=message.generation,
            weights_version=result.weights_version,
            latency_ms=1e3 * (now - message.timestamp_s),
            inference_ms=inference_ms,
            precision=self._engine.precision,
            slices_denoised=self.values["slices_denoised"] + 1,
            guard_active=bool(self._guarded),
        )

    def _begin(self, series: str) -> None:
        """Another scan: what was seen of the earlier one says nothing about it."""
        self._series, self._helped, self._pace = series, False, Pace(SILENCE_S)
        self._scores.clear()
        self._latest.clear()
        for name in self._guarded:
            self._engine.forget(name)
        self._guarded = set()

    def _accuracies(self) -> dict[str, float]:
        """Accuracy of all the slices on display together; NaN: nothing to take it from."""
        scores = np.concatenate([np.empty((0, 2)), *self._scores.values()])
        accuracy, ratio = noise2inverse.accuracy(scores), noise2inverse.ratio_of_means(scores)
        return {
            "accuracy": np.nan if accuracy is None else accuracy,
            "accuracy_ratio": np.nan if ratio is None else ratio,
        }

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        now = self.clock()
        return {
            "accuracy_history": self._curve.array(),
            "weights_age_s": now - self._weights_at if self._weights_at else np.nan,
            "rate_hz": self._rate.per_second(now),
            "slices_dropped": self._inbox.dropped,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def health(self) -> tuple[State, str]:
        return self._backend.told(*self._condition(), self._engine.trouble)

    def _condition(self) -> tuple[State, str]:
        now, values = self.clock(), self.values
        trouble = next((s.trouble for s in self._subscribers if s.trouble), "")
        if self._pace.silent(now):
            return State.STANDBY, f"no slices: {trouble or 'connected, no data'}"
        if not values["enabled"]:
            return State.RUNNING, "not enabled: slices pass as reconstructed"
        if not values["weights_version"] and values["frozen"]:
            return State.ALARM, "frozen without weights: slices pass as reconstructed until frozen is false"
        if not values["weights_version"]:
            return State.RUNNING, f"no weights yet: slices pass as reconstructed {trouble}".rstrip()
        if values["guard_active"] and not self._helped:
            return State.RUNNING, "learning: slices are shown as reconstructed until the network helps"
        if values["guard_active"]:
            return State.ALARM, "guard active: denoised slices are not surely better, they are shown as reconstructed"
        if not values["frozen"] and now - self._weights_at > STALE_S:
            age = f"weights are {now - self._weights_at:.0f} s old: is the trainer running?"
            return State.ALARM, f"{age} {trouble}".rstrip()
        notes = ", frozen" if values["frozen"] else ""
        if values["accuracy"] < BEST_ACCURACY:
            notes += "; accuracy below 0.5: the halves differ by more than noise (streaks, motion)"
        rate = self._rate.per_second(now)
        return State.RUNNING, f"{rate:.1f} slices/s with weights {values['weights_version']}{notes}"
