"""The door by itself: a small service shown as a device, in a test context without a database."""

from __future__ import annotations

import numpy as np
import pytest
import tango
from tango.server import command
from tango.test_context import DeviceTestContext

from devices.attributes import order
from devices.base import STATES, Door
from tango_jit import __version__
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
        Signal("load", "float", "How much it bears.", unit="%", warning=(None, 10), alarm=(None, 20), default=0.0),
    )

    _broken = False

    def turn(self) -> None:
        if self._broken:
            self._broken = False
            raise RuntimeError("too much")
        number = self.values["number"] + 1
        self.publish(number=number, picture=np.full((8, 6), number, np.float32))
        self._stop.wait(0.002)

    def accept(self, name, value):
        if name == "even" and value % 2:
            raise ValueError(f"even: expected an even number, got {value}")

    def break_down(self):
        self.ask(self._break)

    def _break(self):
        self._broken = True

    def bear(self, load):
        self.publish(load=load)

    def refuse(self, kind):
        raise {"file": OSError, "now": RuntimeError, "name": KeyError, "value": ValueError}[kind](f"no {kind}")


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

    @order("Bear so much.", float)
    def Bear(self, load: float) -> None:
        self.guarded(lambda: self.service.bear(load), "Bear")

    @order("Set another period.", float)
    def Preset(self, period: float) -> None:
        self.guarded(lambda: self.service.publish(period_s=period), "Preset")

    @order("Fail for a reason of this kind.", str)
    def Refuse(self, kind: str) -> None:
        self.guarded(lambda: self.service.refuse(kind), "Refuse")

    @order("Break down.", at_work=True)
    def BreakDown(self) -> None:
        self.guarded(self.service.break_down, "BreakDown")

    @order("Work again.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @command(dtype_in=str)
    def SerialModel(self, name: str) -> str:
        """How Tango locks an attribute while it is read."""
        return str(self.get_device_attr().get_attr_by_name(name).get_attr_serial_model())


class BrokenDoor(Door):
    """A door whose service cannot be built."""

    service_class = Small

    @order("Work.")
    def Start(self) -> None:
        raise AssertionError("allowed")

    def build(self) -> Service:
        raise ValueError("Backend: expected cpu, got abacus")


@pytest.fixture
def proxy():
    with DeviceTestContext(SmallDoor, process=True) as device:
        yield device


def test_signals_become_attributes_with_everything_a_client_needs(proxy):
    config = proxy.get_attribute_config("period_s")
    assert (config.unit, config.label, config.description) == ("s", "Period", "A period.")
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


def test_what_is_set_stands_in_input_fields(proxy):
    """Clients fill them with the set value of a reading, also before anybody wrote, and of what the device changed."""
    proxy.place = [1.0, 2.0, 3.0]
    for name, value in (("period_s", 1.0), ("mode", 0), ("word", "hello"), ("even", 0)):
        assert proxy.read_attribute(name).w_value == value, name
    assert list(proxy.read_attribute("place").w_value) == [1.0, 2.0, 3.0]
    proxy.mode = "SLOW"
    assert proxy.read_attribute("mode").w_value == 1
    with Events(proxy, "period_s", keep=lambda reading: (reading.value, reading.w_value)) as events:
        proxy.Preset(0.25)
        assert events.wait(lambda seen: seen[0] == 0.25) == (0.25, 0.25)


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
        for refused, reason in (
            (device.Start, "API_CommandNotAllowed"),
            (lambda: device.write_attribute("period_s", 2.0), "API_AttrNotAllowed"),
            (lambda: device.read_attribute("number"), "API_AttrNotAllowed"),  # 0 would be a lie
        ):
            with pytest.raises(tango.DevFailed, match="allowed") as caught:
                refused()
            assert caught.value.args[0].reason == reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("file", "JIT_File"), ("now", "JIT_NotNow"), ("name", "JIT_Unknown"), ("value", "JIT_InvalidValue")],
)
def test_a_refusal_has_a_reason_and_a_text(proxy, kind, reason):
    with pytest.raises(tango.DevFailed) as caught:
        proxy.Refuse(kind)
    assert (caught.value.args[0].reason, caught.value.args[0].desc) == (reason, f"no {kind}")


def test_what_nobody_would_carry_out_is_not_allowed(proxy):
    with Events(proxy, "State") as states:
        states.wait(lambda state: state == tango.DevState.RUNNING)
        proxy.BreakDown()
        states.wait(lambda state: state == tango.DevState.FAULT)
        with pytest.raises(tango.DevFailed, match="FAULT") as caught:
            proxy.BreakDown()
        assert caught.value.args[0].reason == "API_CommandNotAllowed"
        proxy.Start()
        states.wait(lambda state: state == tango.DevState.RUNNING)
        proxy.BreakDown()


def test_events_carry_the_quality_of_their_value(proxy):
    with Events(proxy, "load", keep=lambda reading: (reading.value, reading.quality)) as loads:
        for load, quality in ((15, "ATTR_WARNING"), (25, "ATTR_ALARM"), (5, "ATTR_VALID")):
            proxy.Bear(load)
            assert loads.wait(lambda seen, load=load: seen[0] == load)[1] == getattr(tango.AttrQuality, quality)


def test_numbers_show_their_digits_and_the_version_is_told(proxy):
    assert proxy.get_attribute_config("period_s").format == "%.5g"  # Tango's own shows 0.002 as 0.00
    told = proxy.info().version_info
    assert told["tango-jit"] == __version__


def test_every_state_has_a_tango_state():
    assert set(STATES) == set(State)
