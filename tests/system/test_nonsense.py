"""Wrong values: a clear error, and nothing has changed."""

from __future__ import annotations

import numpy as np
import pytest
import tango

REASONS = ("JIT_InvalidValue", "JIT_File", "API_WAttrOutsideLimit", "API_IncompatibleAttrDataType")
NUMBERS = {tango.DevDouble, tango.DevFloat}

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together


def wrong_values(config):
    """What nobody may write to this attribute."""
    if config.data_format == tango.AttrDataFormat.IMAGE:
        return []
    if config.data_format == tango.AttrDataFormat.SPECTRUM:
        if config.data_type in NUMBERS:
            return [np.full(config.max_dim_x, np.nan), np.arange(config.max_dim_x + 1.0), np.zeros(2)]
        return [np.array([-1, 5]), np.array([10**6, 10**6]), np.array([3])]
    if config.data_type == tango.DevString:
        return ["/no/such/file"]
    if config.data_type in NUMBERS:
        values = [float("nan"), float("inf")]
        values += [float(config.min_value) - 1] if config.min_value != "Not specified" else []
        return values + ([float(config.max_value) + 1] if config.max_value != "Not specified" else [])
    if config.data_type == tango.DevEnum:
        return [len(config.enum_labels)]
    if config.data_type == tango.DevBoolean:
        return []
    values = [int(config.min_value) - 1] if config.min_value != "Not specified" else []
    return values + ([int(float(config.max_value)) + 1] if config.max_value != "Not specified" else [])


@pytest.mark.parametrize("member", ["detector", "reconstructor", "trainer", "denoiser"])
def test_nonsense_is_refused_and_changes_nothing(system, member):
    proxy = system.devices[member]
    tried = 0
    for name in proxy.get_attribute_list():
        config = proxy.get_attribute_config(name)
        if config.writable == tango.AttrWriteType.READ:
            continue
        before = proxy.read_attribute(name).value
        for value in wrong_values(config):
            tried += 1
            with pytest.raises(tango.DevFailed) as caught:
                proxy.write_attribute(name, value)
            error = caught.value.args[0]
            assert error.reason in REASONS, error
            assert len(error.desc) > 20, error
            assert "Traceback" not in error.desc, error
        after = proxy.read_attribute(name).value
        np.testing.assert_array_equal(before, after, err_msg=name)
    assert tried > 0


def test_commands_at_the_wrong_time_are_refused_in_words(system):
    for command, argument, words in (
        ("RemoveSlice", "nothing", "expected one of"),
        ("AddSlice", "Not A Name", "slice name: expected"),
        ("MoveSlice", ([1.0, 2.0], ["xy"]), "expected 9 numbers"),
        ("FindCenter", None, "expected a full window"),
    ):
        with pytest.raises(tango.DevFailed, match=words):
            system.reconstructor.command_inout(command, argument) if argument else system.reconstructor.FindCenter()
    with pytest.raises(tango.DevFailed, match="expected the path of a recording before Start"):
        system.detector.Start()
    with pytest.raises(tango.DevFailed, match="at least 1 frame"):
        system.detector.Step(0)
