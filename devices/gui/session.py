"""What the window knows: looks at the devices, the newest pictures, where slices lie and are wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from devices.watch.known import Known
from devices.watch.look import Look, Seen
from devices.watch.orders import Orders
from devices.watch.pictures import Picture, PictureReader, Preview
from tango_jit.geometry import SliceGeometry

WATCHED_EVERY_MS = 2000
ENDING_S = 1.5
JOINED_S = 0.7  # moves by wheel that follow each other so soon are undone as one
UNDO = 100


class Session(QObject):
    """One per window. Everything here is used in the thread of the window alone; the threads behind it only knock.

    `devices`: member name -> Tango device name; those that are not there are named in words by their looks.
    """

    seen = pyqtSignal(object)  # Seen
    picture = pyqtSignal(object)  # Picture
    preview = pyqtSignal(object)  # Preview
    placed = pyqtSignal(str)  # a slice is wanted elsewhere, or is told to be
    slices_changed = pyqtSignal()
    jumped = pyqtSignal(float, str)  # the experiment: when, and in words
    said = pyqtSignal(str, bool)  # for the journal; is it trouble
    _knocked = pyqtSignal()

    def __init__(self, devices: Mapping[str, str]) -> None:
        super().__init__()
        self._before: list[tuple[float, dict[str, SliceGeometry]]] = []  # when, and where slices were
        self._lock, self._inbox = threading.Lock(), dict[Any, Callable[[], None]]()
        self._knocked.connect(self._open)
        self.orders = Orders(devices, self._from_thread("order", self._answered))
        self._reader = PictureReader(
            devices, self._from_thread("picture", self._take), self._from_thread("failure", self._failed)
        )
        self.known = Known(devices, self._reader)
        seen, rung = self._from_thread("look", self._look), self._from_thread("bell", self.known.rung)
        self._threads = {m: Look(m, device, seen, rung) for m, device in devices.items()}
        self.workers = [self._reader.worker, self.orders.moves]  # to be ended with the session; others may add theirs
        self._watch = QTimer(self)
        self._watch.timeout.connect(self._look_at_looks)
        self._watch.start(WATCHED_EVERY_MS)

    # ---- from other threads

    def _from_thread(self, kind: str, handle: Callable[..., None]) -> Callable[..., None]:
        """A function for other threads, which has this one call `handle`; of looks, bells and pictures the newest."""

        def knock(*arguments: Any) -> None:
            if kind in ("look", "picture"):
                key: Any = (kind, getattr(arguments[0], "member", None), getattr(arguments[0], "name", None))
            elif kind == "bell":
                key = (kind, *arguments)
            else:
                key = (kind, object())
            with self._lock:
                first = not self._inbox
                self._inbox[key] = lambda: handle(*arguments)
            if first:
                self._knocked.emit()

        return knock

    def _open(self) -> None:
        with self._lock:
            inbox, self._inbox = self._inbox, {}
        for handle in inbox.values():
            handle()

    # ---- looks

    @property
    def devices(self) -> Mapping[str, str]:
        """Member name -> Tango device name."""
        return self.known.devices

    @property
    def looks(self) -> Mapping[str, Seen]:
        """The last ones."""
        return self.known.looks

    @property
    def pictures(self) -> Mapping[str, Picture]:
        """The newest of each slice."""
        return self.known.pictures

    @property
    def places(self) -> Mapping[str, SliceGeometry]:
        """Where slices are, or were just brought."""
        return self.known.places

    @property
    def names(self) -> tuple[str, ...]:
        """Of the slices, as they are at the reconstructor; where it does not answer as they were."""
        return tuple(self.places)

    @property
    def source(self) -> str:
        """Whose pictures are shown: those of the reconstructor where the denoiser does not answer."""
        return self.known.source

    def value(self, member: str, name: str, default: Any = None) -> Any:
        """What an attribute was at the last look; the default where it is not known."""
        seen = self.looks.get(member)
        found = seen.values.get(name) if seen is not None else None
        return default if found is None else found

    def _look(self, seen: Seen) -> None:
        change = self.known.look(seen)
        for text, trouble in change.lines:
            self.said.emit(text, trouble)
        if change.slices:
            self.slices_changed.emit()
        for name in change.placed:
            self.placed.emit(name)
        if change.jump:
            self.jumped.emit(seen.at_s, change.jump)
        self.seen.emit(seen)

    def _look_at_looks(self) -> None:
        for seen in self.known.silent():
            self._look(seen)

    # ---- pictures

    def watch(self, watching: bool) -> None:
        """Read pictures, or none: nobody sees them."""
        self.known.watching = watching
        if watching:
            self.known.read_again()

    def show(self, kinds: Iterable[str]) -> None:
        """From now on these kinds of pictures are read."""
        self.known.show(kinds)

    def _take(self, found: Picture | Preview) -> None:
        if isinstance(found, Preview):
            self.known.take_preview()
            self.preview.emit(found)
        elif self.known.take(found):
            self.picture.emit(found)

    def _failed(self, text: str) -> None:
        self.said.emit(text, True)

    # ---- places

    def begin_move(self, *names: str, joins: bool = False) -> None:
        """What follows can be undone as one; `joins`: as one with the move before, if that is the same and just was."""
        now, places = time.monotonic(), {name: self.places[name] for name in names}
        if joins and self._before and self._before[-1][1].keys() == places.keys():
            then, before = self._before[-1]
            if now - then < JOINED_S:
                self._before[-1] = (now, before)
                return
        self._before = [*self._before[1 - UNDO :], (now, places)]

    def move(self, name: str, place: SliceGeometry) -> None:
        """Bring a slice there: at once here, and at the reconstructor as soon as it takes it."""
        place = replace(place, rows=self.places[name].rows, cols=self.places[name].cols)
        self.known.bring(name, place)
        self.placed.emit(name)
        self.orders.move(name, place.nine)

    def undo(self) -> tuple[str, ...]:
        """Take the last move back; returns the names of its slices, () if there is none."""
        while self._before:
            _, before = self._before.pop()
            moved = [name for name in before if name in self.places]
            for name in moved:
                self.move(name, before[name])
            if moved:
                return tuple(moved)
        return ()

    def _answered(self, member: str, order: str, trouble: str) -> None:
        if trouble and (name := self.known.refused(order)):
            self.placed.emit(name)
        if member in self._threads:
            self._threads[member].now()
        self.said.emit(f"{member}: {order}: {trouble}" if trouble else f"{member}: {order}", bool(trouble))

    def close(self) -> None:
        """End all threads, but wait for none that hangs in a call to a device."""
        self._watch.stop()
        threads = [*self._threads.values(), *self.workers]
        for thread in threads:
            thread.end()
        self.orders.end()
        deadline = time.monotonic() + ENDING_S
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
