"""The trainer and the denoiser as an operator steers them, on the running system."""

from __future__ import annotations

import json
import os
from typing import Any

import h5py
import numpy as np
import pytest
import tango

from tests.events import ordered, wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together


@pytest.fixture(scope="module")
def running(system, recording):
    system.trainer.set_timeout_millis(30_000)  # orders wait for a step, where other tests have the cores
    system.replay(recording)
    system.await_picture("denoiser")
    wait_until(lambda: system.trainer.steps > 10, 60, "training")
    return system


def network(trainer) -> str:
    return list(trainer.get_attribute_config("network").enum_labels)[trainer.read_attribute("network").value]


def test_what_the_trainer_decides_by_itself_is_kept(running):
    """No client had a part in it: the scan has neighbouring slices."""
    database = tango.Database(*running.host.split(":"))

    def kept() -> str:
        return database.get_device_property(running.deployment.devices["trainer"], "Settings")["Settings"][0]

    wait_until(lambda: json.loads(kept())["training"]["network"]["depth"] == 3, what="the depth in the database")


def test_a_preset_of_another_shape_waits_for_reset(running):
    trainer = running.trainer
    assert network(trainer) == "PRODUCT"
    trainer.network = "PAPER"
    assert (trainer.patch_size, trainer.batch_size, trainer.learning_rate) == (20, 32, 1e-4)
    wait_until(lambda: trainer.State() == tango.DevState.ALARM, what="the reminder")
    assert "ResetNetwork" in trainer.Status()
    assert trainer.parameters == 62931
    ordered(trainer.ResetNetwork)
    wait_until(lambda: trainer.State() == tango.DevState.RUNNING, what="training the new network")
    wait_until(lambda: trainer.steps > 5, 60, "steps of the new network")
    version = running.denoiser.weights_version
    wait_until(lambda: running.denoiser.weights_version > version, 60, "its weights at the denoiser")
    trainer.network = "PRODUCT"
    ordered(trainer.ResetNetwork)
    wait_until(lambda: trainer.steps > 5, 60, "steps of the first network again")


def test_edited_settings_are_custom_and_survive_a_kill(running):
    trainer = running.trainer
    trainer.learning_rate = 5e-4
    trainer.buffer_size = 200
    trainer.region = [-15.0, -15.0, -10.0, 15.0, 15.0, 10.0]
    assert network(trainer) == "CUSTOM"
    running.kill("trainer")
    running.await_more_pictures("reconstructor", "denoiser")
    running.restart("trainer")
    assert network(trainer) == "CUSTOM"
    assert (trainer.learning_rate, trainer.buffer_size) == (5e-4, 200)
    np.testing.assert_array_equal(trainer.region, [-15, -15, -10, 15, 15, 10])
    wait_until(lambda: trainer.steps > 0, 60, "training")
    running.await_more_pictures("reconstructor", "denoiser")
    trainer.network = "PRODUCT"
    assert trainer.buffer_size != 200


def test_a_region_without_room_is_told_and_can_be_mended(running):
    trainer = running.trainer
    trainer.region = [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]
    wait_until(lambda: "expected room" in trainer.Status(), 60, "the alarm")
    assert trainer.State() == tango.DevState.ALARM
    with pytest.raises(tango.DevFailed, match="expected 6 numbers"):
        trainer.region = [1.0, 2.0]
    trainer.region = [-20.0, -20.0, -15.0, 20.0, 20.0, 15.0]
    wait_until(lambda: "expected room" not in trainer.Status(), 60, "training again")


def test_an_even_number_of_moments_is_refused_in_words(running):
    with pytest.raises(tango.DevFailed, match="frames: expected an odd number"):
        running.trainer.frames = 2
    assert running.trainer.frames == 1


def test_depth_follows_the_scan_or_the_operator_and_needs_nothing_but_the_trainer(running):
    """From there the wish goes to the denoiser, and from there to the reconstructor."""
    trainer, denoiser, reconstructor = running.trainer, running.denoiser, running.reconstructor
    assert trainer.depth_auto
    assert trainer.depth == 3
    wait_until(lambda: reconstructor.depth == 3, 60, "stacks")
    parameters = trainer.parameters
    trainer.depth = 1
    assert not trainer.depth_auto
    assert trainer.parameters < parameters
    ordered(trainer.ResetNetwork)
    wait_until(lambda: reconstructor.depth == 1, 60, "single slices")
    wait_until(lambda: trainer.steps > 5, 60, "training")
    trainer.depth_auto = True
    assert trainer.depth == 3
    ordered(trainer.ResetNetwork)
    wait_until(lambda: reconstructor.depth == 3, 60, "stacks again")
    wait_until(lambda: trainer.steps > 5, 60, "training")
    version = denoiser.weights_version
    wait_until(lambda: denoiser.weights_version > version, 60, "slices through the deep network")
    running.await_more_pictures("denoiser")
    assert denoiser.denoised_xy.shape == denoiser.raw_xy.shape


def test_another_task_reaches_the_pictures_and_a_preset_ends_it(running):
    trainer, denoiser = running.trainer, running.denoiser
    trainer.task = "SEGMENT"
    ordered(trainer.ResetNetwork)
    wait_until(lambda: "probability" in denoiser.shows, 90, "weights that segment")
    running.await_more_pictures("denoiser")
    picture, raw = denoiser.read_attributes(["denoised_xy", "raw_xy"])
    assert 0 <= picture.value.min() <= picture.value.max() <= 1
    assert raw.value.max() < 1  # attenuation of some 0.03/mm
    assert denoiser.quality is None  # no value
    trainer.network = "PRODUCT"
    ordered(trainer.ResetNetwork)
    wait_until(lambda: "attenuation" in denoiser.shows, 90, "weights that denoise")


def test_several_moments_reach_the_pictures_and_a_preset_ends_them(running):
    trainer, denoiser = running.trainer, running.denoiser
    trainer.frames = 3
    assert trainer.depth == 1  # neighbours or moments
    ordered(trainer.ResetNetwork)
    wait_until(lambda: trainer.steps > 5, 60, "training")
    version = denoiser.weights_version
    wait_until(lambda: denoiser.weights_version > version, 60, "slices through the network of three moments")
    running.await_more_pictures("denoiser")
    assert denoiser.denoised_xy.shape == denoiser.raw_xy.shape
    trainer.network = "PRODUCT"
    assert (trainer.frames, trainer.depth) == (1, 3)
    ordered(trainer.ResetNetwork)
    wait_until(lambda: trainer.steps > 5, 60, "training again")


def test_auto_tune_works_beside_training_and_can_be_given_up(running):
    trainer = running.trainer
    with pytest.raises(tango.DevFailed, match="wanted_hz"):
        trainer.wanted_hz = 0.0
    trainer.wanted_hz = 0.5
    ordered(trainer.AutoTune)
    with pytest.raises(tango.DevFailed, match="expected none at work"):
        ordered(trainer.AutoTune)
    wait_until(lambda: trainer.tuning_progress > 0, 60, "the first passes")
    # Or it has another worry, which goes first.
    wait_until(lambda: "AutoTune compares networks" in trainer.Status() or trainer.State() != tango.DevState.RUNNING)
    table = json.loads(trainer.tuning_table)
    assert table[0]["name"] == "guided, 8 features, 3 slices"
    assert trainer.tuning_verdict == ""
    ordered(trainer.StopAutoTune)
    assert trainer.tuning_verdict == "given up, the present network stays: StopAutoTune"
    steps = trainer.steps
    wait_until(lambda: trainer.steps > steps, 60, "training goes on")


def test_pause_holds_training_alone(running):
    trainer = running.trainer
    trainer.Pause()
    wait_until(lambda: trainer.State() == tango.DevState.STANDBY, what="the pause")
    steps, received = trainer.steps, trainer.frames_received
    wait_until(lambda: trainer.frames_received > received + 20, what="frames during the pause")
    assert trainer.steps == steps
    trainer.Start()
    wait_until(lambda: trainer.steps > steps, 60, "training goes on")


def niceness(running, member: str) -> dict[int, int]:
    """Of every thread of a server; its main thread has the number of the process."""
    process = running.deployment.processes()[member]
    return {thread.id: os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()}


def test_threads_of_training_step_aside_and_no_others(running):
    """As far as the property Nice says."""
    if os.getpriority(os.PRIO_PROCESS, 0) >= 13 and os.geteuid():
        pytest.skip("the servers have a niceness already that they may not lower")
    database = tango.Database(*running.host.split(":"))
    database.put_device_property(running.deployment.devices["trainer"], {"Nice": ["13"]})
    running.trainer.Init()
    wait_until(lambda: running.trainer.steps > 0, 60, "training")
    process = running.deployment.processes()["trainer"].pid
    threads = niceness(running, "trainer")
    assert threads[process] == os.getpriority(os.PRIO_PROCESS, 0)
    assert 13 in threads.values()
    assert 13 not in niceness(running, "denoiser").values()


def test_save_load_and_rollback(running, tmp_path):
    trainer = running.trainer
    path = tmp_path / "network.safetensors"
    ordered(trainer.Save, str(path))
    assert path.stat().st_size > 4 * trainer.parameters
    ordered(trainer.Load, str(path))
    version = trainer.weights_version
    wait_until(lambda: trainer.weights_version > version + 1, 60, "two versions after loading")
    ordered(trainer.Rollback)
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"no weights")
    for command, argument, words in (
        ("Load", str(nonsense), "expected a safetensors file"),
        ("Load", str(tmp_path / "missing"), "No such file"),
        ("Save", str(tmp_path / "no" / "folder" / "x"), "in a folder that exists"),
    ):
        with pytest.raises(tango.DevFailed, match=words):
            ordered(trainer.command_inout, command, argument)
    steps = trainer.steps
    wait_until(lambda: trainer.steps > steps, 60, "training all the same")


def test_freeze_rollback_enabled_and_snapshot(running, tmp_path):
    denoiser = running.denoiser
    wait_until(lambda: not denoiser.guard_active and denoiser.weights_version > 1, 90, "a network that helps")
    denoiser.Freeze()
    assert denoiser.frozen
    number = denoiser.frame_number_xy
    running.await_picture(beyond=number + 100)  # newer weights than those of the last picture may have come before
    version, number = denoiser.weights_version, denoiser.frame_number_xy
    running.await_picture(beyond=number + 100)
    assert denoiser.weights_version == version
    denoiser.Rollback()
    assert denoiser.weights_version < version
    denoiser.frozen = False
    wait_until(lambda: denoiser.weights_version > version, 60, "new weights")
    denoiser.enabled = False
    number = denoiser.frame_number_xy
    running.await_picture(beyond=number)
    raw, shown = denoiser.read_attributes(["raw_xy", "denoised_xy"])
    np.testing.assert_array_equal(raw.value, shown.value)
    denoiser.enabled = True
    path = tmp_path / "moment.h5"
    denoiser.Snapshot(str(path))
    file: Any
    with h5py.File(path) as file:
        assert set(file) == {"xy", "xz", "yz"}
        assert file["xy/denoised"].shape == (1, 256, 256)
        assert file["xy"].attrs["last_frame"] > 0
    with pytest.raises(tango.DevFailed, match="expected a new file"):
        denoiser.Snapshot(str(path))


def test_any_order_of_starting_works(running):
    """Everything downstream of the detector is started in the wrong order."""
    members = ("denoiser", "trainer", "reconstructor")
    for member in members:
        running.kill(member)
    for member in members:
        running.restart(member)
    running.await_more_pictures("reconstructor", "denoiser")
    wait_until(lambda: running.denoiser.weights_version > 0, 90, "weights")
    assert running.reconstructor.frames_lost == 0
