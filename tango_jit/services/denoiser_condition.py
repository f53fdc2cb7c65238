"""How a denoiser is: its state, in the words of its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tango_jit.learn.tasks import TASKS
from tango_jit.services.service import State

STALE_S = 30.0  # weights of a trainer that should publish every second or so
STREAKY = 20.0  # percent of what the halves differ by, from which on a person should know


def condition(
    values: Mapping[str, Any],
    *,
    weights_age_s: float,
    rate_hz: float,
    silent: bool,
    helped: bool,
    missing: tuple[State, str] | None,
    trouble: str,
) -> tuple[State, str]:
    """State and status of one that runs.

    `values` of its signals; `silent`: no slices come; `helped`: this network was seen to help on this series, before
    that a guard is no reason to worry; `missing`: state and status while neighbours are, see `Neighbours`; `trouble`:
    of the streams.
    """
    if silent:
        return State.STANDBY, f"no slices: {trouble or 'connected, no data'}"
    if not values["enabled"]:
        return State.RUNNING, "not enabled: slices pass as reconstructed"
    if missing:
        return missing
    if not values["weights_version"] and values["frozen"]:
        return State.ALARM, "frozen before any weights came: the first ones will be kept, however little they know"
    if not values["weights_version"]:
        return State.RUNNING, f"no weights yet: slices pass as reconstructed {trouble}".rstrip()
    if values["guard_active"] and not helped:
        return State.RUNNING, f"learning: {TASKS[values['task']].simply} until the network helps"
    if values["guard_active"]:
        return State.ALARM, f"guard active: what the network makes is not surely better, {TASKS[values['task']].simply}"
    if not values["frozen"] and weights_age_s > STALE_S:
        return State.ALARM, f"weights are {weights_age_s:.0f} s old: is the trainer running? {trouble}".rstrip()
    notes = "; ".join([", frozen" if values["frozen"] else "", *doubts(values)])
    return State.RUNNING, f"{rate_hz:.1f} slices/s with weights {values['weights_version']}{notes}"


def doubts(values: Mapping[str, Any]) -> list[str]:
    """What there is to know before one believes the figures, in words."""
    found = []
    if values["accuracy"] + values["accuracy_band"] < TASKS[values["task"]].least:
        found.append(
            "accuracy below 0.5: what it is measured on differs by more than noise (streaks, motion), "
            "which quality counts as error"
        )
    if values["streaks"] >= STREAKY:
        found.append(f"{values['streaks']:.0f} % of what the halves differ by is streaks: few views")
    return found
