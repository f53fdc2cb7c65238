"""What a page knows: looks at the devices, the newest pictures, the last hour as curves, a journal."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from devices.watch.look import BELL, Look, Seen
from devices.watch.looks import changes, is_missed, places_of, silent, source_of
from devices.watch.orders import Orders
from devices.watch.pictures import Picture, PictureReader, Preview, colour_of, images_of
from devices.watch.plots import accuracy_in_words, followed
from devices.web import drawing
from tango_jit.geometry import SliceGeometry
from tango_jit.view import Camera, Haze, Plane, render, textured, whole

READ_FOR_S = 10.0  # so long after somebody looked pictures are read: a page that nobody looks at costs no slice
LINES = 200
MOST_PIXELS = 400_000  # of the view in space: some 50 ms on one core
OPACITY = 0.4
JOINED_S = 2.0
ORDERS: Mapping[str, tuple[str, str]] = {  # what the page may order, and nothing else
    "start": ("supervisor", "Start"),
    "stop": ("supervisor", "Stop"),
    "freeze": ("denoiser", "Freeze"),
    "thaw": ("denoiser", "frozen=False"),
}


class Wall:
    """One per server; any thread may ask. `devices`: member name -> Tango device name."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._devices = dict(devices)
        self._lock = threading.RLock()
        self._looks: dict[str, Seen] = {}
        self._pictures: dict[str, Picture] = {}
        self._places: dict[str, SliceGeometry] = {}
        self._wanted: dict[str, tuple[float, SliceGeometry]] = {}  # when and where slices were brought here
        self._levels: dict[str, drawing.Levels | None] = dict.fromkeys(drawing.SCALES)
        self._preview: Preview | None = None
        self._preview_number = -1
        self._plots = list(followed())
        self._jumps: list[tuple[float, str]] = []
        self._journal: deque[dict[str, Any]] = deque(maxlen=LINES)
        self._asked_at = -math.inf
        self._orders = Orders(devices, self._answered)
        self._reader = PictureReader(devices, self._take, lambda text: self._say(text, True))
        self._threads = [Look(m, device, self._look, self._rung) for m, device in devices.items()]

    # ---- from the threads that look

    def _look(self, seen: Seen) -> None:
        with self._lock:
            before, source = self._looks.get(seen.member), self.source
            self._looks[seen.member] = seen
            for text, trouble in changes(before, seen):
                self._say(text, trouble)
            for one in (one for _, curves in self._plots for one in curves if one.curve.member == seen.member):
                one.take(seen)
            jumps, known = seen.values.get("jumps") or 0, (before.values.get("jumps") if before else None)
            if seen.member == "trainer" and known is not None and jumps > known:
                self._jumps = [*self._jumps[-99:], (seen.at_s, str(seen.values.get("last_jump") or "jump"))]
            if seen.member == "reconstructor" and not seen.trouble:
                self._places = places_of(seen)
                self._pictures = {name: p for name, p in self._pictures.items() if name in self._places}
            if self.source != source:
                self._say(f"pictures are those of the {self.source}", self.source != "denoiser")
            if self._is_watched:
                self._read(seen)

    def _read(self, seen: Seen) -> None:
        if seen.member == self.source:
            for name in (n.removeprefix(BELL) for n in seen.values if n.startswith(BELL)):
                if is_missed(seen, name, self._pictures.get(name)):
                    self._want(name)
        number = seen.values.get("preview_frame_number", -1) if seen.member == "reconstructor" else -1
        if number is not None and number >= 0 and number != self._preview_number:
            self._preview_number = number
            self._reader.want_preview()

    def _rung(self, member: str, attribute: str) -> None:
        if member == self.source and self._is_watched:
            self._want(attribute.removeprefix(BELL))

    def _want(self, name: str) -> None:
        seen = self._looks.get(self.source)
        uncertain = bool(seen and seen.values.get("uncertainty"))
        kinds = frozenset({"raw", "denoised"} | ({"uncertainty"} if uncertain else set()))
        self._reader.want(self.source, name, kinds)

    def _take(self, found: Picture | Preview) -> None:
        with self._lock:
            if isinstance(found, Preview):
                self._preview = found
                return
            self._pictures[found.name] = replace(found, images=images_of(found))
            for group, before in self._levels.items():
                self._levels[group] = drawing.levels_of(self._pictures.values(), group, before)

    def _say(self, text: str, trouble: bool) -> None:
        with self._lock:
            self._journal.append({"at": time.time(), "text": text, "trouble": trouble})

    def _answered(self, member: str, order: str, trouble: str) -> None:
        self._say(f"{member}: {order}: {trouble}" if trouble else f"{member}: {order}", bool(trouble))
        if trouble and order.startswith("move "):
            with self._lock:
                self._wanted.pop(order.removeprefix("move "), None)  # it is where the reconstructor says

    # ---- for the page

    @property
    def source(self) -> str:
        """Whose pictures are shown."""
        return source_of(self._devices, self._looks)

    @property
    def _is_watched(self) -> bool:
        return time.monotonic() - self._asked_at < READ_FOR_S

    def state(self, since_s: float) -> dict[str, Any]:
        """Everything but pictures, as JSON has it; points of curves later than `since_s` (s since the epoch)."""
        with self._lock:
            self._asked_at = time.monotonic()
            for found in [silent(seen, time.time()) for seen in self._looks.values()]:
                if found is not None:
                    self._look(found)
            denoiser = self._looks.get("denoiser")
            return {
                "at": time.time(),
                "members": [self._member(member) for member in self._devices],
                "source": self.source,
                "frozen": bool(denoiser and denoiser.values.get("frozen")),
                "accuracy": accuracy_in_words(denoiser.values if denoiser else {}),
                "slices": [self._slice(name) for name in self._places],
                "levels": self._levels,
                "plots": [self._plot(number, since_s) for number in range(len(self._plots))],
                "remembered": sum(one.remembered for _, curves in self._plots for one in curves),
                "jumps": self._jumps,
                "journal": list(self._journal)[-30:],
                "preview": self._preview_number if self._preview is not None else -1,
            }

    def _member(self, member: str) -> dict[str, Any]:
        seen = self._looks.get(member)
        if seen is None:
            return {"member": member, "state": "", "status": f"looking for {self._devices[member]}"}
        return {"member": member, "state": seen.state, "status": seen.trouble or seen.status}

    def _slice(self, name: str) -> dict[str, Any]:
        picture = self._pictures.get(name)
        edge = colour_of(list(self._places), name)
        if picture is None:
            return {"name": name, "edge": edge, "at": 0, "kinds": []}
        shown = dict(picture.figures) | drawing.scale_bar(picture)
        return {"name": name, "edge": edge, "at": picture.at_s, "kinds": list(picture.images), **shown}

    def _plot(self, number: int, since_s: float) -> dict[str, Any]:
        plot, curves = self._plots[number]
        told = []
        for one in curves:
            series = {"points": one.history} | ({"low": one.low, "high": one.high} if one.curve.band else {})
            points = {kind: history.array() for kind, history in series.items()}
            late = {kind: found[:, found[0] > since_s].tolist() for kind, found in points.items()}
            told.append({"title": one.curve.title, "colour": one.curve.colour, **late})
        return {"title": plot.title, "unit": plot.unit, "logarithmic": plot.logarithmic, "curves": told}

    def picture(self, name: str, kind: str, longest: int) -> bytes | None:
        """PNG of a slice, no side longer than `longest`; None: there is none. `kind`: see drawing.GROUPS."""
        with self._lock:
            picture, between = self._pictures.get(name), self._levels[drawing.GROUPS[kind]]
        if picture is None or between is None:
            return None
        return drawing.drawn(picture, kind, between, longest)

    def space(self, azimuth_rad: float, elevation_rad: float, nearer: float, size: tuple[int, int]) -> bytes | None:
        """PNG of the slices in space inside the preview volume; None: there are no slices yet.

        `size` (width, height) in pixels; where that is too many, the picture has fewer, of the same aspect.
        """
        with self._lock:
            places = {name: self._place(name) for name in self._places}
            pictures, between = dict(self._pictures), self._levels["attenuation"]
            preview = self._preview
        if not places:
            return None
        part = max(1.0, math.sqrt(size[0] * size[1] / MOST_PIXELS))
        size = max(int(size[0] / part), 1), max(int(size[1] / part), 1)
        haze = None
        if preview is not None:
            upper = between or (0.0, float(preview.data.max()))
            haze = Haze.of(preview.data, preview.twelve, upper, OPACITY)
        camera = whole(Camera().orbited(azimuth_rad, elevation_rad), haze, list(places.values()), size)
        assert camera is not None
        planes = [self._plane(colour_of(list(places), n), places[n], pictures.get(n), between) for n in places]
        return drawing.png(drawing.unmultiplied(render(planes, haze, camera.nearer(nearer), size)))

    def _place(self, name: str) -> SliceGeometry:
        """Where it is, or was just brought."""
        at, wanted = self._wanted.get(name, (-math.inf, self._places[name]))
        return wanted if time.monotonic() - at < JOINED_S else self._places[name]

    @staticmethod
    def _plane(
        edge: tuple[int, int, int], place: SliceGeometry, picture: Picture | None, between: drawing.Levels | None
    ) -> Plane:
        colours = np.full((1, 1, 3), 40, np.uint8)
        if picture is not None and between is not None:
            image = picture.images.get("denoised", picture.images.get("raw"))
            if image is not None:
                colours = textured(image, between, drawing.table("attenuation"))
        return Plane(place, colours, edge)

    # ---- orders

    def order(self, name: str) -> None:
        """Give one of the ORDERS; the journal tells how it went. Raises ValueError for another."""
        if name not in ORDERS:
            raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {name}")
        member, command = ORDERS[name]
        attribute, writes, value = command.partition("=")
        if writes:
            self._orders.write(member, attribute, value == "True")
        else:
            self._orders.command(member, command)

    def move(self, name: str, pixels: float) -> None:
        """Bring a slice so many of its pixels along its normal. Raises ValueError for a slice that there is not."""
        with self._lock:
            if name not in self._places:
                raise ValueError(f"slice: expected one of {', '.join(self._places) or 'none yet'}, got {name}")
            before = self._place(name)
            place = before.moved_to(before.offset_mm + pixels * min(before.pixel_mm))
            self._wanted[name] = (time.monotonic(), place)
        self._orders.move(name, place.nine)

    def end(self) -> None:
        """Look no more; nobody is waited for."""
        for thread in (*self._threads, self._reader.worker, self._orders):
            thread.end()
