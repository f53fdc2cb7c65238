"""The trainer: filtered projections in, weights out, trained on pairs of patches from the newest window."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from tango_jit.cores import budget, step_aside, usable_cores
from tango_jit.geometry import SliceGeometry
from tango_jit.learn import motion, total_variation
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.weights import Weights, from_checkpoint
from tango_jit.recon.window import Window, WindowOverflowError
from tango_jit.services import container
from tango_jit.services import trainer_settings as wishes
from tango_jit.services.adaptation import Adaptation
from tango_jit.services.arrivals import Arrivals
from tango_jit.services.backends import FAILURES, BackendChoice
from tango_jit.services.buffering import Buffering
from tango_jit.services.files import existing, new_file
from tango_jit.services.following import Following
from tango_jit.services.pairs import Pairs, PairSource, SplitChoice, Where
from tango_jit.services.service import Clock, State
from tango_jit.services.steps import Steps
from tango_jit.services.trainer_condition import condition
from tango_jit.services.trainer_figures import Figures
from tango_jit.services.trainer_signals import SIGNALS
from tango_jit.services.warm_start import WarmStart
from tango_jit.streams import Header, Image, Mailbox, Message, Publisher, SeriesEnd, Subscriber, View

SILENCE_S = 4.0
STEPS_A_ROUND = 4


class TrainerService(Following):
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
        folder: Path | None = None,
        seed: int = 0,
        threads: int = 0,
        nice: int = 0,
        clock: Clock = time.time,
    ) -> None:
        """`filtered` gives the endpoint of the reconstructor's filtered projections (see `Subscriber`).

        `settings` is what the signal of that name showed before a restart; empty: the preset PRODUCT. `folder`: where
        weights are kept and taken up from after a crash; None: nowhere. `threads` 0: see `cores.budget`. Raises
        ValueError for an unknown backend.
        """
        super().__init__(clock)
        self._settings, remembered = wishes.remembered(settings)
        self._filtered = filtered
        self._backend, self._seed, self._nice = BackendChoice(backend), seed, nice
        self._threads = threads or budget(usable_cores()).training
        self._budget_bytes = budget_bytes
        self._weights_out = Publisher(weights_endpoint, budget_bytes=budget_bytes)
        self._inbox = Mailbox(budget_bytes, "drop_oldest")
        self._subscriber: Subscriber | None = None
        self._trainer = Trainer(self._settings, seed=seed)
        self._figures, self._adaptation, self._buffering = Figures(), Adaptation(), Buffering()
        self._warm = WarmStart(folder, self.trouble, clock)
        self._paused, self._published_at = False, 0.0
        self._forget_scan()
        self.publish(weights_endpoint=self._weights_out.endpoint, weights_folder=str(folder or ""))
        self._show(**remembered)

    def _forget_scan(self) -> None:
        self._header: Header | None = None
        self._source: PairSource | None = None
        self._choice = SplitChoice()
        self._slices: Mapping[str, SliceGeometry] = {}
        self._arrivals = Arrivals(SILENCE_S)
        self._steps = Steps()  # of this round, on the pairs that it added
        self._problem = ""
        self._gaps = False  # the window is full but its halves are not

    # ---- commands (any thread): done by the worker between two rounds

    def start(self) -> None:
        self._paused = False
        super().start()

    def pause(self) -> None:
        """Hold training; frames are still received."""
        self._paused = True

    def reset_network(self) -> None:
        """A new network, as the settings describe it; in this series nothing from before is taken up any more."""
        self.ask(self._reset_network)

    def _reset_network(self) -> None:
        self._trainer.reset_network(self._seed, self._settings.network)
        self._trainer.configure(self._settings)
        self._warm.reset("" if self._header is None else self._header.series)
        self._publish_weights()

    def rollback(self) -> None:
        """Back to the weights from before the last Load or takeover, else to the best stored ones before the present.

        Raises RuntimeError if there are none, ValueError where their network does not go with the settings; nothing has
        changed then.
        """

        def back() -> None:
            earlier = self._trainer.versions.earlier
            self._replace(earlier, f"version {earlier.version}", self._trainer.rollback)

        self.ask(back)

    def save(self, path: Path) -> None:
        """Write the present weights; the file is complete or not there. Raises ValueError or OSError in words."""
        checkpoint = self.ask(self._trainer.save)
        with new_file(path.expanduser().absolute(), "Save", replace=True) as part:
            part.write_bytes(checkpoint)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote. Raises ValueError or OSError in words; nothing has changed then."""
        weights = from_checkpoint(existing(path, "Load", "a file that Save wrote"))

        self.ask(lambda: self._replace(weights, str(path), lambda: self._trainer.load(weights)))

    def _replace(self, weights: Weights, origin: str, take: Callable[[], object]) -> None:
        """Have `take` train these weights from now on; their network is that of the settings, too. They are published.

        Raises ValueError, and changes nothing, where network and settings do not go together.
        """
        network = NetworkConfig.from_dict(weights.network)
        with self._lock:
            same = self._settings.network.depth == network.depth and network.frames == 1
            automatic = self.values["depth_auto"] and same
            settings = self._settings.edited(network=network)
            take()  # with the lock: nobody writes a setting in between
            self._settings = settings
            self._show(depth_auto=bool(automatic))
        self._warm.replaced(self._trainer, origin)
        self._publish_weights()

    # ---- the worker

    def open(self) -> None:
        numba.set_num_threads(min(self._threads, numba.get_num_threads()))
        torch.set_num_threads(self._threads)  # after numba, which starts its threads and sets those of PyTorch
        if self._nice and (refused := step_aside(self._nice)):
            self.trouble(f"{refused}: training may take time from the live path")
        self.set_state(State.INIT, "compiling the backprojector: the first start takes a while")
        total_variation.warm_up()
        container.warm_up()
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
        self._warm.keep()

    def close(self) -> None:
        super().close()
        self._warm.close()
        self._weights_out.close()

    def turn(self) -> None:
        try:
            self._advance()
        except FAILURES as error:
            self._backend.fall_back(error)
            self._use_backend()
            self._source = None  # its views were kept where they can no longer be read: the next turn begins anew

    def _advance(self) -> None:
        if self._header is not None and self._source is None:
            self._begin(self._header)
        while (message := self._inbox.get(timeout=0.0)) is not None:
            self._take(message)
        self._configure()
        window = self._ready()
        if window is None:
            if (message := self._inbox.get(timeout=0.1)) is not None:
                self._take(message)
            return
        self._round(window)

    def _configure(self) -> None:
        """Train with the settings that were written."""
        wanted = wishes.trainable(self._settings, self._trainer.settings)
        if self._trainer.settings != wanted:
            self._trainer.configure(wanted)

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
        if header == self._header and self._source is not None:
            return
        same, new = self._header is None or self._header.geometry == header.geometry, header != self._header
        slices = self._slices if same else {}  # those of another scanner may lie where this one sees nothing
        self._forget_scan()
        self._slices, self._header = slices, header
        self._source = PairSource(header, self._backend.name, self._seed)
        self._follow(header, self._backend.name, new=new)
        self._warm.open(self._trainer)

    def _renew(self, network: NetworkConfig) -> None:
        if self._trainer.steps:
            self.trouble(f"depth is {network.depth} for this scan: an untrained network begins")
        super()._renew(network)
        self._warm.renewed()

    def _frame(self, image: Image) -> None:
        if self._header is None or self._source is None or image.series != self._header.series:
            return
        if not self._arrivals.add(image.frame, self._inbox.received_at):
            return
        try:
            self._source.add(image)
        except WindowOverflowError as error:
            if self._source.keep_one_turn():
                self.trouble(f"one turn is kept, pairs will be its halves: {error}")
                return
            self._backend.raise_shortage(error)
            self.trouble(str(error))
        except ValueError as error:
            self.trouble(str(error))

    def _ready(self) -> Window | None:
        """The window to train on: full, no large gaps, fed in the last seconds (old pairs alone teach their noise)."""
        if self._paused or self._idle() or self._source is None:
            return None
        window = self._source.window.window()
        self._gaps = window is not None and not window.nearly_complete
        return None if self._gaps else window

    def _idle(self) -> bool:
        waiting = len(self._inbox) > 0  # a long turn is no silence
        return self._arrivals.ended or (self._arrivals.silent(self.clock()) and not waiting)

    def _round(self, window: Window) -> None:
        """New pairs, then some steps on the buffer.

        Frames and commands wait meanwhile: the steps of a large network are done in several turns.
        """
        if not self._steps.owed:
            self._contain(self._search.step(window, wanted=self.values["container_auto"]))
            self._add_pairs(window)
            self._steps.owed = STEPS_A_ROUND
        if not self._trainer.ready:
            self._steps.owed = 0
            return
        self._figures.steps.add(self.clock(), self._steps.take(self._trainer, self.clock))
        if self.clock() - self._published_at >= self.values["publish_every_s"]:
            self._publish_weights()

    def _new_pairs(self, number: int, window: Window, where: Where) -> Pairs:
        """So many from there, of the split that is set. Raises ValueError."""
        assert self._source is not None
        setting, now = self.values["split"], self.clock()
        tries = self._choice.tries(setting, now)
        split = "turns" if tries else self._choice.wanted(setting)
        pairs = self._source.make(number, window, split, where, self._slices)
        if not tries or pairs.split == "halves":  # of a trial: there is no turn before
            return pairs
        images = torch.as_tensor(pairs.images, dtype=torch.float32)
        self._choice.seen(number, number - motion.useful(images, self._trainer.settings.halo), now)
        if self._choice.wanted(setting) == "turns":
            return pairs
        return self._source.make(number, window, "halves", where, self._slices)

    def _add_pairs(self, window: Window) -> None:
        assert self._header is not None
        trainer, now = self._trainer, self.clock()
        wanted = round(STEPS_A_ROUND * trainer.settings.batch_size / self.values["reuse_wanted"])
        where = Where.of(self.values, trainer.settings, trainer.settings.network.depth)
        try:
            pairs = self._new_pairs(max(wanted, 1), window, where)
        except ValueError as error:  # no room in the region: the operator may widen it
            if self._left_out(error):
                return
            self._problem = str(error)
            self._stop.wait(0.5)
            return
        self._problem = ""
        settings = trainer.settings
        self.obey()  # making pairs and scoring them is the longest there is
        if trainer.settings != settings:  # these pairs are not for what was ordered
            return
        useless = trainer.pairs_moving + trainer.pairs_refused
        kind = self._adaptation.kind(self._header, self._slices)
        regime = kind, self._adaptation.count
        self._warm.offer(trainer, pairs, regime, self._header, self._slices, len(window.frames))
        scores = trainer.add(pairs.images, kind, scored=pairs.scored, split=pairs.split)
        self._warm.added(trainer)
        place = where.announced(self.values["container_auto"]), self._slices
        if jumped := self._adaptation.jumped(pairs, scores, now, trainer.settings.network, trainer.steps, place):
            trainer.jumped()
        self._resize(scores)
        self._added(pairs, kind, scores, jumped)
        if pairs.split == "turns":
            useless = trainer.pairs_moving + trainer.pairs_refused - useless
            self._choice.seen(len(pairs.images), useless, now)
        self._figures.pairs.add(now, len(pairs.images))

    def _added(self, pairs: Pairs, kind: int, scores: np.ndarray, jumped: bool) -> None:
        """The network has scored these pairs and will learn from them: for who compares it with others."""

    def _publish_weights(self) -> None:
        if self._trainer.scale is None:
            return
        weights = self._trainer.weights()
        self._weights_out.send(weights, retain="weights")
        self._published_at = self.clock()
        self.publish(weights_version=weights.version)
        self._warm.published(self._trainer, weights)

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        return {
            **self._figures.counters(self._trainer, self.clock(), at_work=self._ready() is not None),
            **self._warm.signals(),
            "fill": 0.0 if self._source is None else self._source.window.fill,
            "jumps": self._adaptation.count,
            "last_jump": self._adaptation.last,
            "frames_received": self._arrivals.count.received,
            "frames_lost": self._arrivals.count.lost,
        }

    def health(self) -> tuple[State, str]:
        troubles = filter(None, (self._trainer.trouble, self._warm.trouble))
        return self._backend.told(*self._condition(), "; ".join(troubles))

    def _condition(self) -> tuple[State, str]:
        now, subscriber = self.clock(), self._subscriber
        if self._header is None or subscriber is None:
            trouble = (subscriber.trouble if subscriber else "") or "connected, no data yet"
            return State.STANDBY, f"waiting for a reconstructor: {trouble}"
        if self._paused:
            return State.STANDBY, "paused: Start goes on"
        if self._settings.network.shape != self._trainer.settings.network.shape:
            return State.ALARM, "the settings describe another network than the one in training: ResetNetwork takes it"
        if self._idle():
            return State.STANDBY, f"no new frames: {self._trainer.steps} steps done, weights stay"
        scores = self._trainer.scores
        return condition(
            None if self._source is None else self._source.window,
            problem=self._problem,
            rejected_s=now - self._steps.rejected_at_s,
            gaps=self._gaps,
            jump=self._adaptation.last,
            jump_s=now - self._adaptation.at_s,
            accuracy=scores.accuracy,
            band=scores.band,
            least=self._trainer.settings.network.learns.least,
            rate=f"{self._figures.rate(self._trainer, now)}{self._warm.news()}",
        )
