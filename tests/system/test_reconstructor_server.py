"""A reconstructor that runs as a server of its own: its preview."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tango

from tango_jit.recon.volume import field_of_view, volume
from tests.events import Events, wait_until
from tests.reconstructions import whole_window
from tests.system.conftest import System


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
        assert numbers.wait(lambda number: number >= 0, timeout_s=90) == last
    preview, corner = device.read_attributes(["preview", "preview_geometry"])
    data = preview.value.reshape(-1, 48, 48)
    geometry, window = whole_window(recording)
    place = field_of_view(geometry, 48)
    np.testing.assert_allclose(corner.value, place.twelve)
    expected = volume(window, geometry, place)
    np.testing.assert_allclose(data, expected, atol=2e-3 * np.abs(expected).max())
