"""The networks that AutoTune chooses from, and what is known of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import NetworkConfig

MENU = (
    NetworkConfig("CUSTOM", features=8, form="released"),
    NetworkConfig("CUSTOM", features=4, form="residual"),
    NetworkConfig("CUSTOM", features=8, form="residual"),
    NetworkConfig("CUSTOM", features=4, form="guided"),
    NetworkConfig("CUSTOM", features=8, form="guided"),
    NetworkConfig("CUSTOM", features=16, form="guided"),
    NetworkConfig("CUSTOM", features=4, depth=3, form="guided"),
    NetworkConfig("CUSTOM", features=8, depth=3, form="guided"),
)
"""From small to large."""


def name_of(network: NetworkConfig) -> str:
    """In words: form, features, and what it sees beside one slice."""
    beside = f", {network.depth} slices" if network.depth > 1 else ""
    return f"{network.form}, {network.features} features{beside}"


class Row(NamedTuple):
    """What is known of one network. `hz`: pictures of all slices a second; NaN: not measured. `accuracy`: on the pairs
    of the last judgement; NaN: none."""

    name: str
    hz: float
    accuracy: float
    steps: int
    verdict: str


@dataclass(eq=False)
class Candidate:
    """One network of the menu, and how it fares."""

    network: NetworkConfig
    hz: float = math.nan
    accuracy: float = math.nan
    steps: int = 0
    verdict: str = "to be timed"
    trainer: Trainer | None = None
    times_s: list[float] = field(default_factory=list[float])
    scores: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])  # of the present stretch

    @property
    def name(self) -> str:
        return name_of(self.network)

    @property
    def row(self) -> Row:
        return Row(self.name, self.hz, self.accuracy, self.steps, self.verdict)
