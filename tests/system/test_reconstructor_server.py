"""A reconstructor that runs as a server of its own: its preview, and the property Backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tango

from tango_jit.geometry import SliceGeometry
from tango_jit.recon import backproject
from tango_jit.recon.volume import field_of_view, volume
from tests.events import Events, wait_until
from tests.reconstructions import full_slice, whole_window
from tests.system.conftest import System

# cuda where there is no device for it
HINDERED = next((name for name in ("cuda", "astra") if name in backproject.BACKENDS and backproject.obstacle(name)), "")


def test_a_preview_is_read_as_one_picture_of_slices(system: System, recording: Path) -> None:
    device = system.reconstructor
    with pytest.raises(tango.DevFailed, match="MakePreview: expected a full window"):
        device.MakePreview()
    device.preview_every_s, device.preview_size, device.update_every = 0, 48, 10
    system.replay(recording, loop=False)
    last = system.detector.recording_frames - 1
    wait_until(lambda: device.frames_received == last + 1, what="the last frame")
    assert device.read_attribute("preview").quality == tango.AttrQuality.ATTR_INVALID
    with Events(device, "preview_frame_number") as numbers:
        device.MakePreview()
        assert numbers.wait(lambda number: number >= 0) == last
    preview, corner = device.read_attributes(["preview", "preview_geometry"])
    data = preview.value.reshape(-1, 48, 48)
    geometry, window = whole_window(recording)
    place = field_of_view(geometry, 48)
    np.testing.assert_allclose(corner.value, place.twelve)
    expected = volume(window, geometry, place)
    np.testing.assert_allclose(data, expected, atol=2e-3 * np.abs(expected).max())


def use_backend(system: System, name: str) -> None:
    """Set the property and let the device read it."""
    database = tango.Database(*system.host.split(":"))
    database.put_device_property(system.deployment.devices["reconstructor"], {"Backend": [name]})
    system.reconstructor.Init()


@pytest.mark.skipif(not HINDERED, reason="every backend can run here")
def test_a_backend_that_cannot_run_is_an_alarm_and_the_slices_are_right(system: System, recording: Path) -> None:
    use_backend(system, HINDERED)
    device = system.reconstructor
    device.update_every = 1
    with Events(device, "state") as states, Events(device, "status") as statuses:
        system.replay(recording, loop=False)
        states.wait(lambda state: state == tango.DevState.ALARM)
        status = statuses.wait(lambda text: "slices/s" in text)
    assert f"backend {HINDERED}: " in status
    assert status.endswith("; cpu is used instead")
    assert (device.backend, device.backend_wanted) == ("cpu", HINDERED)
    last = system.detector.recording_frames - 1
    wait_until(lambda: device.frame_number_xy == last, what="the slice of the last turn")
    picture = device.slice_xy
    geometry, window = whole_window(recording)
    expected = full_slice(
        geometry, window, SliceGeometry((0, 0, 0), (1, 0, 0), (0, 1, 0), *picture.shape).with_nine(device.geometry_xy)
    )
    np.testing.assert_allclose(picture, expected, atol=2e-3 * np.abs(expected).max())


def test_an_unknown_backend_is_a_fault_in_words(system: System) -> None:
    use_backend(system, "abacus")
    wait_until(lambda: system.reconstructor.state() == tango.DevState.FAULT, what="a fault")
    status = system.reconstructor.status()
    assert "backend: expected one of cpu, " in status
    assert status.endswith("got 'abacus'. Correct the device's properties, then Init")
    use_backend(system, "cpu")
    wait_until(lambda: system.reconstructor.state() == tango.DevState.STANDBY, what="an end of the fault")
