"""Which backend runs, where the one that was asked for cannot: never silently."""

from __future__ import annotations

from tango_jit.recon import backproject

FALLBACK = "cpu"
FAILURES = (MemoryError, RuntimeError)
"""What a backend raises when it cannot go on; what it refuses in words (ValueError, TypeError) is none of it."""


def usable(asked: str) -> tuple[str, str]:
    """The backend to use, and why it is not the one that was asked for (empty: it is).

    Raises ValueError for an unknown backend.
    """
    why = backproject.obstacle(asked)
    return (FALLBACK, f"backend {asked}: {why}; {FALLBACK} is used instead") if why else (asked, "")


class BackendChoice:
    """The backend that was asked for as long as it works, and `cpu` from then on until `choose`.

    Raises ValueError for an unknown backend.
    """

    def __init__(self, asked: str) -> None:
        if asked not in backproject.BACKENDS:
            raise ValueError(f"backend: expected one of {', '.join(backproject.BACKENDS)}, got {asked!r}")
        self.asked = asked
        self.name = asked
        """The one in use."""
        self.why = ""
        """Why that is not the one that was asked for; empty: it is."""

    def choose(self) -> None:
        """Make the backend that was asked for ready, or else the other one. Takes some seconds."""
        self.name, self.why = usable(self.asked)
        try:
            backproject.get(self.name).warm_up()
        except FAILURES as error:
            self.fall_back(error)

    def fall_back(self, error: BaseException) -> None:
        """After a failure: go on with `cpu`. Raises the error itself if it was that one that failed."""
        if self.name == FALLBACK:
            raise error
        self.why = f"backend {self.name} failed: {type(error).__name__}: {error}; {FALLBACK} is used instead"
        self.name = FALLBACK
        backproject.get(FALLBACK).warm_up()
