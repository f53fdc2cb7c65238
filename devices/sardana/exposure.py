"""One count: what several controllers of a Pool want of a denoiser, waited for and read as one snapshot.

What a channel is is named by its `Reading`: an attribute of the denoiser, as `denoised_xy`; a number may also be one of
another device, as `jit/trainer/1/loss`; an empty one is the timer.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import tango

from devices.errors import said
from devices.moment import Moment
from devices.sardana.members import beside

POLL_S = 0.02  # between two looks at the devices
IMAGES = ("denoised", "raw", "uncertainty", "compared")
OF_A_SLICE = (*IMAGES, "frame_number", "generation", "accuracy", "quality", "comparison")
NO_SLICES = ("endpoint", "history", "ratio", "band", "version")  # what else such attributes end in


def _is_unknown(error: Exception) -> bool:
    """Is this name no device at all, rather than one that does not run?"""
    reasons = {"API_DeviceNotDefined", "API_WrongDeviceName", "API_UnsupportedProtocol", "DB_DeviceNotDefined"}
    return isinstance(error, tango.DevFailed) and any(e.reason in reasons for e in error.args)


def slice_of(attribute: str) -> str:
    """The slice that an attribute of the denoiser belongs to; empty: to none, as `weights_version` does."""
    for kind in OF_A_SLICE:
        name = attribute.removeprefix(f"{kind}_")
        if name != attribute and name not in NO_SLICES:
            return name
    return ""


class Exposure:
    """Waits until every wanted slice has a picture of after the trigger, and then reads all that is wanted at once.

    Controllers of one Pool that name the same denoiser share it (`exposure_of`), so that the images of a count and
    the numbers beside them are those of one moment. Nothing here blocks for longer than one call of a device.
    """

    def __init__(self, denoiser: str) -> None:
        self.denoiser_name = denoiser
        self.timeout_s = 60.0
        """How long a count waits beyond its integration time."""
        self.new_frames = 1
        """So many frames of a picture must be newer than the trigger; 0: only its place has to be the present one."""
        self.seconds = 0.0
        """Integration time: the picture is the newest one when it is over."""
        self._lock = threading.Lock()
        self._proxies: dict[str, Any] = {}
        self._abort = threading.Event()
        self._shapes: dict[str, list[int]] = {}
        self._wanted: set[str] = set()
        self._heard: set[str] = set()
        self._values: dict[str, Any] | None = None
        self._trouble = "no picture was taken yet"
        self._running = self._began = False

    # ---- what there is

    def proxy(self, member: str) -> Any:
        """The denoiser or its reconstructor. Raises DevFailed or RuntimeError in words where there is none."""
        if member not in self._proxies:
            name = self.denoiser_name
            if member == "reconstructor":
                found = self.proxy("denoiser").get_property("ReconstructorDevice")["ReconstructorDevice"]
                if not list(found):
                    raise RuntimeError(f"{name}: expected the property ReconstructorDevice, it has none")
                name = beside(name, found[0])
            self._proxies[member] = tango.DeviceProxy(name)
        return self._proxies[member]

    def slices(self) -> list[str]:
        """The slices that the reconstructor has now."""
        names = self.proxy("reconstructor").get_attribute_list()
        return [name.removeprefix("geometry_") for name in names if name.startswith("geometry_")]

    def shape(self, attribute: str) -> list[int]:
        """Rows and columns of an image as they are wanted now. Raises RuntimeError where they are not known."""
        try:
            reading = self.proxy("reconstructor").read_attribute(f"shape_{slice_of(attribute)}")
        except tango.DevFailed as error:
            raise RuntimeError(f"{attribute}: {said(error)}") from error
        if reading.quality == tango.AttrQuality.ATTR_INVALID or reading.value is None:
            raise RuntimeError(f"{attribute}: its slice has no place yet, no scan has begun")
        return [int(n) for n in reading.value]

    def check(self, attribute: str, *, image: bool) -> None:
        """Raises ValueError unless this is an image of the denoiser (or a number, also of another device).

        A device that does not answer is believed to have it.
        """
        device, _, name = attribute.rpartition("/")
        expected = "an image" if image else "a number"
        try:
            proxy = tango.DeviceProxy(device) if device and not image else self.proxy("denoiser")
            known = proxy.attribute_list_query()
        except (tango.DevFailed, RuntimeError) as error:
            if name and (slice_of(name) if image else True) and not _is_unknown(error):
                return
            raise ValueError(f"Reading: expected {expected} as denoised_xy or quality_xy, got {attribute!r}") from None
        wanted = tango.AttrDataFormat.IMAGE if image else tango.AttrDataFormat.SCALAR
        fits = [i.name for i in known if i.data_format == wanted and i.data_type != tango.CmdArgType.DevString]
        if image:
            fits = [fit for fit in fits if fit.startswith(IMAGES) and slice_of(fit)]
        if name not in fits or (device and image):
            raise ValueError(
                f"Reading: expected {expected} of {proxy.dev_name()} ({', '.join(sorted(fits))}), got {attribute!r}"
            )

    # ---- a count

    def prepare(self, images: Iterable[str]) -> None:
        """Before a count or a scan: the shapes that its pictures must have from now on.

        Raises RuntimeError in words where the devices do not answer.
        """
        try:
            known = self.slices()
            self._shapes |= {name: self.shape(name) for name in images if slice_of(name) in known}
            self.proxy("denoiser").ping()
        except tango.DevFailed as error:
            raise RuntimeError(f"{self.denoiser_name} and its reconstructor: {said(error)}") from error

    def begin(self) -> None:
        """A new count: nothing is wanted yet, the values before are gone."""
        with self._lock:
            self._abort.clear()
            self._wanted, self._heard, self._values = set(), set(), None
            self._running = self._began = False
            self._trouble = "no picture was taken"

    def want(self, attribute: str) -> None:
        self._wanted.add(attribute)

    def start(self) -> None:
        """The trigger; once for all controllers that take part."""
        with self._lock:
            if not self._running and self._values is None:
                self._moment: Moment | None = None
                self._hindrance, self._trouble, self._running, self._began = "", "", True, True
                self._began_at = time.monotonic()
                self._next_at = 0.0
        self.poll()

    def abort(self) -> None:
        """End the count without a picture, at the next look."""
        self._abort.set()

    @property
    def running(self) -> bool:
        """Is a count waiting for its pictures?"""
        return self._running

    @property
    def failed(self) -> bool:
        """Did the last count end without pictures, and not because somebody wanted it?"""
        return not self._running and self._began and not self._abort.is_set() and self._values is None

    def is_told(self, attribute: str) -> bool:
        """Has whoever wants this attribute heard by `value` that the count failed?"""
        return attribute in self._heard

    @property
    def told(self) -> str:
        """What is waited for, or what went wrong with the last count; empty: nothing."""
        return self._hindrance if self._running else self._trouble

    def value(self, attribute: str) -> Any:
        """Of the last count: float32 (rows, columns), or a float, NaN where it is not known or not yet.

        Raises RuntimeError in words where the count failed, or did not want it.
        """
        values = self._values
        if values is not None and attribute in values:
            return values[attribute]
        if self._running and not attribute.startswith(IMAGES):
            return math.nan
        self._heard.add(attribute)
        raise RuntimeError(f"{attribute}: {self._trouble or 'no picture yet'}")

    def poll(self) -> None:
        """Look at the devices, at most every POLL_S: the count ends when all pictures are new, or hopeless."""
        with self._lock:
            now = time.monotonic()
            if not self._running or now < self._next_at:
                return
            if self._abort.is_set():
                self._end(trouble="aborted")
                return
            try:
                self._look(now - self._began_at)
            except tango.DevFailed as error:
                self._hindrance = said(error)
            except RuntimeError as error:
                self._hindrance = str(error)
            if self._running and now > self._began_at + self.seconds + self.timeout_s:
                self._end(trouble=f"waited {self.timeout_s:g} s in vain: {self._hindrance}{self._how_they_are()}")
            self._next_at = time.monotonic() + POLL_S

    def _look(self, elapsed_s: float) -> None:
        names = sorted({slice_of(attribute) for attribute in self._wanted} - {""})
        numbers, generations = self._numbers(names)
        state = self.proxy("reconstructor").read_attributes(
            ["series", "frames_received", "frames_lost", "update_every", "generation"]
        )
        series, received, lost, every, generation = (reading.value for reading in state)
        moment = self._moment or Moment.of(series, received + lost, every, numbers)
        self._moment = moment.seen(series, received + lost)
        if elapsed_s < self.seconds:
            return
        old = [
            name
            for name in names
            if not (
                self._moment.is_past(name, numbers[name], self.new_frames)
                if self.new_frames
                else numbers[name] >= 0 and generations[name] == generation
            )
        ]
        if not old:
            self._take(elapsed_s)
        elif missing := set(old) - set(self.slices()):
            self._end(trouble=f"slice {', '.join(sorted(missing))}: expected to be there, it was removed")
        else:
            beyond = f"beyond frame {self._moment.awaited(self.new_frames) - 1}"
            expected = beyond if self.new_frames else "at their present places"
            got = ", ".join(f"{name}: frame {numbers[name]}" for name in old)
            self._hindrance = f"expected pictures {expected}, got {got}"

    def _numbers(self, names: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Frame number and generation of each picture; -1: the denoiser has none."""
        kinds = ("frame_number", "generation")
        readings = self.proxy("denoiser").read_attributes([f"{kind}_{name}" for kind in kinds for name in names])
        values = [-1 if reading.has_failed else int(reading.value) for reading in readings]
        return dict(zip(names, values[: len(names)])), dict(zip(names, values[len(names) :]))

    def _take(self, elapsed_s: float) -> None:
        """Read all that is wanted of the denoiser in one call, images and numbers of one moment; then the others."""
        own = sorted(name for name in self._wanted if name and "/" not in name)
        values: dict[str, Any] = {"": elapsed_s}  # the axis without an attribute is the timer
        for name, reading in zip(own, self.proxy("denoiser").read_attributes(own) if own else []):
            known = not reading.has_failed and reading.quality != tango.AttrQuality.ATTR_INVALID
            if not name.startswith(IMAGES):
                values[name] = float(reading.value) if known else math.nan
            elif not known:
                self._hindrance = f"expected {name}, it has no value"
                return
            elif list(reading.value.shape) != (shape := self._shapes.get(name, list(reading.value.shape))):
                got = " x ".join(str(n) for n in reading.value.shape)
                self._end(trouble=f"{name}: expected {shape[0]} x {shape[1]} pixels as at the start, got {got}")
                return
            else:
                values[name] = np.asarray(reading.value)
        self._end(values=values | self._of_others())

    def _of_others(self) -> dict[str, float]:
        """Numbers of other devices; NaN where one does not answer: no picture is lost for that."""
        values = {}
        for attribute in sorted(name for name in self._wanted if "/" in name):
            device, _, name = attribute.rpartition("/")
            try:
                if device not in self._proxies:
                    self._proxies[device] = tango.DeviceProxy(device)
                reading = self._proxies[device].read_attribute(name)
                known = reading.quality != tango.AttrQuality.ATTR_INVALID
                values[attribute] = float(reading.value) if known else math.nan
            except tango.DevFailed:
                values[attribute] = math.nan
        return values

    def _end(self, *, trouble: str = "", values: dict[str, Any] | None = None) -> None:
        self._trouble, self._values, self._running = trouble, values, False

    def _how_they_are(self) -> str:
        """States of both devices, to go on with a sentence."""
        told = []
        for member in ("reconstructor", "denoiser"):
            try:
                proxy = self.proxy(member)
                told.append(f"{proxy.dev_name()} is {proxy.state()}: {proxy.status()}")
            except (tango.DevFailed, RuntimeError):
                told.append(f"the {member} does not answer")
        return "; " + "; ".join(told)


@functools.cache
def _exposure(name: str) -> Exposure:
    return Exposure(name)


def exposure_of(denoiser: str) -> Exposure:
    """The exposure of a denoiser, the same one for every controller of this process."""
    return _exposure(denoiser.lower())
