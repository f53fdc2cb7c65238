"""One state and one sentence of many."""

import pytest

from tango_jit.services.service import State
from tango_jit.services.supervisor import Seen, sum_up

WELL = {
    "detector": Seen(State.RUNNING, "replaying a.nxs"),
    "reconstructor": Seen(State.RUNNING, "2.0 slices/s"),
    "trainer": Seen(State.RUNNING, "14 steps/s"),
    "denoiser": Seen(State.RUNNING, "2.0 slices/s with weights 9"),
}


def test_while_all_run_the_sentence_is_that_of_the_pictures():
    assert sum_up(WELL) == (State.RUNNING, "denoiser: 2.0 slices/s with weights 9")


def test_before_the_first_look_nothing_is_said_of_anybody():
    assert sum_up({}) == (State.INIT, "looking for the devices")


@pytest.mark.parametrize("state", [State.FAULT, State.ALARM, State.INIT])
def test_one_that_is_not_well_is_the_state_of_all_and_named_first(state):
    seen = WELL | {"trainer": Seen(state, "too hot")}
    assert sum_up(seen) == (state, "trainer: too hot; denoiser: 2.0 slices/s with weights 9")


def test_one_that_is_gone_is_a_fault_and_comes_before_alarms():
    seen = WELL | {"reconstructor": Seen(State.ALARM, "frames lost"), "denoiser": Seen(None, "it does not answer")}
    state, status = sum_up(seen)
    assert state is State.FAULT
    assert status == "denoiser: it does not answer; reconstructor: frames lost; trainer: 14 steps/s"


def test_one_that_rests_while_others_run_is_told():
    seen = WELL | {"trainer": Seen(State.STANDBY, "paused: Start goes on")}
    assert sum_up(seen) == (
        State.RUNNING,
        "trainer: paused: Start goes on; denoiser: 2.0 slices/s with weights 9",
    )


def test_all_rest_only_together():
    seen = {name: Seen(State.STANDBY, "no data") for name in WELL}
    state, status = sum_up(seen)
    assert state is State.STANDBY
    assert status == "; ".join(f"{name}: no data" for name in WELL)
