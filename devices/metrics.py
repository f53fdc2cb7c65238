"""The command `tango-jit metrics`: figures of the devices over HTTP, as Prometheus scrapes them.

A process of its own that only looks: one look at every device for each scrape. Names follow Prometheus: base units
(seconds, bytes, ratios) and `_total` for what only grows.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import tango
import typer
from rich.console import Console

from devices.facts import plain
from devices.watch.command import Device, Folder, Instance, Prefix, devices_to_show, leave, page_address

if TYPE_CHECKING:
    from prometheus_client.core import Metric

console = Console()
ANSWER_MS = 1500
LOOK_S = 2.5  # Prometheus itself waits for 10 s
STATES = ("INIT", "STANDBY", "RUNNING", "ALARM", "FAULT")
COUNTERS = frozenset(
    {
        "frames_sent",
        "frames_held_back",
        "frames_received",
        "frames_lost",
        "frames_late",
        "frames_duplicate",
        "frames_refused",
        "slices_reconstructed",
        "slices_denoised",
        "slices_dropped",
        "pictures_recorded",
        "pictures_lost",
        "frames_recorded",
        "steps",
        "steps_rejected",
        "jumps",
    }
)
UNITS = {  # unit in Tango -> ending of the attribute's name, ending of the metric, factor
    "ms": ("_ms", "_seconds", 1e-3),
    "s": ("_s", "_seconds", 1.0),
    "MB": ("_mb", "_bytes", 2.0**20),
    "%": ("_percent", "_ratio", 0.01),
    "Hz": ("_hz", "_hertz", 1.0),
    "dB": ("_db", "_decibels", 1.0),
    "px": ("_px", "_pixels", 1.0),
}
NUMBERS = (tango.DevLong64, tango.DevDouble, tango.DevBoolean, tango.DevLong, tango.DevULong64)


@dataclass(frozen=True)
class Figure:
    """One number of a device; `name` is that of its metric, without `tango_jit_` and `_total`."""

    name: str
    value: float
    help: str
    counts: bool


@dataclass(frozen=True)
class Look:
    """What one look at a device has shown; `state` empty: it does not answer."""

    state: str = ""
    version: str = ""
    figures: list[Figure] = field(default_factory=list)


def figure(name: str, unit: str, text: str, value: float) -> Figure:
    """The metric of an attribute, in base units."""
    if name in COUNTERS:
        return Figure(name, float(value), text, True)
    if name.endswith("_per_s"):
        return Figure(f"{name}econd", float(value), text, False)
    old, new, factor = UNITS.get(unit, ("", "", 1.0))
    return Figure(name.removesuffix(old) + new, float(value) * factor, text, False)


class Watched:
    """A device, looked at in a thread of its own: one that hangs delays no other, and is not asked again meanwhile."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._proxy: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=device)
        self._pending: Future[Look] | None = None

    def ask(self) -> Future[Look]:
        """Begin a look, or go on waiting for the last one."""
        if self._pending is None or self._pending.done():
            self._pending = self._thread.submit(self._look)
        return self._pending

    def _look(self) -> Look:
        with tango.EnsureOmniThread():
            try:
                if self._proxy is None:
                    self._proxy = tango.DeviceProxy(self._device)
                    self._proxy.set_timeout_millis(ANSWER_MS)
                kinds = {one.name: one for one in self._proxy.attribute_list_query_ex() if _counts(one)}
                slices = {name.removeprefix("frame_number_") for name in kinds if name.startswith("frame_number_")}
                wanted = [name for name in kinds if not name.endswith(tuple(f"_{one}" for one in slices))]
                state, read = str(self._proxy.command_inout("State")), self._proxy.read_attributes(wanted)
                version = self._proxy.info().version_info.get("tango-jit", "")
            except tango.DevFailed:
                return Look()
        values = {one.name: plain(one, kinds[one.name]) for one in read}
        return Look(
            state,
            version,
            [
                figure(name, kinds[name].unit, kinds[name].description, value)
                for name, value in values.items()
                if isinstance(value, (bool, int, float))
            ],
        )


def _counts(one: Any) -> bool:
    """A number that is read only: settings are no measurements."""
    scalar = one.data_format == tango.AttrDataFormat.SCALAR and one.writable == tango.AttrWriteType.READ
    return scalar and one.data_type in NUMBERS


class Collector:
    """Looks at all devices when Prometheus asks."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        """`devices`: member -> device with its database."""
        self._names = {member: device.rpartition("://")[2].partition("/")[2] for member, device in devices.items()}
        self._watched = {member: Watched(device) for member, device in devices.items()}
        self._one_at_a_time = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing is looked at before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._one_at_a_time:
            asked = {member: watched.ask() for member, watched in self._watched.items()}
            wait(asked.values(), LOOK_S)
            looks = {member: one.result() if one.done() else Look() for member, one in asked.items()}
        yield from metrics({self._names[member]: (member, look) for member, look in looks.items()})


def metrics(looks: Mapping[str, tuple[str, Look]]) -> Iterable[Metric]:
    """The metrics of looks at devices: name -> member and look."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["device", "member"]
    up = GaugeMetricFamily("tango_jit_up", "1: the device answers, 0: it does not.", labels=labels)
    states = GaugeMetricFamily("tango_jit_state", "1 for the state that the device is in.", labels=[*labels, "state"])
    versions = GaugeMetricFamily("tango_jit_info", "Always 1; the version as a label.", labels=[*labels, "version"])
    families: dict[str, Metric] = {}
    for device, (member, look) in looks.items():
        up.add_metric([device, member], float(bool(look.state)))
        if look.state:
            versions.add_metric([device, member, look.version], 1.0)
            for state in (*STATES, *({look.state} - set(STATES))):
                states.add_metric([device, member, state], float(state == look.state))
        for one in look.figures:
            kind = CounterMetricFamily if one.counts else GaugeMetricFamily
            family = families.setdefault(one.name, kind(f"tango_jit_{one.name}", one.help, labels=labels))
            family.add_metric([device, member], one.value)  # type: ignore[attr-defined]
    return [up, states, versions, *families.values()]


def serve_metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any free one.")] = 9110,
    address: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    prefix: Prefix = None,
    instance: Instance = None,
    folder: Folder = None,
    device: Device = None,
) -> None:
    """Offer figures of the devices to Prometheus over HTTP, until Ctrl-C or SIGTERM."""
    if find_spec("prometheus_client") is None:
        raise RuntimeError("prometheus_client is not installed: pip install 'tango-jit[metrics]'")
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Collector(devices_to_show(prefix, instance, folder, device)))
    try:
        server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise OSError(f"--port: expected a free one, cannot listen at {address}:{port}: {error.strerror}") from error
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    console.print(f"{page_address(address, server.server_port)}metrics", highlight=False, soft_wrap=True)
    ended.wait()
    server.shutdown()
    server.server_close()
    leave(0)  # looks that hang are not waited for
