"""What a page knows: looks at the devices, the newest pictures, the last hour as curves, a journal."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from devices.watch.history import LENGTH_S
from devices.watch.look import BELL, Look, Seen
from devices.watch.looks import (
    changes,
    is_missed,
    places_of,
    silent,
    source_of,
    teller_of_places,
    why_no_pictures,
)
from devices.watch.orders import Orders
from devices.watch.pictures import GROUPS, UNITS, Picture, PictureReader, Preview, colour_of, images_of
from devices.watch.plots import accuracy_in_words, followed
from devices.web import drawing
from tango_jit.geometry import SliceGeometry
from tango_jit.view import Camera, Haze, Plane, render, textured, whole

READ_FOR_S = 10.0  # so long after somebody looked pictures are read: a page that nobody looks at costs no slice
LINES = 30  # of the journal
MOST_PIXELS = 400_000  # of the view in space: some 50 ms on one core
OPACITY = 0.4
SETTLING_S = 2.0  # so long a slice that was moved here is thought to be where it was brought
ORDERS: Mapping[str, tuple[str, str]] = {  # what the page may order, and nothing else
    "start": ("supervisor", "Start"),
    "stop": ("supervisor", "Stop"),
    "freeze": ("denoiser", "Freeze"),
    "thaw": ("denoiser", "frozen=False"),
}


class Wall:
    """One per server; any thread may ask. `devices`: member name -> Tango device name."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self._id = secrets.token_hex(4)
        self._devices = dict(devices)
        self._lock = threading.RLock()
        self._looks: dict[str, Seen] = {}
        self._values: dict[str, Mapping[str, Any]] = {}  # those of the last look that did not fail
        self._pictures: dict[str, Picture] = {}
        self._made: dict[str, float] = {}  # when pictures came that were seen to be new
        self._places: dict[str, SliceGeometry] = {}
        self._wanted: dict[str, tuple[float, SliceGeometry]] = {}  # when and where slices were brought here
        self._levels: dict[str, drawing.Levels | None] = dict.fromkeys(drawing.SCALES)
        self._preview: Preview | None = None
        self._preview_number = -1  # of the one that was asked for
        self._previews = 0
        self._plots = list(followed())
        self._jumps: list[tuple[float, str]] = []
        self._journal: deque[dict[str, Any]] = deque(maxlen=LINES)
        self._answer: dict[str, Any] | None = None
        self._asked_at = -math.inf
        self._orders = Orders(devices, self._answered)
        self._reader = PictureReader(devices, self._take, self._failed)
        self._threads = [Look(m, device, self._look, self._rung) for m, device in devices.items()]

    # ---- from the threads that look

    def _look(self, seen: Seen) -> None:
        with self._lock:
            before, shown = self._looks.get(seen.member), (self.source, self._kinds)
            known = self._values.get(seen.member, {}).get("jumps")
            self._looks[seen.member] = seen
            for text, trouble in changes(before, seen):
                self._say(text, trouble)
            for one in (one for _, curves in self._plots for one in curves if one.curve.member == seen.member):
                one.take(seen)
            if not seen.trouble:
                self._values[seen.member] = seen.values
                if seen.member == "trainer" and known is not None and (seen.values.get("jumps") or 0) > known:
                    self._jumps.append((seen.at_s, str(seen.values.get("last_jump") or "jump")))
                if seen.member == teller_of_places(self._devices, self._looks, bool(self._places)):
                    self._places = places_of(seen)
                    self._pictures = {name: p for name, p in self._pictures.items() if name in self._places}
            if self.source != shown[0]:
                self._say(f"pictures are those of the {self.source}", self.source != "denoiser")
            if (self.source, self._kinds) != shown:
                self._pictures = {}
                for name in self._places:
                    self._want(name)
            elif self._is_watched:
                self._read(seen)

    def _read(self, seen: Seen) -> None:
        if seen.member == self.source:
            for name in (n.removeprefix(BELL) for n in seen.values if n.startswith(BELL)):
                if is_missed(seen, name, self._pictures.get(name)):
                    self._want(name)
        number = seen.values.get("preview_frame_number") if seen.member == "reconstructor" else None
        if number is not None and number >= 0 and number != self._preview_number:
            self._preview_number = number
            self._reader.want_preview()

    def _rung(self, member: str, attribute: str) -> None:
        if member == self.source and self._is_watched:
            self._want(attribute.removeprefix(BELL))

    @property
    def _kinds(self) -> frozenset[str]:
        uncertain = bool(self._values.get("denoiser", {}).get("uncertainty"))
        return frozenset({"raw", "denoised"} | ({"uncertainty"} if uncertain else set()))

    def _want(self, name: str) -> None:
        self._reader.want(self.source, name, self._kinds)

    def _take(self, found: Picture | Preview) -> None:
        with self._lock:
            if isinstance(found, Preview):
                self._preview, self._previews = found, self._previews + 1
                return
            if found.source != self.source:
                return  # it was on its way when they changed
            before = self._pictures.get(found.name)
            number = found.figures.get("frame_number")
            if before is not None and before.figures.get("frame_number") != number:
                self._made[found.name] = found.at_s
            elif before is None:
                self._made.pop(found.name, None)
            self._pictures[found.name] = replace(found, images=images_of(found))
            for group, levels in self._levels.items():
                images = [
                    p.images[kind] for p in self._pictures.values() for kind in p.images if p.group(kind) == group
                ]
                self._levels[group] = drawing.levels_of(images, group, levels)

    def _failed(self, text: str) -> None:
        self._preview_number = -1  # it may have been that
        self._say(text, True)

    def _say(self, text: str, trouble: bool) -> None:
        with self._lock:
            self._journal.append({"at": time.time(), "text": text, "trouble": trouble})

    def _answered(self, member: str, order: str, trouble: str) -> None:
        text = f"{member}: {order}: {trouble}" if trouble else f"{member}: {order}"
        self._say(text, bool(trouble))
        with self._lock:
            self._answer = {"at": time.time(), "text": text, "trouble": bool(trouble)}
            if trouble and order.startswith("move "):
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
            now = time.time()
            for found in [silent(seen, now) for seen in self._looks.values()]:
                if found is not None:
                    self._look(found)
            denoiser = self._values.get("denoiser", {}) if self.source == "denoiser" else {}
            self._jumps = [jump for jump in self._jumps[-100:] if jump[0] > now - LENGTH_S]
            return {
                "server": self._id,
                "at": now,
                "members": [self._member(member) for member in self._devices],
                "source": self.source,
                "frozen": bool(denoiser.get("frozen")),
                "accuracy": accuracy_in_words(denoiser),
                "empty": why_no_pictures(self._devices, self._looks),
                "slices": [self._slice(name) for name in self._places],
                "scales": {kind: self._scale(kind) for kind in GROUPS},
                "plots": [self._plot(number, since_s) for number in range(len(self._plots))],
                "remembered": sum(one.remembered for _, curves in self._plots for one in curves),
                "jumps": self._jumps,
                "journal": list(self._journal),
                "answer": self._answer,
                "preview": self._previews,
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
        at = {"at": picture.at_s, "made": self._made.get(name)}
        return {"name": name, "edge": edge, "kinds": list(picture.images), **at, **shown}

    def _scale(self, kind: str) -> dict[str, Any]:
        groups = {picture.group(kind) for picture in self._pictures.values()} or {GROUPS[kind]}
        group = max(groups)  # one, but for the moment in which the pictures become others
        return {"levels": self._levels[group], "unit": UNITS[group]}

    def _plot(self, number: int, since_s: float) -> dict[str, Any]:
        plot, curves = self._plots[number]
        told = []
        for one in curves:
            series = {"points": one.history} | ({"low": one.low, "high": one.high} if one.curve.band else {})
            late = {kind: history.after(since_s) for kind, history in series.items()}
            told.append({"title": one.curve.title, "colour": one.curve.colour, **late})
        return {"title": plot.title, "unit": plot.unit, "logarithmic": plot.logarithmic, "curves": told}

    def picture(self, name: str, kind: str, longest: int) -> bytes | None:
        """PNG of a slice, no side longer than `longest`; None: there is none. `kind`: see GROUPS."""
        with self._lock:
            picture = self._pictures.get(name)
            if picture is None or kind not in picture.images:
                return None
            group = picture.group(kind)
            between = self._levels[group]
        return None if between is None else drawing.drawn(picture.images[kind], group, between, longest)

    def space(self, azimuth_rad: float, elevation_rad: float, nearer: float, size: tuple[int, int]) -> bytes | None:
        """PNG of the slices in space inside the preview volume; None: there are no slices yet.

        `size` (width, height) in pixels; where that is too many, the picture has fewer, of the same aspect.
        """
        with self._lock:
            places = {name: self._place(name) for name in self._places}
            planes = [self._plane(name, place) for name, place in places.items()]
            preview, between = self._preview, self._levels["attenuation"]
        if not planes:
            return None
        part = max(1.0, math.sqrt(size[0] * size[1] / MOST_PIXELS))
        size = max(int(size[0] / part), 1), max(int(size[1] / part), 1)
        haze = None
        if preview is not None:
            upper = between or (0.0, float(preview.data.max()))
            haze = Haze.of(preview.data, preview.twelve, upper, OPACITY)
        camera = whole(Camera().orbited(azimuth_rad, elevation_rad), haze, list(places.values()), size)
        assert camera is not None
        return drawing.png(drawing.unmultiplied(render(planes, haze, camera.nearer(nearer), size)))

    def _place(self, name: str) -> SliceGeometry:
        """Where it is, or was just brought."""
        at, wanted = self._wanted.get(name, (-math.inf, self._places[name]))
        return wanted if time.monotonic() - at < SETTLING_S else self._places[name]

    def _plane(self, name: str, place: SliceGeometry) -> Plane:
        colours, picture = np.full((1, 1, 3), 40, np.uint8), self._pictures.get(name)
        if picture is not None:
            kind = "denoised" if "denoised" in picture.images else "raw"
            group = picture.group(kind)
            between = self._levels[group]
            if kind in picture.images and between is not None:
                colours = textured(picture.images[kind], between, drawing.table(group))
        return Plane(place, colours, colour_of(list(self._places), name))

    # ---- orders

    def order(self, name: str) -> None:
        """Give one of the ORDERS; `answer` tells how it went. Raises ValueError for another."""
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
            self._answer = {"at": time.time(), "text": f"{name}: {place.offset_mm:.4g} mm", "trouble": False}
        self._orders.move(name, place.nine)

    def end(self) -> None:
        """Look no more; nobody is waited for."""
        for thread in (*self._threads, self._reader.worker, self._orders):
            thread.end()
