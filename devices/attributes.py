"""Signals as attributes of a Tango class, methods as its commands, and device properties."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tango
from tango import AttrWriteType, DispLevel
from tango.server import DeviceMeta, attribute, command, device_property

from devices.logs import brief
from tango_jit.signals import Signal

FLOAT_FORMAT = "%.5g"  # Tango's own, %6.2f, shows a learning rate as 0.00
_TYPES = {"bool": bool, "int": np.int64, "float": np.float64, "str": str, "enum": tango.DevEnum}


def tango_attribute(signal: Signal, read: Any, write: Any = None) -> Any:
    """The PyTango attribute of a signal; `read` and `write` are methods or their names."""
    fields: dict[str, Any] = {"unit": signal.unit, "doc": signal.description, "label": signal.title}
    fields["format"] = signal.format or (FLOAT_FORMAT if signal.kind == "float" else "")
    fields["fisallowed"] = "is_readable"
    fields["display_level"] = DispLevel.EXPERT if signal.level == "expert" else DispLevel.OPERATOR
    bounds = [("min_value", signal.minimum), ("max_value", signal.maximum), ("min_warning", signal.warning[0])]
    bounds += [("max_warning", signal.warning[1]), ("min_alarm", signal.alarm[0]), ("max_alarm", signal.alarm[1])]
    fields |= {name: bound for name, bound in bounds if bound is not None}
    kind: Any = np.dtype(signal.dtype).type if signal.dtype else _TYPES[signal.kind]
    if signal.kind == "enum":
        fields["enum_labels"] = list(signal.choices)
    if len(signal.shape) == 1:
        kind, fields["max_dim_x"] = (kind,), signal.shape[0]
    elif len(signal.shape) == 2:
        kind, fields["max_dim_x"], fields["max_dim_y"] = ((kind,),), signal.shape[1], signal.shape[0]
    if write is not None:
        remembered = signal.memorized and not signal.shape
        fields |= {
            "fset": write,
            "access": AttrWriteType.READ_WRITE,
            "memorized": remembered,
            "hw_memorized": remembered,
        }
    return attribute(name=signal.name, dtype=kind, fget=read, **{k: v for k, v in fields.items() if v != ""})


def order(text: str, takes: Any = None, *, at_work: bool = False) -> Any:
    """A command of a door; `text` says what it does and what it takes, `takes` is the type of that, None: nothing.

    `at_work`: not in INIT and FAULT, where nobody would carry it out. No command is allowed where the device could not
    be built, but Init.
    """
    fields: dict[str, Any] = {"doc_in": text, "doc_out": "Nothing; a refusal is a DevFailed that says why."}
    if takes is not None:
        fields["dtype_in"] = takes

    def command_of(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def logged(door: Any, *arguments: Any) -> None:
            with door.logged(f"{method.__name__}({', '.join(map(brief, arguments))})"):
                method(door, *arguments)

        return command(**fields, fisallowed="is_at_work" if at_work else "is_built")(logged)

    return command_of


def text_property(doc: str, default: str | None = None) -> Any:
    """A device property; None as default: the property must be set."""
    return device_property(dtype=str, default_value=default, mandatory=default is None, doc=doc)


def number_property(doc: str, default: int) -> Any:
    """A device property that is a whole number."""
    return device_property(dtype=int, default_value=default, doc=doc)


class DoorMeta(DeviceMeta):
    """Gives a device class one attribute per signal of its `service_class`."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        service_class = namespace.get("service_class")
        for signal in service_class.table() if service_class else ():
            namespace[f"read_{signal.name}"] = _reader(signal)
            if signal.writable:
                namespace[f"write_{signal.name}"] = _writer(signal)
            writer = f"write_{signal.name}" if signal.writable else None
            namespace[signal.name] = tango_attribute(signal, f"read_{signal.name}", writer)
        return super().__new__(mcs, name, bases, namespace)


def _reader(signal: Signal) -> Callable[[Any], Any]:
    return lambda door: door.show(signal, door.snapshot.get(signal.name, signal.initial))


def _writer(signal: Signal) -> Callable[[Any, Any], None]:
    return lambda door, value: door.set_signal(signal.name, value)
