"""Networks that see a slice at several moments, live: what they learn from, what they are shown, and what is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tango_jit.learn import NetworkConfig, Weights, build
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import pack, unpack
from tango_jit.services.service import State
from tests.events import wait_until
from tests.services import scans
from tests.services.denoisers import SIDE, DenoiserBench, helps, image, planes
from tests.services.scans import VIEWS, Feed, look, see
from tests.services.trainers import holds, training

INTERVAL = 5
LAST = NetworkConfig("CUSTOM", frames=3, frame_interval=INTERVAL, target="last")


@pytest.fixture
def deep_feed():
    feed = Feed(scans.CONE)
    yield feed
    feed.close()


def wish_for_moments(trainer) -> None:
    trainer.write("frames", 3)
    trainer.write("frame_interval", INTERVAL)
    trainer.write("target", "LAST")
    trainer.reset_network()


# ---- the trainer


def test_pairs_show_three_moments_of_views_in_the_same_half(rounds, trainer, feed):
    wish_for_moments(trainer)
    feed.frames(range(VIEWS))
    see(trainer, status=lambda text: "expected views of 10 frames before the last turn" in text)
    feed.frames(range(VIEWS, 3 * VIEWS), turns=3)
    values = see(trainer, steps=lambda steps: steps > 4)
    assert values["split_used"] == "HALVES"
    assert np.isfinite(look(trainer)["patch_accuracy"])
    ends = [window.last_frame for window in rounds.windows[-3:]]
    assert np.diff(ends).tolist() == [INTERVAL, INTERVAL]
    for first, second, third in zip(*[iter(rounds.poses)] * 3, strict=False):
        assert first is second is third
    network = trainer._trainer.settings.network
    assert (network.frames, network.frame_interval, network.target, network.depth) == (3, INTERVAL, "last", 1)
    assert trainer._trainer._buffer.shape == (3, 16, 16)
    assert trainer._trainer.scale is not None


def test_moments_take_the_place_of_neighbours_that_nobody_asked_for(make_trainer, deep_feed):
    trainer = make_trainer(deep_feed, patch_size=12)
    see(trainer, depth=3)
    trainer.write("frames", 3)
    values = look(trainer)
    assert (values["frames"], values["depth"], values["depth_auto"]) == (3, 1, False)
    again = make_trainer(deep_feed, settings=values["settings"], patch_size=12)
    see(again, state=lambda state: state is not State.INIT)
    assert (look(again)["frames"], look(again)["depth"], look(again)["depth_auto"]) == (3, 1, False)
    with pytest.raises(ValueError, match="depth, frames: expected one of them to be 1, got 3 and 3"):
        again.write("depth", 3)
    with pytest.raises(ValueError, match="depth_auto: expected frames 1 first, got 3"):
        again.write("depth_auto", True)
    assert not look(again)["depth_auto"]
    again.write("learning_rate", 1e-3)  # other settings go on
    again.write("network", "PRODUCT")
    assert (look(again)["frames"], look(again)["depth"], look(again)["depth_auto"]) == (1, 3, True)


def test_a_depth_that_was_asked_for_is_not_given_up_for_moments(trainer):
    trainer.write("depth", 3)
    with pytest.raises(ValueError, match="depth, frames: expected one of them to be 1, got 3 and 3"):
        trainer.write("frames", 3)
    with pytest.raises(ValueError, match="target: expected 'middle' for a network that sees 3 slices"):
        trainer.write("target", "LAST")
    values = look(trainer)
    assert (values["depth"], values["frames"], values["target"]) == (3, 1, "MIDDLE")
    with pytest.raises(ValueError, match="frames: expected an odd number"):
        trainer.write("frames", 2)


def test_moments_further_back_than_a_turn_are_told_and_can_be_mended(trainer, feed):
    wish_for_moments(trainer)
    trainer.write("frame_interval", VIEWS)
    trainer.reset_network()
    feed.frames(range(3 * VIEWS), turns=3)
    words = f"expected views of {2 * VIEWS} frames before the last turn"
    see(trainer, state=State.ALARM, status=lambda text: words in text)
    holds(trainer)
    trainer.write("frame_interval", VIEWS // 4)
    see(trainer, status=lambda text: "ResetNetwork" in text)
    trainer.reset_network()
    feed.frames(range(3 * VIEWS, 4 * VIEWS), turns=4)
    training(trainer)
    assert json.loads(look(trainer)["settings"])["training"]["network"]["frame_interval"] == VIEWS // 4


# ---- the denoiser


def causal(version: int, target: str = "last") -> Weights:
    network = build(replace(LAST, target=target), seed=version)
    getattr(network, STRENGTH).fill_(0.2)
    return pack(network, version=version, scale=0.02, patch_accuracy=None, generation=0)


def through(weights: Weights, halves: list[np.ndarray]) -> np.ndarray:
    """What the network makes of the halves of three moments, each (3, rows, cols)."""
    network = unpack(weights)
    with torch.no_grad():
        made = [network(torch.from_numpy(half[None].copy()) / 0.02)[0, 0] * 0.02 for half in halves]
    return np.mean([half.numpy() for half in made], axis=0)


@pytest.mark.parametrize("target", ["last", "middle"])
def test_three_moments_pass_together(denoiser: DenoiserBench, target):
    denoiser.service.write("guard", False)
    weights = causal(7, target)
    denoiser.weights.send(weights, retain="weights")

    def refused() -> bool:
        message = denoiser.next()
        told = look(denoiser.service)["status"]
        return "expected 3 moments 5 frames apart" in told and message.weights_version == 0

    wait_until(refused, what="the refusal")
    assert "status of the reconstructor" not in look(denoiser.service)["status"]
    data = {number: planes(number) for number in range(denoiser.frame + 1, denoiser.frame + 2 * INTERVAL + 3)}
    message = None
    for given in data.values():
        denoiser.slices.send(denoiser.slice(data=given))
        message = denoiser.listener.next()
        while message.last_frame < denoiser.frame + 9 and message.weights_version == 0:
            message = denoiser.listener.next()
    assert message is not None
    assert message.weights_version == 7
    newest = max(data)
    seen = [data[newest - 2 * INTERVAL], data[newest - INTERVAL], data[newest]]
    shown = newest if target == "last" else newest - INTERVAL
    assert message.last_frame == shown + 9
    expected = through(weights, [np.concatenate([moment[half] for moment in seen]) for half in (0, 1)])
    np.testing.assert_allclose(image(message), expected, atol=0.02 * np.ptp(expected))
    np.testing.assert_allclose(message.data[1, 0], data[shown].mean(axis=0)[0], rtol=1e-6)
    values = see(denoiser.service, state=State.RUNNING)
    assert values["frame_number_xy"] == shown + 9
    assert values["evidence"] == "HALVES"
    assert values["raw_xy"].shape == (SIDE, SIDE)


def test_only_what_shows_the_same_moment_is_compared(denoiser: DenoiserBench):
    """Neighbours are no moments, and the middle moment is not now."""
    denoiser.use(helps(3))
    denoiser.weights.send(causal(8), retain="weights")
    while denoiser.next().weights_version != 8:
        pass
    denoiser.service.write("compared_version", 8)
    denoiser.use(helps(9))
    denoiser.next(data=np.concatenate([planes(1), planes(2), planes(3)], axis=1))
    assert look(denoiser.service)["compared_xy"].shape == (1, 1)
    denoiser.service.write("compared_version", 9)
    denoiser.next()
    assert look(denoiser.service)["compared_xy"].shape == (SIDE, SIDE)
    denoiser.weights.send(causal(10, "middle"), retain="weights")

    def middle() -> bool:
        denoiser.slices.send(denoiser.slice())
        return look(denoiser.service)["weights_version"] == 10

    wait_until(middle, what="the middle moment")
    assert look(denoiser.service)["compared_xy"].shape == (1, 1)


def test_weights_that_were_exchanged_meanwhile_do_no_harm(denoiser: DenoiserBench, monkeypatch):
    """A rollback comes between the stack of a slice and the network."""
    denoiser.use(helps(3))
    denoiser.weights.send(causal(8), retain="weights")
    while denoiser.next().weights_version != 8:
        pass
    moments = denoiser.service._moments
    stack = moments.stack

    def exchanged(message, network):
        made = stack(message, network)
        monkeypatch.setattr(moments, "stack", stack)
        denoiser.service.rollback()
        return made

    monkeypatch.setattr(moments, "stack", exchanged)
    message = denoiser.next()
    assert message.weights_version == 0
    assert "others were taken meanwhile" in look(denoiser.service)["status"]
    assert denoiser.next().weights_version == 3
    assert see(denoiser.service, state=State.RUNNING)["frozen"]


def test_a_network_of_one_moment_can_be_compared_with_it(denoiser: DenoiserBench):
    denoiser.use(helps(3))
    denoiser.service.write("compared_version", 3)
    denoiser.weights.send(causal(8), retain="weights")
    message = denoiser.next()
    for _ in range(30):
        if message.weights_version == 8:
            break
        message = denoiser.next()
    assert message.weights_version == 8
    values = look(denoiser.service)
    np.testing.assert_allclose(values["raw_xy"], message.data[1, 0])
    alone = values["compared_xy"]
    assert alone.shape == (SIDE, SIDE)
    assert np.isfinite(alone).all()
    # Made of the newest slice, which is what the causal network shows, too.
    assert np.abs(alone - message.data[1, 0]).mean() < 0.2 * np.ptp(message.data[1, 0])
