"""A door: shows a service as a Tango device. It translates; it computes nothing.

Signals become attributes, methods become commands, states become Tango states. Three rules keep one bad client
from hurting the others (docs/explanations/tango.md): images are read, never pushed; image attributes are
ATTR_NO_SYNC; and the service never waits for Tango: a thread of the door's own pushes what changed.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import tango
from tango import AttrQuality, AttrWriteType, DevState, DispLevel
from tango.server import Device, DeviceMeta, attribute, device_property, run

from tango_jit.services.service import Listener, Service, State
from tango_jit.signals import Signal

STATES = {
    State.INIT: DevState.INIT,
    State.STANDBY: DevState.STANDBY,
    State.RUNNING: DevState.RUNNING,
    State.ALARM: DevState.ALARM,
    State.FAULT: DevState.FAULT,
}
_TYPES = {"bool": bool, "int": np.int64, "float": np.float64, "str": str, "enum": tango.DevEnum}
_CAUSES = (ValueError, KeyError, TypeError, OSError, RuntimeError)
T = TypeVar("T")


def tango_attribute(signal: Signal, read: Any, write: Any = None) -> Any:
    """The PyTango attribute of a signal; `read` and `write` are methods or their names."""
    fields: dict[str, Any] = {"unit": signal.unit, "doc": signal.description, "format": signal.format}
    fields["label"] = signal.label or signal.name.replace("_", " ")
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
    return lambda door, value: door.guarded(lambda: door.service.write(signal.name, value), signal.name)


class _Pump(Listener):
    """Pushes what changed from a thread of its own: the newest value of each signal, in bounded memory."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._news: dict[str, Any] = {}
        self._tables: list[tuple[tuple[Signal, ...], tuple[Signal, ...]]] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def changed(self, values: Mapping[str, Any]) -> None:
        with self._wake:
            self._news |= values
            self._wake.notify()

    def signals_changed(self, added: tuple[Signal, ...], removed: tuple[Signal, ...]) -> None:
        with self._wake:
            self._tables.append((added, removed))
            self._wake.notify()

    def follow_tables(self) -> None:
        """Add and remove attributes; to be called while holding the device, so that no two threads do it at once."""
        with self._wake:
            tables, self._tables = self._tables, []
        for added, removed in tables:
            self._door.refresh(added, removed)

    def stop(self) -> None:
        """Ends the thread: a push may wait for the device's lock, which the caller may hold (Tango: 3.2 s)."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(5.0)

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._stopped or self._news or self._tables)
                    if self._stopped:
                        return
                    news, self._news = self._news, {}
                    tables = bool(self._tables)
                if tables:
                    with tango.AutoTangoMonitor(self._door):
                        self.follow_tables()
                for name, value in news.items():
                    if self._stopped:
                        return
                    self._door.push(name, value)


class Door(Device, metaclass=DoorMeta):
    """Base of the devices: a subclass names its `service_class` and builds the service in `build`."""

    service_class: ClassVar[type[Service] | None] = None
    kept: ClassVar[Mapping[str, str]] = {}  # text signal -> device property that remembers it
    service: Any

    def build(self) -> Service:
        """The service behind this door, from the device's properties."""
        raise NotImplementedError(f"{type(self).__name__} builds no service")

    def init_device(self) -> None:
        super().init_device()
        self.snapshot: Mapping[str, Any] = {}
        self._pump: _Pump | None = None
        self.set_state(DevState.INIT)
        self.set_status("starting")
        for name in ("State", "Status"):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        try:
            self.service = self.build()
        except _CAUSES as error:
            self.service = Service()
            self._pump = _Pump(self)
            self._tell(DevState.FAULT, f"{error}. Correct the device's properties, then Init")
            return
        for signal in self.service.signals.values():
            self._announce(signal)
        self._pump = _Pump(self)
        self.service.listen(self._pump)
        self.push("state", None)
        self.ready()

    def ready(self) -> None:
        """Called when the service is built: devices that run by themselves start it."""
        self.service.start()

    def delete_device(self) -> None:
        if self._pump is not None:
            self.service.listen(Listener())
            self._pump.stop()
        self.service.close()
        super().delete_device()

    # ---- reading: all values of one client call come from one snapshot

    def read_attr_hardware(self, attr_list: Any) -> None:
        """Tango calls this once per client call, and holds the device until all of it is read."""
        self.snapshot = self.service.values

    def show(self, signal: Signal, value: Any) -> Any:
        """A value in Tango's form: enums as index, what is not known yet as invalid."""
        if signal.kind == "enum" and not signal.shape:
            return signal.choices.index(value)
        if signal.shape and value.size == 0:
            empty = np.zeros((1,) * len(signal.shape), value.dtype)
            return empty, time.time(), AttrQuality.ATTR_INVALID
        if signal.kind == "float" and not signal.shape and math.isnan(value):
            return 0.0, time.time(), AttrQuality.ATTR_INVALID
        return value

    # ---- signals that come and go (slices)

    def refresh(self, added: tuple[Signal, ...], removed: tuple[Signal, ...]) -> None:
        """Attributes for a changed table of signals."""
        for signal in removed:
            if signal.name not in self.service.signals:
                self.remove_attribute(signal.name)
        for signal in added:
            self._announce(signal)

    def _announce(self, signal: Signal) -> None:
        if signal.name not in {s.name for s in (self.service_class.table() if self.service_class else ())}:
            self.add_attribute(
                tango_attribute(signal, self._read_dynamic, self._write_dynamic if signal.writable else None)
            )
        if signal.pushed:
            self.set_change_event(signal.name, True, False)
            self.set_archive_event(signal.name, True, False)
        else:
            found = self.get_device_attr().get_attr_by_name(signal.name)
            found.set_attr_serial_model(tango.AttrSerialModel.ATTR_NO_SYNC)

    def _read_dynamic(self, attr: Any) -> Any:
        name = attr.get_name()
        signal = self.guarded(lambda: self.service.signals[name], name)
        return self.show(signal, self.snapshot.get(name, signal.initial))

    def _write_dynamic(self, attr: Any) -> None:
        name = attr.get_name()
        self.guarded(lambda: self.service.write(name, attr.get_write_value()), name)

    # ---- events and errors

    def push(self, name: str, value: Any) -> None:
        """Push one changed value as change and archive event (called by the pump)."""
        if name in ("state", "status"):
            values = self.service.values
            self._tell(STATES[values["state"]], values["status"])
            return
        signal = self.service.signals.get(name)
        if signal is None or not signal.pushed:
            return
        shown = self.show(signal, value)
        arguments = shown if isinstance(shown, tuple) else (shown,)
        self.push_change_event(name, *arguments)
        self.push_archive_event(name, *arguments)

    def _tell(self, state: DevState, status: str) -> None:
        self.set_state(state)
        self.set_status(status)
        for name, value in (("State", state), ("Status", status)):
            self.push_change_event(name, value)
            self.push_archive_event(name, value)

    def guarded(self, action: Callable[[], T], origin: str) -> T:
        """Run `action`; what it refuses becomes a DevFailed whose text says expected and got.

        Before the client hears that it worked, new attributes are there and what Tango cannot memorize is kept.
        """
        before = self.service.values
        try:
            result = action()
        except KeyError as error:
            tango.Except.throw_exception("JIT_Unknown", str(error.args[0]), f"{self.get_name()}/{origin}")
        except _CAUSES as error:
            tango.Except.throw_exception("JIT_InvalidValue", str(error), f"{self.get_name()}/{origin}")
        else:
            if self._pump is not None:
                self._pump.follow_tables()
            after = self.service.values
            self._keep({p: after[s] for s, p in self.kept.items() if after.get(s) != before.get(s)})
            return result
        raise AssertionError("unreachable: throw_exception raises")

    def _keep(self, properties: dict[str, str]) -> None:
        """Store as device properties; without a database (a server started with -nodb) nothing is kept."""
        if properties and tango.Util._UseDb:
            tango.Database().put_device_property(self.get_name(), {k: [v] for k, v in properties.items()})


def upstream_endpoint(device: str, attribute_name: str) -> Callable[[], str | None]:
    """A resolver for subscribers: asks the upstream device for the endpoint of its stream, at every call.

    Raises RuntimeError in words when the device does not answer.
    """

    def resolve() -> str | None:
        with tango.EnsureOmniThread():
            try:
                proxy = tango.DeviceProxy(device)
                proxy.set_timeout_millis(1000)
                reading: Any = proxy.read_attribute(attribute_name)
                return str(reading.value) or None
            except tango.DevFailed as error:
                raise RuntimeError(
                    f"cannot read {attribute_name} of {device}: {error.args[0].desc.splitlines()[0]}"
                ) from error

    return resolve


def serve(device_class: type[Device], server: str) -> None:
    """Entry of a console script: run one device server, on loopback unless an endpoint is given.

    Usage: `<server> INSTANCE [Tango options]`; `-ORBendPoint giop:tcp:HOST:PORT` or the environment variable
    ORBendPoint choose another interface.
    """
    os.environ.setdefault("ORBendPoint", "giop:tcp:127.0.0.1:0")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {server} INSTANCE [-v[LEVEL]] [-ORBendPoint giop:tcp:HOST:PORT]\n")
        print(inspect.getdoc(device_class))
        raise SystemExit(0 if arguments else 2)
    run((device_class,), args=[server, *arguments], raises=False)
