"""A trainer that is killed in the middle of its work and started again: real processes, one database."""

from __future__ import annotations

from pathlib import Path

import pytest
import tango

from tango_jit.learn.regimes import UNTRAINED
from tango_jit.services.weights_folder import LAST
from tests.events import ordered, wait_until

pytestmark = pytest.mark.timeout(900)  # more than the waits of one test together


@pytest.fixture(scope="module")
def running(system, recording):
    """It trains a network that is not guided: untrained it does harm, so that a trained one is better for sure.

    Training goes before the live path here: what is tested is what it leaves.
    """
    database = tango.Database(*system.host.split(":"))
    database.put_device_property(system.deployment.devices["trainer"], {"Nice": ["0"]})
    trainer = system.trainer
    trainer.Init()
    trainer.network = "RELEASED"
    trainer.learning_rate, trainer.batch_size = 2e-3, 8
    ordered(trainer.ResetNetwork)
    system.reconstructor.update_every = 1000
    system.replay(recording, frame_period_s=0.03)
    return system


@pytest.fixture
def folder(running) -> Path:
    folder = Path(running.trainer.weights_folder)
    assert folder.is_relative_to(running.deployment.folder), "nothing of a test, or of `up`, goes elsewhere"
    return folder


def trained(running, folder: Path) -> None:
    wait_until(lambda: running.trainer.steps > 100, 240, "training")
    wait_until(lambda: (folder / LAST).is_file(), 240, "a checkpoint")
    wait_until(lambda: any((folder / "best").iterdir()), 240, "one among the best")


def test_a_killed_trainer_goes_on_from_its_last_weights_with_the_same_settings(running, folder):
    trained(running, folder)
    settings = running.trainer.settings
    running.kill("trainer")
    halves = list(folder.rglob("*.part"))  # it may have been writing
    running.restart("trainer")
    trainer = running.trainer
    wait_until(lambda: trainer.resumed_from, 240, "the choice")
    assert not any(half.exists() for half in halves)
    assert trainer.resumed_from.startswith(f"{folder / LAST}: version ")
    assert trainer.network_from == LAST
    assert trainer.settings == settings
    wait_until(lambda: trainer.steps > 0 and trainer.patch_accuracy < 0.9, 240, "what it knew already")
    version = running.denoiser.weights_version
    wait_until(lambda: running.denoiser.weights_version != version, 240, "its weights at the denoiser")


def test_a_spoilt_checkpoint_is_refused_in_words_and_training_begins_anew(running, folder):
    trained(running, folder)
    running.kill("trainer")
    (folder / LAST).write_bytes((folder / LAST).read_bytes()[:-100])
    for known in (folder / "known").iterdir():
        known.unlink()
    running.restart("trainer")
    trainer = running.trainer
    wait_until(lambda: "training begins anew, the last weights are refused" in trainer.last_error, 60, "the refusal")
    wait_until(lambda: trainer.steps > 0, 240, "training")
    assert trainer.resumed_from == ""
    assert trainer.State() in (tango.DevState.RUNNING, tango.DevState.ALARM)


def test_the_folder_is_chosen_by_a_property(running, tmp_path, monkeypatch):
    database, name = tango.Database(*running.host.split(":")), running.deployment.devices["trainer"]
    before = database.get_device_property(name, "WeightsFolder")
    trainer = running.trainer
    try:
        for value, shown in (("none", ""), (str(tmp_path / "mine"), str(tmp_path / "mine"))):
            database.put_device_property(name, {"WeightsFolder": [value]})
            trainer.Init()
            assert trainer.weights_folder == shown
        wait_until((tmp_path / "mine" / "lock").exists, 60, "the folder")
        database.put_device_property(name, {"WeightsFolder": ["mine"]})
        trainer.Init()
        assert trainer.State() == tango.DevState.FAULT
        assert "WeightsFolder: expected a path from the root, none, or nothing, got mine" in trainer.Status()
        database.delete_device_property(name, "WeightsFolder")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        running.kill("trainer")
        running.restart("trainer")
        assert trainer.weights_folder == str(tmp_path / "state" / "tango-jit" / "weights" / "jit_trainer_1")
    finally:
        database.put_device_property(name, before)
        trainer.Init()


def test_a_reset_is_a_reset_after_a_kill_too(running, folder):
    trained(running, folder)
    running.trainer.Pause()
    wait_until(lambda: running.trainer.State() == tango.DevState.STANDBY, what="the pause")
    ordered(running.trainer.ResetNetwork)
    (folder / LAST).unlink(missing_ok=True)  # as if it was killed before the reset network was written
    running.kill("trainer")
    running.restart("trainer")
    wait_until(lambda: running.trainer.steps > 0, 240, "training")
    assert running.trainer.resumed_from == ""
    assert running.trainer.network_from == UNTRAINED
