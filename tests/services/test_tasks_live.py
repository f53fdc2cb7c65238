"""Another task, live: asked for at the trainer, followed by the denoiser, and told in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tango_jit.learn import NetworkConfig, build
from tango_jit.learn.tasks.segment import SMOOTHING, SOFTNESS, THRESHOLD
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import Weights, pack
from tango_jit.services.service import State
from tango_jit.services.weights_folder import WeightsFolder
from tests.services.denoisers import helps, planes, wait_for_slices
from tests.services.scans import MU, Listener, look, see
from tests.services.trainers import training
from tests.training import SMALL


def segmenting(
    version: int, task: str = "SEGMENT", *, accuracy: float | None = 0.2, wild: bool = False, **sees: Any
) -> Weights:
    """An untrained network: total variation of a slice, cut softly at MU; or one that changes far too much."""
    network = build(NetworkConfig(task=task, **sees))
    for name, number in ((THRESHOLD, MU / 0.02), (SOFTNESS, 0.05), (SMOOTHING, 0.05), (STRENGTH, 0.1)):
        if name in network.config.measured:
            getattr(network, name).fill_(number)
    if wild:
        with torch.no_grad():
            network.top.last.weight *= 1e4
    return pack(network, version=version, scale=0.02, patch_accuracy=accuracy, generation=0)


def test_a_task_waits_for_a_reset_and_a_preset_takes_it_back(trainer, feed):
    feed.frames()
    assert training(trainer)["task"] == "DENOISE"
    trainer.write("task", "SEGMENT")
    assert (look(trainer)["network"], look(trainer)["task"]) == ("CUSTOM", "SEGMENT")
    assert "ResetNetwork takes it" in see(trainer, state=State.ALARM)["status"]
    with Listener(trainer.values["weights_endpoint"]) as listener:
        assert listener.next().network["task"] == "DENOISE"
        trainer.reset_network()
        weights = listener.next()
    assert weights.network["task"] == "SEGMENT"
    assert see(trainer, state=State.RUNNING)["parameters"] == NetworkConfig(task="SEGMENT").parameters
    values = training(trainer)
    assert json.loads(values["settings"])["training"]["network"]["task"] == "SEGMENT"
    assert np.isfinite(values["loss"])
    trainer.write("network", "PRODUCT")
    assert look(trainer)["task"] == "DENOISE"


def test_an_unknown_task_is_refused(trainer):
    with pytest.raises(ValueError, match="task"):
        trainer.write("task", "COUNT")


def test_the_denoiser_follows_the_task_of_the_weights(denoiser):
    denoiser.use(helps(1))
    assert look(denoiser.service)["shows"] == "attenuation in 1/mm"
    denoiser.use(segmenting(2))
    message = denoiser.next()
    values = look(denoiser.service)
    assert values["task"] == "SEGMENT"
    assert "probability" in values["shows"]
    assert 0 <= message.data[0].min() <= message.data[0].max() <= 1
    assert message.accuracy is not None
    assert message.task == "SEGMENT"
    assert values["accuracy"] < 0.9
    assert not values["guard_active"]
    assert [np.isnan(values[name]) for name in ("quality", "share", "quality_xy")] == [True] * 3
    assert values["state"] == State.RUNNING
    assert "below 0.5" not in values["status"]  # that is a figure of denoising
    denoiser.use(helps(3))
    assert (look(denoiser.service)["task"], look(denoiser.service)["quality"] > 0) == ("DENOISE", True)


def test_of_each_picture_is_told_what_it_shows(denoiser):
    denoiser.view("xy", "xz")
    wait_for_slices(denoiser, "xy", "xz")
    denoiser.use(segmenting(1, frames=3, frame_interval=1, target="last"))
    denoiser.next("xz")  # one moment of it: shown as reconstructed
    values = look(denoiser.service)
    assert "probability" in values["shows_xy"]
    assert values["shows_xz"] == "attenuation in 1/mm"


def test_the_guard_of_another_task_is_told_in_its_words(denoiser):
    denoiser.use(segmenting(1, accuracy=None, wild=True))
    data = planes(77)
    message = denoiser.next(data=data)
    assert set(np.unique(message.data[0])) <= {0.0, 1.0}
    np.testing.assert_array_equal(message.data[0, 0], (data.mean(0)[0] > np.float32(MU)).astype(np.float32))
    values = look(denoiser.service)
    assert values["guard_active"]
    assert (
        values["status"] == "learning: slices are shown cut at the threshold as reconstructed until the network helps"
    )


def test_the_folder_keeps_the_best_of_one_task_and_offers_no_other(tmp_path):
    folder = WeightsFolder(tmp_path)
    folder.keep(segmenting(1, accuracy=0.2), None, settled=True)
    folder.keep(segmenting(2, "DENOISE", accuracy=0.6), None, settled=True)
    assert [path.name[:6] for path in (tmp_path / "best").iterdir()] == ["0.6000"]
    shapes = {task: SMALL.edited(task=task).network.shape for task in ("DENOISE", "SEGMENT")}
    assert folder.last(shapes["DENOISE"]) is not None
    with pytest.raises(ValueError, match=r"expected a network of the shape \('SEGMENT'.*got \('DENOISE'"):
        folder.last(shapes["SEGMENT"])
    folder.close()
