"""What the macros share: the devices by name, and waiting that an abort ends at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tango
from sardana.macroserver.macro import Macro
from sardana.macroserver.macro import Type as _Type
from sardana.macroserver.msexception import UnknownEnv

from devices.errors import said
from devices.sardana.members import members_of

Type: Any = _Type  # the types of parameters are attributes that Sardana adds when it runs
SUPERVISOR = "jit/supervisor/1"
LOOK_S = 0.2  # between two looks at a device that is waited for
SAY_S = 5.0  # between two lines that say how far it is


class JitMacro(Macro):
    """What all have in common: the devices, by the environment variable JitSupervisor, and waiting for them."""

    def device(self, member: str) -> Any:
        """One of the devices, by its proxy, of which only methods are used: those raise DevFailed when it is dead.

        Raises RuntimeError in words where there is none of this name.
        """
        try:
            supervisor = str(self.getEnv("JitSupervisor"))
        except UnknownEnv:
            supervisor = SUPERVISOR
        names = members_of(supervisor)
        if member not in names:
            raise RuntimeError(f"{member}: expected one that {supervisor} looks after, it has none")
        return tango.DeviceProxy(names[member])

    def read(self, device: Any, attribute: str) -> Any:
        """The value of an attribute."""
        return device.read_attribute(attribute).value

    def number(self, device: Any, attribute: str) -> float | None:
        """A reading; None: it has no value now."""
        reading = device.read_attribute(attribute)
        return None if reading.quality == tango.AttrQuality.ATTR_INVALID else float(reading.value)

    def wait(self, done: Callable[[], bool], timeout_s: float, progress: Callable[[], str], what: str) -> None:
        """Wait until `done`; an abort of the macro ends it at once. Raises RuntimeError when the time is over.

        A device that does not answer meanwhile is waited for as well: it may be starting again.
        """
        began = told_at = time.monotonic()
        while True:
            self.checkPoint()
            try:
                if done():
                    return
                told = progress()
            except tango.DevFailed as error:
                told = said(error)
            now = time.monotonic()
            if now - began > timeout_s:
                raise RuntimeError(f"expected {what} within {timeout_s:g} s: {told}")
            if now - told_at > SAY_S:
                told_at = now
                self.output(told)
                self.flushOutput()
            time.sleep(LOOK_S)

    def order_all(self, supervisor: Any, command: str) -> None:
        """An order to all devices; those that are too busy to answer at once are told, and follow it later."""
        try:
            supervisor.command_inout(command)
        except tango.DevFailed as error:
            if "it may do so still" not in said(error):
                raise
            self.output(said(error))

    def status_of(self, device: Any) -> str:
        return f"{device.dev_name()} is {device.state()}: {device.status()}"


def shown(value: float | None) -> str:
    """A figure for people; None: there is none."""
    return "not known" if value is None else f"{value:.7g}"
