"""A macro of a Sardana MacroServer: everything that Sardana needs to count and scan pictures, in one command."""

# pyright: reportIncompatibleMethodOverride=false
# A macro has parameters of its own: they are what Macro.run is for.

from __future__ import annotations

import json
from typing import Any

import tango
from sardana.macroserver.msexception import UnknownEnv

from devices.sardana.jit_macro import SUPERVISOR, JitMacro, Type
from devices.sardana.members import members_of

PICTURES = ("denoised", "raw")
FIGURES = ("frame_number", "quality", "accuracy")
SCALARS = {
    "weights_version": ("denoiser", "weights_version"),
    "patch_accuracy": ("trainer", "patch_accuracy"),
    "loss": ("trainer", "loss"),
    "frame_rate_hz": ("reconstructor", "frame_rate_hz"),
    "latency_ms": ("denoiser", "latency_ms"),
}
MOTORS, TIMER, NUMBER = "position", "timer", "picture"


class jit_setup(JitMacro):
    """Make controllers, channels, motors and a measurement group for all slices; again: what has changed since.

    Elements are named <name>_denoised_xy and so on. What is there already stays as it is; channels of slices that are
    gone leave the measurement group, those that others have put into it stay.
    """

    param_def = [
        ["supervisor", Type.String, SUPERVISOR, "the supervisor of the devices"],
        ["name", Type.String, "jit", "what all names begin with, and the measurement group"],
    ]

    def run(self, supervisor: str, name: str) -> None:
        members = members_of(supervisor)
        slices = self._slices(members["reconstructor"])
        self.prefix = name
        controllers = {
            "figures": ("JitPictureCounterTimerController", "DenoiserDevice", members["denoiser"]),
            "pictures": ("JitPictureTwoDController", "DenoiserDevice", members["denoiser"]),
            "places": ("JitSliceMotorController", "ReconstructorDevice", members["reconstructor"]),
        }
        missing = [short for short, wanted in controllers.items() if not self._is_there(short, *wanted)]
        for short in missing:
            kind, *prop = controllers[short]
            self.execMacro(["defctrl", kind, f"{name}_{short}", *prop])
        channels = [self._element(TIMER, "figures", "Reading", "")]
        for kinds, controller in ((FIGURES, "figures"), (PICTURES, "pictures")):
            names = [f"{kind}_{n}" for n in slices for kind in kinds]
            channels += [self._element(attribute, controller, "Reading", attribute) for attribute in names]
        for short, (member, attribute) in SCALARS.items():
            channels.append(self._element(short, "figures", "Reading", f"{members[member]}/{attribute}"))
        self._element(NUMBER, "places", "Slice", "")
        for n in slices:
            self._element(f"{MOTORS}_{n}", "places", "Slice", n)
        self._group(channels)
        self.setEnv("JitSupervisor", supervisor)
        self.setEnv("JitName", name)
        self._activate()

    def _slices(self, reconstructor: str) -> list[str]:
        names = tango.DeviceProxy(reconstructor).get_attribute_list()
        return [name.removeprefix("geometry_") for name in names if name.startswith("geometry_")]

    def _is_there(self, short: str, kind: str, prop: str, value: str) -> bool:
        """Is there such a controller? Raises RuntimeError where there is another one of this name."""
        name = f"{self.prefix}_{short}"
        known = self.getObj(name, type_class=Type.Controller)
        if known is None:
            return False
        is_kind = known.getClassName()
        if is_kind != kind:
            raise RuntimeError(f"{name}: expected a {kind}, there is a {is_kind}: give another name")
        found = list(tango.DeviceProxy(known.getFullName()).get_property(prop)[prop])
        if [device.lower() for device in found] != [value.lower()]:
            raise RuntimeError(f"{name}: expected {prop} {value}, it has {', '.join(found)}: give another name")
        return True

    def _element(self, short: str, controller: str, attribute: str, value: str) -> str:
        """An element of this controller, there already or made, with its attribute set; returns its name."""
        name = f"{self.prefix}_{short}"
        known = self.getObj(name)
        if known is None:
            self.execMacro(["defelem", name, f"{self.prefix}_{controller}"])
            known = self.getObj(name)
        proxy: Any = tango.DeviceProxy(known.getFullName())
        if proxy.read_attribute(attribute).value != value:
            proxy.write_attribute(attribute, value)
        return name

    def _group(self, channels: list[str]) -> None:
        """The measurement group with these channels, and with those that others have put into it."""
        known = self.getObj(self.prefix, type_class=Type.MeasurementGroup)
        if known is not None:
            present = list(known.ElementList)
            kept = [c for c in present if c in channels or not self._is_ours(c)]
            wanted = kept + [c for c in channels if c not in kept]
            if wanted == present:
                self.output(f"measurement group {self.prefix}: nothing to change")
                return
            self.execMacro(["udefmeas", self.prefix])
            channels = wanted
        self.execMacro(["defmeas", self.prefix, *channels])
        group: Any = self.getMeasurementGroup(self.prefix)
        configuration = json.loads(group.read_attribute("Configuration").value)
        for controller in configuration["controllers"].values():
            for channel in controller["channels"].values():
                if channel["ndim"] == 2:
                    channel["data_type"] = "float32"  # as pictures are; Sardana has doubles
        group.write_attribute("Configuration", json.dumps(configuration))
        self.wait(
            lambda: group.getConfiguration(force=True) is not None and group.getChannelNames() == channels,
            30.0,
            lambda: f"it has {', '.join(group.getChannelNames())}",
            f"measurement group {self.prefix} to have its channels",
        )

    def _is_ours(self, channel: str) -> bool:
        kinds = (*PICTURES, *FIGURES)
        return any(channel.startswith(f"{self.prefix}_{kind}_") for kind in kinds)

    def _activate(self) -> None:
        try:
            active = self.getEnv("ActiveMntGrp")
        except UnknownEnv:
            active = None
        if active is None:
            self.setEnv("ActiveMntGrp", self.prefix)
            active = self.prefix
        hint = "" if active == self.prefix else f"; `senv ActiveMntGrp {self.prefix}` takes pictures instead"
        self.output(f"ready: the active measurement group is {active}{hint}")
