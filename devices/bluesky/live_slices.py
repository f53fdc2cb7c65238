"""Pictures and places of slices as devices of ophyd-async."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tango
from bluesky.protocols import Hints, Location, Reading
from event_model import DataKey
from ophyd_async.core import AsyncStatus, Device, soft_signal_rw
from ophyd_async.tango.core import TangoDevice

from devices.errors import said
from devices.moment import Moment
from tango_jit.geometry import SliceGeometry

LOOK_S = 0.05  # between two looks at a device that is waited for
PICTURES = ("denoised", "raw")
FIGURES = {"frame_number": "", "quality": "dB", "accuracy": ""}  # name: unit
INVALID = tango.AttrQuality.ATTR_INVALID


def proxy_of(device: TangoDevice) -> Any:
    """The asyncio proxy of a connected device. Raises RuntimeError where it is not connected."""
    proxy = device.get_proxy()
    if proxy is None:
        raise RuntimeError(f"{device.get_trl()}: expected to be connected; `with init_devices():` connects")
    return proxy


class LiveSlices(Device):
    """Slices of a denoiser that a plan counts: `trigger` waits for new pictures, and reads them as one snapshot.

    Of each slice <n> a reading has denoised_<n> and raw_<n>, float32 (rows, columns) in 1/mm, and frame_number_<n>,
    quality_<n> (dB) and accuracy_<n>; a figure that is not known is NaN. `denoiser` and `reconstructor` are the devices
    themselves, with all that they have.

    `new_frames`: so many frames of a picture must have come after the trigger (the views of a window: all); 0: it
    only has to show its present place. `timeout_s`: how long a trigger waits before it raises TimeoutError in words.
    """

    def __init__(
        self,
        *slices: str,
        denoiser: str = "jit/denoiser/1",
        reconstructor: str = "jit/reconstructor/1",
        pictures: Sequence[str] = PICTURES,
        name: str = "",
    ) -> None:
        """`slices`: their names, as xy; none: xy. `pictures`: which images of each."""
        if unknown := set(pictures) - {*PICTURES, "uncertainty", "compared"}:
            raise ValueError(f"pictures: expected some of denoised, raw, uncertainty, compared, got {unknown}")
        self.slices, self.pictures = slices or ("xy",), tuple(pictures)
        self.denoiser, self.reconstructor = TangoDevice(denoiser), TangoDevice(reconstructor)
        self.new_frames, self.timeout_s = soft_signal_rw(int, 1), soft_signal_rw(float, 60.0, units="s")
        self._shapes: dict[str, tuple[int, int]] = {}
        self._readings: dict[str, Reading[Any]] = {}
        super().__init__(name=name)

    @property
    def hints(self) -> Hints:
        return {"fields": [f"{self.name}-quality_{n}" for n in self.slices]}

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Before a run. Raises RuntimeError in words where a slice is not there; the shapes hold for the whole run."""
        try:
            found = list(await asyncio.to_thread(_attributes_of, self.reconstructor.get_trl()))
        except tango.DevFailed as error:
            raise RuntimeError(f"{self.reconstructor.get_trl()}: {said(error)}") from error
        names = [name for name in found if name.startswith("geometry_")]
        if missing := [n for n in self.slices if f"geometry_{n}" not in names]:
            known = ", ".join(name.removeprefix("geometry_") for name in names)
            raise RuntimeError(f"slices: expected some of {known}, got {', '.join(missing)}")
        await self._read_shapes()
        self._readings = {}

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        self._shapes = {}

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Wait for pictures of after now. Raises TimeoutError in words when none come.

        A server that is away is waited for as well: it may be starting again.
        """
        frames, timeout_s = await self.new_frames.get_value(), await self.timeout_s.get_value()
        moment, told, began = None, "", time.monotonic()
        while True:
            try:
                moment, told = await self._look(moment, frames)
                if not told:
                    return
            except tango.DevFailed as error:
                told = said(error)
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"{self.name}: waited {timeout_s:g} s in vain: {told}{await self._how_it_is()}")
            await asyncio.sleep(LOOK_S)

    async def _look(self, moment: Moment | None, frames: int) -> tuple[Moment, str]:
        """One look: the moment of the trigger, and what is still missing; nothing: the snapshot is taken."""
        kinds = ("frame_number", "generation")
        wanted = [f"{kind}_{n}" for kind in kinds for n in self.slices]
        found = await proxy_of(self.denoiser).read_attributes(wanted)
        values = [-1 if reading.has_failed else int(reading.value) for reading in found]
        numbers = dict(zip(self.slices, values[: len(self.slices)]))
        generations = dict(zip(self.slices, values[len(self.slices) :]))
        wanted = ["series", "frames_received", "frames_lost", "update_every", "generation"]
        state = await proxy_of(self.reconstructor).read_attributes(wanted)
        series, received, lost, every, generation = (reading.value for reading in state)
        moment = (moment or Moment.of(series, received + lost, every, numbers)).seen(series, received + lost)
        if frames:
            old = [n for n in self.slices if not moment.is_past(n, numbers[n], frames)]
        else:
            old = [n for n in self.slices if numbers[n] < 0 or generations[n] != generation]
        if not old:
            return moment, await self._take()
        expected = f"beyond frame {moment.awaited(frames) - 1}" if frames else "at their present places"
        return moment, f"expected pictures {expected}, got " + ", ".join(f"{n}: frame {numbers[n]}" for n in old)

    async def _take(self) -> str:
        """Read everything in one call; what is missing, in words, or nothing."""
        keys = [f"{kind}_{n}" for n in self.slices for kind in (*self.pictures, *FIGURES)]
        readings: dict[str, Reading[Any]] = {}
        for key, reading in zip(keys, await proxy_of(self.denoiser).read_attributes(keys)):
            known = not reading.has_failed and reading.quality != INVALID
            if key.startswith(self.pictures):
                if not known:
                    return f"expected {key}, it has no value"
                value: Any = np.asarray(reading.value)  # float32 (rows, columns)
                got: Any = value.shape
                shape: Any = self._shapes.get(key.partition("_")[2], got)
                if got != shape:
                    raise RuntimeError(
                        f"{key}: expected {shape[0]} x {shape[1]} pixels as at the start, got {got[0]} x {got[1]}"
                    )
            else:
                value = float(reading.value) if known else math.nan
            readings[f"{self.name}-{key}"] = Reading(value=value, timestamp=reading.time.totime())
        self._readings = readings
        return ""

    async def read(self) -> dict[str, Reading[Any]]:
        """What the last trigger took. Raises RuntimeError where there was none."""
        if not self._readings:
            raise RuntimeError(f"{self.name}: expected a trigger before it is read, as bluesky.plans.count gives")
        return self._readings

    async def describe(self) -> dict[str, DataKey]:
        if not self._shapes:
            await self._read_shapes()
        keys: dict[str, DataKey] = {}
        for n in self.slices:
            for kind in self.pictures:
                key = DataKey(source=self._source(f"{kind}_{n}"), dtype="array", shape=[*self._shapes[n]])
                keys[f"{self.name}-{kind}_{n}"] = key | DataKey(dtype_numpy="<f4", units="1/mm")  # type: ignore
            for kind, unit in FIGURES.items():
                key = DataKey(source=self._source(f"{kind}_{n}"), dtype="number", shape=[], units=unit)
                keys[f"{self.name}-{kind}_{n}"] = key
        return keys

    async def read_configuration(self) -> dict[str, Reading[Any]]:
        return await self.new_frames.read() | await self.timeout_s.read()

    async def describe_configuration(self) -> dict[str, DataKey]:
        return await self.new_frames.describe() | await self.timeout_s.describe()

    def _source(self, attribute: str) -> str:
        return f"tango://{self.denoiser.get_trl().removeprefix('tango://')}/{attribute}"

    async def _read_shapes(self) -> None:
        readings = await proxy_of(self.reconstructor).read_attributes([f"shape_{n}" for n in self.slices])
        for n, reading in zip(self.slices, readings):
            if reading.has_failed or reading.quality == INVALID:
                raise RuntimeError(f"slice {n}: it has no place yet, no scan has begun")
            self._shapes[n] = int(reading.value[0]), int(reading.value[1])

    async def _how_it_is(self) -> str:
        try:
            proxy = proxy_of(self.denoiser)
            return f"; {self.denoiser.get_trl()} is {await proxy.state()}: {await proxy.status()}"
        except tango.DevFailed:
            return f"; {self.denoiser.get_trl()} does not answer"


def _attributes_of(name: str) -> list[str]:
    """The attributes that a device has now: a proxy that is connected for long knows those of its beginning."""
    return list(tango.DeviceProxy(name).get_attribute_list())


class SlicePosition(Device):
    """Where a slice stands along its normal, in mm, as something that a plan sets and scans.

    That is z for a slice that is level as xy, y for one like xz, x for one like yz. A move is done at once; pictures
    follow, and LiveSlices waits for them.
    """

    def __init__(self, slice_name: str = "xy", *, reconstructor: str = "jit/reconstructor/1", name: str = "") -> None:
        self.slice_name = slice_name
        self.reconstructor = TangoDevice(reconstructor)
        super().__init__(name=name)

    @property
    def hints(self) -> Hints:
        return {"fields": [self.name]}

    async def _geometry(self) -> SliceGeometry:
        """Raises RuntimeError in words where there is no such slice, or no place yet."""
        wanted = [f"geometry_{self.slice_name}", f"shape_{self.slice_name}"]
        place, shape = await proxy_of(self.reconstructor).read_attributes(wanted)
        if place.has_failed:
            raise RuntimeError(f"{self.reconstructor.get_trl()}: expected a slice of this name, got {self.slice_name}")
        if place.quality == INVALID:
            raise RuntimeError(f"slice {self.slice_name}: it has no place yet, no scan has begun")
        corner, u, v = (tuple(edge) for edge in place.value.reshape(3, 3))
        return SliceGeometry(corner, u, v, *(int(n) for n in shape.value))

    @AsyncStatus.wrap
    async def set(self, value: float) -> None:
        moved = (await self._geometry()).moved_to(float(value))
        place = (moved.nine.tolist(), [self.slice_name])
        await proxy_of(self.reconstructor).command_inout("MoveSlice", place)

    async def locate(self) -> Location[float]:
        position = (await self._geometry()).offset_mm
        return Location(setpoint=position, readback=position)

    async def read(self) -> dict[str, Reading[float]]:
        return {self.name: Reading(value=(await self._geometry()).offset_mm, timestamp=time.time())}

    async def describe(self) -> dict[str, DataKey]:
        source = f"tango://{self.reconstructor.get_trl().removeprefix('tango://')}/geometry_{self.slice_name}"
        return {self.name: DataKey(source=source, dtype="number", shape=[], units="mm")}
