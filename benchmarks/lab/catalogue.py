"""The experiments by their names."""

from __future__ import annotations

from pathlib import Path

from benchmarks.lab.experiment import Experiment
from benchmarks.lab.real import real
from benchmarks.lab.simulated import simulated

SIMULATED = ("tablet-soap", "tablet-gel")
NAMES = (
    "htc-ta-180",
    "htc-ta-90",
    "htc-ta-60",
    "walnut-40",
    "dendrite-120",
    "dendrite-90",
    *SIMULATED,
)
"""Those that are compared. `load` knows more: other phantoms and numbers of views."""


def load(name: str, *, cache: Path | None = None) -> Experiment:
    """`htc-PHANTOM-VIEWS`, `walnut-VIEWS`, `dendrite-VIEWS` with so many views a rotation, or a simulated one.

    `cache` as in `simulated`. Raises ValueError for an unknown one, OSError where the data of a scan are absent.
    """
    if name in SIMULATED:
        return simulated(name, cache=cache)
    scan, _, views = name.rpartition("-")
    if not scan or not views.isdecimal() or int(views) < 2:
        raise ValueError(f"experiment: expected SCAN-VIEWS or one of {', '.join(SIMULATED)}, got {name!r}")
    return real(scan, int(views))
