"""The denoiser as a service: over real sockets, without Tango, by a clock that the tests move."""

import json
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from tango_jit.learn import Denoiser
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.service import State
from tests.services.denoisers import (
    PLACE,
    SIDE,
    any_network,
    helps,
    image,
    network_output,
    planes,
    wait_for_slices,
)
from tests.services.scans import MU, look

# ---- what passes


def test_without_weights_slices_pass_as_they_are(denoiser):
    data = planes(7)
    message = denoiser.next(data=data)
    np.testing.assert_array_equal(message.data[:, 0], [data.mean(axis=0)[0]] * 2)
    assert (message.weights_version, message.accuracy) == (0, None)
    values = look(denoiser.service)
    assert values["state"] is State.RUNNING
    assert values["status"].startswith("no weights yet")
    assert values["precision"] == ""
    np.testing.assert_array_equal(values["denoised_xy"], data.mean(axis=0)[0])


def test_the_message_tells_all_of_its_slice_and_planes_are_denoised_and_raw(denoiser):
    denoiser.use(helps(5))
    sent = denoiser.slice()
    message = denoiser.pass_through(sent)
    for field in ("slice", "generation", "geometry", "series", "first_frame", "last_frame", "timestamp_s", "complete"):
        assert getattr(message, field) == getattr(sent, field), field
    assert message.weights_version == 5
    raw = sent.data.mean(axis=0)[0]
    np.testing.assert_allclose(message.data[1, 0], raw, rtol=1e-6)
    assert np.std(np.diff(image(message))) < 0.5 * np.std(np.diff(raw))
    values = look(denoiser.service)
    assert values["accuracy_xy"] == message.accuracy == pytest.approx(0.56, abs=0.05)
    assert values["frame_number_xy"] == sent.last_frame
    assert (values["generation"], values["weights_version"]) == (3, 5)
    assert values["precision"] in ("bfloat16", "float32")
    assert values["latency_ms"] == pytest.approx(500)
    np.testing.assert_array_equal(values["denoised_xy"], image(message))
    np.testing.assert_array_equal(values["raw_xy"], message.data[1, 0])


def test_halves_are_denoised_apart_and_full_is_the_whole(denoiser):
    weights = any_network(1)
    denoiser.service.write("guard", False)
    denoiser.use(weights)
    engine = Denoiser(guard=False)
    engine.load(weights)
    sent = denoiser.slice(count=3)
    even, odd, full = sent.data[:, 0]
    shown = image(denoiser.pass_through(sent))
    np.testing.assert_array_equal(shown, engine(even, odd, full).image)
    expected = (network_output(weights, even) + network_output(weights, odd)) / 2
    np.testing.assert_allclose(shown, expected, atol=0.02 * MU)
    denoiser.service.write("mode", "FULL")
    sent = denoiser.slice(count=3)
    shown = image(denoiser.pass_through(sent))
    expected = network_output(weights, sent.data[2, 0])
    np.testing.assert_allclose(shown, expected, atol=0.02 * MU)
    assert np.abs(shown - sent.data[2, 0]).max() > 0.1 * MU


def test_halves_with_gaps_are_not_shown(denoiser):
    weights = helps(1)
    denoiser.service.write("guard", False)
    denoiser.use(weights)
    sent = denoiser.slice(count=3, complete=False)
    message = denoiser.pass_through(sent)
    np.testing.assert_allclose(image(message), network_output(weights, sent.data[2, 0]), atol=0.02 * MU)
    assert message.accuracy is None


def test_not_enabled_shows_the_raw_slice(denoiser):
    denoiser.use(helps(1))
    denoiser.service.write("enabled", False)
    message = denoiser.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    values = look(denoiser.service)
    assert values["status"].startswith("not enabled")
    assert (values["quality"], values["quality_xy"]) == (0.0, 0.0)
    denoiser.service.write("enabled", True)
    message = denoiser.next()
    assert np.abs(message.data[0] - message.data[1]).max() > 0


def test_slices_that_are_late_give_way_to_the_newest(denoiser):
    dropped = look(denoiser.service)["slices_dropped"]
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(10)

    worker = threading.Thread(target=denoiser.service.ask, args=(hold, 10))
    worker.start()
    try:
        assert entered.wait(10)
        denoised, waiting = denoiser.service.values["slices_denoised"], len(denoiser.service._inbox)
        sent = [denoiser.slice() for _ in range(5)]
        before = denoiser.service._subscribers[0].received
        for slice_ in sent:
            denoiser.slices.send(slice_)
        deadline = threading.Event()
        while denoiser.service._subscribers[0].received < before + 5:
            deadline.wait(0.02)
    finally:
        leave.set()
        worker.join()
    message = denoiser.listener.next(lambda message: message.last_frame >= sent[0].last_frame)
    assert message.last_frame == sent[-1].last_frame
    values = look(denoiser.service)
    assert (values["slices_denoised"], values["slices_dropped"]) == (denoised + 1, dropped + waiting + 4)


# ---- figures and slices that come and go


def test_accuracy_is_of_complete_halves_alone(denoiser):
    denoiser.use(helps(1))
    assert look(denoiser.service)["accuracy"] == pytest.approx(0.56, abs=0.05)
    points = look(denoiser.service)["accuracy_history"].shape[1]
    assert points >= 1
    message = denoiser.next(count=3, complete=False)
    assert message.accuracy is None
    values = look(denoiser.service)
    assert np.isnan(values["accuracy_xy"])
    assert np.isnan(values["accuracy"])
    assert np.isnan(values["accuracy_ratio"])
    assert values["accuracy_history"].shape == (2, points)
    assert denoiser.next().accuracy == look(denoiser.service)["accuracy"]


def test_accuracy_is_that_of_all_slices(denoiser):
    denoiser.use(helps(1))
    denoiser.view("xy", "mine")
    wait_for_slices(denoiser, "xy", "mine")
    a, b = denoiser.next("xy").accuracy, denoiser.next("mine", data=1.2 * planes(1)).accuracy
    assert a is not None
    assert b is not None
    assert look(denoiser.service)["accuracy"] == pytest.approx((a + b) / 2)


def test_a_slice_that_goes_leaves_nothing_behind(denoiser, tmp_path: Path):
    denoiser.use(helps(1))
    denoiser.view("xy", "mine")
    wait_for_slices(denoiser, "xy", "mine")
    for signal in ("denoised_mine", "raw_mine", "frame_number_mine", "accuracy_mine"):
        assert signal in denoiser.service.signals
        assert signal in denoiser.service.values
    bad = planes(1) + MU * (-1.0) ** np.indices((SIDE, SIDE)).sum(axis=0).astype(np.float32)  # which the mean wipes out
    assert denoiser.next("mine", data=bad).accuracy != pytest.approx(0.56, abs=0.05)
    assert look(denoiser.service)["guard_active"]
    denoiser.view("xy")
    wait_for_slices(denoiser, "xy")
    assert not [name for name in denoiser.service.values if name.endswith("_mine")]
    message = denoiser.next("xy")
    values = look(denoiser.service)
    assert values["accuracy"] == message.accuracy
    assert not values["guard_active"]
    denoiser.slices.send(denoiser.slice("mine"))
    denoiser.next("xy")
    assert not [name for name in denoiser.service.values if name.endswith("_mine")]
    denoiser.service.snapshot(tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        assert list(file) == ["xy"]


# ---- snapshot


def test_a_snapshot_holds_the_newest_of_every_slice(denoiser, tmp_path: Path):
    denoiser.use(helps(5))
    denoiser.view("xy", "mine")
    wait_for_slices(denoiser, "xy", "mine")
    sent = {name: denoiser.next(name) for name in ("xy", "mine")}
    path = tmp_path / "snapshot.h5"
    denoiser.service.snapshot(path)
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
        denoiser.service.snapshot(path)
    with pytest.raises(ValueError, match="Snapshot: expected a path in a folder that exists"):
        denoiser.service.snapshot(tmp_path / "missing" / "file.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_a_snapshot_before_the_first_slice_is_refused(tmp_path: Path):
    service = DenoiserService(lambda: None, lambda: None)
    try:
        with pytest.raises(ValueError, match="Snapshot: expected a picture, none has come yet"):
            service.snapshot(tmp_path / "file.h5")
    finally:
        service.close()
    assert list(tmp_path.iterdir()) == []
