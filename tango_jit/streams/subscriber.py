"""The receiving end: a thread that finds its upstream, stays connected to it and fills a mailbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from tango_jit.streams._sockets import open_socket
from tango_jit.streams.mailbox import Mailbox
from tango_jit.streams.messages import Dark, Flat, Header, Image, MessageError, decode

TICK_S = 0.1
SILENCE_S = 2.0
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
HEADER = b'{"htype":"header"'
HIGH_WATER = 4  # the queue is the mailbox, which counts bytes; this one only feeds it


class Subscriber:
    """Receives messages on a thread of its own and puts them into `mailbox`, from construction to `close`.

    `resolve` gives the endpoint, or None while it is unknown; it is called on that thread at the start, and again
    whenever the connection is lost or silent for 2 s, so that an upstream may come back elsewhere. What it raises is
    kept as `trouble`, and it is asked again after 0.1 to 1 s. It should take less than a second.

    `kind`: "sub" for a Publisher (only messages that begin with one of `prefixes` come), "pull" for a Pusher. `clock`
    stamps messages for `Mailbox.received_at`, in s.

    What is no message is counted as `invalid` and skipped. A "sub" that gets images of a series whose header it
    missed asks the publisher for what is retained.
    """

    def __init__(
        self,
        resolve: Callable[[], str | None],
        mailbox: Mailbox,
        *,
        kind: Literal["sub", "pull"] = "sub",
        prefixes: Sequence[bytes] = (b"",),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if kind not in ("sub", "pull"):
            raise ValueError(f"subscriber: expected the kind 'sub' or 'pull', got {kind!r}")
        self.received = 0
        self.invalid = 0
        self.connected = False
        self._resolve = resolve
        self._mailbox = mailbox
        self._kind = kind
        self._prefixes = tuple(prefixes) if kind == "sub" else ()
        self._wants_headers = any(prefix.startswith(HEADER) or HEADER.startswith(prefix) for prefix in self._prefixes)
        self._wish = b""
        self._clock = clock
        self._unresolved = ""
        self._refused = ""
        self._endpoint: str | None = None
        self._series = ""
        self._asked_at = -LONGEST_PAUSE_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"subscriber {kind}", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing comes or, while connected, what the last invalid message was; empty: nothing is wrong."""
        if self.connected:
            return self._refused
        return self._unresolved or f"no connection to {self._endpoint or 'anything'} yet"

    def wish(self, prefix: bytes) -> None:
        """Also subscribe to this prefix, in place of the last wish; empty: to none. For a Publisher that looks at its
        `subscriptions`. It hears of it within about a tenth of a second, or as soon as there is a connection."""
        self._wish = prefix

    def close(self) -> None:
        """Stop receiving, within 1 s; a `resolve` that takes longer is left to end by itself. Twice is no error."""
        self._stop.set()
        self._thread.join(1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        link: _Link | None = None
        pause = SHORTEST_PAUSE_S
        try:
            while not self._stop.is_set():
                link = self._relink(context, link)
                if link is None:
                    self._stop.wait(pause)
                else:
                    self._receive(link, SILENCE_S if self.connected else pause)
                pause = SHORTEST_PAUSE_S if self.connected else min(2 * pause, LONGEST_PAUSE_S)
        finally:
            self.connected = False
            context.destroy(linger=0)

    def _relink(self, context: zmq.Context[zmq.Socket[bytes]], link: _Link | None) -> _Link | None:
        """The link to where upstream is now: a new one if it moved, else the old one."""
        try:
            endpoint = self._resolve()
            self._unresolved = "" if endpoint else "upstream has no endpoint yet"
            if not endpoint or (link is not None and link.endpoint == endpoint):
                return link
            new = _Link(context, self._kind, endpoint, self._prefixes)
        except Exception as error:  # whatever a resolver raises, the thread has to go on and ask again
            self._unresolved = str(error) or type(error).__name__
            return link
        if link is not None:
            link.close()
        self.connected = False
        self._endpoint = endpoint
        return new

    def _receive(self, link: _Link, patience_s: float) -> None:
        """Take messages until the connection breaks or nothing has come for `patience_s`."""
        heard_at = time.monotonic()
        while not self._stop.is_set() and time.monotonic() - heard_at < patience_s:
            link.wish(self._wish)
            link.wait(min(TICK_S, patience_s))
            was_connected = self.connected
            self.connected = link.is_connected(was_connected)
            while not self._stop.is_set() and (parts := link.next()) is not None:
                self._take(link, parts)
                heard_at = time.monotonic()
            if was_connected and not self.connected:
                return

    def _take(self, link: _Link, parts: list[memoryview]) -> None:
        received_at = self._clock()
        try:
            message = decode(parts)
        except MessageError as error:
            self.invalid += 1
            self._refused = str(error)
            return
        self.received += 1
        if isinstance(message, Header):
            self._series = message.series
        elif self._wants_headers and isinstance(message, (Image, Dark, Flat)) and message.series != self._series:
            self._ask_again(link)
        while not self._mailbox.put(message, TICK_S, received_at=received_at) and not self._stop.is_set():
            pass

    def _ask_again(self, link: _Link) -> None:
        """After a pause a subscriber may have missed a header: a repeated subscription brings it, once a second."""
        if time.monotonic() - self._asked_at >= LONGEST_PAUSE_S:
            self._asked_at = time.monotonic()
            link.subscribe(self._prefixes)


class _Link:
    """A socket connected to one endpoint, and what its monitor tells."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: str, endpoint: str, prefixes: Sequence[bytes]
    ) -> None:
        self.endpoint = endpoint
        self._wish = b""
        self._socket = open_socket(context, zmq.SUB if kind == "sub" else zmq.PULL)
        self._socket.rcvhwm = HIGH_WATER
        self._socket.reconnect_ivl = int(1e3 * SHORTEST_PAUSE_S)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        try:
            self.subscribe(prefixes)
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"endpoint: expected tcp://address:port, got {endpoint!r} ({error.strerror})") from None

    def subscribe(self, prefixes: Sequence[bytes]) -> None:
        for prefix in prefixes:
            self._socket.subscribe(prefix)

    def wish(self, prefix: bytes) -> None:
        """Subscribe to this prefix instead of the last such one; empty: to none."""
        if prefix != self._wish:
            if prefix:
                self._socket.subscribe(prefix)
            if self._wish:
                self._socket.unsubscribe(self._wish)
            self._wish = prefix

    def wait(self, seconds: float) -> None:
        self._poller.poll(int(1e3 * seconds))

    def is_connected(self, before: bool) -> bool:
        """Whether the connection stands, given how it was `before` the events that came since."""
        while self._monitor.poll(0):
            before = recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return before

    def next(self) -> list[memoryview] | None:
        """The parts of the next message, not copied; None: there is none now."""
        try:
            return [frame.buffer for frame in self._socket.recv_multipart(zmq.DONTWAIT, copy=False)]
        except zmq.Again:
            return None

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
