"""The denoiser: slices and weights in, denoised slices out, side by side with what they were made from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psutil
import torch

from tango_jit.cores import budget, usable_cores
from tango_jit.learn import total_variation
from tango_jit.learn.denoiser import Denoiser, Result
from tango_jit.learn.tasks import TASKS
from tango_jit.learn.unet import NetworkConfig
from tango_jit.services.arrivals import Pace
from tango_jit.services.backends import FAILURES, BackendChoice
from tango_jit.services.comparison import NO_IMAGE, Comparison
from tango_jit.services.denoiser_condition import condition
from tango_jit.services.denoiser_signals import MODES, SIGNALS
from tango_jit.services.earlier import Earlier
from tango_jit.services.judgement import Judgement
from tango_jit.services.making import Making
from tango_jit.services.moments import Moments
from tango_jit.services.neighbours import Neighbours
from tango_jit.services.rates import Curve, Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.services.slices import DEFAULTS, check_name, denoiser_signals
from tango_jit.services.snapshot import write_snapshot
from tango_jit.stacks import StackError
from tango_jit.streams import Denoised, Mailbox, Message, Publisher, Slice, Subscriber, View, Weights

SILENCE_S = 5.0
SLICE_FIELDS = tuple(f.name for f in dataclasses.fields(Slice) if f.name != "data")


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
        slice_names: str = " ".join(DEFAULTS),
        clock: Clock = time.time,
    ) -> None:
        """`slices` and `weights` give the endpoints of the reconstructor's and the trainer's streams.

        `backend` is "cpu" or "cuda". `threads` 0: see `cores.budget`. `slice_names`: the slices
        that are thought to be there until their view comes, so that their signals are there before any data.

        Raises ValueError for an unknown backend, or names that are none.
        """
        super().__init__(clock)
        names = [check_name(name, ()) for name in slice_names.split()]
        self._upstreams = (slices, weights)
        self._backend = BackendChoice(backend, backprojects=False)  # what is refused must not keep an endpoint
        self._threads = threads or budget(usable_cores()).denoising
        self._denoised_out = Publisher(denoised_endpoint, budget_bytes=budget_bytes)
        self._budget_bytes = budget_bytes
        self._inbox = Mailbox(budget_bytes, "newest")
        self._subscribers: tuple[Subscriber, ...] = ()
        self._engine, self._comparison = Denoiser(), Comparison()
        self._latest: dict[str, Denoised] = {}
        self._judgement = Judgement()
        self._helped = False  # this network was seen to help on this series: before that a guard is no reason to worry
        self._earlier, self._neighbours, self._moments = Earlier(), Neighbours(), Moments()
        self._making = Making()
        self._series = ""
        self._curve, self._rate = Curve(), Rate()
        self._weights_at = 0.0
        self._pace = Pace(SILENCE_S)  # of the updates
        self._follow(names)
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
        elif name == "compared_version":
            self._comparison.choose(self._engine.remembered(value) if value else None)

    def snapshot(self, path: Path) -> None:
        """Write all slices of this moment to an HDF5 file. Raises ValueError or OSError in words."""
        latest = dict(self._latest)
        if not latest:
            raise ValueError("Snapshot: expected a picture, none has come yet")
        write_snapshot(path.expanduser().absolute(), latest)

    # ---- the worker

    def open(self) -> None:
        numba.set_num_threads(min(self._threads, numba.get_num_threads()))
        torch.set_num_threads(self._threads)  # after numba, which starts its threads and sets those of PyTorch
        total_variation.warm_up()
        self._backend.choose()
        self._use_backend()
        self._inbox = Mailbox(self._budget_bytes, "newest")
        self._subscribers = tuple(Subscriber(up, self._inbox, clock=self.clock) for up in self._upstreams)

    def _use_backend(self) -> None:
        self._backend.use(self._engine.move)
        self._comparison.move(self._backend.name)
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
                self._follow(list(message.slices))

    def _load(self, weights: Weights) -> None:
        try:
            if self._engine.load(weights):
                self._weights_at = self.clock()
                if weights.patch_accuracy is None:  # reset, loaded or rolled back: the trainer has not scored it yet
                    self._helped = False
        except ValueError as error:
            self.trouble(f"weights {weights.version} refused: {error}")

    def _follow(self, names: list[str]) -> None:
        """Signals for the slices that there are now."""
        known = self.values["slice_names"].split()
        if known == names:
            return
        gone = [name for name in known if name not in names]
        added = tuple(s for name in names if name not in known for s in denoiser_signals(name))
        removed = tuple(s.name for name in gone for s in denoiser_signals(name))
        for name in gone:
            self._latest.pop(name, None)
            self._judgement.forget(name)
            self._engine.forget(name)
            self._comparison.forget(name)
            self._earlier.forget(name)
            self._moments.forget(name)
        self.replace_signals(added, removed)
        figures = self._judgement.figures()
        self.publish(slice_names=" ".join(names), guard_active=self._judgement.guarded, **figures)

    def _denoise(self, message: Slice) -> None:
        if f"denoised_{message.slice}" not in self.signals:
            return  # removed meanwhile, or its view is still to come
        latest = self._latest.get(message.slice)
        if message.series != self._series or (latest is not None and _refilled(latest, message)):
            self._begin(message.series)
            latest = None
        if latest is not None and latest.geometry != message.geometry:
            self._engine.forget(message.slice)
            self._comparison.forget(message.slice)
        started = time.perf_counter()
        values = self.values
        before = self._earlier.exchange(message)
        weights = self._engine.weights
        network = NetworkConfig() if weights is None else NetworkConfig.from_dict(weights.network)
        self._neighbours.ask(network, self._subscribers[0])
        shown = message
        try:
            shown = self._moments.stack(message, network)
            # Of several moments the first ones have views of the turn before: it is no judge of them.
            images, how = self._given(shown, before if network.frames == 1 else None)
            how |= {"with_uncertainty": values["uncertainty"], "made_for": weights}
            result = self._engine(*images, name=message.slice, **how)
            self._neighbours.fit()
        except StackError as error:
            result = self._neighbours.missing(error, message, self.clock())
        if not values["enabled"]:
            result = dataclasses.replace(
                result, image=result.raw, guarded=False, blend=None, uncertainty=None, task="DENOISE"
            )
        picture = result.image
        inference_ms = 1e3 * (time.perf_counter() - started)
        fields = {name: getattr(shown, name) for name in SLICE_FIELDS}
        denoised = Denoised(
            **fields,
            weights_version=result.weights_version,
            accuracy=result.accuracy,
            task=result.task,
            made=self._making.of(result, weights, enabled=values["enabled"]),
            data=np.stack([picture, result.raw])[:, None],
        )
        self._latest[message.slice] = denoised
        self._denoised_out.send(denoised)
        self._show(shown, picture, result, inference_ms, self._compared(network, message, shown, before))

    def _compared(
        self, network: NetworkConfig, message: Slice, shown: Slice, before: np.ndarray | None
    ) -> dict[str, Any]:
        """The other version on the same slice: its own images of the same moment, for the same task, or nothing."""
        other, name = self._comparison.network, message.slice
        if other is None or other.task != network.task:
            return self._comparison.nothing(name)
        if other.frames > 1 and other.stack == network.stack:
            images, how = self._given(shown, None)
        elif other.frames == 1 and shown.last_frame == message.last_frame:
            images, how = self._given(message, before)
        else:
            return self._comparison.nothing(name)
        return self._comparison.values(name, *images, **how)

    def _given(self, message: Slice, before: np.ndarray | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `Denoiser` takes of a slice, in order and by name."""
        even, odd, *full = message.data
        # A half with a gap is dim or streaky where its views are missing: then only the whole says how much is there.
        mode = MODES[self.values["mode"]] if message.complete else "full"
        how = {"complete": message.complete, "before": before, "mode": mode}
        return (even, odd, full[0] if full else None), how

    def _show(
        self, message: Slice, picture: np.ndarray, result: Result, inference_ms: float, compared: dict[str, Any]
    ) -> None:
        """Publish one picture and what is known of it, in one step."""
        now = self.clock()
        if message.slice == next(iter(self._latest)):  # once an update
            self._pace.beat(now)
        self._rate.add(now)
        self._helped |= result.weights_version > 0 and not result.guarded
        self._judgement.take(message.slice, result)
        figures, quality_db = self._judgement.figures(), result.quality_db
        if len(result.errors):
            self._curve.add(now, figures["accuracy"])
        self.announce(
            **{
                f"denoised_{message.slice}": picture,
                f"raw_{message.slice}": result.raw,
                f"frame_number_{message.slice}": message.last_frame,
                f"generation_{message.slice}": message.generation,
                f"accuracy_{message.slice}": np.nan if result.accuracy is None else result.accuracy,
                f"quality_{message.slice}": np.nan if quality_db is None else quality_db,
                f"geometry_{message.slice}": message.geometry.nine,
                f"shows_{message.slice}": TASKS[result.task].shows,
                f"uncertainty_{message.slice}": NO_IMAGE if result.uncertainty is None else result.uncertainty,
            },
            **compared,
            **figures,
            generation=message.generation,
            weights_version=result.weights_version,
            latency_ms=1e3 * (now - message.timestamp_s),
            inference_ms=inference_ms,
            precision=self._engine.precision,
            task=result.task,
            shows=TASKS[result.task].shows,
            evidence="NONE" if result.evidence is None else result.evidence.upper(),
            slices_denoised=self.values["slices_denoised"] + 1,
            guard_active=self._judgement.guarded,
        )

    def _begin(self, series: str) -> None:
        """Another scan, or filling of the window: what was seen of the earlier one says nothing about it."""
        self._series, self._helped, self._pace = series, False, Pace(SILENCE_S)
        self._judgement.clear()
        self._earlier.clear()
        self._moments.clear()
        for name in self._latest:
            self._engine.forget(name)
            self._comparison.forget(name)
        self._latest.clear()

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        now = self.clock()
        return {
            "accuracy_history": self._curve.array(),
            "versions": np.array(self._engine.versions, np.int64),
            "weights_age_s": now - self._weights_at if self._weights_at else np.nan,
            "rate_hz": self._rate.per_second(now),
            "slices_dropped": self._inbox.dropped,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def health(self) -> tuple[State, str]:
        return self._backend.told(*self._condition(), self._engine.trouble)

    def _condition(self) -> tuple[State, str]:
        now = self.clock()
        return condition(
            self.values,
            weights_age_s=now - self._weights_at,
            rate_hz=self._rate.per_second(now),
            silent=self._pace.silent(now),
            helped=self._helped,
            missing=self._neighbours.told(now),
            trouble=next((s.trouble for s in self._subscribers if s.trouble), ""),
        )


def _refilled(latest: Denoised, message: Slice) -> bool:
    """Was the window filled anew in between, for another filter, centre or flat field (decision 19)? Its slices have
    another generation and share no view with those before."""
    return message.generation != latest.generation and message.first_frame > latest.last_frame
