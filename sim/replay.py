"""Where a replay is in its recording: frame numbers and angles that go on, whatever is repeated, skipped or sought."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.streams import FrameSource, Image

OVERSCAN = 0.009  # of a turn; a window takes steps back of up to 0.01
PASSES = 500  # with two numbers each just what may be pushed as an event


def recording_index(passes: Any, frame_number: int, recorded: Sequence[int] | None = None) -> int | None:
    """Index in the recording of the frame that was sent under a number: what a ground truth is looked up by.

    `passes` (n, 2) as the attribute of that name: from the first number of a row on, the frames are those from the
    index of that row on, up to the next row. `recorded`: the frame numbers of the recording, whose gaps the numbers
    that were sent have too; None: there are no gaps. Returns None for a number older than all rows, or not sent.
    """
    rows = np.asarray(passes, np.int64).reshape(-1, 2)
    at = int(np.searchsorted(rows[:, 0], frame_number, side="right")) - 1
    if at < 0:
        return None
    first, index = int(rows[at, 0]), int(rows[at, 1])
    if recorded is None:
        return index + frame_number - first
    if index >= len(recorded):
        return None
    wanted = recorded[index] + frame_number - first
    found = int(np.searchsorted(np.asarray(recorded), wanted))
    return found if found < len(recorded) and recorded[found] == wanted else None


@dataclass(frozen=True)
class Place:
    """A frame that may be sent next."""

    index: int  # in the recording
    frame: int  # its number in the series
    advance_rad: float  # added to the angle of the recording
    follows: bool  # what came before it in the recording was before it in the series
    leaps: bool  # somebody has sought it


class Replay:
    """Frames of `source` from index `first` to `last` (inclusive; -1: the end), again while `loops()` is true.

    `at` is the index to begin with; None: `first`. Frame numbers begin at 0 and go on from pass to pass, with the
    gaps that the recording has. Angles go on by whole turns, so that the object stands where it stood; those
    of a parallel beam by half turns if the recording ends there, with the true vectors as the frame's own pose.

    A frame that was sought comes more than a whole turn after the one before: so every window downstream
    empties itself, and never holds the object of two times.

    Raises ValueError when the range holds no frame, or `at` is not in it.
    """

    def __init__(
        self, source: FrameSource, series: str, first: int, last: int, loops: Callable[[], bool], at: int | None = None
    ) -> None:
        self.end = len(source) if last < 0 else min(last + 1, len(source))
        if not first < self.end:
            raise ValueError(f"first_frame: expected below {self.end} (frames to replay), got {first}")
        self._source, self._series, self.first, self._loops = source, series, first, loops
        self._rows: deque[tuple[int, int]] = deque(maxlen=PASSES)
        self._ends: dict[int, float] = {}  # recorded angles of the first and the last frame, as far as known
        self._at: Place | None = None  # of the last frame
        self._highest, self._advance_rad = -1, 0.0
        self._angle_rad, self._direction = math.nan, 1.0  # of the last frame that was not skipped
        self._sought: int | None = None
        self._next: tuple[Place, Image] | None = None
        self.turned_rad = 0.0
        """How far the object has turned, without the leaps to what was sought."""
        if at is not None:
            self.seek(at)

    @property
    def passes(self) -> NDArray[np.int64]:
        """(n, 2), at most 500: first frame number and index in the recording; see `recording_index`."""
        return np.array(self._rows, np.int64).reshape(-1, 2)

    @property
    def upcoming(self) -> int:
        """Index in the recording that comes next; after the last one that of the first."""
        if self._sought is not None:
            return self._sought
        at = -1 if self._at is None else self._at.index
        return self.first if at < 0 or at + 1 >= self.end else at + 1

    def seek(self, index: int) -> None:
        """Go on with the frame at `index` of the recording. Raises ValueError for one that is not replayed."""
        if not self.first <= index < self.end:
            raise ValueError(f"position: expected {self.first} to {self.end - 1}, got {index}")
        self._sought, self._next = index, None

    def peek(self) -> tuple[int, Image] | None:
        """The next frame and its index in the recording, read only once; None: the replay is over. Time stamp: 0."""
        if self._next is None:
            place = self._following()
            if place is None:
                return None
            image = self._source.frame(place.index)
            self._remember(place.index, image.angle_rad)
            pose = image.pose
            if pose is None and place.advance_rad % (2 * math.pi) > 1e-6:
                pose = tuple(self._source.header.geometry.vectors(image.angle_rad)[0].tolist())
            angle_rad = image.angle_rad + place.advance_rad
            self._next = place, Image(self._series, place.frame, angle_rad, 0.0, np.asarray(image.data), pose)
        return self._next[0].index, self._next[1]

    def take(self) -> bool:
        """The frame that `peek` gave was sent. Says whether `passes` has a new row."""
        assert self._next is not None
        (place, image), self._next = self._next, None
        if not math.isnan(self._angle_rad) and not place.leaps:
            step = image.angle_rad - self._angle_rad
            self.turned_rad += step
            self._direction = math.copysign(1.0, step) if step else self._direction
        self._angle_rad = image.angle_rad
        return self._go_to(place)

    def skip(self, frames: int) -> int:
        """Go on as if so many frames had been sent. Returns how many there were."""
        for done in range(frames):
            place = self._next[0] if self._next else self._following()
            self._next = None
            if place is None:
                return done
            self._go_to(place)
        return frames

    def __iter__(self) -> Iterator[Image]:
        """All frames, each taken when the next one is asked for."""
        while (found := self.peek()) is not None:
            yield found[1]
            self.take()

    def _go_to(self, place: Place) -> bool:
        self._at, self._highest, self._advance_rad = place, max(self._highest, place.frame), place.advance_rad
        self._sought = None
        if not place.follows:
            self._rows.append((place.frame, place.index))
        return not place.follows

    def _following(self) -> Place | None:
        if self._sought is not None:
            return Place(self._sought, self._highest + 1, self._leap(self._sought), False, True)
        if self._at is None:
            return Place(self.first, 0, 0.0, False, False)
        index = self._at.index + 1
        if index < self.end:
            numbers: Sequence[int] = self._source.frame_numbers
            step = numbers[index] - numbers[index - 1]
            return Place(index, self._at.frame + step, self._advance_rad, step == 1, False)
        if not self._loops():
            return None
        return Place(self.first, self._highest + 1, self._another_pass(), False, False)

    def _leap(self, index: int) -> float:
        """Whole turns that bring the frame at `index` one to two turns beyond the last one."""
        if math.isnan(self._angle_rad):
            return 0.0
        behind = self._direction * (self._angle_rad - self._recorded_angle(index)) / (2 * math.pi)
        return self._direction * 2 * math.pi * (math.floor(behind) + 2)

    def _another_pass(self) -> float:
        swept = self._recorded_angle(self.end - 1) - self._recorded_angle(self.first)
        step = swept / max(self.end - self.first - 1, 1)
        span = self._source.header.geometry.full_turn_rad
        slack = max(0.25 * abs(step), OVERSCAN * span)  # a last view like the first, or a little beyond, adds no turn
        spans = max(math.ceil((abs(swept) - slack) / span), 1)
        advance = self._advance_rad + math.copysign(span * spans, swept)
        return round(advance / span) * span  # the nearest multiple: sums over many passes stay exact

    def _recorded_angle(self, index: int) -> float:
        if index not in self._ends:
            angle_rad = self._source.frame(index).angle_rad
            self._remember(index, angle_rad)
            return angle_rad
        return self._ends[index]

    def _remember(self, index: int, angle_rad: float) -> None:
        if index in (self.first, self.end - 1):
            self._ends[index] = angle_rad
