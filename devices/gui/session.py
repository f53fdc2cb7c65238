"""What the window knows: looks at the devices, the newest pictures, where slices lie and are wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from devices.watch.look import BELL, Look, Seen
from devices.watch.looks import changes, is_missed, places_of, silent, source_of, teller_of_places
from devices.watch.orders import Orders
from devices.watch.pictures import Picture, PictureReader, Preview
from tango_jit.geometry import SliceGeometry

WATCHED_EVERY_MS = 2000
ENDING_S = 1.5
JOINED_S = 0.7  # moves by wheel that follow each other so soon are undone as one
SETTLING_S = 2.0  # so long a slice that was moved here is thought to be where it was brought
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
    said = pyqtSignal(str, bool)  # for the journal; is it trouble
    _knocked = pyqtSignal()

    def __init__(self, devices: Mapping[str, str]) -> None:
        super().__init__()
        self.devices = dict(devices)
        self.looks: dict[str, Seen] = {}
        self.pictures: dict[str, Picture] = {}
        self.places: dict[str, SliceGeometry] = {}
        self._preview = -1  # the newest one that was read
        self.watching = True  # pictures are read
        self._has_places = False  # told by the reconstructor; until then those of the pictures are taken
        self.with_uncertainty = False
        self.moved_at: dict[str, float] = {}
        self._before: list[tuple[float, dict[str, SliceGeometry]]] = []  # when, and where slices were
        self._lock, self._inbox = threading.Lock(), dict[Any, Callable[[], None]]()
        self._knocked.connect(self._open)
        self.orders = Orders(devices, self._from_thread("order", self._answered))
        self._reader = PictureReader(
            devices, self._from_thread("picture", self._take), self._from_thread("failure", self._failed)
        )
        seen, rung = self._from_thread("look", self._look), self._from_thread("bell", self._rung)
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

    def value(self, member: str, name: str, default: Any = None) -> Any:
        """What an attribute was at the last look; the default where it is not known."""
        seen = self.looks.get(member)
        found = seen.values.get(name) if seen is not None else None
        return default if found is None else found

    @property
    def source(self) -> str:
        """Whose pictures are shown: those of the reconstructor where the denoiser does not answer."""
        return source_of(self.devices, self.looks)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the slices, as they are at the reconstructor; where it does not answer as they were."""
        return tuple(self.places)

    def _look(self, seen: Seen) -> None:
        before = self.looks.get(seen.member)
        source = self.source
        self.looks[seen.member] = seen
        for text, trouble in changes(before, seen):
            self.said.emit(text, trouble)
        teller = teller_of_places(self.devices, self.looks, self._has_places)
        if seen.member == teller and not seen.trouble:
            self._take_places(seen)
        preview = seen.values.get("preview_frame_number") if seen.member == "reconstructor" else None
        if preview is not None and preview >= 0 and preview != self._preview and self.watching:
            self._preview = preview
            self._reader.want_preview()
        if self.source != source:
            self.said.emit(f"pictures are those of the {self.source}", self.source != "denoiser")
            self.read_again()
        elif seen.member == source and self.watching:
            self._read_missed(seen)
        self.seen.emit(seen)

    def _read_missed(self, seen: Seen) -> None:
        """Read what should have come and did not: a read that failed is not told a second time by an event."""
        for name in self.names:
            if is_missed(seen, name, self.pictures.get(name)):
                self._want(name)

    def _look_at_looks(self) -> None:
        """A call that hangs tells nothing: what was seen long ago is no state of now."""
        for found in [silent(seen, time.time()) for seen in self.looks.values()]:
            if found is not None:
                self._look(found)

    def _take_places(self, seen: Seen) -> None:
        self._has_places = seen.member == "reconstructor"
        places, now = {}, time.monotonic()
        for name, told in places_of(seen).items():
            settled = now - self.moved_at.get(name, -np.inf) > SETTLING_S
            places[name] = told if settled or name not in self.places else self.places[name]
        changed = [n for n, place in places.items() if self.places.get(n) != place]
        names_before, self.places = self.names, places
        if names_before != self.names:
            self.pictures = {n: p for n, p in self.pictures.items() if n in places}
            self.slices_changed.emit()
        for name in changed:
            self.placed.emit(name)

    # ---- pictures

    def _rung(self, member: str, attribute: str) -> None:
        if member != self.source or not self.watching or not attribute.startswith(BELL):
            return
        self._want(attribute.removeprefix(BELL))

    def _want(self, name: str) -> None:
        kinds = frozenset({"raw", "denoised"} | ({"uncertainty"} if self.with_uncertainty else set()))
        self._reader.want(self.source, name, kinds)

    def read_again(self) -> None:
        """Read all pictures, whether there are new ones or not."""
        for name in self.names:
            self._want(name)

    def _take(self, found: Picture | Preview) -> None:
        if isinstance(found, Preview):
            self.preview.emit(found)
        elif found.name in self.places or not self.places:
            self.pictures[found.name] = found
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
        self.places[name] = place
        self.moved_at[name] = time.monotonic()
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
        if trouble and order.startswith("move "):
            self.moved_at.pop(order.removeprefix("move "), None)  # it is where the reconstructor says
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
