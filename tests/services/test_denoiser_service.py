"""The denoiser as a service: over real sockets, without Tango, by a clock that the tests move."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from tango_jit.geometry import SliceGeometry
from tango_jit.learn import Denoiser, NetworkConfig, build
from tango_jit.learn.weights import Weights, pack, unpack
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.service import State
from tango_jit.streams import Denoised, Publisher, Slice, View
from tests.events import wait_until
from tests.services.scans import LOOPBACK, MU, Clock, Listener, look, see

SIDE = 32
PLACE = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(SIDE, SIDE))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def filtering(kernel: np.ndarray, version: int) -> Weights:
    """A network that convolves with `kernel` (3, 3): one channel carries what is above 0, one what is below."""
    network = build(NetworkConfig())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    change = np.array(kernel, np.float32)
    change[1, 1] -= 1
    top = network.top
    with torch.no_grad():
        for channel, sign in enumerate((1.0, -1.0)):
            top.first.weight[channel, 0, 1, 1] = sign
            top.second.weight[channel, channel, 1, 1] = 1.0
            top.third.weight[channel, channel, 1, 1] = 1.0
            top.last.weight[0, channel] = sign * torch.from_numpy(change)
    return pack(network, version=version, scale=0.02, patch_accuracy=0.6, generation=0)


def helps(version: int) -> Weights:
    """The mean of 3 x 3 pixels: takes most of the noise away."""
    return filtering(np.full((3, 3), 1 / 9), version)


def hurts(version: int) -> Weights:
    """Makes the noise several times stronger."""
    return filtering(np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]), version)


def any_network(version: int) -> Weights:
    """Untrained: neither linear nor the identity."""
    network = build(NetworkConfig(), seed=version)
    with torch.no_grad():
        network.top.last.weight *= 5
    return pack(network, version=version, scale=0.02, patch_accuracy=None, generation=0)


def planes(seed: int, count: int = 2) -> np.ndarray:
    """(count, 1, rows, cols): even, odd (, full) of a smooth object with noise."""
    row, col = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    truth = 2 * MU * np.exp(-(row**2 + col**2) / 72)
    noise = 0.2 * MU * np.random.default_rng(seed).normal(size=(count, 1, SIDE, SIDE))
    return (truth + noise).astype(np.float32)


class Bench:
    """A running denoiser with its two upstreams and a listener."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slices, self.weights = Publisher(LOOPBACK), Publisher(LOOPBACK)
        self.service = DenoiserService(lambda: self.slices.endpoint, lambda: self.weights.endpoint, threads=1,
                                       clock=self.clock)  # fmt: skip
        self.listener = Listener(self.service.values["denoised_endpoint"])
        self.frame = 0
        self.view("xy")
        self.service.start()

    def view(self, *names: str) -> None:
        self.slices.send(View(1, "hann", dict.fromkeys(names, PLACE)), retain="view")

    def slice(self, name: str = "xy", *, complete: bool = True, count: int = 2, data: Any = None) -> Slice:
        """The next slice, not sent."""
        self.frame += 1
        data = planes(self.frame, count) if data is None else data
        return Slice(name, 3, PLACE, "series", self.frame, self.frame + 9, self.clock.now - 0.5, complete, data)

    def pass_through(self, slice_: Slice) -> Denoised:
        self.slices.send(slice_)
        return self.listener.next(lambda message: message.last_frame == slice_.last_frame)

    def next(self, name: str = "xy", **fields: Any) -> Denoised:
        return self.pass_through(self.slice(name, **fields))

    def use(self, weights: Weights) -> None:
        """Send weights and wait until they are what slices pass through."""
        self.weights.send(weights, retain="weights")
        self.until(weights.version)

    def until(self, version: int) -> None:
        for _ in range(100):
            if self.next().weights_version == version:
                return
        raise AssertionError(f"weights {version} were never in use: {look(self.service)}")

    def close(self) -> None:
        self.service.close()
        self.listener.close()
        self.slices.close()
        self.weights.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    try:
        wait_for_slices(bench, "xy")
        meet(bench)
        yield bench
    finally:
        bench.close()


def wait_for_slices(bench: Bench, *names: str) -> None:
    def known(_: Any) -> bool:
        return {f"raw_{name}" for name in names} == {s for s in bench.service.signals if s.startswith("raw_")}

    see(bench.service, state=known)


def meet(bench: Bench) -> None:
    """Until the listener hears the service."""

    def heard(_: Any) -> bool:
        bench.slices.send(bench.slice())
        return bool(bench.listener.waiting())

    see(bench.service, state=heard)


def wait_weights(bench: Bench, count: int) -> None:
    """Until so many weights messages have arrived and been worked through."""
    see(bench.service, state=lambda _: bench.service._subscribers[1].received >= count)
    look(bench.service)


def image(message: Denoised) -> np.ndarray:
    return message.data[0, 0]


def network_output(weights: Weights, picture: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return (
            unpack(weights)(torch.from_numpy(picture[None, None].copy()) / weights.scale)[0, 0] * weights.scale
        ).numpy()


# ---- what passes


def test_without_weights_slices_pass_as_they_are(bench):
    data = planes(7)
    message = bench.next(data=data)
    np.testing.assert_array_equal(message.data[:, 0], [data.mean(axis=0)[0]] * 2)
    assert (message.weights_version, message.accuracy) == (0, None)
    values = look(bench.service)
    assert values["state"] is State.RUNNING
    assert values["status"].startswith("no weights yet")
    np.testing.assert_array_equal(values["denoised_xy"], data.mean(axis=0)[0])


def test_the_message_tells_all_of_its_slice_and_planes_are_denoised_and_raw(bench):
    bench.use(helps(5))
    sent = bench.slice()
    message = bench.pass_through(sent)
    for field in ("slice", "generation", "geometry", "series", "first_frame", "last_frame", "timestamp_s", "complete"):
        assert getattr(message, field) == getattr(sent, field), field
    assert message.weights_version == 5
    raw = sent.data.mean(axis=0)[0]
    np.testing.assert_allclose(message.data[1, 0], raw, rtol=1e-6)
    assert np.std(np.diff(image(message))) < 0.5 * np.std(np.diff(raw))
    values = look(bench.service)
    assert values["accuracy_xy"] == message.accuracy == pytest.approx(0.56, abs=0.05)
    assert values["frame_number_xy"] == sent.last_frame
    assert (values["generation"], values["weights_version"]) == (3, 5)
    assert values["latency_ms"] == pytest.approx(500)
    np.testing.assert_array_equal(values["denoised_xy"], image(message))
    np.testing.assert_array_equal(values["raw_xy"], message.data[1, 0])


def test_halves_are_denoised_apart_and_full_is_the_whole(bench):
    weights = any_network(1)
    bench.service.write("guard", False)
    bench.use(weights)
    engine = Denoiser(guard=False)
    engine.load(weights)
    sent = bench.slice(count=3)
    even, odd, full = sent.data[:, 0]
    shown = image(bench.pass_through(sent))
    np.testing.assert_array_equal(shown, engine(even, odd, full).image)
    expected = (network_output(weights, even) + network_output(weights, odd)) / 2
    np.testing.assert_allclose(shown, expected, atol=0.02 * MU)
    bench.service.write("mode", "FULL")
    sent = bench.slice(count=3)
    shown = image(bench.pass_through(sent))
    expected = network_output(weights, sent.data[2, 0])
    np.testing.assert_allclose(shown, expected, atol=0.02 * MU)
    assert np.abs(shown - sent.data[2, 0]).max() > 0.1 * MU


def test_halves_with_gaps_are_not_shown(bench):
    weights = helps(1)
    bench.use(weights)
    sent = bench.slice(count=3, complete=False)
    message = bench.pass_through(sent)
    np.testing.assert_allclose(image(message), network_output(weights, sent.data[2, 0]), atol=0.02 * MU)
    assert message.accuracy is None


def test_not_enabled_shows_the_raw_slice(bench):
    bench.use(helps(1))
    bench.service.write("enabled", False)
    message = bench.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    assert look(bench.service)["status"].startswith("not enabled")
    bench.service.write("enabled", True)
    message = bench.next()
    assert np.abs(message.data[0] - message.data[1]).max() > 0


def test_slices_that_are_late_give_way_to_the_newest(bench):
    dropped = look(bench.service)["slices_dropped"]
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(10)

    worker = threading.Thread(target=bench.service.ask, args=(hold, 10))
    worker.start()
    try:
        assert entered.wait(10)
        denoised = bench.service.values["slices_denoised"]
        sent = [bench.slice() for _ in range(5)]
        before = bench.service._subscribers[0].received
        for slice_ in sent:
            bench.slices.send(slice_)
        deadline = threading.Event()
        while bench.service._subscribers[0].received < before + 5:
            deadline.wait(0.02)
    finally:
        leave.set()
        worker.join()
    message = bench.listener.next(lambda message: message.last_frame >= sent[0].last_frame)
    assert message.last_frame == sent[-1].last_frame
    values = look(bench.service)
    assert (values["slices_denoised"], values["slices_dropped"]) == (denoised + 1, dropped + 4)


# ---- guard


def test_a_network_that_never_helped_is_learning(bench):
    bench.use(hurts(1))
    message = bench.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    assert message.accuracy is not None
    assert message.accuracy > 1
    values = look(bench.service)
    assert values["guard_active"]
    assert values["state"] is State.RUNNING
    assert values["status"].startswith("learning")


def test_a_network_that_stops_helping_is_an_alarm_until_it_helps_again(bench):
    bench.use(helps(1))
    values = look(bench.service)
    assert (values["guard_active"], values["state"]) == (False, State.RUNNING)
    bench.use(hurts(2))
    message = bench.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    values = look(bench.service)
    assert (values["guard_active"], values["state"]) == (True, State.ALARM)
    assert values["status"].startswith("guard active")
    bench.use(helps(3))
    values = look(bench.service)
    assert (values["guard_active"], values["state"]) == (False, State.RUNNING)


def test_a_network_that_begins_anew_is_learning_not_an_alarm(bench):
    bench.use(helps(1))
    assert look(bench.service)["state"] == State.RUNNING
    bench.use(replace(hurts(2), patch_accuracy=None))  # reset: the trainer has scored nothing yet
    bench.next()
    values = look(bench.service)
    assert (values["guard_active"], values["state"]) == (True, State.RUNNING)
    assert values["status"].startswith("learning")
    bench.use(helps(3))
    bench.use(hurts(4))
    bench.next()
    assert look(bench.service)["state"] == State.ALARM


def test_another_series_is_learnt_anew(bench):
    bench.use(helps(1))
    bench.use(hurts(2))
    assert look(bench.service)["state"] == State.ALARM
    bench.pass_through(replace(bench.slice(), series="another"))
    assert look(bench.service)["status"].startswith("learning")


def test_a_removed_slice_takes_its_verdict_and_accuracy_along(bench):
    bench.view("xy", "cut")
    wait_for_slices(bench, "xy", "cut")
    bench.use(hurts(1))
    bench.next("cut")
    assert look(bench.service)["guard_active"]
    bench.view("cut")
    wait_for_slices(bench, "cut")
    bench.view("xy")
    wait_for_slices(bench, "xy")
    values = look(bench.service)
    assert not values["guard_active"]
    assert np.isnan(values["accuracy"])
    message = bench.next(complete=False)  # no accuracy: an earlier verdict of this name would stand
    assert not np.array_equal(message.data[0], message.data[1])


def test_after_stop_nothing_claims_to_run(bench):
    bench.use(helps(1))
    see(bench.service, rate_hz=lambda rate: rate > 0)
    bench.service.stop()
    wait_until(lambda: bench.service.values["status"].startswith("stopped"))
    wait_until(lambda: bench.service.values["rate_hz"] == 0)
    assert not bench.service.values["running"]
    assert np.isnan(bench.service.values["weights_age_s"])


def test_without_guard_the_network_is_shown_as_it_is(bench):
    bench.service.write("guard", False)
    bench.use(hurts(1))
    message = bench.next()
    assert np.abs(message.data[0] - message.data[1]).max() > 0.1 * MU
    assert not look(bench.service)["guard_active"]


# ---- versions


def test_frozen_weights_stay_until_thawed(bench):
    bench.use(helps(1))
    bench.service.write("frozen", True)
    received = bench.service._subscribers[1].received
    bench.weights.send(helps(2), retain="weights")
    bench.weights.send(helps(3), retain="weights")
    wait_weights(bench, received + 2)
    assert bench.next().weights_version == 1
    assert look(bench.service)["status"].endswith("with weights 1, frozen")
    bench.service.write("frozen", False)
    assert bench.next().weights_version == 3


def test_frozen_without_weights_takes_the_first(bench):
    bench.service.write("frozen", True)
    received = bench.service._subscribers[1].received
    bench.use(helps(1))
    bench.weights.send(helps(2), retain="weights")
    wait_weights(bench, received + 2)
    assert bench.next().weights_version == 1


def test_rollback_goes_to_the_weights_before_and_keeps_them(bench):
    with pytest.raises(RuntimeError, match="rollback: expected weights used before these"):
        bench.service.rollback()
    assert not bench.service.values["frozen"]
    bench.use(helps(1))
    bench.use(any_network(2))
    bench.service.rollback()
    assert (bench.service.values["weights_version"], bench.service.values["frozen"]) == (1, True)
    received = bench.service._subscribers[1].received
    bench.weights.send(helps(3), retain="weights")
    wait_weights(bench, received + 1)
    assert bench.next().weights_version == 1
    bench.service.write("frozen", False)
    assert bench.next().weights_version == 3


def test_the_age_of_weights_grows_until_newer_ones_are_in_use(bench):
    assert np.isnan(look(bench.service)["weights_age_s"])
    weights = helps(1)
    bench.use(weights)
    assert look(bench.service)["weights_age_s"] == 0
    bench.clock.now += 7
    received = bench.service._subscribers[1].received
    bench.weights.send(weights, retain="weights")  # the same again
    wait_weights(bench, received + 1)
    assert look(bench.service)["weights_age_s"] == 7
    bench.service.write("frozen", True)
    bench.weights.send(helps(2), retain="weights")
    wait_weights(bench, received + 2)
    assert look(bench.service)["weights_age_s"] == 7
    bench.clock.now += 1
    bench.service.write("frozen", False)
    assert look(bench.service)["weights_age_s"] == 0
    bench.clock.now += 2
    bench.service.write("frozen", False)
    assert look(bench.service)["weights_age_s"] == 2


def test_stale_weights_are_an_alarm_unless_frozen(bench):
    bench.use(helps(1))
    bench.clock.now += 29
    bench.next()
    assert look(bench.service)["state"] is State.RUNNING
    bench.clock.now += 2
    bench.next()
    values = look(bench.service)
    assert values["state"] is State.ALARM
    assert values["status"].startswith("weights are 31 s old")
    bench.service.write("frozen", True)
    assert look(bench.service)["state"] is State.RUNNING
    bench.service.write("frozen", False)
    bench.use(helps(2))
    assert look(bench.service)["state"] is State.RUNNING


def test_bad_weights_are_told_and_the_old_ones_stay(bench):
    good = helps(1)
    bench.use(good)
    bench.clock.now += 3
    received = bench.service._subscribers[1].received
    bench.weights.send(replace(good, version=2, tensors=b"nothing"))
    wait_weights(bench, received + 1)
    told = see(bench.service, last_error=lambda text: text)["last_error"]
    assert "weights 2 refused: weights: expected a safetensors file, got 7 bytes" in told
    broken = unpack(good)
    nn.init.constant_(broken.top.last.weight, torch.nan)
    bench.weights.send(pack(broken, version=4, scale=0.02, patch_accuracy=None, generation=0))
    see(bench.service, last_error=lambda text: "weights 4 refused" in text)
    assert bench.next().weights_version == 1
    values = look(bench.service)
    assert (values["weights_age_s"], values["state"]) == (3, State.RUNNING)


def test_silence_is_standby(bench):
    bench.next()
    assert look(bench.service)["state"] is State.RUNNING
    bench.clock.now += 6
    values = look(bench.service)
    assert (values["state"], values["status"].startswith("no slices")) == (State.STANDBY, True)
    bench.next()
    assert look(bench.service)["state"] is State.RUNNING


# ---- figures and slices that come and go


def test_accuracy_is_of_complete_halves_alone(bench):
    bench.use(helps(1))
    assert look(bench.service)["accuracy"] == pytest.approx(0.56, abs=0.05)
    points = look(bench.service)["accuracy_history"].shape[1]
    assert points >= 1
    message = bench.next(count=3, complete=False)
    assert message.accuracy is None
    values = look(bench.service)
    assert np.isnan(values["accuracy_xy"])
    assert np.isnan(values["accuracy"])
    assert np.isnan(values["accuracy_ratio"])
    assert values["accuracy_history"].shape == (2, points)
    assert bench.next().accuracy == look(bench.service)["accuracy"]


def test_accuracy_is_that_of_all_slices(bench):
    bench.use(helps(1))
    bench.view("xy", "mine")
    wait_for_slices(bench, "xy", "mine")
    a, b = bench.next("xy").accuracy, bench.next("mine", data=1.2 * planes(1)).accuracy
    assert a is not None
    assert b is not None
    assert look(bench.service)["accuracy"] == pytest.approx((a + b) / 2)


def test_a_slice_that_goes_leaves_nothing_behind(bench, tmp_path: Path):
    bench.use(helps(1))
    bench.view("xy", "mine")
    wait_for_slices(bench, "xy", "mine")
    for signal in ("denoised_mine", "raw_mine", "frame_number_mine", "accuracy_mine"):
        assert signal in bench.service.signals
        assert signal in bench.service.values
    bad = planes(1) + MU * (-1.0) ** np.indices((SIDE, SIDE)).sum(axis=0).astype(np.float32)  # which the mean wipes out
    assert bench.next("mine", data=bad).accuracy != pytest.approx(0.56, abs=0.05)
    assert look(bench.service)["guard_active"]
    bench.view("xy")
    wait_for_slices(bench, "xy")
    assert not [name for name in bench.service.values if name.endswith("_mine")]
    message = bench.next("xy")
    values = look(bench.service)
    assert values["accuracy"] == message.accuracy
    assert not values["guard_active"]
    bench.slices.send(bench.slice("mine"))
    bench.next("xy")
    assert not [name for name in bench.service.values if name.endswith("_mine")]
    bench.service.snapshot(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        assert list(file) == ["xy"]


# ---- snapshot


def test_a_snapshot_holds_the_newest_of_every_slice(bench, tmp_path: Path):
    bench.use(helps(5))
    bench.view("xy", "mine")
    wait_for_slices(bench, "xy", "mine")
    sent = {name: bench.next(name) for name in ("xy", "mine")}
    path = tmp_path / "snapshot.h5"
    bench.service.snapshot(path)
    with h5py.File(path) as file:
        assert set(file) == {"xy", "mine"}
        for name, message in sent.items():
            group = file[name]
            assert isinstance(group, h5py.Group)
            for index, field in enumerate(("denoised", "raw")):
                data = group[field]
                assert isinstance(data, h5py.Dataset)
                np.testing.assert_array_equal(data[()], message.data[index])
                assert data.attrs["units"] == "1/mm"
            for field in ("series", "first_frame", "last_frame", "timestamp_s", "generation", "weights_version"):
                assert group.attrs[field] == getattr(message, field), field
            assert group.attrs["accuracy"] == message.accuracy
            assert json.loads(str(group.attrs["geometry"])) == json.loads(json.dumps(PLACE.to_dict()))
    with pytest.raises(ValueError, match="Snapshot: expected a new file"):
        bench.service.snapshot(path)
    with pytest.raises(ValueError, match="Snapshot: expected a path in a folder that exists"):
        bench.service.snapshot(tmp_path / "missing" / "file.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_a_snapshot_before_the_first_slice_is_refused(tmp_path: Path):
    service = DenoiserService(lambda: None, lambda: None)
    try:
        with pytest.raises(ValueError, match="Snapshot: expected a picture, none has come yet"):
            service.snapshot(tmp_path / "file.h5")
    finally:
        service.close()
    assert list(tmp_path.iterdir()) == []
