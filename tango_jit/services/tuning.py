"""The trainer that can also look for the best network there is for a wanted rate, while the present one goes on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tango_jit.cores import budget, usable_cores
from tango_jit.learn.autotune import AutoTune, as_seen
from tango_jit.learn.menu import MENU
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.weights import Weights
from tango_jit.recon.window import Window
from tango_jit.services.pairs import Pairs, Where
from tango_jit.services.service import State
from tango_jit.services.steps import LONGEST_ROUND_S
from tango_jit.services.trainer import STEPS_A_ROUND, TrainerService
from tango_jit.signals import Signal, setting
from tango_jit.streams import Header

DEEPEST = 63  # planes of a stack
TUNING = (
    setting(
        "wanted_hz",
        "float",
        "How often a second the network is to be able to denoise all slices on display, with both passes where it "
        "learns from halves: AutoTune looks for one.",
        unit="Hz",
        minimum=0.01,
        maximum=1000,
        default=10.0,
        format="%6.2f",
    ),
    Signal("tuning_progress", "float", "Progress of AutoTune.", unit="%", format="%5.1f", default=0.0),
    Signal(
        "tuning_verdict",
        "str",
        "Which network AutoTune chose and why, or why it ended without; empty: it was never asked, or is at work.",
    ),
    Signal(
        "tuning_table",
        "str",
        "The networks that AutoTune compares, the present one first: name, hz (pictures of all slices, each of one "
        "pass, or of two where halves are learned from), accuracy (on the same new pairs), steps, verdict, as JSON; "
        "null: not known.",
        level="expert",
    ),
)


class TuningTrainerService(TrainerService):
    """Trains, and compares networks when asked to: each round of the present one is one of all."""

    SIGNALS = (*TrainerService.SIGNALS, *TUNING)

    def __init__(
        self,
        filtered: Callable[[], str | None],
        *,
        timer: Callable[[], float] = time.perf_counter,
        menu: Sequence[NetworkConfig] = MENU,
        **options: Any,
    ) -> None:
        """`timer` (s) times passes through the networks of the `menu`; the rest as for `TrainerService`."""
        self._tune: AutoTune | None = None
        self._timer, self._menu = timer, menu
        self._deep: Any = None  # the new pairs, with as many planes as any network in training sees
        super().__init__(filtered, **options)

    # ---- commands (any thread)

    def auto_tune(self) -> None:
        """Compare the networks of the menu, on the pairs of this stream; the best that is fast enough for `wanted_hz`
        takes over if it is better. Raises ValueError before there are frames and slices, if it is at it, and where the
        present network sees several moments."""
        self.ask(self._begin_tuning)

    def stop_auto_tune(self) -> None:
        """Give up the comparison; the present network stays. Harmless if there is none."""
        self.ask(lambda: self._give_up("StopAutoTune"))

    def _reset_network(self) -> None:
        super()._reset_network()
        self._give_up("ResetNetwork has changed the present network")

    # ---- the worker

    def _begin_tuning(self) -> None:
        if self._tune is not None:
            raise ValueError("AutoTune: expected none at work, StopAutoTune gives it up")
        if self._header is None or not self._slices:
            raise ValueError("AutoTune: expected a scan and slices on display, none have come yet")
        if self._trainer.settings.network.frames > 1:
            raise ValueError(
                "AutoTune: expected a network of one moment, as those of the menu are, got "
                f"frames {self._trainer.settings.network.frames}"
            )
        self._configure()  # what was written just before is what is compared
        self._tune = AutoTune(
            self._trainer.settings,
            self.values["wanted_hz"],
            [geometry.shape for geometry in self._slices.values()],
            self._timer,
            menu=self._menu,
            deepest=1 if self._header.geometry.rows == 1 else DEEPEST,
            seed=self._seed,
            device=self._backend.device,
            threads=budget(usable_cores()).denoising,
            split=self._trainer.split,
        )
        self.publish(tuning_verdict="", **self._tuning(self._tune))

    def _round(self, window: Window) -> None:
        tune = self._tune
        if tune is not None and not self._comparable(tune):
            tune = self._tune
        if tune is None or self._steps.owed or not tune.busy:
            super()._round(window)
            return
        started = self.clock()
        while tune.busy and 0 <= self.clock() - started < LONGEST_ROUND_S:
            tune.work()
        if tune.verdict:
            self._end_tuning(tune)

    def _comparable(self, tune: AutoTune) -> bool:
        """Are settings and slices as they were? If not it is given up, or begins anew."""
        if tune.settings != self._trainer.settings:
            self._give_up("the settings of the trainer have changed")
            return False
        if self._slices and tune.shapes != tuple(geometry.shape for geometry in self._slices.values()):
            why = "the slices have changed in size or number"
        elif tune.split != self._trainer.split:
            why = f"pairs are {self._trainer.split} now, so that a picture takes another time"
        else:
            return True
        self._tune = None
        self._begin_tuning()
        self.trouble(f"AutoTune began anew: {why}")
        return False

    def _new_pairs(self, number: int, window: Window, where: Where) -> Pairs:
        self._deep, depth = None, where.depth
        if self._tune is not None and self._tune.training:
            try:
                pairs = super()._new_pairs(number, window, where._replace(depth=max(depth, self._tune.depth)))
            except ValueError as error:
                if self._tune.depth <= depth:
                    raise
                self._give_up(f"there are no stacks for the networks that see {self._tune.depth} slices: {error}")
            else:
                self._deep = torch.as_tensor(pairs.images)
                return pairs._replace(images=as_seen(self._deep, depth))
        return super()._new_pairs(number, window, where)

    def _added(self, pairs: Pairs, kind: int, scores: np.ndarray, jumped: bool) -> None:
        if self._tune is None:
            return
        if jumped:
            self._tune.jumped()
        elif self._deep is not None:
            self._tune.add(self._deep, scores, STEPS_A_ROUND, kind, scored=pairs.scored, split=pairs.split)

    def _resize(self, scores: np.ndarray) -> None:
        """Not while networks are compared: all of them have the same buffer."""
        if self._tune is None:
            super()._resize(scores)

    def _end_tuning(self, tune: AutoTune) -> None:
        """The winner takes over with its weights, if the settings that were written meanwhile allow it."""
        self._tune = self._deep = None
        verdict = tune.verdict
        if tune.winner is not None:
            weights = tune.winner.weights()
            try:
                self._replace(weights, "AutoTune", lambda: self._trainer.load(weights))
                self._steps.owed = 0
            except ValueError as error:
                verdict = f"given up, the present network stays: the settings refuse the best one: {error}. {verdict}"
        self.publish(tuning_verdict=verdict, **self._tuning(tune))

    def _give_up(self, why: str) -> None:
        if self._tune is not None:
            self._tune = self._deep = None
            self.publish(tuning_verdict=f"given up, the present network stays: {why}", tuning_progress=0.0)

    # ---- what ends it

    def _replace(self, weights: Weights, origin: str, take: Callable[[], object]) -> None:
        super()._replace(weights, origin, take)
        self._give_up(f"another network was taken: {origin}")

    def _begin(self, header: Header) -> None:
        if header.geometry.rows == 1 and self._tune is not None and self._tune.depth > 1:
            self._give_up("the detector has one row now, and sees no neighbouring slices")
        super()._begin(header)

    def _use_backend(self) -> None:
        self._give_up("the backend has changed")
        super()._use_backend()

    def shut(self) -> None:
        self._give_up("the trainer was stopped")
        super().shut()

    # ---- how it is

    def counters(self) -> dict[str, Any]:
        return super().counters() | ({} if self._tune is None else self._tuning(self._tune))

    @staticmethod
    def _tuning(tune: AutoTune) -> dict[str, Any]:
        rows = [
            {name: None if isinstance(figure, float) and not math.isfinite(figure) else figure for name, figure in row}
            for row in (tuple(row._asdict().items()) for row in tune.rows)
        ]
        return {"tuning_table": json.dumps(rows), "tuning_progress": 100 * tune.progress}

    def _condition(self) -> tuple[State, str]:
        state, text = super()._condition()
        if self._tune is None:
            return state, text
        does = "compares networks" if state is State.RUNNING else "waits"
        return state, f"{text}; AutoTune {does}: {100 * self._tune.progress:.0f} %"
