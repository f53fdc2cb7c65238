"""The four processes together: frames become denoised slices, and each process may come and go."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tango

from tests.events import Events, wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together

# Who can make new pictures while a process stands still or is dead: without a reconstructor nobody can.
PAINTERS = {"reconstructor": (), "trainer": ("reconstructor", "denoiser"), "denoiser": ("reconstructor",)}


@pytest.fixture(scope="module")
def running(system, recording):
    """The system with a replay in a loop."""
    system.replay(recording)
    system.await_picture("denoiser", beyond=100)
    return system


def test_every_frame_arrives_and_becomes_a_denoised_slice(running):
    wait_until(lambda: 0 < (running.denoiser.accuracy or 1) < 0.9, 60, "a network that helps")
    wait_until(lambda: not running.denoiser.guard_active, 60, "the end of the guard")
    number = running.denoiser.frame_number_xy
    running.await_picture(beyond=number + 120)
    assert running.reconstructor.frames_lost == 0
    assert running.reconstructor.frames_refused == 0
    assert running.detector.frames_sent >= number
    pictures = running.denoiser.read_attributes(["denoised_xy", "raw_xy", "frame_number_xy"])
    denoised, raw = pictures[0].value, pictures[1].value
    assert denoised.shape == raw.shape == tuple(running.reconstructor.shape_xy)
    water = np.s_[40:60, 128 - 60 : 128 - 40]
    assert 0.01 < raw[water].mean() < 0.03  # water of 0.02 / mm, or a ball in it
    assert not np.array_equal(denoised, raw)


def test_scalars_and_states_come_as_events(running):
    with Events(running.denoiser, "frame_number_xy") as numbers:
        first = numbers.wait()
        assert numbers.wait(lambda n: n > first) > first
    with Events(running.trainer, "steps") as steps:
        first = steps.wait()
        assert steps.wait(lambda n: n > first) > first
    with Events(running.denoiser, "accuracy", tango.EventType.ARCHIVE_EVENT) as accuracy:
        assert 0.3 < accuracy.wait(lambda value: value) < 1.5
    with Events(running.detector, "State") as states:
        running.detector.Pause()
        states.wait(lambda state: state == tango.DevState.STANDBY)
        running.detector.Start()
        states.wait(lambda state: state == tango.DevState.RUNNING)


def test_what_is_read_together_belongs_together(running):
    """Raw, denoised and number of one read are of one picture, also while new ones come fast."""
    update_every = running.reconstructor.update_every
    running.reconstructor.update_every = 5
    try:
        seen: dict[int, bytes] = {}
        deadline = time.monotonic() + 60
        while len(seen) < 5 and time.monotonic() < deadline:
            raw, number = running.reconstructor.read_attributes(["slice_xy", "frame_number_xy"])
            before = seen.setdefault(number.value, raw.value.tobytes())
            assert before == raw.value.tobytes(), f"two pictures of frame {number.value}"
        assert len(seen) >= 5
    finally:
        running.reconstructor.update_every = update_every


def test_a_moved_slice_appears_within_one_update(running):
    """Out of the glass (half height 24 mm) there is only air."""
    place = running.reconstructor.geometry_xy
    assert running.reconstructor.slice_xy.mean() > 0.005
    with Events(running.denoiser, "frame_number_xy") as numbers:
        numbers.wait()
        running.reconstructor.geometry_xy = np.add(place, [0, 0, 27, 0, 0, 0, 0, 0, 0])
        wait_until(lambda: abs(running.reconstructor.slice_xy.mean()) < 0.003, what="the slice above the glass")
        numbers.wait()
    running.reconstructor.geometry_xy = place
    wait_until(lambda: running.reconstructor.slice_xy.mean() > 0.005, what="the slice in the glass")


@pytest.mark.parametrize("member", ["trainer", "denoiser"])
def test_a_stopped_subscriber_holds_nobody_up_and_rejoins(running, member):
    sent, received = running.detector.frames_sent, running.trainer.frames_received
    with running.stopped(member):
        running.await_more_pictures(*PAINTERS[member], updates=4)
        meanwhile = running.reconstructor.frame_number_xy
        assert running.detector.frames_sent > sent
    running.await_picture("denoiser", beyond=meanwhile)
    steps = running.trainer.steps
    wait_until(lambda: running.trainer.steps > steps, 60, "training goes on")
    wait_until(lambda: running.trainer.frames_received > received + 100, 60, "newer frames at the trainer")
    running.await_more_pictures("reconstructor", "denoiser")
    assert running.reconstructor.frames_lost == 0


@pytest.mark.parametrize("member", PAINTERS)
def test_a_killed_process_rejoins_and_the_others_go_on(running, member):
    others = [m for m in ("detector", "reconstructor", "trainer", "denoiser") if m != member]
    pids = {m: running.deployment.processes()[m].pid for m in others}
    wait_until(lambda: running.denoiser.weights_version > 0, 60, "weights")
    running.kill(member)
    for other in others:
        assert running.devices[other].State() != tango.DevState.FAULT
    running.await_more_pictures(*PAINTERS[member])
    running.restart(member)
    wait_until(lambda: running.devices[member].running, 60, f"{member} running again")
    running.await_more_pictures("reconstructor", "denoiser")
    wait_until(lambda: running.denoiser.weights_version > 0, 60, "weights after the restart")
    steps = running.trainer.steps
    wait_until(lambda: running.trainer.steps > steps, 60, "training goes on")
    assert {m: running.deployment.processes()[m].pid for m in others} == pids


def test_a_killed_detector_begins_a_new_series(running, recording):
    running.kill("detector")
    wait_until(lambda: running.reconstructor.State() == tango.DevState.STANDBY, what="the reconstructor's silence")
    running.restart("detector")
    assert running.detector.recording == str(recording)  # remembered
    assert running.detector.loop
    series = running.reconstructor.series
    last = {member: running.devices[member].frame_number_xy for member in ("reconstructor", "denoiser")}
    running.detector.Start()
    wait_until(lambda: running.reconstructor.series != series, what="the new series")
    for member, number in last.items():  # the numbers begin anew
        wait_until(lambda m=member, n=number: running.devices[m].frame_number_xy != n, what=f"a picture at {member}")
    running.await_more_pictures("reconstructor", "denoiser")
    assert running.reconstructor.frames_lost == 0


def test_an_added_slice_survives_a_kill(running):
    running.reconstructor.AddSlice("mine")
    running.reconstructor.write_attribute("shape_mine", [64, 96])
    running.reconstructor.MoveSlice(([-6.0, -4.0, 1.0, 12.0, 0.0, 0.0, 0.0, 8.0, 1.0], ["mine"]))
    running.kill("reconstructor")
    seen = running.denoiser.frame_number_xy
    running.restart("reconstructor")
    running.await_picture("reconstructor", "mine")
    running.await_picture("denoiser", beyond=seen)
    assert running.reconstructor.slice_mine.shape == (64, 96)
    np.testing.assert_allclose(running.reconstructor.geometry_mine, [-6, -4, 1, 12, 0, 0, 0, 8, 1])
    # One of its first place may have come before it was given this shape.
    wait_until(lambda: np.shape(running.denoiser.denoised_mine) == (64, 96), what="its denoised picture")  # first None
    running.reconstructor.RemoveSlice("mine")
    wait_until(lambda: "denoised_mine" not in running.denoiser.get_attribute_list(), what="removal at the denoiser")
    assert "slice_mine" not in running.reconstructor.get_attribute_list()


def test_init_in_mid_stream_is_safe(running):
    for member in ("denoiser", "trainer", "reconstructor"):
        running.devices[member].set_timeout_millis(20_000)  # it waits for the end of what is being done
        running.devices[member].Init()
        wait_until(lambda m=member: running.devices[m].running, 60, f"{member} after Init")
    running.await_picture("reconstructor")
    running.await_picture("denoiser")
    running.detector.Init()
    assert running.detector.State() == tango.DevState.STANDBY  # it waits for Start
    before = running.denoiser.frame_number_xy
    running.detector.Start()
    wait_until(lambda: running.denoiser.frame_number_xy not in (-1, before), 60, "pictures of the new series")
    assert running.denoiser.denoised_xy.shape == running.denoiser.raw_xy.shape


def test_find_center_finds_the_centre(running):
    wait_until(lambda: running.reconstructor.fill == 1, what="a full window")
    running.reconstructor.FindCenter()
    wait_until(lambda: running.reconstructor.progress == 100, 90, "the search")
    assert abs(running.reconstructor.center_found_px) < 0.5
