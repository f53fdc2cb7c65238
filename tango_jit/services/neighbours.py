"""What a network needs beside a slice, neighbours or earlier moments: what says so while that does not come."""

from __future__ import annotations

import numpy as np

from tango_jit.learn import NetworkConfig, Result
from tango_jit.recon.pipeline import full_slice
from tango_jit.services.service import State
from tango_jit.stacks import StackError
from tango_jit.streams import Slice, Subscriber
from tango_jit.streams.wishes import depth_wish

PATIENCE_S = 10.0  # until more planes come: the reconstructor needs an update


class Neighbours:
    """The images of stacks, as the network in use sees them."""

    def __init__(self) -> None:
        self._missing = self._hint = ""
        self._since_s = 0.0

    def ask(self, network: NetworkConfig, slices: Subscriber) -> None:
        """Let the sender of the slices know how many planes this network needs."""
        slices.wish(depth_wish(network.depth))
        self._hint = ". The status of the reconstructor says why" if network.depth > 1 else ""

    def fit(self) -> None:
        """The last slice had enough of them."""
        self._missing = ""

    def missing(self, error: StackError, message: Slice, now_s: float) -> Result:
        """The last slice had not, and is shown as it is, as if there were no network."""
        if not self._missing:
            self._since_s = now_s
        self._missing = str(error)
        raw = full_slice(message.data)
        return Result(raw, raw, None, np.empty((0, 2)), False, 0)

    def told(self, now_s: float) -> tuple[State, str] | None:
        """State and status while they are missing; None: they are not."""
        if not self._missing:
            return None
        shown = f"{self._missing}: slices are shown as reconstructed"
        if now_s - self._since_s > PATIENCE_S:
            return State.ALARM, f"{shown}{self._hint}"
        return State.RUNNING, f"{shown} until more are sent"
