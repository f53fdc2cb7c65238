"""The property Backend of the three devices that compute: what they run with where it cannot, and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tango

from tango_jit.geometry import SliceGeometry
from tango_jit.recon import backproject
from tests.events import Events, wait_until
from tests.reconstructions import full_slice, whole_window
from tests.system.conftest import System

MEMBERS = ("reconstructor", "trainer", "denoiser")
no_cuda = pytest.mark.skipif(not backproject.obstacle("cuda"), reason="the backend cuda runs here")


def use_backend(system: System, member: str, name: str) -> None:
    """Set the property and let the device read it."""
    database = tango.Database(*system.host.split(":"))
    database.put_device_property(system.deployment.devices[member], {"Backend": [name]})
    system.devices[member].Init()


@pytest.mark.parametrize("member", MEMBERS)
def test_an_unknown_backend_is_a_fault_in_words(system: System, member: str) -> None:
    device = system.devices[member]
    use_backend(system, member, "abacus")
    wait_until(lambda: device.State() == tango.DevState.FAULT, what="a fault")
    status = device.Status()
    assert "backend: expected one of cpu, " in status
    assert status.endswith("got 'abacus'. Correct the device's properties, then Init")
    use_backend(system, member, "cpu")
    wait_until(lambda: device.State() == tango.DevState.STANDBY, what="an end of the fault")


@no_cuda
def test_a_backend_that_cannot_run_is_an_alarm_and_the_slices_are_right(system: System, recording: Path) -> None:
    use_backend(system, "reconstructor", "cuda")
    device = system.reconstructor
    device.update_every = 1
    with Events(device, "state") as states, Events(device, "status") as statuses:
        system.replay(recording, loop=False)
        states.wait(lambda state: state == tango.DevState.ALARM)
        status = statuses.wait(lambda text: "slices/s" in text)
    assert "backend cuda: " in status
    assert status.endswith("; cpu is used instead")
    assert (device.backend, device.backend_wanted) == ("cpu", "cuda")
    last = system.detector.recording_frames - 1
    wait_until(lambda: device.frame_number_xy == last, what="the slice of the last turn")
    picture = device.slice_xy
    geometry, window = whole_window(recording)
    expected = full_slice(
        geometry, window, SliceGeometry((0, 0, 0), (1, 0, 0), (0, 1, 0), *picture.shape).with_nine(device.geometry_xy)
    )
    np.testing.assert_allclose(picture, expected, atol=2e-3 * np.abs(expected).max())


@no_cuda
def test_networks_without_their_backend_are_trained_and_used_with_an_alarm(system: System, recording: Path) -> None:
    members = ("trainer", "denoiser")
    for member in members:
        use_backend(system, member, "cuda")
    system.replay(recording)
    wait_until(lambda: system.trainer.steps > 5, 60, "steps")
    wait_until(lambda: system.denoiser.weights_version > 0, 60, "weights at the denoiser")
    system.await_more_pictures("denoiser")
    for member in members:
        device = system.devices[member]
        # Tango adds its warnings, as of an accuracy of the first pairs above 1, and makes them an alarm.
        wait_until(lambda device=device: device.Status().endswith("; cpu is used instead"), what=member)
        assert device.State() == tango.DevState.ALARM
        assert "; backend cuda: " in device.Status()
        assert device.backend == "cpu"
        assert "backend cuda: " in device.last_error
