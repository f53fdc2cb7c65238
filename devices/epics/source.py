"""Frames of areaDetector over PVAccess: an image PV and, beside it, what tomoScan and others publish about the scan.

Every monitor asks for `record[queueSize=N]` and never for `pipeline`: with that, servers seen in the field repeat
frames by the dozen, and one of them aborts.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from p4p.client.thread import Context, Disconnected

from devices.epics.readers import read
from tango_jit.cameras import Event, FirstNumber, Refused, RoleNow
from tango_jit.cameras.ntndarray import NTNDArray, NTNDArrayError, exposure

AWAY = "not connected"
FRAMES = POSITIONS = 10_000  # that wait at most, however small
NEWEST = 4


@dataclass(frozen=True)
class PVs:
    """Names of PVs; an empty one is not there.

    `image`: NTNDArray. `angles`: a structure with `value`, degrees frame by frame, as tomoScan's StreamTheta.
    `first_projection`: how many frames come before the first angle, as tomoScan's FirstProjid. `position`: of the
    rotation stage, degrees with a time. `frame_type`: what frames show now, see `role_of`. `dark`, `flat`: structures
    with the mean in `value` and its `sizex`, `sizey`, as tomoScan's StreamDarkFields.
    """

    image: str
    angles: str = ""
    first_projection: str = ""
    position: str = ""
    frame_type: str = ""
    dark: str = ""
    flat: str = ""


class PvaCamera:
    """A `Camera` whose frames are an NTNDArray that somebody publishes.

    Frames wait, as compressed as they came, in a queue of at most `budget_bytes`; those for which there is no room
    are counted in `dropped`. What else comes always has room: of each PV the newest four, of positions 10,000.
    `queue_size`: how many frames the server is asked to keep for us.

    The first value of the image's PV after each connection is left out: it was there before, perhaps of another scan.
    """

    def __init__(
        self, pvs: PVs, *, queue_size: int = 64, budget_bytes: int = 256 << 20, conf: Mapping[str, str] | None = None
    ) -> None:
        """`conf`: addresses as `EPICS_PVA_...`; None: those of the environment. Raises ValueError."""
        if not pvs.image.strip():
            raise ValueError("image: expected the name of a PV with an NTNDArray, got none")
        if not 2 <= queue_size <= 1000:
            raise ValueError(f"queue size: expected 2 to 1000 frames, got {queue_size}")
        self.pvs = pvs
        self.dropped = 0
        self._request = f"record[queueSize={queue_size:d}]"
        self._budget = budget_bytes
        self._conf = conf
        self._queue: deque[tuple[str, Event | NTNDArray]] = deque()
        self._waiting: Counter[str] = Counter()  # events of each PV in the queue
        self._bytes = 0
        self._changed = threading.Condition()
        self._names = {field.name: name for field in fields(PVs) if (name := getattr(pvs, field.name))}
        self._away = dict.fromkeys(self._names, AWAY)  # why; by the field of PVs
        self._context: Context | None = None
        self._subscriptions: list[Any] = []

    @property
    def trouble(self) -> str:
        """Why no frames come; empty: the image's PV answers."""
        why = self._away.get("image", "")
        return f"{self.pvs.image}: {why}" if why else ""

    @property
    def missing(self) -> str:
        """Which other PVs do not answer, and why; empty: all do."""
        away = sorted(self._away.copy().items())
        return "; ".join(f"{getattr(self.pvs, role)}: {why}" for role, why in away if role != "image")

    @property
    def tells(self) -> Collection[type]:
        """What frames are not understood without."""
        kinds = {RoleNow: self.pvs.frame_type, FirstNumber: self.pvs.first_projection}
        return {kind for kind, name in kinds.items() if name}

    def open(self) -> None:
        """Connect; PVs that are away come when they come."""
        self.dropped = 0
        conf = None if self._conf is None else dict(self._conf)
        context = Context("pva", nt=False, conf=conf, useenv=conf is None)
        with self._changed:
            self._context = context
        for role, name in self._names.items():
            self._subscriptions.append(self._follow(context, role, name))  # who is not held ends

    def _follow(self, context: Context, role: str, name: str) -> Any:
        """Subscribe to a PV."""
        stale = role == "image"  # called for one PV by one thread at a time

        def take(value: Any) -> None:
            nonlocal stale
            if isinstance(value, Exception):
                stale = role == "image"
                lost = isinstance(value, Disconnected)
                self._away[role] = AWAY if lost else str(value) or type(value).__name__
                return
            self._away.pop(role, None)
            if stale:
                stale = False
            elif (event := read(role, value)) is not None:
                self._put(context, role, event)

        return context.monitor(name, take, request=self._request, notify_disconnect=True)

    def _put(self, context: Context, role: str, event: Event | NTNDArray) -> None:
        with self._changed:
            if self._context is not context:  # closed meanwhile
                return
            if role == "image":
                size = _nbytes(event)
                if self._waiting[role] and (self._bytes + size > self._budget or self._waiting[role] >= FRAMES):
                    self.dropped += 1
                    return
                self._bytes += size
            elif self._waiting[role] >= (POSITIONS if role == "position" else NEWEST):
                oldest = next(i for i, (other, _) in enumerate(self._queue) if other == role)
                del self._queue[oldest]
                self._waiting[role] -= 1
            self._queue.append((role, event))
            self._waiting[role] += 1
            self._changed.notify_all()

    def receive(self, timeout_s: float) -> Event | None:
        """What came next, unpacked; None: nothing within `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, timeout_s):
                return None
            role, event = self._queue.popleft()
            self._waiting[role] -= 1
            self._bytes -= _nbytes(event)
        if not isinstance(event, NTNDArray):
            return event
        try:
            return exposure(event)
        except NTNDArrayError as error:
            return Refused(f"frame {event.unique_id}: {error}", event.unique_id)

    def close(self) -> None:
        """Disconnect."""
        with self._changed:
            context, self._context = self._context, None
            self._queue.clear()
            self._waiting.clear()
            self._bytes = 0
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
        if context is not None:
            context.close()
        self._away = dict.fromkeys(self._names, AWAY)


def _nbytes(event: Event | NTNDArray) -> int:
    """What counts against the budget: the pixels of a frame, as they came."""
    return event.nbytes if isinstance(event, NTNDArray) else 0
