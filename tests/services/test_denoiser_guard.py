"""When the denoiser shows what its network makes, and with which weights: guard, versions, age."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tango_jit.learn.weights import pack, unpack
from tango_jit.services.service import State
from tests.events import wait_until
from tests.services.denoisers import (
    PLACE,
    SIDE,
    any_network,
    helps,
    hurts,
    wait_for_slices,
    wait_weights,
)
from tests.services.scans import MU, look, see

# ---- guard


def test_a_network_that_never_helped_is_learning(denoiser):
    denoiser.use(hurts(1))
    message = denoiser.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    assert message.accuracy is not None
    assert message.accuracy > 1
    values = look(denoiser.service)
    assert values["guard_active"]
    assert values["state"] is State.RUNNING
    assert values["status"].startswith("learning")


def test_a_network_that_stops_helping_is_an_alarm_until_it_helps_again(denoiser):
    denoiser.use(helps(1))
    values = look(denoiser.service)
    assert (values["guard_active"], values["state"]) == (False, State.RUNNING)
    denoiser.use(hurts(2))
    message = denoiser.next()
    np.testing.assert_array_equal(message.data[0], message.data[1])
    values = look(denoiser.service)
    assert (values["guard_active"], values["state"]) == (True, State.ALARM)
    assert values["status"].startswith("guard active")
    denoiser.use(helps(3))
    values = look(denoiser.service)
    assert (values["guard_active"], values["state"]) == (False, State.RUNNING)


def test_a_network_that_begins_anew_is_learning_not_an_alarm(denoiser):
    denoiser.use(helps(1))
    assert look(denoiser.service)["state"] == State.RUNNING
    denoiser.use(replace(hurts(2), patch_accuracy=None))  # reset: the trainer has scored nothing yet
    denoiser.next()
    values = look(denoiser.service)
    assert (values["guard_active"], values["state"]) == (True, State.RUNNING)
    assert values["status"].startswith("learning")
    denoiser.use(helps(3))
    denoiser.use(hurts(4))
    denoiser.next()
    assert look(denoiser.service)["state"] == State.ALARM


def test_another_series_is_learnt_anew(denoiser):
    denoiser.use(helps(1))
    denoiser.use(hurts(2))
    assert look(denoiser.service)["state"] == State.ALARM
    denoiser.pass_through(replace(denoiser.slice(), series="another"))
    assert look(denoiser.service)["status"].startswith("learning")


def test_a_window_that_was_filled_anew_is_not_compared_with_the_one_before(denoiser):
    """Filter, centre or flat field changed: another generation, and no view in common."""
    denoiser.use(helps(1))
    denoiser.service.write("mode", "FULL")
    denoiser.frame += 20
    denoiser.next()
    assert look(denoiser.service)["evidence"] == "TURNS"
    denoiser.frame += 20
    denoiser.pass_through(replace(denoiser.slice(), generation=4))
    assert look(denoiser.service)["evidence"] != "TURNS"
    denoiser.frame += 20
    denoiser.pass_through(replace(denoiser.slice(), generation=4))
    assert look(denoiser.service)["evidence"] == "TURNS"
    denoiser.pass_through(replace(denoiser.slice(), generation=5))  # another slice was moved
    assert look(denoiser.service)["evidence"] == "TURNS"


def test_a_removed_slice_takes_its_verdict_and_accuracy_along(denoiser):
    denoiser.view("xy", "cut")
    wait_for_slices(denoiser, "xy", "cut")
    denoiser.use(hurts(1))
    denoiser.next("cut")
    assert look(denoiser.service)["guard_active"]
    denoiser.view("cut")
    wait_for_slices(denoiser, "cut")
    denoiser.view("xy")
    wait_for_slices(denoiser, "xy")
    values = look(denoiser.service)
    assert not values["guard_active"]
    assert np.isnan(values["accuracy"])
    denoiser.use(helps(2))
    assert_shown(denoiser.next(complete=False))  # no evidence: as the last time
    denoiser.view("cut")
    wait_for_slices(denoiser, "cut")
    denoiser.view("xy")
    wait_for_slices(denoiser, "xy")
    assert_raw(denoiser.next(complete=False))  # nothing is known of this one


def test_a_slice_that_was_moved_is_not_believed_by_what_was_seen_elsewhere(denoiser):
    denoiser.use(helps(1))
    assert_shown(denoiser.next(complete=False))
    there = replace(denoiser.slice(complete=False), geometry=replace(PLACE, origin_mm=(0.0, 0.0, 1.0)))
    assert_raw(denoiser.pass_through(there))
    back = denoiser.next()
    assert_shown(back)


def assert_shown(message):
    assert not np.array_equal(message.data[0], message.data[1])


def assert_raw(message):
    np.testing.assert_array_equal(message.data[0], message.data[1])


def test_quality_says_by_how_much_at_least(denoiser):
    """The mean of 3 x 3 pixels leaves a ninth of the noise, 9.5 dB; and some of the object's edge is lost."""
    denoiser.use(helps(1))
    denoiser.next()
    values = look(denoiser.service)
    assert 2 < values["quality"] < 9.5
    assert values["quality"] == values["quality_xy"]
    assert 0 < values["accuracy_band"] < 0.2
    assert values["share"] > 60
    assert np.isnan(values["streaks"])
    denoiser.use(hurts(2))
    values = look(denoiser.service)
    assert (values["quality"], values["guard_active"]) == (0.0, True)


def test_the_worst_slice_tells_the_quality(denoiser):
    denoiser.view("xy", "cut")
    wait_for_slices(denoiser, "xy", "cut")
    denoiser.use(helps(1))
    calm = denoiser.slice("cut")
    denoiser.pass_through(replace(calm, data=np.repeat(calm.data[:1], 2, axis=0)))  # equal halves tell nothing
    denoiser.next()
    assert np.isnan(look(denoiser.service)["quality"]) or look(denoiser.service)["quality"] == 0
    denoiser.next("cut")
    values = look(denoiser.service)
    assert values["quality"] == min(values["quality_xy"], values["quality_cut"])


def test_a_map_of_uncertainty_is_made_when_asked_for(denoiser):
    denoiser.use(helps(1))
    denoiser.next()
    assert look(denoiser.service)["uncertainty_xy"].shape == (1, 1)
    denoiser.service.write("uncertainty", True)
    denoiser.next()
    sigma = look(denoiser.service)["uncertainty_xy"]
    assert sigma.shape == (SIDE, SIDE)
    # A ninth of the power of the mean of both halves' noise, 0.2 MU in each.
    assert 0.02 * MU < np.nanmedian(sigma) < 0.12 * MU


def test_after_stop_nothing_claims_to_run(denoiser):
    denoiser.use(helps(1))
    see(denoiser.service, rate_hz=lambda rate: rate > 0)
    denoiser.service.stop()
    wait_until(lambda: denoiser.service.values["status"].startswith("stopped"))
    wait_until(lambda: denoiser.service.values["rate_hz"] == 0)
    assert not denoiser.service.values["running"]
    assert np.isnan(denoiser.service.values["weights_age_s"])


def test_without_guard_the_network_is_shown_as_it_is(denoiser):
    denoiser.service.write("guard", False)
    denoiser.use(hurts(1))
    message = denoiser.next()
    assert np.abs(message.data[0] - message.data[1]).max() > 0.1 * MU
    assert not look(denoiser.service)["guard_active"]


# ---- versions


def test_frozen_weights_stay_until_thawed(denoiser):
    denoiser.use(helps(1))
    denoiser.service.write("frozen", True)
    received = denoiser.service._subscribers[1].received
    denoiser.weights.send(helps(2), retain="weights")
    denoiser.weights.send(helps(3), retain="weights")
    wait_weights(denoiser, received + 2)
    assert denoiser.next().weights_version == 1
    assert look(denoiser.service)["status"].endswith("with weights 1, frozen")
    denoiser.service.write("frozen", False)
    assert denoiser.next().weights_version == 3


def test_frozen_without_weights_takes_the_first(denoiser):
    denoiser.service.write("frozen", True)
    denoiser.next()
    words = "frozen before any weights came: the first ones will be kept"
    see(denoiser.service, state=State.ALARM, status=lambda text: words in text)
    received = denoiser.service._subscribers[1].received
    denoiser.use(helps(1))
    denoiser.weights.send(helps(2), retain="weights")
    wait_weights(denoiser, received + 2)
    assert denoiser.next().weights_version == 1


def test_rollback_goes_to_the_weights_before_and_keeps_them(denoiser):
    with pytest.raises(RuntimeError, match="rollback: expected weights used before these"):
        denoiser.service.rollback()
    assert not denoiser.service.values["frozen"]
    denoiser.use(helps(1))
    denoiser.use(any_network(2))
    denoiser.service.rollback()
    assert (denoiser.service.values["weights_version"], denoiser.service.values["frozen"]) == (1, True)
    received = denoiser.service._subscribers[1].received
    denoiser.weights.send(helps(3), retain="weights")
    wait_weights(denoiser, received + 1)
    assert denoiser.next().weights_version == 1
    denoiser.service.write("frozen", False)
    assert denoiser.next().weights_version == 3


def test_the_age_of_weights_grows_until_newer_ones_are_in_use(denoiser):
    assert np.isnan(look(denoiser.service)["weights_age_s"])
    weights = helps(1)
    denoiser.use(weights)
    assert look(denoiser.service)["weights_age_s"] == 0
    denoiser.clock.now += 7
    received = denoiser.service._subscribers[1].received
    denoiser.weights.send(weights, retain="weights")  # the same again
    wait_weights(denoiser, received + 1)
    assert look(denoiser.service)["weights_age_s"] == 7
    denoiser.service.write("frozen", True)
    denoiser.weights.send(helps(2), retain="weights")
    wait_weights(denoiser, received + 2)
    assert look(denoiser.service)["weights_age_s"] == 7
    denoiser.clock.now += 1
    denoiser.service.write("frozen", False)
    assert look(denoiser.service)["weights_age_s"] == 0
    denoiser.clock.now += 2
    denoiser.service.write("frozen", False)
    assert look(denoiser.service)["weights_age_s"] == 2


def test_stale_weights_are_an_alarm_unless_frozen(denoiser):
    denoiser.use(helps(1))
    denoiser.clock.now += 29
    denoiser.next()
    assert look(denoiser.service)["state"] is State.RUNNING
    denoiser.clock.now += 2
    denoiser.next()
    values = look(denoiser.service)
    assert values["state"] is State.ALARM
    assert values["status"].startswith("weights are 31 s old")
    denoiser.service.write("frozen", True)
    assert look(denoiser.service)["state"] is State.RUNNING
    denoiser.service.write("frozen", False)
    denoiser.use(helps(2))
    assert look(denoiser.service)["state"] is State.RUNNING


def test_bad_weights_are_told_and_the_old_ones_stay(denoiser):
    good = helps(1)
    denoiser.use(good)
    denoiser.clock.now += 3
    received = denoiser.service._subscribers[1].received
    denoiser.weights.send(replace(good, version=2, tensors=b"nothing"))
    wait_weights(denoiser, received + 1)
    told = see(denoiser.service, last_error=lambda text: text)["last_error"]
    assert "weights 2 refused: weights: expected a safetensors file, got 7 bytes" in told
    broken = unpack(good)
    nn.init.constant_(broken.top.last.weight, torch.nan)
    denoiser.weights.send(pack(broken, version=4, scale=0.02, patch_accuracy=None, generation=0))
    see(denoiser.service, last_error=lambda text: "weights 4 refused" in text)
    assert denoiser.next().weights_version == 1
    values = look(denoiser.service)
    assert (values["weights_age_s"], values["state"]) == (3, State.RUNNING)


def test_silence_is_standby(denoiser):
    denoiser.next()
    assert look(denoiser.service)["state"] is State.RUNNING
    denoiser.clock.now += 6
    values = look(denoiser.service)
    assert (values["state"], values["status"].startswith("no slices")) == (State.STANDBY, True)
    denoiser.next()
    assert look(denoiser.service)["state"] is State.RUNNING


# ---- two versions side by side


def test_two_versions_are_compared_on_the_same_slice(denoiser):
    denoiser.use(helps(1))
    denoiser.use(hurts(2))
    assert look(denoiser.service)["compared_xy"].shape == (1, 1)
    assert list(look(denoiser.service)["versions"]) == [1, 2]
    denoiser.service.write("compared_version", 1)
    message = denoiser.next()
    values = look(denoiser.service)
    assert_raw(message)
    assert values["quality_xy"] == 0 < values["comparison_xy"]
    assert float(np.abs(values["compared_xy"] - message.data[1]).max()) > 0
    for version in range(3, 14):  # more than are remembered
        denoiser.use(hurts(version))
    values = look(denoiser.service)
    assert (values["compared_version"], 1 in values["versions"]) == (1, False)
    assert values["comparison_xy"] > 0
    with pytest.raises(ValueError, match=r"version: expected one of \[5, 6, .*13\], got 1"):
        denoiser.service.write("compared_version", 1)
    denoiser.service.write("compared_version", 0)
    denoiser.next()
    assert look(denoiser.service)["compared_xy"].shape == (1, 1)
