"""The newest filtered views that span one turn: what a slice at this moment is made of; and those of the turn before.

The window is chosen by angle, not by count: all views whose unwrapped angle is less than `span` behind the foremost
one. Free-running cameras, uneven steps, any first angle and either direction are the normal case.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry, projection_matrices
from tango_jit.recon.backproject import get
from tango_jit.recon.backproject.ring import Ring
from tango_jit.recon.weights import split_weights

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Arrival = Literal["new", "late", "duplicate", "stale"]

# Fractions of the span. A frame that turns back further than BACK, or leaps further ahead than LEAP, starts a new
# window. The direction of rotation is known once the stage has turned by BACK; until then it may as well be
# standing, and no more than START views are kept.
BACK, LEAP, START = 1 / 100, 1 / 2, 16
# In typical steps. A frame that moves less than STILL takes the place of the one before (the stage stands); a view
# within SAME of the one a span ahead shows the same and leaves the span; the span is covered when no more than END is
# missing.
STILL, SAME, END = 0.1, 0.25, 1.5
# So many misfits in a row are no late frames: the numbering has started anew.
MISFITS = 8
# In typical weights: next to one missing view of its half a view has 1.5, next to two in a row 2.
LOST = 2.1
# The ring in windows, and one more if two are kept: what has left stays for a while, so that a slice can be updated by
# the difference.
SPARE = 4 / 3
TIGHT = 1.05  # and where memory is short
# So many frames before the rotation begins are no longer usual.
STANDING = 1000


class WindowOverflowError(RuntimeError):
    """More views in the spans that are kept than the window may hold."""


@dataclass(frozen=True, eq=False)
class Window:
    """The views of one full span, n of them, in order of their frame number.

    `projections` is the live ring of the `ProjectionWindow`, valid until its next `add` or `clear` (`copied` lasts);
    all the rest is a snapshot.
    """

    projections: Ring
    slots: NDArray[np.int64]  # (n,) index into projections
    serials: NDArray[np.int64]  # (n,) one for each view that ever came: tells whether a slot still holds it
    frames: NDArray[np.int64]  # (n,) frame numbers, ascending
    angles_rad: Array  # (n,) unwrapped
    matrices: Array  # (n, 3, 4), see geometry.projection_matrices
    weights: Image  # (3, n): even half, odd half, full; each sums to pi, the halves share no view
    complete: bool  # neither half has a gap
    equal: bool  # the mean of the halves is the full slice, to rounding
    occupants: NDArray[np.int64]  # (capacity,) live: the serial of the view in each slot

    @property
    def nearly_complete(self) -> bool:
        """No half misses more than two views in a row: good enough to learn from, where `complete` may never be."""
        typical = 2 * np.median(self.weights[2])  # in a half every view stands for two
        return self.complete or all(0 < half.max() <= LOST * typical for half in self.weights[:2])

    def copied(self) -> Window:
        """The same window with views of its own, which stay as they are."""
        projections, slots = self.projections.copied(self.slots), np.arange(len(self.slots))
        return replace(self, projections=projections, slots=slots, occupants=self.serials)

    @property
    def first_frame(self) -> int:
        return int(self.frames[0])

    @property
    def last_frame(self) -> int:
        return int(self.frames[-1])


class _View(NamedTuple):
    frame: int
    angle_rad: float
    slot: int
    serial: int
    vectors: Array | None  # ASTRA row (12,) in mm where the frame brought its own pose


_FRAME = attrgetter("frame")


class ProjectionWindow:
    """A ring of filtered views that always holds the newest span of angles.

    Parameters
    ----------
    span_rad : angle that the window covers; None: 2 pi for cone, pi for parallel beams, which may have 2 pi as well.
    spans : how many spans of views are kept, 1 or 2; with 2 there is the window `before` the present one, too.
    backend : whose memory keeps the views, see `backproject.get`.
    max_views, max_bytes : limits of the ring for all spans, the smaller one counts. It grows to what the scan needs,
        no further.

    The order of the frames is that of their numbers; late ones are put where they belong. A new window starts
    by itself when the stage turns back by more than 1/100 of the span or leaps ahead by more than 1/2, and
    after 8 frames in a row that fit nowhere (numbers that start anew). Nothing is published before the angles
    since the start cover the span. Of several frames at one angle in a row the newest counts.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        span_rad: float | None = None,
        *,
        spans: int = 1,
        backend: str = "cpu",
        max_views: int = 8192,
        max_bytes: int = 16 << 30,
    ) -> None:
        turns_rad = sorted({geometry.full_turn_rad, 2 * math.pi})
        self.span_rad = geometry.full_turn_rad if span_rad is None else float(span_rad)
        if not any(math.isclose(self.span_rad, turn_rad, rel_tol=1e-6) for turn_rad in turns_rad):
            expected = " or ".join(f"{turn_rad:.6g}" for turn_rad in turns_rad)
            raise ValueError(f"span_rad: expected {expected} for a {geometry.beam} beam, got {span_rad!r}")
        if spans not in (1, 2):
            raise ValueError(f"spans: expected 1 or 2, got {spans!r}")
        self.geometry, self.spans = geometry, spans
        make_ring = get(backend).make_ring
        view_bytes = make_ring(1, geometry.rows, geometry.cols).nbytes
        self.max_views = min(max_views, max_bytes // view_bytes)
        if self.max_views < 2:
            raise ValueError(
                f"max_views, max_bytes: expected room for 2 views of {geometry.rows} x {geometry.cols} pixels, "
                f"got {max_views} and {max_bytes}"
            )
        self._ring = make_ring(min(START, self.max_views), geometry.rows, geometry.cols)
        self._occupants = np.full(self._ring.shape[0], -1)
        self._serial = 0
        self._restarts, self._reached = 0, 0.0  # since the span was last covered: how often, the fullest of them
        self.clear()

    def clear(self) -> None:
        """Forget all views; the ring keeps its memory."""
        self._views: list[_View] = []  # by frame number
        self._first = 0  # index of the first view of the newest span; those before it are of the earlier one
        # Taken from the left, given back on the right: a view that has left stays readable for as long as possible.
        self._free = deque(range(self._ring.shape[0]))
        self._direction = 0  # +1 or -1 once it is known
        self._start_rad: float | None = None  # first and foremost angle since the start
        self._head_rad = 0.0
        self._step_rad = 1e-5 * self.span_rad  # typical; until there are two views, what counts as standing
        self._misfits = self._standing = 0
        self._window: Window | None = None
        self._before: Window | None = None

    @property
    def obstacle(self) -> str:
        """Why the span may never be covered, in words; empty: there is no sign of it."""
        if self._restarts > 1 and self.fill <= self._reached:
            return f"it began anew {self._restarts} times, because the angle leaps or turns back"
        if self._standing >= STANDING:
            return f"the angle has stood still for {self._standing} frames"
        return ""

    def __len__(self) -> int:
        """Number of views held, of all spans."""
        return len(self._views)

    @property
    def nbytes(self) -> int:
        """Memory of the ring in bytes."""
        return self._ring.nbytes

    @property
    def fill(self) -> float:
        """Part of the span that is covered since the start, 0 to 1; at 1 there is a `window`."""
        return self._fill(self._head_rad)

    def _fill(self, head_rad: float) -> float:
        """The same for the span that ends at this angle."""
        if not self._direction or self._start_rad is None:
            return 0.0
        covered = abs(head_rad - self._start_rad)
        return 1.0 if covered + END * self._step_rad >= self.span_rad else covered / self.span_rad

    def add(self, frame: int, angle_rad: float, projection: Image, pose: ArrayLike | None = None) -> Arrival:
        """Take one filtered view (rows, cols); it is copied.

        `angle_rad` is unwrapped; `pose` are the frame's own ASTRA vectors (12,) in mm, None: the scanner turned by
        the angle. Returns "new", "late" (out of order, inserted), "duplicate" or "stale" (too old or out of place);
        the last two change nothing. Raises ValueError for a wrong shape or an angle that is no number, and
        WindowOverflowError, after which the window is empty.
        """
        if projection.shape != self._ring.shape[1:]:
            raise ValueError(f"projection: expected shape {self._ring.shape[1:]}, got {projection.shape}")
        if not math.isfinite(angle_rad):
            raise ValueError(f"angle_rad: expected a finite number, got {angle_rad!r}")
        vectors = None if pose is None else np.asarray(pose, np.float64)
        if vectors is not None and not (vectors.shape == (12,) and np.isfinite(vectors).all()):
            raise ValueError(f"pose: expected 12 finite numbers, got {pose!r}")
        if vectors is not None and not np.isfinite(_matrices(self.geometry, vectors)).all():
            raise ValueError(f"pose: expected the vectors of a scanner, got {vectors.tolist()}")
        at = bisect_left(self._views, (frame,))
        late = at < len(self._views)
        if late and self._views[at][:2] == (frame, angle_rad):
            return "duplicate"
        anew = late and not self._fits(at, frame, angle_rad)
        if anew:
            self._misfits += 1
            if self._misfits < MISFITS:
                return "stale"
        full = not self._free
        if full:  # else the view first: one that the ring refuses changes nothing
            self._make_way(angle_rad, late, anew)
        slot = self._fill_slot(projection)
        if not full:
            self._make_way(angle_rad, late, anew, slot)
        late = late and not anew
        self._misfits = 0
        self._serial += 1
        view = _View(frame, angle_rad, slot, self._serial, vectors)
        self._occupants[view.slot] = view.serial
        insort(self._views, view, key=_FRAME)
        self._turn(angle_rad)
        self._window = self._before = None
        return "late" if late else "new"

    def window(self) -> Window | None:
        """The window of this moment, or None while the span is not covered. The same object until the next `add`."""
        if self._window is None and self.fill == 1.0:
            self._window = self._window_of(self._views[self._first :])
        return self._window

    def before(self) -> Window | None:
        """The window of the span that ends where that of `window` begins: they share no view.

        It is what `window` was when the view before its first was the newest, with what came late since. None while
        that span is not covered, and always if one span is kept. The same object until the next `add`.
        """
        if self._before is None and self._first and self._fill(self._views[self._first - 1].angle_rad) == 1.0:
            self._before = self._window_of(self._views[: self._first])
        return self._before

    def _window_of(self, views: list[_View]) -> Window:
        """The window of these views, in order of their frame number."""
        frames = np.array([view.frame for view in views], np.int64)
        angles_rad = np.array([view.angle_rad for view in views])
        vectors = self.geometry.vectors(angles_rad)  # (n, 12)
        for row, view in zip(vectors, views, strict=True):
            if view.vectors is not None:
                row[:] = view.vectors
        weights, complete, equal = split_weights(frames, angles_rad, self.span_rad)
        return Window(
            self._ring,
            np.array([view.slot for view in views], np.int64),
            np.array([view.serial for view in views], np.int64),
            frames,
            angles_rad,
            projection_matrices(self.geometry.beam, vectors, self.geometry.rows, self.geometry.cols),
            weights,
            complete,
            equal,
            self._occupants,
        )

    def _fits(self, at: int, frame: int, angle_rad: float) -> bool:
        """Does a frame with this angle belong before view `at`?"""
        after = self._views[at]
        if frame == after.frame:
            return False
        if not self._direction:
            return abs(angle_rad - after.angle_rad) <= LEAP * self.span_rad
        slack = BACK * self.span_rad
        return (
            self._direction * (self._head_rad - angle_rad) < self.spans * self._reach_rad
            and self._direction * (after.angle_rad - angle_rad) >= -slack
            and (at == 0 or self._direction * (angle_rad - self._views[at - 1].angle_rad) >= -slack)
        )

    def _make_way(self, angle_rad: float, late: bool, anew: bool, slot: int | None = None) -> None:
        """Start anew if wanted, or after a jump; on a standing stage replace the newest. `slot` is taken already."""
        if anew:
            self._restart(slot)
        elif self._views and not late:
            newest = self._views[-1].angle_rad
            ahead = self._direction * (angle_rad - self._head_rad) if self._direction else abs(angle_rad - newest)
            if not -BACK * self.span_rad <= ahead <= LEAP * self.span_rad:
                self._restart(slot)
            elif abs(angle_rad - newest) <= STILL * self._step_rad:
                self._drop(-1)

    def _restart(self, slot: int | None) -> None:
        """Forget all views, but not what was just put into `slot`."""
        covered = self.fill == 1.0
        self._restarts = 0 if covered else self._restarts + 1
        self._reached = 0.0 if covered else max(self._reached, self.fill)
        self.clear()
        if slot is not None:
            self._free.remove(slot)

    def _turn(self, angle_rad: float) -> None:
        """After an insertion: follow the rotation and drop what has left the spans."""
        newest = self._views[-1].angle_rad
        if self._start_rad is None:
            self._start_rad = angle_rad
        recent = [view.angle_rad for view in self._views[max(self._first, len(self._views) - 33) :]]
        steps = sorted(abs(b - a) for a, b in pairwise(recent))
        if steps:
            self._step_rad = max(steps[len(steps) // 2], 1e-5 * self.span_rad)
        if not self._direction:
            if abs(newest - self._start_rad) > BACK * self.span_rad:
                self._direction, slack = (1 if newest > self._start_rad else -1), BACK * self.span_rad
                for at in reversed(range(len(self._views) - 1)):  # without late ones of before the start
                    if self._direction * (self._views[at + 1].angle_rad - self._views[at].angle_rad) < -slack:
                        self._drop(at)
                self._start_rad, self._head_rad = self._views[0].angle_rad, newest
                self._standing = 0
                return
            self._standing += 1
            if len(self._views) > START:
                self._drop(0)
            return
        if self._direction * (angle_rad - self._head_rad) > 0:
            self._head_rad = angle_rad
        if self._direction * (angle_rad - self._start_rad) < 0:
            self._start_rad = angle_rad
        # Also after a late view of the earlier span, which has moved the others.
        while self._direction * (self._head_rad - self._views[self._first].angle_rad) >= self._reach_rad:
            self._first += 1
        # The earlier span reaches as far behind its own foremost view: measured from the head it might lack one view.
        while self._first and (
            self.spans == 1
            or self._direction * (self._views[self._first - 1].angle_rad - self._views[0].angle_rad) >= self._reach_rad
        ):
            self._drop(0)
            self._first -= 1

    @property
    def _reach_rad(self) -> float:
        """So far behind its foremost view a span holds views."""
        return self.span_rad - SAME * self._step_rad

    def _drop(self, at: int) -> None:
        self._free.append(self._views.pop(at).slot)

    def _fill_slot(self, projection: Any) -> int:
        """A free slot with this view in it. A ring that refuses the view keeps the slot free."""
        if not self._free:
            self._grow()
        self._ring.put(self._free[0], projection)
        return self._free.popleft()

    def _grow(self) -> None:
        """Make the ring as long as the scan will need, judged by its steps, and at least twice as long."""
        held = self._ring.shape[0]
        if held >= self.max_views:
            self._refuse(f"max_views, max_bytes: expected no more than {self.max_views} views")
        needed, least = (int((part + self.spans - 1) * self.span_rad / self._step_rad) + 8 for part in (SPARE, TIGHT))
        size = min(max(2 * held, min(needed, 16 * held)), self.max_views)
        try:
            self._ring = self._ring.grown(size)
        except MemoryError as error:
            if not held < least < size:
                self._refuse(f"memory: expected room for {size} views", error)
            size = least  # none to spare: slices are then made anew more often
            try:
                self._ring = self._ring.grown(size)
            except MemoryError as error:
                self._refuse(f"memory: expected room for {size} views", error)
        self._occupants = np.concatenate([self._occupants, np.full(size - held, -1)])
        self._free = deque(range(held, size))

    def _refuse(self, expected: str, error: MemoryError | None = None) -> NoReturn:
        kept_rad = self.spans * self.span_rad
        needed = math.degrees(kept_rad), int(kept_rad / self._step_rad)
        self.clear()
        raise WindowOverflowError(
            f"{expected} in {needed[0]:.0f} degrees, got a scan with about {needed[1]}: bin the frames or allow more"
            + (f" ({error})" if error else "")
        ) from error


def _matrices(geometry: ScanGeometry, vectors: Array) -> Array:
    """Projection matrix of one pose; not finite where the vectors are no scanner."""
    try:
        with np.errstate(all="ignore"):
            return projection_matrices(geometry.beam, vectors[None], geometry.rows, geometry.cols)
    except np.linalg.LinAlgError:
        return np.full((1, 3, 4), math.nan)
