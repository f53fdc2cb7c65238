"""Which devices belong together, asked of their supervisor's properties."""

from __future__ import annotations

import tango

from devices.errors import said

PROPERTIES = {
    member: f"{member.capitalize()}Device"
    for member in ("detector", "reconstructor", "trainer", "denoiser", "recorder")
}


def members_of(supervisor: str) -> dict[str, str]:
    """Member -> device name, of those that the supervisor looks after; it does not have to run for that.

    Raises RuntimeError in words where there is no such supervisor.
    """
    try:
        proxy = tango.DeviceProxy(supervisor)
        found = proxy.get_property(list(PROPERTIES.values()))
    except tango.DevFailed as error:
        expected = "supervisor: expected a device as jit/supervisor/1"
        raise RuntimeError(f"{expected}, got {supervisor}: {said(error)}") from error
    names = {member: next(iter(found[name])) for member, name in PROPERTIES.items() if list(found[name])}
    if not {"reconstructor", "trainer", "denoiser"} <= set(names):
        raise RuntimeError(f"supervisor: expected a device as jit/supervisor/1, got {supervisor}, which has no members")
    return {m: beside(supervisor, n) for m, n in names.items()} | {"supervisor": supervisor}


def beside(device: str, name: str) -> str:
    """The full name of a device that is named in a property of another: in the database of that one.

    `device` may begin with `tango://host:port/`; without it both are in the database of TANGO_HOST.
    """
    if "//" not in device or "//" in name:
        return name
    return "/".join([*device.split("/")[:3], name])
