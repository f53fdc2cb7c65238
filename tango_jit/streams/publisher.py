"""One sender, any number of listeners, who may miss messages but never hold the sender up."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import zmq

from tango_jit.streams._sockets import bind, open_socket
from tango_jit.streams.messages import Message

TICK_S = 0.05
REBIND_S = 2.0
SETTLE_S = 1.0  # so long after a rebind those count as subscribed who were before: they come back meanwhile
ASSUMED_BYTES = 4 << 20  # frames up to this size need no second socket
FEWEST_MESSAGES = 8  # what is retained comes in one burst, to a subscriber that may be slow
MOST_MESSAGES = 1000


class Publisher:
    """Publishes messages to whoever subscribes; may be used from several threads.

    `send` never waits: what a slow or stopped subscriber has not taken queues in the sender's memory, for each
    subscriber up to `budget_bytes` or 8 messages if they are larger than that; then it misses messages. ZeroMQ counts
    messages, so its high-water mark follows from the largest payload so far, taken as 4 MiB at first.

    Messages sent with `retain` are kept, one under each key, and sent again on every new subscription, also
    while nothing else is sent. A resend reaches all subscribers: to those who have it, a repeat must be a no-op.
    A new subscriber may get an image just before the header of its series: it drops (and counts) images of a series
    it does not know.
    """

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*", *, budget_bytes: int = 256 << 20) -> None:
        """Binds to `endpoint`. Raises ValueError for one that is not tcp, OSError where it cannot be had."""
        if budget_bytes < 1:
            raise ValueError(f"publisher: expected a budget of at least 1 byte, got {budget_bytes}")
        self.sent = 0
        self.bytes = 0
        self._budget = budget_bytes
        self._retained: dict[str, list[bytes]] = {}
        self._class_bytes = ASSUMED_BYTES
        self._subscribed: set[bytes] = set()
        self._before: set[bytes] = set()  # what was subscribed to when the socket was last made anew
        self._rebound_at = 0.0
        self._lock = threading.Lock()  # around the socket, which is not thread-safe
        self._stop = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = self._open()
            self.endpoint = bind(self._socket, endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._thread = threading.Thread(target=self._watch, name=f"publisher {self.endpoint}", daemon=True)
        self._thread.start()

    def send(self, message: Message, retain: str | None = None) -> None:
        """Publish; the message's buffers may be used again afterwards. Raises OSError after `close`.

        `retain`: also keep it, in place of what was kept under that key; resends follow the order in which the keys
        came. None: it is not kept.
        """
        parts = message.parts()
        with self._lock:
            if self._socket.closed:
                raise OSError(f"publisher {self.endpoint}: expected it to be open, it is closed")
            self._welcome()
            if retain is not None:
                self._retained[retain] = [bytes(part) for part in parts]
            self._fit(message.nbytes)
            self._socket.send_multipart(parts)
            self.sent += 1
            self.bytes += sum(len(part) for part in parts)

    def expect(self, payload_bytes: int) -> None:
        """Be ready for payloads of this size. Without it the first of them would be lost to all subscribers, and what
        follows within a tenth of a second (see `_fit`); so call it while nothing important is sent."""
        with self._lock:
            if not self._socket.closed:
                self._fit(payload_bytes)

    def forget(self, key: str) -> None:
        """Stop resending what is kept under `key`; no error if there is nothing."""
        with self._lock:
            self._retained.pop(key, None)

    @property
    def subscriptions(self) -> frozenset[bytes]:
        """The prefixes that somebody subscribes to, as they were a moment ago."""
        with self._lock:
            return frozenset(self._subscribed | self._before)

    def close(self) -> None:
        """End at once: what is still queued is lost. Twice is no error."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> zmq.Socket[bytes]:
        socket = open_socket(self._context, zmq.XPUB, largest=4096)  # all that comes in are subscriptions
        socket.xpub_verbose = 1  # else only the first subscriber to a prefix is seen
        socket.sndhwm = self._high_water
        return socket

    @property
    def _high_water(self) -> int:
        return max(FEWEST_MESSAGES, min(self._budget // self._class_bytes, MOST_MESSAGES))

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            with self._lock:
                self._welcome()
                if self._before and time.monotonic() - self._rebound_at > SETTLE_S:
                    self._before.clear()

    def _welcome(self) -> None:
        """Send what is retained if somebody subscribed since the last look."""
        subscribed = False
        while self._socket.poll(0):
            change = self._socket.recv()
            added = change.startswith(b"\x01")
            (self._subscribed.add if added else self._subscribed.discard)(change[1:])
            subscribed |= added
        if subscribed:
            for parts in self._retained.values():
                self._socket.send_multipart(parts)

    def _fit(self, payload_bytes: int) -> None:
        """Lower the high-water mark if a payload is larger than all before, in classes of powers of two.

        Not with the socket option: on a live socket that crashes libzmq 4.3.5 (it writes to pipes whose peer has just
        gone), and pipes that lived through it may count as full for ever (it acknowledges in batches of half the mark).
        Hence a new socket at the same endpoint: subscribers come back by themselves within a tenth of a second, get
        what is retained, and have missed the rest of that time.
        """
        before = self._high_water
        while self._class_bytes < payload_bytes:
            self._class_bytes *= 2
        if self._high_water < before:
            self._rebind()

    def _rebind(self) -> None:
        self._socket.close(linger=0)
        self._before |= self._subscribed
        self._subscribed = set()
        self._rebound_at = time.monotonic()
        deadline = time.monotonic() + REBIND_S
        while True:
            self._socket = self._open()
            try:
                bind(self._socket, self.endpoint)
                return
            except OSError:  # the old listener is closed by ZeroMQ's own thread, any moment now
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
