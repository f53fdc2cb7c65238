"""The Supervisor device and its server."""

from __future__ import annotations

from typing import Any

import tango

from devices.attributes import order, text_property
from devices.base import STATES, Door
from devices.errors import said
from devices.server import serve
from tango_jit.services.service import State
from tango_jit.services.supervisor import Seen, SupervisorService

ANSWER_MS = 900
MEANING = {shown: state for state, shown in STATES.items()} | {
    tango.DevState.ON: State.STANDBY,  # of cameras of other makes
    tango.DevState.OFF: State.STANDBY,
    tango.DevState.MOVING: State.RUNNING,
}


class TangoMember:
    """A device that is looked after, through a proxy that finds it again after a restart."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._proxy: Any = None

    def look(self) -> Seen:
        with tango.EnsureOmniThread():
            try:
                state, status = (self._reach().command_inout(name) for name in ("State", "Status"))
                if state in MEANING:
                    return Seen(MEANING[state], status)
                return Seen(State.ALARM, f"{state}: {status}")
            except tango.DevFailed as error:
                return Seen(None, f"{self.device} does not answer, is its server running? {said(error)}")

    def order(self, command: str) -> None:
        with tango.EnsureOmniThread():
            try:
                self._reach().command_inout(command)
            except tango.DevFailed as error:
                raise RuntimeError(said(error)) from error

    def _reach(self) -> Any:
        if self._proxy is None:
            proxy = tango.DeviceProxy(self.device)
            proxy.set_timeout_millis(ANSWER_MS)
            self._proxy = proxy
        return self._proxy


class Supervisor(Door):
    """All devices of an experiment as one: one State, one Status that names who is in trouble, one Start.

    It only looks and orders; without it the others work as well. FAULT here says that one of them needs somebody, the
    others may work on.
    """

    service_class = SupervisorService

    DetectorDevice = text_property("The device that sends frames; empty: it is not to be started and stopped here.", "")
    ReconstructorDevice = text_property("The device that reconstructs.")
    TrainerDevice = text_property("The device that trains.")
    DenoiserDevice = text_property("The device that denoises.")
    RecorderDevice = text_property("The device that writes files; empty: there is none.", "")

    def build(self) -> SupervisorService:
        devices = {
            "detector": self.DetectorDevice,
            "reconstructor": self.ReconstructorDevice,
            "trainer": self.TrainerDevice,
            "denoiser": self.DenoiserDevice,
            "recorder": self.RecorderDevice,
        }
        return SupervisorService({name: TangoMember(device) for name, device in devices.items() if device})

    @order("Start every device, the detector last; those that work go on; who refuses is told, and why.")
    def Start(self) -> None:
        self.guarded(self.service.start_members, "Start")

    @order("Stop every device, the detector first; who refuses is told, and why.")
    def Stop(self) -> None:
        self.guarded(self.service.stop_members, "Stop")


def main() -> None:
    """Console script tango-jit-supervisor."""
    serve(Supervisor, "tango-jit-supervisor")


if __name__ == "__main__":
    main()
