"""Pictures of the slices, read when there is a new one, at the reader's own pace: the newest, never a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tango
from numpy.typing import NDArray

from devices.watch.look import why
from devices.watch.worker import Newest
from tango_jit.geometry import SliceGeometry

Image = NDArray[np.float32]

ANSWER_MS = 3000
SOURCES: Mapping[str, Mapping[str, str]] = {  # member -> what is shown -> attribute
    "denoiser": {"raw": "raw", "denoised": "denoised", "uncertainty": "uncertainty"},
    "reconstructor": {"raw": "slice"},
}
COLOURS = ((232, 96, 88), (96, 200, 110), (92, 150, 255), (235, 190, 70), (200, 120, 230), (90, 205, 205))
GROUPS = {"raw": "attenuation", "denoised": "attenuation", "difference": "difference", "uncertainty": "uncertainty"}
UNITS = {"attenuation": "1/mm", "probability": "", "difference": "1/mm", "uncertainty": "1/mm"}
FIGURES = ("frame_number", "accuracy", "quality")


@dataclass(frozen=True)
class Picture:
    """One slice at one moment. `images` (rows, cols) float32 by kind; kinds that there are not are missing. Denoised
    ones are in 1/mm, or a `probability`, 0 to 1; all others in 1/mm.

    `place` None: the device does not tell it. `figures`: frame_number, accuracy, quality, where known.
    """

    name: str
    source: str
    images: Mapping[str, Image]
    place: SliceGeometry | None
    figures: Mapping[str, float]
    at_s: float
    probability: bool = False

    def group(self, kind: str) -> str:
        """The images that have levels and colours in common with this one."""
        return "probability" if self.probability and kind == "denoised" else GROUPS[kind]


@dataclass(frozen=True)
class Preview:
    """The coarse volume (slices, rows, cols) in 1/mm, and its `twelve` numbers (see preview_geometry)."""

    data: Image
    twelve: NDArray[np.float64]


def colour_of(names: Sequence[str], name: str) -> tuple[int, int, int]:
    """Each slice has its own, everywhere."""
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else (200, 200, 200)


def images_of(picture: Picture) -> dict[str, Image]:
    """What there is by kind; the difference is denoised less raw, where both are in 1/mm."""
    found = dict(picture.images)
    both = "raw" in found and "denoised" in found and not picture.probability
    if both and found["raw"].shape == found["denoised"].shape:
        found["difference"] = found["denoised"] - found["raw"]
    return found


class PictureReader:
    """Reads in one thread; `told` gets pictures and previews, `failed` a text. Both come from that thread."""

    def __init__(
        self, devices: Mapping[str, str], told: Callable[[Picture | Preview], None], failed: Callable[[str], None]
    ) -> None:
        self._devices = dict(devices)
        self._told, self._failed = told, failed
        self._proxies: dict[str, Any] = {}
        self._worker = Newest("pictures", failed)

    def want(self, source: str, name: str, kinds: frozenset[str]) -> None:
        """Read this slice of a source as soon as there is time; any thread."""
        self._worker.put(f"{source} {name}", lambda: self._guarded(source, self._read, name, kinds))

    def want_preview(self) -> None:
        self._worker.put("preview", lambda: self._guarded("reconstructor", self._read_preview))

    @property
    def worker(self) -> Newest:
        """Its thread, to be ended."""
        return self._worker

    def _guarded(self, source: str, read: Callable[..., Picture | Preview | None], *rest: Any) -> None:
        try:
            proxy = self._proxies.get(source)
            if proxy is None:
                proxy = tango.DeviceProxy(self._devices[source])
                proxy.set_timeout_millis(ANSWER_MS)
                self._proxies[source] = proxy
            found = read(proxy, source, *rest)
        except tango.DevFailed as error:
            self._proxies.pop(source, None)
            self._failed(f"picture of the {source}: {why(error)}")
            return
        if found is not None:
            self._told(found)

    def _read(self, proxy: Any, source: str, name: str, kinds: frozenset[str]) -> Picture | None:
        attributes = {kind: f"{a}_{name}" for kind, a in SOURCES[source].items() if kind in kinds}
        wanted = [*attributes.values(), f"geometry_{name}", *(f"{figure}_{name}" for figure in FIGURES)]
        if source == "denoiser":
            wanted.append(f"shows_{name}")
        values = {one.name: _value(one) for one in proxy.read_attributes(wanted)}
        found = {k: np.asarray(values[a], np.float32) for k, a in attributes.items() if values[a] is not None}
        images = {kind: image for kind, image in found.items() if image.size and np.isfinite(image).any()}
        if not images:
            return None
        nine = values[f"geometry_{name}"]
        shape = next(iter(images.values())).shape
        place = None
        if np.shape(nine) == (9,):
            place = SliceGeometry(tuple(nine[:3]), tuple(nine[3:6]), tuple(nine[6:]), *shape)
        figures = {f: values[f"{f}_{name}"] for f in FIGURES if values[f"{f}_{name}"] is not None}
        probability = not is_attenuation(values.get(f"shows_{name}"))
        return Picture(name, source, images, place, figures, time.time(), probability)

    def _read_preview(self, proxy: Any, source: str) -> Preview | None:
        stack, twelve = (_value(one) for one in proxy.read_attributes(["preview", "preview_geometry"]))
        if stack is None or np.shape(twelve) != (12,) or not np.size(stack):
            return None
        side = stack.shape[1]
        return Preview(np.asarray(stack, np.float32).reshape(-1, side, side), np.asarray(twelve))


def is_attenuation(shows: object) -> bool:
    """Are denoised pictures in 1/mm? `shows`: what the denoiser says of them; None or "": nothing yet."""
    return not shows or "1/mm" in str(shows)


def _value(reading: Any) -> Any:
    """None where it failed, or is not known."""
    unknown = reading.has_failed or reading.quality == tango.AttrQuality.ATTR_INVALID
    return None if unknown else reading.value
