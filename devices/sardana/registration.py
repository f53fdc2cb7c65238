"""How Sardana finds our controllers and macros: the folders, and its devices in a Tango database."""

from __future__ import annotations

from pathlib import Path

import tango

from devices.registration import add_device

HERE = Path(__file__).parent
CONTROLLERS, MACROS = HERE / "controllers", HERE / "macros"


def register_sardana(
    database: tango.Database, instance: str, prefix: str = "sardana", environment: Path | None = None
) -> dict[str, str]:
    """Make our controllers and macros known to the server Sardana/`instance`, and write its devices where it has none.

    What is set there already stays. `environment`: the file in which a MacroServer keeps its environment; None: where
    it does by itself. Returns class -> device name. Raises ValueError where the server has several of a class.
    """
    names = {
        kind: _only(database, f"Sardana/{instance}", kind, f"{prefix}/{kind.lower()}/{instance}")
        for kind in ("Pool", "MacroServer", "Door")
    }
    pool, server, door = names.values()
    _extend(database, pool, "PoolPath", CONTROLLERS)
    _extend(database, server, "MacroPath", MACROS)
    _default(database, server, "PoolNames", pool)
    _default(database, door, "MacroServerName", server)
    if environment is not None:
        _default(database, server, "EnvironmentDb", str(environment))
    return names


def _only(database: tango.Database, server: str, kind: str, name: str) -> str:
    """The device of this class that the server has, or a new one."""
    known = list(database.get_device_name(server, kind))
    if len(known) > 1:
        raise ValueError(f"{server}: expected one {kind}, got {', '.join(known)}: set their paths by hand")
    if not known:
        add_device(database, name, kind, server)
    return known[0] if known else name


def _extend(database: tango.Database, device: str, name: str, folder: Path) -> None:
    paths = list(database.get_device_property(device, name)[name])
    if str(folder) not in paths:
        database.put_device_property(device, {name: [*paths, str(folder)]})


def _default(database: tango.Database, device: str, name: str, value: str) -> None:
    if not list(database.get_device_property(device, name)[name]):
        database.put_device_property(device, {name: [value]})
