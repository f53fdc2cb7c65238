"""Where a receiving thread leaves messages and a worker takes them: a queue with a budget in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Literal

from tango_jit.streams.messages import Denoised, Image, Message, Slice, Volume, Weights

Policy = Literal["lossless", "drop_oldest", "newest"]
MESSAGES = 10_000
"""A mailbox of this many messages is full whatever their size: headers weigh nothing in payload bytes."""


def subject(message: Message) -> Hashable | None:
    """What a message is the latest word on, so that a newer one replaces it; None: it stands for itself."""
    match message:
        case Slice() | Denoised():
            return message.htype, message.slice
        case Image() | Volume() | Weights():
            return message.htype
    return None


class Mailbox:
    """A queue of messages between threads that holds at most `budget_bytes` of payload.

    What happens when it is full is its `policy`:

    * "lossless": `put` waits. The receiving thread waits with it, and so does the PUSH side at the far end.
    * "drop_oldest": the oldest message that may go is dropped, and `dropped` counts it.
    * "newest": a message takes the place of the one of the same `key` as soon as it comes, and `dropped` counts that;
      for the rest as "drop_oldest".

    Messages without a key (headers, darks, flats, views, ends of series) are never dropped; where they alone fill
    the budget, `put` waits with them. One message is taken whatever its size. What stays keeps its order; what takes
    the place of another may overtake messages between them.
    """

    def __init__(
        self, budget_bytes: int, policy: Policy, *, key: Callable[[Message], Hashable | None] = subject
    ) -> None:
        if budget_bytes < 1 or policy not in ("lossless", "drop_oldest", "newest"):
            raise ValueError(f"mailbox: expected a budget above 0 and a policy, got {budget_bytes} and {policy!r}")
        self.dropped = 0
        self.received_at = 0.0
        """When the message that `get` gave last was received, by the clock of its Subscriber."""
        self._budget = budget_bytes
        self._policy = policy
        self._key = key
        self._changed = threading.Condition()
        self._queue: OrderedDict[Hashable, tuple[Message, float, bool]] = OrderedDict()  # message, time, may go
        self._bytes = 0
        self._serial = 0
        self._woken = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def nbytes(self) -> int:
        """Payload bytes that wait."""
        return self._bytes

    def put(self, message: Message, timeout: float | None = None, *, received_at: float = 0.0) -> bool:
        """Leave a message; False when there was no room within `timeout` s (None: wait for as long as it takes)."""
        with self._changed:
            key = self._key(message)
            may_go = self._policy != "lossless" and key is not None
            slot: Hashable = key
            if self._policy != "newest" or key is None:
                self._serial += 1
                slot = (self, self._serial)
            elif slot in self._queue:
                if self._replace(slot, message, received_at):
                    return True
                self._drop(slot)
            if may_go and not self._make_room(message.nbytes):
                self.dropped += 1
                return True
            if not self._changed.wait_for(lambda: self._make_room(message.nbytes), timeout):
                return False
            self._queue[slot] = message, received_at, may_go
            self._bytes += message.nbytes
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> Message | None:
        """The oldest message; None after `timeout` s without one (None: no limit), or after `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._woken, timeout)
            self._woken = False
            return self._take() if self._queue else None

    def drain(self) -> list[Message]:
        """All messages that are here now, oldest first; does not wait."""
        with self._changed:
            return [self._take() for _ in range(len(self._queue))]

    def wake(self) -> None:
        """Let the waiting `get`, or else the next one, return at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _replace(self, slot: Hashable, message: Message, received_at: float) -> bool:
        """Put a message in the place of an older one, so that no subject waits longer than others; False: no room."""
        old, _, may_go = self._queue[slot]
        if self._bytes - old.nbytes + message.nbytes > self._budget:
            return False
        self._queue[slot] = message, received_at, may_go
        self._bytes += message.nbytes - old.nbytes
        self.dropped += 1
        return True

    def _make_room(self, size: int) -> bool:
        """Drop what may go until `size` bytes fit; False when they still do not."""
        while self._queue and (self._bytes + size > self._budget or len(self._queue) >= MESSAGES):
            oldest = next((slot for slot, (_, _, may_go) in self._queue.items() if may_go), None)
            if oldest is None:
                return False
            self._drop(oldest)
        return True

    def _drop(self, slot: Hashable) -> None:
        message, _, _ = self._queue.pop(slot)
        self._bytes -= message.nbytes
        self.dropped += 1

    def _take(self) -> Message:
        _, (message, self.received_at, _) = self._queue.popitem(last=False)
        self._bytes -= message.nbytes
        self._changed.notify_all()
        return message
