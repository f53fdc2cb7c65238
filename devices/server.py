"""What every server shares: its entry, and how it finds its upstream device."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import tango
from tango.server import Device, run

from devices import logs
from tango_jit import __version__
from tango_jit.heap import keep_freed

log = logging.getLogger(__name__)


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
    ORBendPoint choose another interface. Memory that is freed stays with the server, see `heap.py`; where messages go,
    `logs.py`.
    """
    arguments = sys.argv[1:]
    if any("ORBendPoint" in argument for argument in arguments):
        os.environ.pop("ORBendPoint", None)  # omniORB would listen on both
    else:
        os.environ.setdefault("ORBendPoint", "giop:tcp:127.0.0.1:0")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {server} INSTANCE [-v[LEVEL]] [-ORBendPoint giop:tcp:HOST:PORT]\n")
        print(inspect.getdoc(device_class))
        raise SystemExit(0 if arguments else 2)
    try:
        logs.configure(server, os.environ, arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if not keep_freed():
        log.warning("%s: large blocks of memory go back to the system at once, this C library cannot keep them", server)
    log.info("%s %s starts, process %d, tango-jit %s", server, arguments[0], os.getpid(), __version__)
    try:
        run((device_class,), args=[server, *arguments], raises=False)
    finally:
        log.info("%s %s ends", server, arguments[0])
        if not logs.end():
            os._exit(0)
