"""A door: shows a service as a Tango device. It translates; it computes nothing.

Signals become attributes, methods become commands, states become Tango states. Three rules keep one bad client
from hurting the others (docs/explanations/tango.md): images are read, never pushed; image attributes are
ATTR_NO_SYNC; and the service never waits for Tango: a thread of the door's own pushes what changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np
import tango
from tango import AttrQuality, DevState
from tango.server import Device

from devices import logs
from devices.attributes import DoorMeta, tango_attribute
from devices.pump import Pump
from tango_jit import __version__
from tango_jit.services.service import Listener, Service, State
from tango_jit.signals import Signal

STATES = {
    State.INIT: DevState.INIT,
    State.STANDBY: DevState.STANDBY,
    State.RUNNING: DevState.RUNNING,
    State.ALARM: DevState.ALARM,
    State.FAULT: DevState.FAULT,
}
REASONS: Mapping[type[Exception], str] = {  # what a client reads as the reason of a DevFailed
    KeyError: "JIT_Unknown",
    ValueError: "JIT_InvalidValue",
    TypeError: "JIT_InvalidValue",
    OSError: "JIT_File",
    RuntimeError: "JIT_NotNow",
}
_CAUSES = tuple(REASONS)
T = TypeVar("T")


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
        self.add_version_info("tango-jit", __version__)
        self.log = logs.of_device(self.get_name())
        logs.join(self)
        self._built = False
        self.snapshot: Mapping[str, Any] = {}
        self._pump: Pump | None = None
        self._stored: dict[str, str] = {}
        self.set_state(DevState.INIT)
        self.set_status("starting")
        for name in ("State", "Status"):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        try:
            self.service = self.build()
        except _CAUSES as error:
            self.service = Service()
            self._pump = Pump(self)
            self.log.error("state FAULT, was INIT: %s", error)
            self._tell(DevState.FAULT, f"{error}. Correct the device's properties, then Init")
            return
        self._built = True
        self.service.log = self.log
        for signal in self.service.signals.values():
            self._announce(signal)
        self._stored = self._to_keep()
        self._pump = Pump(self)
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
        logs.leave(self)
        super().delete_device()

    # ---- what is allowed when

    def is_built(self) -> bool:
        """What does not depend on the state needs a device that could be built."""
        return self._built

    def is_at_work(self) -> bool:
        """Allowed where somebody would carry it out, though there may be no data."""
        return self._built and self.get_state() not in (DevState.INIT, DevState.FAULT)

    def is_readable(self, _kind: Any) -> bool:
        """Attributes of a device that could not be built have no values, and take none."""
        return self._built

    # ---- reading: all values of one client call come from one snapshot

    def read_attr_hardware(self, attr_list: Any) -> None:
        """Tango calls this once per client call, and holds the device until all of it is read."""
        self.snapshot = self.service.values

    def show(self, signal: Signal, value: Any) -> Any:
        """A value in Tango's form: enums as index, what is not known yet as invalid.

        Of a setting it is also what was set last, whoever set it: clients fill their input fields with that.
        """
        if signal.kind == "enum" and not signal.shape:
            value = signal.choices.index(value)
        if signal.writable and np.size(value):
            self.get_device_attr().get_w_attr_by_name(signal.name).set_write_value(value)
        if signal.kind == "enum" and not signal.shape:
            return value
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
        self.set_signal(name, attr.get_write_value())

    def set_signal(self, name: str, value: Any) -> None:
        """Write a setting, as a client wants it."""
        before = logs.brief(self.service.values.get(name))
        with self.logged(f"{name}: to set {logs.brief(value)}, was {before},"):
            self.guarded(lambda: self.service.write(name, value), name)

    # ---- events and errors

    def push(self, name: str, value: Any) -> None:
        """Push one changed value as change and archive event (called by the pump)."""
        if name in ("state", "status"):
            values = self.service.values
            self._tell(STATES[values["state"]], values["status"])
            return
        if name in self.kept:
            self._keep()
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

    @contextmanager
    def logged(self, what: str) -> Iterator[None]:
        """What a client wants, and what came of it, goes into the log."""
        try:
            yield
        except tango.DevFailed as error:
            self.log.warning("%s refused: %s", what, error.args[0].desc.strip())
            raise
        except Exception:
            self.log.exception("%s failed", what)
            raise
        self.log.info("%s done", what)

    def guarded(self, action: Callable[[], T], origin: str) -> T:
        """Run `action`; what it refuses becomes a DevFailed whose text says expected and got.

        Before the client hears that it worked, new attributes are there and what Tango cannot memorize is kept.
        """
        try:
            result = action()
        except _CAUSES as error:
            reason = next(text for kind, text in REASONS.items() if isinstance(error, kind))
            text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
            tango.Except.throw_exception(reason, text, f"{self.get_name()}/{origin}")
        else:
            if self._pump is not None:
                self._pump.follow_tables()
            self._keep()
            return result
        raise AssertionError("unreachable: throw_exception raises")

    def _keep(self) -> None:
        """Store what changed since as device properties; without a database (a server with -nodb) nothing is kept."""
        changed = {p: text for p, text in self._to_keep().items() if text != self._stored.get(p)}
        if changed and tango.Util._UseDb:
            try:
                tango.Database().put_device_property(self.get_name(), {p: [text] for p, text in changed.items()})
                self._stored |= changed
            except tango.DevFailed as error:
                self.service.trouble(f"{', '.join(changed)} not kept over a restart: {error.args[0].desc}")

    def _to_keep(self) -> dict[str, str]:
        values = self.service.values
        return {name: values[signal] for signal, name in self.kept.items() if signal in values}
