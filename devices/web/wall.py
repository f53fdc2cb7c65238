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
from devices.watch.known import Known
from devices.watch.look import Look, Seen
from devices.watch.looks import why_no_pictures
from devices.watch.orders import Orders
from devices.watch.pictures import UNITS, Picture, PictureReader, Preview, colour_of, images_of
from devices.watch.plots import accuracy_in_words, followed
from devices.web import drawing
from tango_jit.geometry import SliceGeometry
from tango_jit.view import Camera, Haze, Plane, render, textured, whole

READ_FOR_S = 10.0  # so long after somebody looked pictures are read: a page that nobody looks at costs no slice
LINES = 30  # of the journal
MOST_PIXELS = 400_000  # of the view in space: some 50 ms on one core
OPACITY = 0.4
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
        self._lock = threading.RLock()
        self._made: dict[str, float] = {}  # when pictures came that were seen to be new
        self._levels: dict[str, drawing.Levels | None] = dict.fromkeys(drawing.SCALES)
        self._preview: Preview | None = None
        self._previews = 0
        self._plots = list(followed())
        self._jumps: list[tuple[float, str]] = []
        self._journal: deque[dict[str, Any]] = deque(maxlen=LINES)
        self._answer: dict[str, Any] | None = None
        self._asked_at = -math.inf
        self._orders = Orders(devices, self._answered)
        self._reader = PictureReader(devices, self._take, self._failed)
        self._known = Known(devices, self._reader)
        self._threads = {m: Look(m, device, self._look, self._rung) for m, device in devices.items()}

    # ---- from the threads that look

    def _look(self, seen: Seen) -> None:
        with self._lock:
            self._known.watching = self._is_watched
            change = self._known.look(seen)
            for text, trouble in change.lines:
                self._say(text, trouble)
            for one in (one for _, curves in self._plots for one in curves if one.curve.member == seen.member):
                one.take(seen)
            if change.jump:
                self._jumps.append((seen.at_s, change.jump))
            if seen.member == "denoiser" and not seen.trouble:
                uncertain = {"uncertainty"} if seen.values.get("uncertainty") else set()
                self._known.show({"raw", "denoised", *uncertain})

    def _rung(self, member: str, attribute: str) -> None:
        with self._lock:
            self._known.watching = self._is_watched
            self._known.rung(member, attribute)

    def _take(self, found: Picture | Preview) -> None:
        with self._lock:
            if isinstance(found, Preview):
                self._preview, self._previews = found, self._previews + 1
                self._known.take_preview()
                return
            before = self._known.pictures.get(found.name)
            if not self._known.take(replace(found, images=images_of(found))):
                return
            if before is None or before.source != found.source:
                self._made.pop(found.name, None)
            elif before.figures.get("frame_number") != found.figures.get("frame_number"):
                self._made[found.name] = found.at_s
            pictures = self._known.pictures.values()
            for group, levels in self._levels.items():
                images = [p.images[kind] for p in pictures for kind in p.images if p.group(kind) == group]
                self._levels[group] = drawing.levels_of(images, group, levels)

    def _failed(self, text: str) -> None:
        self._say(text, True)

    def _say(self, text: str, trouble: bool) -> None:
        with self._lock:
            self._journal.append({"at": time.time(), "text": text, "trouble": trouble})

    def _answered(self, member: str, order: str, trouble: str) -> None:
        text = f"{member}: {order}: {trouble}" if trouble else f"{member}: {order}"
        self._say(text, bool(trouble))
        with self._lock:
            self._answer = {"at": time.time(), "text": text, "trouble": bool(trouble)}
            if trouble:
                self._known.refused(order)
        if member in self._threads:
            self._threads[member].now()

    # ---- for the page

    @property
    def _is_watched(self) -> bool:
        return time.monotonic() - self._asked_at < READ_FOR_S

    def state(self, since_s: float) -> dict[str, Any]:
        """Everything but pictures, as JSON has it; points of curves later than `since_s` (s since the epoch)."""
        with self._lock:
            self._asked_at = time.monotonic()
            now = time.time()
            for seen in self._known.silent():
                self._look(seen)
            known = self._known
            denoiser = known.values.get("denoiser", {}) if known.source == "denoiser" else {}
            self._jumps = [jump for jump in self._jumps[-100:] if jump[0] > now - LENGTH_S]
            return {
                "server": self._id,
                "at": now,
                "members": [self._member(member) for member in known.devices],
                "source": known.source,
                "frozen": bool(denoiser.get("frozen")),
                "accuracy": accuracy_in_words(denoiser),
                "empty": why_no_pictures(known.devices, known.looks),
                "slices": [self._slice(name) for name in known.places],
                "levels": self._levels,
                "units": UNITS,
                "plots": [self._plot(number, since_s) for number in range(len(self._plots))],
                "remembered": sum(one.remembered for _, curves in self._plots for one in curves),
                "jumps": self._jumps,
                "journal": list(self._journal),
                "answer": self._answer,
                "preview": self._previews,
            }

    def _member(self, member: str) -> dict[str, Any]:
        seen = self._known.looks.get(member)
        if seen is None:
            return {"member": member, "state": "", "status": f"looking for {self._known.devices[member]}"}
        return {"member": member, "state": seen.state, "status": seen.trouble or seen.status}

    def _slice(self, name: str) -> dict[str, Any]:
        picture = self._known.pictures.get(name)
        edge = colour_of(list(self._known.places), name)
        if picture is None or picture.source != self._known.source:
            return {"name": name, "edge": edge, "at": 0, "groups": {}}
        shown = dict(picture.figures) | drawing.scale_bar(picture)
        at = {"at": picture.at_s, "made": self._made.get(name)}
        groups = {kind: picture.group(kind) for kind in picture.images}
        return {"name": name, "edge": edge, "groups": groups, **at, **shown}

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
            picture = self._known.pictures.get(name)
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
            places = dict(self._known.places)
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

    def _plane(self, name: str, place: SliceGeometry) -> Plane:
        colours, picture = np.full((1, 1, 3), 40, np.uint8), self._known.pictures.get(name)
        if picture is not None:
            kind = "denoised" if "denoised" in picture.images else "raw"
            group = picture.group(kind)
            between = self._levels[group]
            if kind in picture.images and between is not None:
                colours = textured(picture.images[kind], between, drawing.table(group))
        return Plane(place, colours, colour_of(list(self._known.places), name))

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
            places = self._known.places
            if name not in places:
                raise ValueError(f"slice: expected one of {', '.join(places) or 'none yet'}, got {name}")
            before = places[name]
            place = before.moved_to(before.offset_mm + pixels * min(before.pixel_mm))
            self._known.bring(name, place)
            self._answer = {"at": time.time(), "text": f"{name}: {place.offset_mm:.4g} mm", "trouble": False}
        self._orders.move(name, place.nine)

    def end(self) -> None:
        """Look no more; nobody is waited for."""
        for thread in (*self._threads.values(), self._reader.worker, self._orders):
            thread.end()
