"""Which backend runs, where the one that was asked for cannot: never silently."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tango_jit.recon import backproject
from tango_jit.services.service import State

FALLBACK = "cpu"
SMALLER = {"cuda": "cuda_half"}
"""What backprojects in less memory, and is tried first where that ran out."""
FOR_NETWORKS = ("cpu", "cuda")
"""What there is for a service that only runs networks: the others differ in how they backproject."""
SHORTAGES = (MemoryError, torch.OutOfMemoryError)
"""Memory ran out: where it was estimated, and where PyTorch could not have more."""
FAILURES = (MemoryError, RuntimeError)
"""What a backend raises when it cannot go on; what it refuses in words (ValueError, TypeError) is none of it."""


def usable(asked: str) -> tuple[str, str]:
    """The backend to use, and why it is not the one that was asked for (empty: it is).

    Raises ValueError for an unknown backend.
    """
    why = backproject.obstacle(asked)
    return (FALLBACK, f"backend {asked}: {why}; {FALLBACK} is used instead") if why else (asked, "")


class BackendChoice:
    """The backend that was asked for as long as it works, and another from then on until `choose`.

    `backprojects` False: one of `FOR_NETWORKS`; only its device is used, so nothing is compiled. Raises ValueError for
    an unknown backend.
    """

    def __init__(self, asked: str, *, backprojects: bool = True) -> None:
        known = backproject.BACKENDS if backprojects else FOR_NETWORKS
        if asked not in known:
            raise ValueError(f"backend: expected one of {', '.join(known)}, got {asked!r}")
        self.asked, self._backprojects = asked, backprojects
        self.name = asked
        """The one in use."""
        self.why = ""
        """Why that is not the one that was asked for; empty: it is."""

    def choose(self) -> None:
        """Make the backend that was asked for ready, or else the other one. Takes some seconds."""
        self.name, self.why = usable(self.asked)
        try:
            self._warm_up()
        except FAILURES as error:
            self.fall_back(error)

    def fall_back(self, error: BaseException) -> None:
        """After a failure: go on with a backend that needs less memory if that ran out and there is one, else with
        `cpu`.

        Raises the error itself if it was `cpu` that failed.
        """
        if self.name == FALLBACK:
            raise error
        smaller = SMALLER if self._backprojects and isinstance(error, SHORTAGES) else {}
        other = smaller.get(self.name, FALLBACK)
        self.why = f"backend {self.name} failed: {type(error).__name__}: {error}; {other} is used instead"
        self.name = other
        try:
            self._warm_up()
        except FAILURES as again:
            self.fall_back(again)

    def use(self, move: Callable[[str], None]) -> None:
        """Have `move(device)` done for the one in use, or for the next one where that fails. Raises as `fall_back`."""
        try:
            move(self.device)
        except FAILURES as error:
            self.fall_back(error)
            self.use(move)

    def raise_shortage(self, error: BaseException) -> None:
        """Raises the MemoryError that caused `error`, if one did and there is another backend to go on with."""
        if isinstance(error.__cause__, MemoryError) and self.name != FALLBACK:
            raise error.__cause__

    @property
    def device(self) -> str:
        """Where the one in use computes, as torch names it: "cpu", "cuda"."""
        return backproject.device(self.name)

    def told(self, state: State, text: str, trouble: str = "") -> tuple[State, str]:
        """State and status of a service, with the reason where the backend is not the one that was asked for.

        `trouble`: what makes the one in use slower than it should be; empty: nothing.
        """
        reasons = [reason for reason in (self.why, trouble) if reason]
        if not reasons:
            return state, text
        return State.ALARM if state is State.RUNNING else state, "; ".join([text, *reasons])

    def _warm_up(self) -> None:
        if self._backprojects:
            backproject.get(self.name).warm_up()
