"""Which devices belong together, asked of their supervisor's properties."""

from __future__ import annotations

import tango

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
        told = error.args[0].desc.strip().splitlines()[0]
        raise RuntimeError(f"supervisor: expected a device as jit/supervisor/1, got {supervisor}: {told}") from error
    host = supervisor.rpartition("/")[0].rpartition("/")[0].rpartition("/")[0]  # of its names; empty: TANGO_HOST
    names = {member: next(iter(found[name])) for member, name in PROPERTIES.items() if list(found[name])}
    if not {"reconstructor", "trainer", "denoiser"} <= set(names):
        raise RuntimeError(f"supervisor: expected a device as jit/supervisor/1, got {supervisor}, which has no members")
    return {m: f"{host}/{n}" if host and "//" not in n else n for m, n in names.items()} | {"supervisor": supervisor}
