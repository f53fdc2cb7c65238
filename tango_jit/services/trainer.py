"""The trainer: filtered projections in, weights out, trained on pairs of patches from the newest window."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psutil
import torch

from tango_jit.cores import budget, step_aside, usable_cores
from tango_jit.cuda_streams import launching, on
from tango_jit.geometry import SliceGeometry
from tango_jit.learn.patches import PatchSampler
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.weights import from_checkpoint
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window, WindowOverflowError
from tango_jit.services.arrivals import Arrivals
from tango_jit.services.backends import FAILURES, BackendChoice
from tango_jit.services.files import existing, new_file
from tango_jit.services.rates import Curve, Rate
from tango_jit.services.service import Clock, Service, State
from tango_jit.services.trainer_settings import as_text, check_network, check_region, edited, remembered, shown
from tango_jit.services.trainer_signals import SIGNALS
from tango_jit.streams import Header, Image, Mailbox, Message, Publisher, SeriesEnd, Subscriber, View

SILENCE_S = 4.0
STEPS_A_ROUND = 4
LONGEST_ROUND_S = 0.3
REJECTED_ALARM_S = 10.0


class TrainerService(Service):
    """Trains while frames arrive: new pairs, some steps, again; weights every `publish_every_s`."""

    SIGNALS = SIGNALS

    def __init__(
        self,
        filtered: Callable[[], str | None],
        *,
        weights_endpoint: str = "tcp://127.0.0.1:*",
        backend: str = "cpu",
        budget_bytes: int = 256 << 20,
        settings: str = "",
        seed: int = 0,
        threads: int = 0,
        nice: int = 0,
        clock: Clock = time.time,
    ) -> None:
        """`filtered` gives the endpoint of the reconstructor's filtered projections (see `Subscriber`).

        `settings` is what the signal of that name showed before a restart; empty: the preset PRODUCT. `threads` 0: see
        `cores.budget`. Raises ValueError for an unknown backend.
        """
        super().__init__(clock)
        self._settings, region = remembered(settings)
        self._filtered = filtered
        self._backend, self._seed, self._nice = BackendChoice(backend), seed, nice
        self._threads = threads or budget(usable_cores()).training
        self._budget_bytes = budget_bytes
        self._weights_out = Publisher(weights_endpoint, budget_bytes=budget_bytes)
        self._inbox = Mailbox(budget_bytes, "drop_oldest")
        self._subscriber: Subscriber | None = None
        self._trainer = Trainer(self._settings, seed=seed)
        self._paused = False
        self._curve = Curve()
        self._steps_rate, self._pairs_rate = Rate(), Rate()
        self._kind: tuple[Any, ...] = ()
        self._published_at, self._kinds = 0.0, 0
        self._forget_scan()
        self.publish(weights_endpoint=self._weights_out.endpoint, region=region)
        self._show()

    def _forget_scan(self) -> None:
        self._header: Header | None = None
        self._window: ProjectionWindow | None = None
        self._engine: Reconstructor | None = None
        self._slices: Mapping[str, SliceGeometry] = {}
        self._sampler: PatchSampler | None = None
        self._sampled_with: tuple[Any, ...] = ()
        self._arrivals = Arrivals(SILENCE_S)
        self._steps_owed = 0  # of this round, on the pairs that it added
        self._problem = ""
        self._rejected_at, self._gaps = -1e9, False  # gaps: the window is full but its halves are not

    # ---- commands (any thread): done by the worker between two rounds

    def start(self) -> None:
        self._paused = False
        super().start()

    def pause(self) -> None:
        """Hold training; frames are still received."""
        self._paused = True

    def reset_network(self) -> None:
        """A new network, as the settings describe it."""

        def reset() -> None:
            self._trainer.reset_network(self._seed, self._settings.network)
            self._trainer.configure(self._settings)
            self._publish_weights()

        self.ask(reset)

    def rollback(self) -> None:
        """Back to the best stored weights before the present ones, and to their network.

        Raises RuntimeError if there are none.
        """

        def back() -> None:
            self._trainer.rollback()
            self._follow_network()

        self.ask(back)

    def save(self, path: Path) -> None:
        """Write the present weights; the file is complete or not there. Raises ValueError or OSError in words."""
        checkpoint = self.ask(self._trainer.save)
        with new_file(path.expanduser().absolute(), "Save", replace=True) as part:
            part.write_bytes(checkpoint)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote. Raises ValueError or OSError in words; nothing has changed then."""
        weights = from_checkpoint(existing(path, "Load", "a file that Save wrote"))

        def load() -> None:
            check_network(NetworkConfig.from_dict(weights.network))
            self._trainer.load(weights)
            self._follow_network()

        self.ask(load)

    def _follow_network(self) -> None:
        """The network that was just taken is that of the settings, too; its weights are published."""
        with self._lock:
            self._settings = self._settings.edited(network=self._trainer.settings.network)
            self._show()
        self._publish_weights()

    # ---- settings

    def accept(self, name: str, value: Any) -> None:
        if name == "region":
            check_region(value)
        self._settings = edited(self._settings, name, value)
        self._show(**{name: value})

    def _show(self, **news: Any) -> None:
        """Publish the settings one by one, and as the text that remembers them."""
        region = news.get("region", self.values["region"])
        self.publish(**shown(self._settings), settings=as_text(self._settings, region))

    # ---- the worker

    def open(self) -> None:
        torch.set_num_threads(self._threads)
        numba.set_num_threads(min(self._threads, numba.get_num_threads()))
        if self._nice and (refused := step_aside(self._nice)):
            self.trouble(f"{refused}: training may take time from the live path")
        self.set_state(State.INIT, "compiling the backprojector: the first start takes a while")
        self._backend.choose()
        self._use_backend()
        self._forget_scan()
        self._inbox = Mailbox(self._budget_bytes, "drop_oldest")
        self._subscriber = Subscriber(self._filtered, self._inbox, clock=self.clock)

    def _use_backend(self) -> None:
        self._backend.use(self._trainer.move)
        self.publish(backend=self._backend.name)
        if self._backend.why:
            self.trouble(self._backend.why)

    def wake(self) -> None:
        self._inbox.wake()

    def shut(self) -> None:
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None

    def close(self) -> None:
        super().close()
        self._weights_out.close()

    def turn(self) -> None:
        try:
            self._advance()
        except FAILURES as error:
            self._backend.fall_back(error)
            self._use_backend()
            self._window = None  # its views were kept where they can no longer be read: the next turn begins anew

    def _advance(self) -> None:
        if self._header is not None and self._window is None:
            self._begin(self._header)
        while (message := self._inbox.get(timeout=0.0)) is not None:
            self._take(message)
        self._follow_settings()
        window = self._ready()
        if window is None:
            if (message := self._inbox.get(timeout=0.1)) is not None:
                self._take(message)
            return
        self._round(window)

    def _follow_settings(self) -> None:
        """Train as the settings say; a network of another shape waits for reset_network()."""
        wanted = self._settings
        if wanted.network.shape != self._trainer.settings.network.shape:
            wanted = replace(wanted, network=self._trainer.settings.network)
        if self._trainer.settings != wanted:
            self._trainer.configure(wanted)

    def _waiting_shape(self) -> bool:
        return self._settings.network.shape != self._trainer.settings.network.shape

    def _take(self, message: Message) -> None:
        match message:
            case Header():
                self._begin(message)
            case View():
                self._slices = message.slices
            case Image():
                self._frame(message)
            case SeriesEnd():
                self._arrivals.ended = self._header is not None and message.series == self._header.series

    def _begin(self, header: Header) -> None:
        """A new series, filter or centre: the window fills anew; the network goes on. A repeat is a no-op."""
        if header == self._header and self._window is not None:
            return
        same = self._header is None or self._header.geometry == header.geometry
        slices = self._slices if same else {}  # those of another scanner may lie where this one sees nothing
        self._forget_scan()
        self._slices, self._header = slices, header
        span_rad = 2 * math.pi if header.full_turn else None
        self._engine = Reconstructor(header.geometry, self._backend.name)
        self._window = ProjectionWindow(header.geometry, span_rad, backend=self._backend.name)

    def _frame(self, image: Image) -> None:
        if self._header is None or self._window is None or image.series != self._header.series:
            return
        if not self._arrivals.add(image.frame, self._inbox.received_at):
            return
        try:
            with launching("samples", self._backend.device):
                self._window.add(image.frame, image.angle_rad, image.data, image.pose)
        except (WindowOverflowError, ValueError) as error:
            self._backend.raise_shortage(error)
            self.trouble(str(error))

    def _ready(self) -> Window | None:
        """The window to train on: full, no large gaps, fed in the last seconds (old pairs alone teach their noise)."""
        if self._paused or self._idle() or self._window is None:
            return None
        window = self._window.window()
        self._gaps = window is not None and not window.nearly_complete
        return None if self._gaps else window

    def _idle(self) -> bool:
        waiting = len(self._inbox) > 0  # a long turn is no silence
        return self._arrivals.ended or (self._arrivals.silent(self.clock()) and not waiting)

    def _round(self, window: Window) -> None:
        """New pairs, then some steps on the buffer.

        Frames and commands wait meanwhile: the steps of a large network are done in several turns.
        """
        if not self._steps_owed:
            self._add_pairs(window)
            self._steps_owed = STEPS_A_ROUND
        if not self._trainer.ready:
            self._steps_owed = 0
            return
        taken, started = 0, self.clock()
        while self._steps_owed and 0 <= self.clock() - started < LONGEST_ROUND_S:
            self._steps_owed -= 1
            rejected = self._trainer.steps_rejected
            self._trainer.step()
            if self._trainer.steps_rejected > rejected:
                self._rejected_at = self.clock()
            else:
                taken += 1
        self._steps_rate.add(self.clock(), taken)
        if self.clock() - self._published_at >= self.values["publish_every_s"]:
            self._publish_weights()

    def _add_pairs(self, window: Window) -> None:
        assert self._engine is not None
        settings = self._trainer.settings
        wanted = round(STEPS_A_ROUND * settings.batch_size / self.values["reuse_wanted"])
        try:
            poses = self._current_sampler().draw(max(wanted, 1), self._slices, window.matrices)
            size = settings.patch_size
            make = partial(self._engine.reconstruct_pairs, window, poses, (size, size))
            pairs = on("samples", self._backend.device, make)  # before the steps that are queued already
        except ValueError as error:  # no room in the region: the operator may widen it
            self._problem = str(error)
            self._stop.wait(0.5)
            return
        self._problem = ""
        self._trainer.add(pairs, self._kind_of_pairs(), scored=window.complete)
        self._pairs_rate.add(self.clock(), len(pairs))

    def _kind_of_pairs(self) -> int:
        """A number that grows when pairs become unlike the earlier ones: another scan, filter, dose, centre or zoom.

        (A change of filter, dose or centre begins a new filtered series.)
        """
        kind = (self._header, frozenset(geometry.pixel_mm for geometry in self._slices.values()))
        if kind != self._kind:
            self._kind = kind
            self._kinds += 1
        return self._kinds

    def _current_sampler(self) -> PatchSampler:
        assert self._header is not None
        size = self._trainer.settings.patch_size
        region = self.values["region"]
        wanted = (size, self.values["sampling"], tuple(region))
        if self._sampler is None or self._sampled_with != wanted:
            box = region if len(region) else None
            self._sampler = PatchSampler(self._header.geometry, size, wanted[1], box, seed=self._seed)
            self._sampled_with = wanted
        return self._sampler

    def _publish_weights(self) -> None:
        if self._trainer.scale is None:
            return
        weights = self._trainer.weights()
        self._weights_out.send(weights, retain="weights")
        self._published_at = self.clock()
        self.publish(weights_version=weights.version)

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        now, trainer = self.clock(), self._trainer
        accuracy, ratio = trainer.patch_accuracy, trainer.patch_ratio_of_means
        if accuracy is not None and self._ready() is not None:
            self._curve.add(now, accuracy)
        return {
            "patch_accuracy": np.nan if accuracy is None else accuracy,
            "patch_accuracy_ratio": np.nan if ratio is None else ratio,
            "accuracy_history": self._curve.array(),
            "loss": trainer.loss,
            "steps": trainer.steps,
            "steps_rejected": trainer.steps_rejected,
            "reuse": trainer.reuse,
            "buffer_fill": trainer.buffer_fill,
            "scale_per_mm": np.nan if trainer.scale is None else trainer.scale,
            "steps_per_s": self._steps_rate.per_second(now),
            "samples_per_s": self._pairs_rate.per_second(now),
            "fill": 0.0 if self._window is None else self._window.fill,
            "frames_received": self._arrivals.count.received,
            "frames_lost": self._arrivals.count.lost,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def health(self) -> tuple[State, str]:
        return self._backend.told(*self._condition(), self._trainer.trouble)

    def _condition(self) -> tuple[State, str]:
        now, subscriber = self.clock(), self._subscriber
        if self._header is None or subscriber is None:
            trouble = (subscriber.trouble if subscriber else "") or "connected, no data yet"
            return State.STANDBY, f"waiting for a reconstructor: {trouble}"
        if self._paused:
            return State.STANDBY, "paused: Start goes on"
        if self._waiting_shape():
            return State.ALARM, "the settings describe another network than the one in training: ResetNetwork takes it"
        if self._idle():
            return State.STANDBY, f"no new frames: {self._trainer.steps} steps done, weights stay"
        if self._problem:
            return State.ALARM, self._problem
        if 0 <= now - self._rejected_at < REJECTED_ALARM_S:
            return (
                State.ALARM,
                "steps are not finite and undone: lower the learning_rate, then Rollback or ResetNetwork",
            )
        if self._gaps:
            return State.ALARM, "views are missing in the window: no pairs are made from incomplete halves"
        if self._window is None or self._window.fill < 1:
            fill, obstacle = (self._window.fill, self._window.obstacle) if self._window else (0.0, "")
            text = f"window filling: {100 * fill:.0f} % {obstacle}".rstrip()
            return State.ALARM if obstacle else State.RUNNING, text
        return State.RUNNING, f"{self._steps_rate.per_second(now):.1f} steps/s, {self._trainer.steps} steps done"
