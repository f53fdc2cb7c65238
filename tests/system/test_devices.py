"""Every device has everything that a client of Tango may look for; on real servers, slices included."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tango

from devices.registration import SERVERS
from tests.events import wait_until

MEMBERS = [server.member for server in SERVERS]
NUMBERS = (tango.DevLong64, tango.DevDouble, tango.DevFloat)
KEPT_ELSEWHERE = {  # settings that Tango does not memorize
    "detector": {"recording", "position", "dose", "counts_per_photon", "center_shift_px"},  # nobody wants last week's
    "denoiser": {"frozen", "compared_version"},  # of weights that are gone after a restart
}


@pytest.fixture(scope="module")
def running(system, recording):
    """All at work, so that the attributes of slices are there."""
    system.replay(recording)
    system.await_picture("denoiser")
    return system


@pytest.fixture(params=MEMBERS)
def device(request, running) -> tango.DeviceProxy:
    return running.devices[request.param]


def member(device: tango.DeviceProxy) -> str:
    return device.dev_name().split("/")[1]


def own_attributes(device: tango.DeviceProxy) -> list[tango.AttributeInfoEx]:
    return [one for one in device.attribute_list_query_ex() if one.name not in ("State", "Status")]


def test_attributes_tell_what_they_are(device):
    found = own_attributes(device)
    assert len(found) >= 3
    for one in found:
        assert one.label != one.name, one.name
        assert not one.label.endswith((" ms", " hz", " mm", " px")), one.label
        assert one.label[0].isupper(), one.label
        assert one.description.endswith("."), one.name
        assert one.disp_level in (tango.DispLevel.OPERATOR, tango.DispLevel.EXPERT)
        if one.data_type in (tango.DevDouble, tango.DevFloat):
            assert re.fullmatch(r"%\d*\.\d[fg]", one.format), one.name
        if one.data_type == tango.DevEnum:
            assert all(label.isidentifier() and label.isupper() for label in one.enum_labels), one.name


def test_units_stand_where_a_name_has_one(device):
    units = {"ms": "ms", "s": "s", "hz": "Hz", "px": "px", "mm": "mm", "mb": "MB", "percent": "%", "kev": "keV"}
    for one in own_attributes(device):
        suffix = one.name.rsplit("_", 1)[-1]
        if suffix in units and "_per_" not in one.name:
            assert one.unit == units[suffix], one.name


def test_settings_have_limits_and_are_remembered(device):
    for one in own_attributes(device):
        if one.writable == tango.AttrWriteType.READ or one.data_format != tango.AttrDataFormat.SCALAR:
            continue
        if one.data_type in NUMBERS:
            assert one.min_value != "Not specified", one.name
            assert one.max_value != "Not specified", one.name
        kept = one.memorized == tango.AttrMemorizedType.MEMORIZED_WRITE_INIT
        elsewhere = KEPT_ELSEWHERE.get(member(device), set())
        by_device = member(device) == "trainer" or one.name in elsewhere or one.name.startswith("fault_")
        assert kept or by_device, one.name


def test_everything_small_is_announced_and_nothing_is_polled(device):
    images = 0
    for one in own_attributes(device):
        assert not device.is_attribute_polled(one.name), one.name
        size = max(one.max_dim_x, 1) * max(one.max_dim_y, 1)
        if size > 1000:
            images += 1
            with pytest.raises(tango.DevFailed):
                device.subscribe_event(one.name, tango.EventType.CHANGE_EVENT, print)
            continue
        for kind in (tango.EventType.CHANGE_EVENT, tango.EventType.ARCHIVE_EVENT):
            device.unsubscribe_event(device.subscribe_event(one.name, kind, lambda event: None))
    for name in ("State", "Status"):
        for kind in (tango.EventType.CHANGE_EVENT, tango.EventType.ARCHIVE_EVENT):
            device.unsubscribe_event(device.subscribe_event(name, kind, lambda event: None))
    assert images == {"detector": 2, "reconstructor": 5, "trainer": 1, "denoiser": 13}.get(member(device), 0)


def test_commands_tell_what_they_do_and_take(device):
    own = [c for c in device.command_list_query() if c.cmd_name not in ("Init", "State", "Status")]
    assert {"Start", "Stop"} <= {c.cmd_name for c in own}
    for one in own:
        assert re.search(r"\w.*\.$", one.in_type_desc), one.cmd_name
        assert "DevFailed" in one.out_type_desc, one.cmd_name


def test_the_version_is_told(device):
    assert "tango-jit" in device.info().version_info


def test_one_reading_of_everything_is_of_one_moment(running):
    names = [one.name for one in own_attributes(running.denoiser)]
    assert len(names) > 50
    readings = running.denoiser.read_attributes(names)
    assert not [r.name for r in readings if r.has_failed]


def test_wrong_properties_are_a_fault_that_allows_nothing_but_its_cure(running):
    """The reconstructor that cannot be built: said in words, then mended, with its settings of before."""
    reconstructor, database = running.reconstructor, tango.Database(*running.host.split(":"))
    reconstructor.update_every = 47
    database.put_device_property(reconstructor.dev_name(), {"Backend": ["abacus"]})
    reconstructor.Init()
    assert reconstructor.State() == tango.DevState.FAULT
    assert "abacus" in reconstructor.Status()
    with pytest.raises(tango.DevFailed) as caught:
        reconstructor.Start()
    assert caught.value.args[0].reason == "API_CommandNotAllowed"
    with pytest.raises(tango.DevFailed) as caught:
        reconstructor.read_attribute("update_every")
    assert caught.value.args[0].reason == "API_AttrNotAllowed"
    database.put_device_property(reconstructor.dev_name(), {"Backend": ["cpu"]})
    reconstructor.Init()
    wait_until(lambda: reconstructor.State() == tango.DevState.RUNNING, 60, "the mended reconstructor")
    assert reconstructor.update_every == 47
    running.await_more_pictures("denoiser")
    assert np.isfinite(running.denoiser.denoised_xy).all()
