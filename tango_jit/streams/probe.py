"""A look at an endpoint from outside: can it be reached, does ZeroMQ answer, do messages come."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

from tango_jit.streams._sockets import open_socket

Contact = Literal["stream", "silent", "foreign", "refused", "unreachable", "unknown"]
SIGNATURE = re.compile(rb"\xff.{8}\x7f", flags=re.DOTALL)  # what ZeroMQ says first, before it is asked anything
ENDPOINT = re.compile(r"tcp://\[?([^*\]]+?)\]?:(\d+)")
MOST = 20  # messages that are listened to: frames are large, and others use the same network
TICK_S = 0.1


def address(endpoint: str) -> tuple[str, int] | None:
    """Host and port of `tcp://host:port`; None: it is another kind, or has no port yet (`*`)."""
    found = ENDPOINT.fullmatch(endpoint)
    return (found[1], int(found[2])) if found and 0 < int(found[2]) < 65536 else None


def contact(endpoint: str, patience_s: float = 2.0) -> Contact:
    """Who is there, as the first ten bytes tell; nothing is subscribed to nor pulled, so any stream may be asked.

    "stream": ZeroMQ; "silent": connected, but nobody speaks within `patience_s`, as from a process that stands still;
    "foreign": another program; "refused": nobody listens; "unreachable": no answer from that host; "unknown": the
    endpoint names no address.
    """
    place = address(endpoint)
    if place is None:
        return "unknown"
    try:
        connection = socket.create_connection(place, patience_s)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "unreachable"
    with connection:
        return _first_words(connection, time.monotonic() + patience_s)


def _first_words(connection: socket.socket, deadline: float) -> Contact:
    said = b""
    try:
        while len(said) < 10:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            more = connection.recv(10 - len(said))
            if not more:
                return "foreign"
            said += more
    except TimeoutError:
        return "foreign" if said else "silent"
    except OSError:  # it let us in and threw us out
        return "foreign"
    return "stream" if SIGNATURE.fullmatch(said) else "foreign"


@dataclass(frozen=True)
class Heard:
    """What came from a publisher. `connected`: ZeroMQ has shaken hands; `span_s`: from first to last message."""

    connected: bool
    messages: int = 0
    span_s: float = 0.0

    @property
    def rate_hz(self) -> float | None:
        """Messages a second; None: fewer than two came."""
        return (self.messages - 1) / self.span_s if self.messages > 1 and self.span_s > 0 else None


def listen(endpoint: str, prefix: bytes, seconds: float) -> Heard:
    """Listen to a publisher as one more subscriber: for `seconds`, or until 20 different messages have come.

    Never for a PUSH stream: there it would take the frames from their receiver. Only messages that begin with `prefix`
    are asked for. Repeats of a message (what is retained comes again for every new subscriber) count once.
    Raises OSError for an endpoint that ZeroMQ does not take.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        subscriber = open_socket(context, zmq.SUB)
        subscriber.rcvhwm = 4
        monitor = subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        subscriber.subscribe(prefix)
        try:
            subscriber.connect(endpoint)
        except zmq.ZMQError as error:
            raise OSError(f"endpoint: expected tcp://address:port, got {endpoint!r} ({error.strerror})") from None
        poller = zmq.Poller()
        poller.register(subscriber, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        return _count(subscriber, monitor, poller, seconds)
    finally:
        context.destroy(linger=0)


def _count(subscriber: zmq.Socket[bytes], monitor: zmq.Socket[bytes], poller: zmq.Poller, seconds: float) -> Heard:
    connected, came_at, last = False, list[float](), b""
    deadline = time.monotonic() + seconds
    while len(came_at) < MOST and time.monotonic() < deadline:
        ready = dict(poller.poll(int(1e3 * TICK_S)))
        if monitor in ready:
            recv_monitor_message(monitor)
            connected = True
        if subscriber in ready:
            head = subscriber.recv_multipart(zmq.DONTWAIT, copy=False)[0].bytes
            if head != last:
                last = head
                came_at.append(time.monotonic())
    return Heard(connected or bool(came_at), len(came_at), came_at[-1] - came_at[0] if came_at else 0.0)
