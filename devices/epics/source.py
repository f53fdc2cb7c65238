"""Frames of areaDetector over PVAccess: an image PV and, beside it, what tomoScan and others publish about the scan.

Every monitor asks for `record[queueSize=N]` and never for `pipeline`: with that, servers seen in the field repeat
frames by the dozen, and one of them aborts.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from p4p.client.thread import Cancelled, Context, Disconnected, RemoteError

from tango_jit.cameras import Angles, Event, FieldMean, FirstNumber, Position, Refused, Role, RoleNow, role_of
from tango_jit.cameras.ntndarray import Dimension, NTNDArray, NTNDArrayError, exposure

EVENTS = 10_000
FIELDS_MOST = 1 << 28  # pixels


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

    What comes waits in a queue of at most `budget_bytes`, as compressed as it came; frames for which there is no room
    are counted in `dropped`. `queue_size`: how many frames the server is asked to keep for us.
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
        self._queue: deque[tuple[Callable[[Any], Event | None], Any, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._away: dict[str, str] = {}
        self._context: Context | None = None
        self._subscriptions: list[Any] = []

    @property
    def trouble(self) -> str:
        """Which PVs do not answer, and why; empty: all do."""
        return "; ".join(f"{name}: {why}" for name, why in sorted(self._away.copy().items()))

    def open(self) -> None:
        """Connect; PVs that are away come when they come."""
        self.dropped = 0
        conf = None if self._conf is None else dict(self._conf)
        self._context = context = Context("pva", nt=False, conf=conf, useenv=conf is None)
        for field in fields(PVs):
            if name := getattr(self.pvs, field.name):
                self._away[name] = "not connected"
                self._follow(context, name, READERS[field.name])

    def _follow(self, context: Context, name: str, read: Callable[[Any], Event | None]) -> None:
        def take(value: Any) -> None:
            if isinstance(value, Disconnected):
                self._away[name] = "not connected"
            elif isinstance(value, (RemoteError, Cancelled)):
                self._away[name] = str(value) or type(value).__name__
            elif not isinstance(value, Exception):
                self._away.pop(name, None)
                self._put(read, value)

        subscription = context.monitor(name, take, request=self._request, notify_disconnect=True)
        self._subscriptions.append(subscription)  # who is not held ends

    def _put(self, read: Callable[[Any], Event | None], value: Any) -> None:
        size = _nbytes(value)
        with self._changed:
            if self._queue and (self._bytes + size > self._budget or len(self._queue) >= EVENTS):
                self.dropped += 1
                return
            self._queue.append((read, value, size))
            self._bytes += size
            self._changed.notify_all()

    def receive(self, timeout_s: float) -> Event | None:
        """What came next, unpacked; None: nothing within `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, timeout_s):
                return None
            read, value, size = self._queue.popleft()
            self._bytes -= size
        try:
            return read(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Refused(f"{value.getID() or 'a structure'}: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Disconnect."""
        context, self._context = self._context, None
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()
        if context is not None:
            context.close()
        with self._changed:
            self._queue.clear()
            self._bytes = 0
        self._away.clear()


# ---- from p4p's values to ours


def ntndarray(value: Any) -> NTNDArray:
    """The fields of a p4p Value. Raises KeyError or ValueError for what has not got them."""
    codec = value.get("codec") or {}
    parameters = codec.get("parameters") if codec else None
    stamp = value.get("dataTimeStamp") or value.get("timeStamp")
    return NTNDArray(
        int(value["uniqueId"]),
        [Dimension(int(axis["size"]), int(axis["offset"]), int(axis["binning"] or 1)) for axis in value["dimension"]],
        value["value"],
        str(codec.get("name", "")) if codec else "",
        None if parameters is None else int(parameters),
        int(value.get("uncompressedSize") or 0),
        _seconds(stamp),
        {str(one["name"]): _plain(one["value"]) for one in value.get("attribute") or ()},
    )


def _frame(value: Any) -> Event | None:
    image = ntndarray(value)
    if image.value is None:  # before the camera's first frame
        return None
    try:
        return exposure(image)
    except NTNDArrayError as error:
        return Refused(f"frame {image.unique_id}: {error}", image.unique_id)


def _angles(value: Any) -> Event | None:
    degrees = np.asarray(value["value"], np.float64).reshape(-1)
    if not len(degrees):
        return None
    if not np.isfinite(degrees).all():
        raise ValueError("angles: expected finite numbers")
    return Angles(degrees)


def _field(role: Role) -> Callable[[Any], Event | None]:
    def read(value: Any) -> Event | None:
        pixels, cols, rows = np.asarray(value["value"], np.float32), int(value["sizex"]), int(value["sizey"])
        if not pixels.size:
            return None
        if not (rows > 0 and cols > 0 and rows * cols == pixels.size <= FIELDS_MOST):
            raise ValueError(f"{role}: expected {cols} x {rows} numbers, got {pixels.size}")
        return FieldMean(role, pixels.reshape(rows, cols))

    return read


def _first_projection(value: Any) -> Event | None:
    return FirstNumber(int(_scalar(value)) + 1)  # numbers of areaDetector begin at 1


def _position(value: Any) -> Event | None:
    degrees = float(_scalar(value))
    if not math.isfinite(degrees):
        raise ValueError(f"position: expected a finite number, got {degrees}")
    return Position(_seconds(value["timeStamp"]), degrees)


def _frame_type(value: Any) -> Event | None:
    return RoleNow(role_of(_scalar(value)))


READERS: dict[str, Callable[[Any], Event | None]] = {
    "image": _frame,
    "angles": _angles,
    "first_projection": _first_projection,
    "position": _position,
    "frame_type": _frame_type,
    "dark": _field("dark"),
    "flat": _field("flat"),
}


def _scalar(value: Any) -> Any:
    """The value of an NTScalar, or the word of an NTEnum."""
    inner = value["value"]
    if hasattr(inner, "get") and "choices" in inner.keys():  # noqa: SIM118 - a p4p Value is no dict
        return inner["choices"][inner["index"]]
    return inner


def _plain(value: Any) -> Any:
    """An attribute's value: itself, or what an NTScalar or NTEnum inside holds."""
    return _scalar(value) if hasattr(value, "getID") and "value" in value.keys() else value  # noqa: SIM118


def _seconds(stamp: Any) -> float:
    """s since the epoch; 0: there is no time."""
    return 0.0 if stamp is None else float(stamp["secondsPastEpoch"]) + 1e-9 * float(stamp["nanoseconds"])


def _nbytes(value: Any) -> int:
    inner = value.get("value")
    return int(inner.nbytes) if isinstance(inner, np.ndarray) else 256
