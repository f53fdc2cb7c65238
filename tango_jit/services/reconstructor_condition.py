"""What the reconstructor's state is, and the sentence that explains it."""

from __future__ import annotations

from collections.abc import Mapping

from tango_jit.recon.pipeline import Pipeline
from tango_jit.services.arrivals import Arrivals
from tango_jit.services.service import State

LOSS_ALARM_S = 10.0
BEHIND_S = 2.0
REPLACED = 0.1  # part of a frame: dead pixels of a detector are far fewer


def condition(
    series: str,
    arrivals: Arrivals,
    problems: Mapping[str, str],
    pipeline: Pipeline | None,
    *,
    waiting: int,
    lossy: bool,
    now_s: float,
) -> tuple[State, str] | None:
    """Of a series whose header has come; None: slices are made, nothing is wrong.

    `problems`: what cannot be done, see `Updates`; `waiting`: frames that wait; `lossy`: frames were lost lately.
    """
    if arrivals.ended:
        return State.STANDBY, f"series {series} ended after {arrivals.count.received} frames"
    if problems:
        return State.ALARM, "; ".join(f"{what}: {why}" for what, why in problems.items())
    if not arrivals.at_s:
        return State.STANDBY, f"series {series}: no frame yet"
    behind_s = now_s - arrivals.at_s
    if waiting and behind_s > BEHIND_S:
        behind = f"{waiting} frames and {behind_s:.0f} s behind"
        return State.ALARM, f"{behind}: fewer or smaller slices, or a larger update_every"
    fill = pipeline.fill if pipeline else 0.0
    if arrivals.silent(now_s):
        filled = "" if fill == 1 else f", window {100 * fill:.0f} % full"
        return State.STANDBY, f"series {series}: no frame for {behind_s:.0f} s{filled}"
    if lossy:
        return State.ALARM, f"{arrivals.count.lost} frames lost"
    if arrivals.refused_within(LOSS_ALARM_S, now_s):
        return State.ALARM, f"{arrivals.refused} frames refused: {arrivals.why}"
    if fill < 1:
        obstacle = pipeline.obstacle if pipeline else ""
        text = f"window filling: {100 * fill:.0f} % {obstacle}".rstrip()
        return State.ALARM if obstacle else State.RUNNING, text
    if pipeline and pipeline.replaced > REPLACED:
        made_up = f"{100 * pipeline.replaced:.0f} % of the pixels are dead, saturated or no numbers"
        return State.ALARM, f"{made_up}, what is beside them stands in: check exposure, beam and flat field"
    return None
