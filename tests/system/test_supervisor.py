"""Four devices as one: looked at, started and stopped through the fifth."""

from __future__ import annotations

import json

import pytest
import tango

from tests.events import Events, ordered, wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together
MEMBERS = ("detector", "reconstructor", "trainer", "denoiser", "recorder")
WORKERS = MEMBERS[:-1]  # a recorder at rest is not recording


def states(running) -> set[str]:
    return {str(running.devices[member].State()) for member in WORKERS}


def shows(running, state: tango.DevState, *words: str) -> bool:
    supervisor = running.supervisor
    return supervisor.State() == state and all(word in supervisor.Status() for word in words)


@pytest.fixture(scope="module")
def running(system, recording):
    wait_until(lambda: shows(system, tango.DevState.STANDBY, "reconstructor: waiting for a detector"), what="rest")
    system.replay(recording)
    system.await_picture("denoiser")
    return system


def test_it_says_what_each_of_them_says(running):
    wait_until(lambda: shows(running, tango.DevState.RUNNING, "denoiser: "), 60, "all at work")

    def agree() -> bool:
        members = json.loads(running.supervisor.members)
        assert list(members) == list(MEMBERS)
        assert members["trainer"]["device"] == running.deployment.devices["trainer"]
        return all(members[m]["state"] == str(running.devices[m].State()) for m in MEMBERS)

    wait_until(agree, what="the states of the devices")


def test_stop_rests_all_of_them_and_start_has_all_of_them_work(running):
    with Events(running.supervisor, "State") as events:
        running.supervisor.Stop()
        events.wait(lambda state: state == tango.DevState.STANDBY)
        wait_until(lambda: states(running) == {"STANDBY"}, what="everybody's rest")
        number = running.denoiser.frame_number_xy
        running.supervisor.Start()
        events.wait(lambda state: state == tango.DevState.RUNNING, 60)
    wait_until(lambda: running.denoiser.frame_number_xy != number, 60, "new pictures")
    steps = running.trainer.steps
    wait_until(lambda: running.trainer.steps > steps, 60, "training")
    series = running.reconstructor.frames_received
    running.supervisor.Start()  # to those that work it is nothing new
    wait_until(lambda: running.reconstructor.frames_received > series, what="frames of the same series")
    assert states(running) == {"RUNNING"}


def test_what_one_refuses_is_told_and_another_start_has_it_try_again(running, recording):
    running.supervisor.Stop()
    wait_until(lambda: states(running) == {"STANDBY"}, what="everybody's rest")
    gone = recording.with_name("gone.nxs")
    gone.write_bytes(recording.read_bytes())
    running.detector.recording = str(gone)
    gone.unlink()
    with pytest.raises(tango.DevFailed, match=r"Start: detector: .*gone\.nxs: expected a recording"):
        running.supervisor.Start()
    running.detector.recording = str(recording)
    running.supervisor.Start()
    wait_until(lambda: shows(running, tango.DevState.RUNNING), 60, "all at work")
    running.await_more_pictures("denoiser")


def test_one_that_is_gone_is_a_fault_until_it_is_back(running):
    running.kill("trainer")
    name = running.deployment.devices["trainer"]
    wait_until(lambda: shows(running, tango.DevState.FAULT, f"trainer: {name} does not answer"), what="the fault")
    assert json.loads(running.supervisor.members)["trainer"]["state"] is None
    running.await_more_pictures("denoiser")
    with pytest.raises(tango.DevFailed, match=f"Start: trainer: {name} does not answer"):
        running.supervisor.Start()
    running.restart("trainer")
    wait_until(lambda: shows(running, tango.DevState.RUNNING), 90, "all at work again")


def test_one_that_hangs_keeps_nobody_waiting_for_long(running):
    with running.stopped("denoiser"):
        wait_until(lambda: shows(running, tango.DevState.FAULT, "denoiser: "), what="the fault")
        with pytest.raises(tango.DevFailed, match="Stop: denoiser: "):
            running.supervisor.Stop()  # within the 3 s of a client
        wait_until(lambda: running.detector.State() == tango.DevState.STANDBY, what="the detector's rest")
    wait_until(lambda: shows(running, tango.DevState.STANDBY), 60, "the denoiser back, and everybody's rest")
    ordered(running.supervisor.Start)
    wait_until(lambda: shows(running, tango.DevState.RUNNING), 60, "all at work")


def test_without_it_the_others_work(running):
    running.kill("supervisor")
    running.await_more_pictures("denoiser")
    running.restart("supervisor")
    wait_until(lambda: shows(running, tango.DevState.RUNNING), 30, "what it sees")
