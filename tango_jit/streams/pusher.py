"""One sender, one receiver, nothing dropped between the living: a full receiver holds the sender up."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from tango_jit.streams._sockets import bind, open_socket
from tango_jit.streams.messages import Message

TICK_S = 0.1
ASSUMED_BYTES = 32 << 20
MOST_MESSAGES = 8


class Pusher:
    """Hands messages to the one receiver that is connected (PUSH; a Subscriber of kind "pull" connects to it).

    `send` waits for room and says whether the message went out. Between two living processes nothing is lost,
    nothing is dropped and the order holds. What is under way to a receiver that dies (eight messages at most, and
    what the socket buffers hold) is lost; the next receiver sees the gap in the frame numbers.

    Messages sent with `retain` are kept, one under each key, and go first to every new receiver. It is seen that
    somebody connects a moment before that somebody can be sent to, so the header comes before the images, except
    where a receiver is replaced in the microseconds between the look and the sending: receivers drop (and count) images
    of a series they do not know. A receiver may get what is retained more than once: repeats are no-ops.

    May be used from several threads; they take turns.
    """

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*", *, budget_bytes: int = 256 << 20) -> None:
        """Binds to `endpoint`. Raises ValueError for one that is not tcp, OSError where it cannot be had.

        This side queues 1 to 8 messages, as many of 32 MiB as fit into `budget_bytes`. Buffering is for the receiver's
        mailbox: what waits here is lost when the receiver dies.
        """
        if budget_bytes < 1:
            raise ValueError(f"pusher: expected a budget of at least 1 byte, got {budget_bytes}")
        self.sent = 0
        self.bytes = 0
        self._retained: dict[str, list[bytes]] = {}
        self._owed: list[str] = []  # keys that the receiver has not got yet
        self._lock = threading.Lock()
        self._closing = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = open_socket(self._context, zmq.PUSH, largest=4096)  # nothing is to come in
        self._socket.sndhwm = max(1, min(budget_bytes // ASSUMED_BYTES, MOST_MESSAGES))
        # ACCEPTED comes before the new receiver can be sent to. A second resend at HANDSHAKE_SUCCEEDED reaches it even
        # if a dead predecessor, not yet noticed as such, swallowed the first.
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self.endpoint = bind(self._socket, endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLOUT)
        self._poller.register(self._monitor, zmq.POLLIN)

    def send(self, message: Message, timeout_s: float = 0.0, retain: str | None = None) -> bool:
        """Hand over a message; its buffers may be used again afterwards. False: nobody took it within `timeout_s`.

        `retain`: also keep it, in place of what was kept under that key; it goes out later if the answer is False.
        Raises OSError after `close`.
        """
        parts = message.parts()
        with self._lock:
            self._check_open()
            if retain is not None:
                self._retained[retain] = [bytes(part) for part in parts]
                if retain not in self._owed:
                    self._owed.append(retain)
            deadline = time.monotonic() + timeout_s
            while not self._closing:
                if self._pay() and (retain is not None or self._offer(parts)):
                    self.sent += 1
                    self.bytes += sum(len(part) for part in parts)
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._poller.poll(1 + int(1e3 * min(left, TICK_S)))
            return False

    def poll(self) -> None:
        """Send what is retained if somebody connected; to be called now and then while there is nothing to send."""
        with self._lock:
            self._check_open()
            self._pay()

    def forget(self, key: str) -> None:
        """Stop resending what is kept under `key`; no error if there is nothing."""
        with self._lock:
            self._retained.pop(key, None)

    def close(self) -> None:
        """End at once: what is still queued is lost. Twice is no error."""
        self._closing = True
        with self._lock:
            self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._socket.closed:
            raise OSError(f"pusher {self.endpoint}: expected it to be open, it is closed")

    def _pay(self) -> bool:
        """Send what the receiver is owed; True when there is a receiver and nothing is owed (any more)."""
        # The order matters. Polling the socket lets receivers in; whoever is in was announced before that.
        ready = self._socket.poll(0, zmq.POLLOUT)
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            self._owed = list(self._retained)
        if not ready:
            return False
        while self._owed:
            parts = self._retained.get(self._owed[0])
            if parts is not None and not self._offer(parts):
                return False
            del self._owed[0]
        return True

    def _offer(self, parts: list[bytes] | list[bytes | memoryview]) -> bool:
        try:
            self._socket.send_multipart(parts, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True
