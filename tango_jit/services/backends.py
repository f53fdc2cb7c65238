"""Which backend runs, where the one that was asked for cannot: never silently."""

from __future__ import annotations

from tango_jit.recon import backproject


def usable(asked: str) -> tuple[str, str]:
    """The backend to use, and why it is not the one that was asked for (empty: it is).

    Raises ValueError for an unknown backend.
    """
    why = backproject.obstacle(asked)
    return ("cpu", f"backend {asked}: {why}; cpu is used instead") if why else (asked, "")
