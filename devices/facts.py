"""What other devices are set to, read through Tango."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tango

from devices.errors import said

ANSWER_MS = 1000
MOVING = ("position",)  # what is written to go elsewhere, and moves by itself
READINGS = ("State", "Status", "series", "backend", "precision", "split_used", "passes", "weights_version")


class Facts:
    """Looks at devices by their member name. A device that does not answer has the reason under `trouble`.

    A door of tango-jit needs nothing for it; of a camera of another make all scalar settings are told.
    """

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._devices = dict(devices)
        self._proxies: dict[str, Any] = {}

    def __call__(self) -> dict[str, dict[str, Any]]:
        """`device`, `version`, `settings` (all that can be written, but images) and `readings` of each."""
        return {member: self._look(member, device) for member, device in self._devices.items() if device}

    def _look(self, member: str, device: str) -> dict[str, Any]:
        with tango.EnsureOmniThread():
            try:
                proxy = self._proxies.get(member)
                if proxy is None:
                    proxy = tango.DeviceProxy(device)
                    proxy.set_timeout_millis(ANSWER_MS)
                    self._proxies[member] = proxy
                kinds = {one.name: one for one in proxy.attribute_list_query_ex()}
                settings = [name for name, one in kinds.items() if _is_setting(one)]
                readings = [name for name in READINGS if name in kinds]
                values = {one.name: plain(one, kinds[one.name]) for one in proxy.read_attributes(settings + readings)}
                version = proxy.info().version_info.get("tango-jit", "")
            except tango.DevFailed as error:
                return {"device": device, "trouble": said(error)}
        return {
            "device": device,
            "version": version,
            "settings": {name: values[name] for name in settings},
            "readings": {name: values[name] for name in readings},
        }


def _is_setting(one: Any) -> bool:
    small = max(one.max_dim_x, 1) * max(one.max_dim_y, 1) <= 1000
    return small and one.writable != tango.AttrWriteType.READ and one.name not in MOVING


def plain(reading: Any, kind: Any) -> Any:
    """A value as JSON has it; an enum as its label; None: there is none."""
    if reading.has_failed or reading.quality == tango.AttrQuality.ATTR_INVALID or reading.value is None:
        return None
    value = reading.value
    if kind.data_type == tango.DevEnum and np.ndim(value) == 0:
        return kind.enum_labels[value] if 0 <= value < len(kind.enum_labels) else int(value)
    if isinstance(value, tango.DevState):
        return str(value)
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
