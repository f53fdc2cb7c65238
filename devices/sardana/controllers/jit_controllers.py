"""Controllers of a Sardana Pool: pictures, the numbers that belong to them, and the places of slices."""

from __future__ import annotations

from typing import Any

import tango
from sardana import State
from sardana.pool import AcqSynch
from sardana.pool.controller import (
    CounterTimerController,
    DefaultValue,
    Description,
    Memorize,
    Memorized,
    MotorController,
    TwoDController,
    Type,
)

from devices.errors import said
from devices.sardana.exposure import Exposure, exposure_of
from tango_jit.geometry import SliceGeometry

DENOISER = {
    "DenoiserDevice": {
        Type: str,
        Description: "The denoiser whose pictures are taken, as jit/denoiser/1.",
    }
}


class _Pictures:
    """What both kinds of channels share: an axis reads one attribute of the denoiser, a count is shared by all."""

    DenoiserDevice: str
    _log: Any
    image = False
    default_timer = 1  # of a channel that is counted alone
    organization = "tango-jit"

    def _build(self) -> None:
        self.exposure: Exposure = exposure_of(self.DenoiserDevice)
        self._readings: dict[int, str] = {}
        self._state = False, False, ""

    # ---- axes

    def AddDevice(self, axis: int) -> None:
        self._readings[axis] = ""

    def DeleteDevice(self, axis: int) -> None:
        del self._readings[axis]

    def getReading(self, axis: int) -> str:
        return self._readings[axis]

    def setReading(self, axis: int, attribute: str) -> None:
        if attribute or self.image:
            self.exposure.check(attribute, image=self.image)
        self._readings[axis] = attribute

    # ---- a count

    def GetCtrlPar(self, parameter: str) -> Any:
        return {"synchronization": AcqSynch.SoftwareTrigger, "latency_time": 0.0}.get(parameter)

    def SetCtrlPar(self, parameter: str, value: Any) -> None:
        if parameter == "synchronization" and value not in (AcqSynch.SoftwareTrigger, AcqSynch.SoftwareGate):
            raise ValueError(f"synchronization: expected SoftwareTrigger, got {AcqSynch(value).name}")

    def PrepareOne(self, axis: int, value: float, repetitions: int, latency: float, nb_starts: int) -> None:
        self.exposure.prepare(self._readings.values() if self.image else ())

    def LoadOne(self, axis: int, value: float, repetitions: int, latency: float) -> None:
        self.exposure.seconds = value

    def PreStartAll(self) -> None:
        self.exposure.begin()

    def StartOne(self, axis: int, value: float) -> None:
        self.exposure.want(self._readings[axis])

    def StartAll(self) -> None:
        self.exposure.start()

    def PreStateAll(self) -> None:
        """One look for all axes, so that they agree: a count is over for all of them or for none."""
        self.exposure.poll()
        self._state = self.exposure.running, self.exposure.failed, self.exposure.told

    def StateOne(self, axis: int) -> tuple[Any, str]:
        running, failed, told = self._state
        if running:
            return State.Moving, told or "waiting for new pictures"
        if failed and not self.exposure.is_told(self._readings[axis]):
            return State.Fault, told  # ends a scan; the next count may begin all the same
        return State.On, f"ready; the last count: {told}" if told else "ready"

    def ReadOne(self, axis: int) -> Any:
        return self.exposure.value(self._readings[axis])

    def AbortOne(self, axis: int) -> None:
        self.exposure.abort()


class JitPictureTwoDController(_Pictures, TwoDController):
    """Slices as images: each axis is one image of the denoiser, as `denoised_xy` or `raw_xy`.

    A count waits for a picture of after its start and takes the newest one when its time is over. All channels of a
    count, and those of a JitPictureCounterTimerController, are of the same moment.
    """

    gender = "Tomography"
    model = "Live slices"
    image = True
    ctrl_properties = DENOISER
    ctrl_attributes = {
        "Timeout": {
            Type: float,
            Description: "How long a count waits for new pictures beyond its integration time, in s.",
            DefaultValue: 60.0,
            Memorize: Memorized,
        },
        "NewFrames": {
            Type: int,
            Description: "So many of the frames of a picture must have come after the start of the count. The number "
            "of views of a window: all of them. 0: it only has to show its present place.",
            DefaultValue: 1,
            Memorize: Memorized,
        },
    }
    axis_attributes = {
        "Reading": {
            Type: str,
            Description: "The image of the denoiser that this channel is, as denoised_xy or raw_xy.",
            Memorize: Memorized,
        }
    }

    def __init__(self, inst: str, props: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        TwoDController.__init__(self, inst, props, *args, **kwargs)
        self._build()

    def GetAxisPar(self, axis: int, parameter: str) -> Any:
        return self.exposure.shape(self._readings[axis]) if parameter == "shape" else None

    def getTimeout(self) -> float:
        return self.exposure.timeout_s

    def setTimeout(self, seconds: float) -> None:
        if not 0 < seconds <= 86400:
            raise ValueError(f"Timeout: expected more than 0 and at most 86400 s, got {seconds:g}")
        self.exposure.timeout_s = seconds

    def getNewFrames(self) -> int:
        return self.exposure.new_frames

    def setNewFrames(self, frames: int) -> None:
        if not 0 <= frames <= 1_000_000:
            raise ValueError(f"NewFrames: expected 0 to 1000000, got {frames}")
        self.exposure.new_frames = frames


class JitPictureCounterTimerController(_Pictures, CounterTimerController):
    """Numbers beside the pictures: each axis is one of the denoiser, as `frame_number_xy`, or of another device.

    Those of the denoiser are of the moment of the pictures, others (`jit/trainer/1/loss`) are read right after. An axis
    without a Reading is the timer: seconds from the start of the count to its picture. What is not known is NaN.
    """

    gender = "Tomography"
    model = "Figures of live slices"
    ctrl_properties = DENOISER
    axis_attributes = {
        "Reading": {
            Type: str,
            Description: "What this channel is: an attribute of the denoiser, as frame_number_xy, or of another "
            "device, as jit/trainer/1/loss; empty: the timer.",
            Memorize: Memorized,
        }
    }

    def __init__(self, inst: str, props: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        CounterTimerController.__init__(self, inst, props, *args, **kwargs)
        self._build()

    def GetAxisPar(self, axis: int, parameter: str) -> Any:
        return [] if parameter == "shape" else None


class JitSliceMotorController(MotorController):
    """Places of slices as motors: the position is where a slice stands along its normal, in mm.

    That is z for a slice that is level as xy, y for one like xz, x for one like yz. A move is done at once; pictures
    follow, and a count waits for them. An axis without a Slice moves nothing: its position is the number of a picture
    in a series.
    """

    gender = "Tomography"
    model = "Live slices"
    organization = "tango-jit"
    MaxDevice = 1024
    ctrl_properties = {
        "ReconstructorDevice": {
            Type: str,
            Description: "The reconstructor whose slices are moved, as jit/reconstructor/1.",
        }
    }
    axis_attributes = {
        "Slice": {
            Type: str,
            Description: "Name of the slice that this motor moves, as xy; empty: none.",
            Memorize: Memorized,
        }
    }
    ReconstructorDevice: str
    _log: Any

    def __init__(self, inst: str, props: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        MotorController.__init__(self, inst, props, *args, **kwargs)
        self._names: dict[int, str] = {}
        self._numbers: dict[int, float] = {}
        self._proxy: Any = None

    def AddDevice(self, axis: int) -> None:
        self._names[axis] = ""
        self._numbers[axis] = 0.0

    def DeleteDevice(self, axis: int) -> None:
        del self._names[axis], self._numbers[axis]

    def getSlice(self, axis: int) -> str:
        return self._names[axis]

    def setSlice(self, axis: int, name: str) -> None:
        self._names[axis] = name

    @property
    def reconstructor(self) -> Any:
        if self._proxy is None:
            self._proxy = tango.DeviceProxy(self.ReconstructorDevice)
        return self._proxy

    def _geometry(self, axis: int) -> SliceGeometry:
        """The present place. Raises RuntimeError in words where there is no such slice, or no place yet."""
        name = self._names[axis]
        try:
            place, shape = self.reconstructor.read_attributes([f"geometry_{name}", f"shape_{name}"])
        except tango.DevFailed as error:
            raise RuntimeError(f"{self.ReconstructorDevice}: {said(error)}") from error
        if place.has_failed:
            known = [n[9:] for n in self.reconstructor.get_attribute_list() if n.startswith("geometry_")]
            raise RuntimeError(f"Slice: expected one of {', '.join(known)}, got {name!r}")
        if place.quality == tango.AttrQuality.ATTR_INVALID:
            raise RuntimeError(f"slice {name}: it has no place yet, no scan has begun")
        corner, u, v = (tuple(edge) for edge in place.value.reshape(3, 3))
        return SliceGeometry(corner, u, v, *(int(n) for n in shape.value))

    def StateOne(self, axis: int) -> tuple[Any, str, int]:
        try:
            position = self.ReadOne(axis)
        except RuntimeError as error:
            return State.Alarm, str(error), self.NoLimitSwitch
        told = f"slice {self._names[axis]} stands at {position:g} mm" if self._names[axis] else "a number"
        return State.On, told, self.NoLimitSwitch

    def ReadOne(self, axis: int) -> float:
        return self._geometry(axis).offset_mm if self._names[axis] else self._numbers[axis]

    def StartOne(self, axis: int, value: float) -> None:
        if not self._names[axis]:
            self._numbers[axis] = value
            return
        moved = self._geometry(axis).moved_to(value)
        try:
            self.reconstructor.command_inout("MoveSlice", (moved.nine.tolist(), [self._names[axis]]))
        except tango.DevFailed as error:
            raise RuntimeError(said(error)) from error

    def AbortOne(self, axis: int) -> None:
        """A move is done before it can be aborted."""

    def GetAxisPar(self, axis: int, parameter: str) -> float:
        """There is no speed: moves are immediate."""
        return {"velocity": 1e6, "step_per_unit": 1.0, "base_rate": 0.0}.get(parameter, 1e-6)

    def SetAxisPar(self, axis: int, parameter: str, value: float) -> None:
        if parameter == "step_per_unit" and value != 1.0:
            raise ValueError(f"step_per_unit: expected 1, positions are in mm, got {value:g}")
