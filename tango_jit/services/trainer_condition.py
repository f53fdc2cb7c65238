"""What the trainer's state is while frames come, and the sentence that explains it."""

from __future__ import annotations

from tango_jit.recon.window import ProjectionWindow
from tango_jit.services.service import State

REJECTED_ALARM_S, JUMP_TOLD_S = 10.0, 20.0


def condition(
    window: ProjectionWindow | None,
    *,
    problem: str,
    rejected_s: float,
    gaps: bool,
    jump: str,
    jump_s: float,
    accuracy: float | None,
    band: float | None,
    least: float,
    rate: str,
) -> tuple[State, str]:
    """State and status.

    `problem`: why there are no pairs; `rejected_s`: how long ago a step was undone; `gaps`: the halves of the window
    miss views; `jump`, `jump_s`: what jumped last, how long ago; `accuracy`, `band`: of the last pairs and how sure it
    is; `least`: that of what knows the object (see `Task`); `rate`: what there is to say where nothing is wrong.
    """
    if problem:
        return State.ALARM, problem
    if 0 <= rejected_s < REJECTED_ALARM_S:
        return State.ALARM, "steps are not finite and undone: lower the learning_rate, then Rollback or ResetNetwork"
    if gaps:
        return State.ALARM, "views are missing in the window: no pairs are made from incomplete halves"
    if window is None or window.fill < 1:
        fill, obstacle = (0.0, "") if window is None else (window.fill, window.obstacle)
        return State.ALARM if obstacle else State.RUNNING, f"window filling: {100 * fill:.0f} % {obstacle}".rstrip()
    if window.spans == 1:
        return State.ALARM, f"two turns of views do not fit in memory, pairs are the halves of one: {rate}"
    if jump and 0 <= jump_s < JUMP_TOLD_S:
        return State.RUNNING, f"{rate}; {jump_s:.0f} s ago {jump}: training goes on from the weights that fit best"
    if accuracy is not None and band is not None and accuracy + band < least:
        return State.RUNNING, f"{rate}; accuracy surely below {least}: differences that are no noise are learned"
    return State.RUNNING, rate
