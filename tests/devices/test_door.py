"""The door by itself: a small service shown as a device, in a test context without a database."""

from __future__ import annotations

import numpy as np
import pytest
import tango
from tango.server import command
from tango.test_context import DeviceTestContext

from devices.base import STATES, Door
from tango_jit.services.service import Service, State
from tango_jit.signals import Signal, setting
from tests.events import Events, wait_until


class Small(Service):
    """A service with one signal of each kind."""

    SIGNALS = (
        setting("period_s", "float", "A period.", unit="s", minimum=0, maximum=10, default=1.0),
        setting("mode", "enum", "A mode.", choices=("FAST", "SLOW")),
        setting("word", "str", "A word.", default="hello"),
        setting("even", "int", "An even number.", default=0),
        Signal("place", "float", "A place.", shape=(3,), writable=True),
        Signal("unknown", "float", "Not known yet."),
        Signal("picture", "float", "A picture.", shape=(4096, 4096), dtype="f4"),
        Signal("number", "int", "Number of the picture."),
    )

    def turn(self) -> None:
        number = self.values["number"] + 1
        self.publish(number=number, picture=np.full((8, 6), number, np.float32))
        self._stop.wait(0.002)

    def accept(self, name, value):
        if name == "even" and value % 2:
            raise ValueError(f"even: expected an even number, got {value}")


class SmallDoor(Door):
    """A door to `Small`."""

    service_class = Small

    def build(self) -> Service:
        return Small()

    @command(dtype_in=str)
    def AddPicture(self, name: str) -> None:
        """A picture of the kind that comes with a slice."""
        signal = Signal(name, "float", "One more.", shape=(4096, 4096), dtype="f4")
        self.guarded(lambda: self.service.replace_signals((signal,)), "AddPicture")

    @command(dtype_in=str)
    def SerialModel(self, name: str) -> str:
        """How Tango locks an attribute while it is read."""
        return str(self.get_device_attr().get_attr_by_name(name).get_attr_serial_model())


class BrokenDoor(Door):
    """A door whose service cannot be built."""

    service_class = Small

    def build(self) -> Service:
        raise ValueError("Backend: expected cpu, got abacus")


@pytest.fixture
def proxy():
    with DeviceTestContext(SmallDoor, process=True) as device:
        yield device


def test_signals_become_attributes_with_everything_a_client_needs(proxy):
    config = proxy.get_attribute_config("period_s")
    assert (config.unit, config.label, config.description) == ("s", "period s", "A period.")
    assert (config.min_value, config.max_value) == ("0", "10")
    assert list(proxy.get_attribute_config("mode").enum_labels) == ["FAST", "SLOW"]
    assert proxy.get_attribute_config("number").writable == tango.AttrWriteType.READ
    assert proxy.read_attribute("unknown").quality == tango.AttrQuality.ATTR_INVALID
    assert proxy.word == "hello"


def test_settings_are_written_and_refused_in_words(proxy):
    proxy.mode = "SLOW"
    assert proxy.read_attribute("mode").value == 1
    proxy.place = [1, 2, 3]
    np.testing.assert_array_equal(proxy.place, [1, 2, 3])
    with pytest.raises(tango.DevFailed, match="even: expected an even number, got 3") as caught:
        proxy.even = 3
    assert caught.value.args[0].reason == "JIT_InvalidValue"
    assert proxy.even == 0


def test_one_read_is_one_snapshot(proxy):
    wait_until(lambda: proxy.number > 0)
    numbers = set()

    def many() -> bool:
        for _ in range(300):
            picture, number = proxy.read_attributes(["picture", "number"])
            assert (picture.value == number.value).all()
            numbers.add(number.value)
        return len(numbers) > 10

    wait_until(many, what="pictures that change between the reads")


def test_numbers_are_pushed_and_pictures_are_not(proxy):
    with Events(proxy, "number") as numbers, Events(proxy, "number", tango.EventType.ARCHIVE_EVENT) as archived:
        first = numbers.wait()
        numbers.wait(lambda n: n > first)
        archived.wait(lambda n: n > first)
    with pytest.raises(tango.DevFailed):
        proxy.subscribe_event("picture", tango.EventType.CHANGE_EVENT, print)


def test_a_client_that_stops_reading_a_picture_holds_no_lock(proxy):
    proxy.AddPicture("cut")
    assert "cut" in proxy.get_attribute_list()
    assert proxy.SerialModel("picture") == proxy.SerialModel("cut") == "ATTR_NO_SYNC"
    assert proxy.SerialModel("number") != "ATTR_NO_SYNC"  # the question tells them apart


def test_state_and_status_follow_the_service(proxy):
    with Events(proxy, "State") as states:
        states.wait(lambda state: state == tango.DevState.RUNNING)
    assert proxy.Status() == "running"
    assert proxy.running


def test_a_device_that_cannot_be_built_says_what_to_do():
    with DeviceTestContext(BrokenDoor, process=True) as device:
        assert device.State() == tango.DevState.FAULT
        assert "expected cpu, got abacus" in device.Status()
        assert "Init" in device.Status()
        with pytest.raises(tango.DevFailed):
            device.period_s = 2.0


def test_every_state_has_a_tango_state():
    assert set(STATES) == set(State)
