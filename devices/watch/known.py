"""What a window or a page knows of the devices, and what it reads next."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from devices.watch.look import BELL, Seen
from devices.watch.looks import changes, is_missed, places_of, silent, source_of, teller_of_places
from devices.watch.pictures import Picture, PictureReader
from tango_jit.geometry import SliceGeometry

PREVIEW_AGAIN_S = 30.0  # one that did not come is asked for again: it is large, and the link may be slow
SETTLING_S = 2.0  # so long a slice that was brought somewhere is thought to be there, whatever is told


@dataclass(frozen=True)
class Change:
    """What a look has taught. `lines`: texts for a journal, and are they trouble; `slices`: there are others than
    before; `placed`: those that lie elsewhere; `jump`: of the experiment, in words, or ""."""

    lines: tuple[tuple[str, bool], ...] = ()
    slices: bool = False
    placed: tuple[str, ...] = ()
    jump: str = ""


class Known:
    """Looks, places and pictures. Its owner sees to it that no two threads use it at once.

    `devices`: member name -> Tango device name. `looks` are the last ones, `values` those of the last that did not
    fail; `places` are where slices are, or were just brought.
    """

    def __init__(self, devices: Mapping[str, str], reader: PictureReader) -> None:
        self.devices = dict(devices)
        self.looks: dict[str, Seen] = {}
        self.values: dict[str, Mapping[str, Any]] = {}
        self.places: dict[str, SliceGeometry] = {}
        self.pictures: dict[str, Picture] = {}
        self.watching = True  # pictures are read
        self.settling: dict[str, float] = {}  # slice -> when it was brought
        self._kinds = frozenset({"raw", "denoised"})
        self._reader = reader
        self._told_by_reconstructor = False  # until then places are those of the pictures
        self._told: dict[str, SliceGeometry] = {}  # where slices are
        self._preview = -1  # the number of the one that came
        self._preview_asked = -1, -math.inf  # the number of the one that was asked for, and when

    @property
    def source(self) -> str:
        """Whose pictures are shown: those of the reconstructor where the denoiser does not answer."""
        return source_of(self.devices, self.looks)

    # ---- what comes

    def look(self, seen: Seen) -> Change:
        """Take a look at a device, and ask for the pictures that it tells of."""
        before, source = self.looks.get(seen.member), self.source
        values = self.values.get(seen.member, {})
        self.looks[seen.member] = seen
        lines, jump, placed, others = [*changes(before, seen)], "", (), False
        if not seen.trouble:
            self.values[seen.member] = seen.values
            jump = _jump(values, seen)
            if seen.member == teller_of_places(self.devices, self.looks, self._told_by_reconstructor):
                placed, others = self._take_places(seen)
        if self.source != source:
            lines.append((f"pictures are those of the {self.source}", self.source != "denoiser"))
            self.read_again()
        elif self.watching:
            self._read_missed(seen)
        return Change(tuple(lines), others, placed, jump)

    def rung(self, member: str, attribute: str) -> None:
        """A frame number has changed."""
        if member == self.source and self.watching:
            self._want(attribute.removeprefix(BELL))

    def take(self, picture: Picture) -> bool:
        """Keep a picture; False: one of what was shown when it was asked for."""
        if picture.source != self.source or (self.places and picture.name not in self.places):
            return False
        self.pictures[picture.name] = picture
        return True

    def take_preview(self) -> None:
        """The one that was asked for has come."""
        self._preview = self._preview_asked[0]

    def silent(self) -> list[Seen]:
        """Looks, to be taken, for devices whose call hangs: they tell nothing."""
        found = [silent(seen, time.time()) for seen in self.looks.values()]
        return [seen for seen in found if seen is not None]

    def _take_places(self, seen: Seen) -> tuple[tuple[str, ...], bool]:
        """Names of slices that lie elsewhere, and are there others."""
        self._told_by_reconstructor = seen.member == "reconstructor"
        places, now = {}, time.monotonic()
        self._told = places_of(seen)
        for name, told in self._told.items():
            settled = now - self.settling.get(name, -math.inf) > SETTLING_S
            places[name] = told if settled or name not in self.places else self.places[name]
        placed = tuple(name for name, place in places.items() if self.places.get(name) != place)
        others = tuple(places) != tuple(self.places)
        self.places = places
        if others:
            self.pictures = {name: picture for name, picture in self.pictures.items() if name in places}
        return placed, others

    # ---- what is wanted

    def show(self, kinds: Iterable[str]) -> None:
        """From now on read these kinds of pictures (see pictures.SOURCES)."""
        if frozenset(kinds) != self._kinds:
            self._kinds = frozenset(kinds)
            self.read_again()

    def read_again(self) -> None:
        """Read all pictures, whether there are new ones or not."""
        for name in self.places:
            self._want(name)

    def bring(self, name: str, place: SliceGeometry) -> None:
        """A slice is wanted there, and thought to be there until it is told where it is."""
        self.places[name] = place
        self.settling[name] = time.monotonic()

    def refused(self, order: str) -> str:
        """An order was. A slice that was to move is where it was told to be: its name, or "" for another order."""
        name = order.removeprefix("move ")
        if name == order or self.settling.pop(name, None) is None or name not in self._told:
            return ""
        self.places[name] = self._told[name]
        return name

    def _want(self, name: str) -> None:
        self._reader.want(self.source, name, self._kinds)

    def _read_missed(self, seen: Seen) -> None:
        """Read what should have come and did not: a read that failed is not told a second time by an event."""
        if seen.member == self.source:
            for name in self.places:
                if is_missed(seen, name, self.pictures.get(name)):
                    self._want(name)
        number = seen.values.get("preview_frame_number") if seen.member == "reconstructor" else None
        asked, at_s = self._preview_asked
        if number is None or number < 0 or number == self._preview:
            return
        if number != asked or time.monotonic() - at_s > PREVIEW_AGAIN_S:
            self._preview_asked = number, time.monotonic()
            self._reader.want_preview()


def _jump(before: Mapping[str, Any], seen: Seen) -> str:
    """A jump that the trainer tells of, since what it told before; a count that began anew is none."""
    counted = before.get("jumps")
    if seen.member != "trainer" or counted is None or (seen.values.get("jumps") or 0) <= counted:
        return ""
    return str(seen.values.get("last_jump") or "jump")
