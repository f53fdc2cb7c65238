"""Networks that see neighbouring slices, live: asked for downstream, made upstream, told in words until they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tango_jit.geometry import default_slices
from tango_jit.learn import NetworkConfig, Weights, build
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import pack, unpack
from tango_jit.services import neighbours as patience
from tango_jit.services import stacks as limits
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.service import State
from tango_jit.services.trainer import TrainerService
from tango_jit.stacks import neighbours
from tango_jit.streams import Mailbox, Slice, Subscriber
from tango_jit.streams.wishes import depth_wish, depth_wished
from tests.events import wait_until
from tests.services import scans
from tests.services.conftest import CONE, FAN, VIEWS, ReconstructorBench, Scan
from tests.services.denoisers import DenoiserBench, helps, image, planes
from tests.services.scans import Feed, look, see
from tests.services.trainers import holds, training

Wish = Callable[[ReconstructorBench, int], Subscriber]


@pytest.fixture
def wish() -> Iterator[Wish]:
    """Receivers of slices that would like stacks."""
    made: list[Subscriber] = []

    def one(bench: ReconstructorBench, depth: int) -> Subscriber:
        endpoint = bench.values["slices_endpoint"]
        made.append(Subscriber(lambda: endpoint, Mailbox(64 << 20, "newest")))
        made[-1].wish(depth_wish(depth))
        wait_until(lambda: depth_wished(bench.service._slices_out.subscriptions) >= depth, what="the wish")
        return made[-1]

    yield one
    for subscriber in made:
        subscriber.close()


def running(bench: ReconstructorBench, scan: Scan, count: int = VIEWS) -> ReconstructorBench:
    bench.service.write("update_every", 1)
    bench.push(scan.header)
    bench.frames(scan, *range(count))
    return bench


# ---- the reconstructor


def test_slices_come_as_stacks_while_a_receiver_wishes_them(bench, wish):
    scan, bench = Scan(CONE), bench()
    receiver = wish(bench, 3)
    running(bench, scan)
    stack = bench.slices.wait(Slice, lambda message: message.slice == "xz")
    assert stack.data.shape[1] == 3
    assert bench.values["depth"] == 3
    np.testing.assert_array_equal(bench.values["slice_xz"], stack.data[:2, 1].mean(axis=0))
    receiver.close()
    wait_until(lambda: depth_wished(bench.service._slices_out.subscriptions) == 1, what="the end of the wish")
    bench.frames(scan, VIEWS)
    alone = bench.slices.wait(Slice, lambda message: message.slice == "xz" and message.last_frame == VIEWS)
    assert alone.data.shape[1] == 1
    assert bench.values["depth"] == 1


def test_the_planes_of_a_stack_are_the_slices_beside_it(bench, wish):
    scan, bench = Scan(CONE), bench()
    wish(bench, 3)
    running(bench, scan)
    stack = bench.slices.wait(Slice, lambda message: message.slice == "xz")
    for name, place in zip(("before", "after"), neighbours(default_slices(CONE)["xz"], 3)[::2], strict=True):
        bench.service.add_slice(name)
        bench.service.write(f"shape_{name}", place.shape)
        bench.service.move_slice(name, place.nine)
    bench.frames(scan, VIEWS)
    beside = [
        bench.slices.wait(Slice, lambda message, name=name: message.slice == name and message.last_frame == VIEWS)
        for name in ("before", "after")
    ]
    again = bench.slices.wait(Slice, lambda message: message.slice == "xz" and message.last_frame == VIEWS)
    assert stack.data.shape == again.data.shape
    for plane, single in zip((0, 2), beside, strict=True):
        np.testing.assert_allclose(again.data[:, plane], single.data[:, 1], atol=1e-5)


def test_the_deepest_wish_of_all_receivers_counts(bench, wish):
    bench = bench()
    wish(bench, 3)
    deep = wish(bench, 5)
    running(bench, Scan(CONE))
    assert bench.slices.wait(Slice).data.shape[1] == 5
    deep.wish(depth_wish(1))
    wait_until(lambda: depth_wished(bench.service._slices_out.subscriptions) == 3, what="the smaller wish")


@pytest.mark.parametrize(
    ("scan", "planes", "words"),
    [
        (FAN, 3, "a detector of one row sees a single plane, set depth of the trainer to 1"),
        (CONE, 1 << 18, "xy would have 768 MB, expected at most 256 (property BudgetMb)"),
    ],
)
def test_what_cannot_be_is_told_and_slices_go_out_alone(bench, wish, clock, monkeypatch, scan, planes, words):
    monkeypatch.setattr(limits, "PLANES", planes)
    bench = bench(clock=clock)
    wish(bench, 3)
    running(bench, Scan(scan))
    assert bench.slices.wait(Slice).data.shape[1] == 1
    see(bench.service, state=State.ALARM, status=lambda text: words in text and "stacks of 3 planes" in text)


def test_stacks_that_take_too_long_are_given_up_until_something_changes(bench, wish, clock, monkeypatch):
    scan, bench = Scan(CONE), bench(clock=clock)
    wish(bench, 3)
    running(bench, scan)
    bench.slices.wait(Slice)
    monkeypatch.setattr(limits, "LONGEST_S", 0.0)
    bench.frames(scan, VIEWS)
    bench.frames(scan, VIEWS + 1)
    bench.frames(scan, VIEWS + 2)
    see(bench.service, state=State.ALARM, status=lambda text: "2 updates took more than" in text, depth=1)
    monkeypatch.setattr(limits, "LONGEST_S", 60.0)
    bench.service.remove_slice("yz")
    bench.frames(scan, VIEWS + 3)
    see(bench.service, state=State.RUNNING, depth=3)


# ---- the trainer


def test_trains_on_stacks_a_pixel_apart(rounds, make_trainer):
    feed = Feed(scans.CONE)
    try:
        service = make_trainer(feed, patch_size=12)
        see(service, depth=3, depth_auto=True, state=lambda state: state is not State.ALARM)
        service.write("depth", 5)
        assert look(service)["depth_auto"] is False
        see(service, state=State.ALARM, status=lambda text: "ResetNetwork" in text)
        service.reset_network()
        feed.frames()
        training(service)
        assert look(service)["parameters"] == NetworkConfig("CUSTOM", depth=5).parameters
        poses = rounds.poses[-1].reshape(-1, 5, 3, 3)  # (k, planes, 3, 3)
        steps = np.diff(poses[:, :, 0], axis=1)
        np.testing.assert_allclose(np.linalg.norm(steps, axis=2), np.linalg.norm(poses[:, :4, 1], axis=2))
        np.testing.assert_allclose(np.einsum("kpx,kpax->kpa", steps, poses[:, :4, 1:]), 0, atol=1e-9)
        assert service._trainer._buffer.shape == (5, 12, 12)
        service.write("depth", 1)
        service.reset_network()
        training(service)
        assert service._trainer._buffer.shape == (12, 12)
    finally:
        feed.close()


def test_the_depth_follows_the_scan(rounds, make_trainer):
    """Three slices where there are neighbours, one where the detector has a single row; any other is a wish."""
    feed, flat = Feed(scans.CONE), Feed(scans.FAN)
    try:
        service = make_trainer(feed, patch_size=12)
        assert see(service, depth=3)["network"] == "CUSTOM"  # for its patch_size
        feed.frames()
        training(service)
        other = make_trainer(flat, patch_size=12)
        see(other, depth=1)
        flat.frames()
        training(other)
        other.write("depth", 3)
        other.reset_network()
        see(other, status=lambda text: "one row" in text)
        other.write("depth_auto", True)
        assert look(other)["depth"] == 1
        other.reset_network()
        training(other)
        other.write("network", "PRODUCT")
        values = look(other)
        assert (values["network"], values["depth"], values["depth_auto"]) == ("PRODUCT", 1, True)
        service.write("network", "PRODUCT")
        assert (look(service)["network"], look(service)["depth"]) == ("PRODUCT", 3)
        service.write("network", "PAPER")
        assert (look(service)["network"], look(service)["depth"]) == ("PAPER", 1)
    finally:
        feed.close()
        flat.close()


def test_what_was_set_stays_over_a_restart_and_other_edits_go_on_waiting(make_trainer):
    feed = Feed(scans.CONE)
    try:
        service = make_trainer(feed, patch_size=12)
        see(service, depth=3)
        service.write("depth", 5)
        again = make_trainer(feed, settings=look(service)["settings"])
        values = see(again, state=lambda state: state is not State.INIT)
        assert (values["depth"], values["depth_auto"], again._trainer.settings.network.depth) == (5, False, 5)
        again.write("depth_auto", True)
        third = make_trainer(feed, settings=look(again)["settings"])
        assert (look(third)["depth"], look(third)["depth_auto"]) == (3, True)
        third.write("features", 2)
        feed.scan = scans.FAN  # another scanner, of one row
        feed.header("second")
        see(third, depth=1, status=lambda text: "ResetNetwork" in text)
        network = third._trainer.settings.network
        assert (network.features, network.depth) == (8, 1)
    finally:
        feed.close()


def test_a_depth_that_does_not_fit_in_memory_is_told_and_training_goes_on(make_trainer):
    flat, feed = Feed(scans.FAN), Feed(scans.CONE)
    try:
        service = make_trainer(flat, patch_size=48)
        service.write("buffer_size", 40_000)
        again = make_trainer(feed, patch_size=48, settings=look(service)["settings"])
        values = see(again, last_error=lambda text: "depth stays 1" in text)
        assert values["depth"] == 1
        assert values["state"] is not State.FAULT
    finally:
        feed.close()
        flat.close()


def test_turns_give_stacks_too(rounds, make_trainer):
    feed = Feed(scans.CONE)
    try:
        service = make_trainer(feed, patch_size=12)
        service.write("depth", 3)
        service.reset_network()
        feed.frames(range(2 * scans.VIEWS + 4), turns=2)
        see(service, steps=lambda steps: steps > 4, split_used="TURNS")
        assert np.isfinite(look(service)["patch_accuracy"])
    finally:
        feed.close()


def test_a_fan_has_no_depth(trainer, feed):
    trainer.write("depth", 3)
    trainer.reset_network()
    feed.frames()
    see(trainer, state=State.ALARM, status=lambda text: "depth: expected 1, a detector of one row" in text)
    holds(trainer)
    trainer.write("depth", 1)
    trainer.reset_network()
    training(trainer)


def test_depth_is_odd(trainer):
    with pytest.raises(ValueError, match="depth: expected an odd number"):
        trainer.write("depth", 2)
    assert trainer.values["depth"] == 1


# ---- the denoiser


def deep(version: int, depth: int = 3) -> Weights:
    """Any network that sees neighbours."""
    network = build(NetworkConfig("CUSTOM", depth=depth), seed=version)
    getattr(network, STRENGTH).fill_(0.2)
    return pack(network, version=version, scale=0.02, patch_accuracy=None, generation=0)


def stack(seed: int, depth: int) -> np.ndarray:
    """(2, depth, rows, cols) of one object with noise of its own in every plane."""
    return np.concatenate([planes(100 * seed + plane) for plane in range(depth)], axis=1)


def asked(bench: DenoiserBench) -> int:
    return depth_wished(bench.slices.subscriptions)


def test_asks_for_the_planes_of_its_network_and_shows_raw_slices_until_they_come(denoiser: DenoiserBench):
    denoiser.service.write("guard", False)
    assert asked(denoiser) == 1
    weights = deep(7)
    denoiser.weights.send(weights, retain="weights")

    def refused() -> bool:
        denoiser.next()
        return "expected stacks of 3 planes, as the network sees them, got 1" in look(denoiser.service)["status"]

    wait_until(refused, what="the refusal")
    values = look(denoiser.service)
    assert "shown as reconstructed until more are sent" in values["status"]
    assert (values["state"], values["weights_version"]) == (State.RUNNING, 0)
    message = denoiser.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    assert (message.weights_version, message.accuracy) == (0, None)
    wait_until(lambda: asked(denoiser) == 3, what="the wish")

    denoiser.clock.now += 2 * patience.PATIENCE_S
    denoiser.next()
    see(denoiser.service, state=State.ALARM, status=lambda text: "status of the reconstructor says why" in text)

    given = stack(1, 5)  # more than it sees: another receiver may wish them
    message = denoiser.next(data=given)
    assert message.weights_version == 7
    network = unpack(weights)
    with torch.no_grad():
        halves = [network(torch.from_numpy(half[None, 1:4].copy()) / 0.02)[0, 0] * 0.02 for half in given]
    expected = np.mean([half.numpy() for half in halves], axis=0)
    np.testing.assert_allclose(image(message), expected, atol=0.02 * np.ptp(expected))
    np.testing.assert_allclose(message.data[1, 0], given[:, 2].mean(axis=0), rtol=1e-6)
    assert see(denoiser.service, state=State.RUNNING)["weights_version"] == 7


def test_a_flat_network_takes_the_middle_of_what_others_wish(denoiser: DenoiserBench):
    denoiser.use(helps(3))
    given = stack(2, 3)
    alone, among = denoiser.next(data=given[:, 1:2]), denoiser.next(data=given)
    np.testing.assert_array_equal(alone.data, among.data)
    assert among.data.shape[1] == 1
    assert asked(denoiser) == 1


def test_the_turn_before_is_evidence_for_stacks_and_outlives_a_change_of_depth(denoiser: DenoiserBench):
    weights = deep(4)
    denoiser.weights.send(weights, retain="weights")
    denoiser.next(data=stack(3, 1))
    denoiser.frame += 20  # no view in common

    def compared() -> bool:
        denoiser.frame += 20
        denoiser.next(data=stack(denoiser.frame, 3))
        return look(denoiser.service)["evidence"] != "NONE"

    denoiser.service.write("mode", "FULL")
    wait_until(compared, what="evidence")
    assert look(denoiser.service)["evidence"] == "TURNS"


# ---- all three


def test_depth_of_the_trainer_is_enough(bench, clock):
    """From there the wish goes to the denoiser with the weights, and from the denoiser to the reconstructor."""
    scan, reconstructor = Scan(scans.CONE), bench(clock=clock)
    values = reconstructor.values
    trainer = TrainerService(lambda: values["filtered_endpoint"], threads=1, clock=clock)
    denoiser = DenoiserService(
        lambda: values["slices_endpoint"], lambda: trainer.values["weights_endpoint"], threads=1, clock=clock
    )
    number = iter(range(10_000))

    def frames_until(done: Callable[[], bool]) -> None:
        def one_more() -> bool:
            clock.now += 1.0  # weights are published every second
            reconstructor.frames(scan, next(number))
            return done()

        wait_until(one_more, 60)

    try:
        trainer.write("patch_size", 12)
        trainer.write("depth", 3)
        trainer.reset_network()
        trainer.start()
        denoiser.start()
        reconstructor.push(scan.header)
        reconstructor.service.write("update_every", 4)
        frames_until(lambda: reconstructor.values["depth"] == 3)
        frames_until(lambda: denoiser.values["weights_version"] > 0)
        assert denoiser.values["denoised_xy"].shape == denoiser.values["raw_xy"].shape
        trainer.write("depth", 1)
        trainer.reset_network()
        frames_until(lambda: reconstructor.values["depth"] == 1)
    finally:
        denoiser.close()
        trainer.close()
