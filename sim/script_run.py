"""A script on its way: what is due is done through the devices, and kept with its time for the report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tango
from numpy.typing import ArrayLike, NDArray
from rich.console import Console

from sim.prepared import prepared
from sim.script import (
    AnyEvent,
    CenterShift,
    Command,
    Dose,
    MoveSlice,
    OtherRecording,
    Script,
    Seek,
    TiltSlice,
    Write,
    ZoomSlice,
)

Nine = NDArray[np.float64]  # corner, edge along columns, edge along rows, in mm


def recordings_of(script: Script, console: Console) -> dict[OtherRecording, Path]:
    """The recordings of the simulated experiments that a script goes on with; made now if there are none yet."""
    return {
        event: prepared(event.scenario(script.folder), console)
        for event in script.events
        if isinstance(event, OtherRecording) and event.path is None
    }


class ScriptRun:
    """Applies the events of `script` as they become due; `step` is to be called often.

    `proxies` are those of the four devices by member name; turns, frames and seconds count from the first `step` on.
    """

    def __init__(
        self,
        script: Script,
        proxies: Mapping[str, Any],
        clock: Callable[[], float] = time.time,
        *,
        recordings: Mapping[OtherRecording, Path] | None = None,
    ) -> None:
        """`recordings`: of the simulated experiments that the script goes on with (`recordings_of`); None: of none."""
        self.script, self._proxies, self._clock = script, proxies, clock
        self._recordings = recordings or {}
        self._began_s = clock()
        self._done: dict[int, dict[str, Any]] = {}
        self._seen: tuple[int, float] | None = None  # the detector's counters at the last look
        self._frames, self._turns = 0, 0.0

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events for a report, in the order of the script. `t_s`, `frame` and `turn` tell when each was applied:
        seconds since the start, frames and turns that the detector had made; None: it was not due yet. `error` says
        what the device answered to what could not be done, else None."""
        missing = {"t_s": None, "frame": None, "turn": None, "error": None}
        return [
            {"event": number, **msgspec.to_builtins(event), **self._done.get(number, missing)}
            for number, event in enumerate(self.script.events, start=1)
        ]

    def step(self) -> list[str]:
        """Apply what has become due. Returns a line for each of these events. Never raises for what a device refuses
        or for one that does not answer: then the event says so, or waits."""
        if not self._follow():
            return []
        lines = []
        for number, event in enumerate(self.script.events, start=1):
            if number in self._done or not event.due(self._frames, self._turns, self.script.frame_period_s):
                continue
            error = self._apply(event)
            when = {"t_s": round(self._clock() - self._began_s, 3), "frame": self._frames}
            self._done[number] = {**when, "turn": round(self._turns, 3), "error": error}
            fields = msgspec.to_builtins(event)
            what = ", ".join(f"{k} {v}" for k, v in fields.items() if k != "do" and not k.startswith("at_"))
            told = f" failed: {error}" if error else ""
            lines.append(f"frame {self._frames}: {fields['do']} {what}{told}")
        return lines

    def _follow(self) -> bool:
        """Read how far the detector is; False: it does not answer."""
        try:
            frames, turns = (
                x.value for x in self._proxies["detector"].read_attributes(["frames_total", "turns_total"])
            )
        except tango.DevFailed:
            return False
        if self._seen is not None:
            began_anew = frames < self._seen[0]  # another process
            before = (0, 0.0) if began_anew else self._seen
            self._frames, self._turns = self._frames + frames - before[0], self._turns + turns - before[1]
        self._seen = int(frames), float(turns)
        return True

    def _apply(self, event: AnyEvent) -> str | None:
        try:
            self._do(event)
        except tango.DevFailed as error:
            return error.args[0].desc.strip()
        except (ValueError, TypeError, AttributeError) as error:  # what PyTango makes of a wrong type or name
            return str(error)
        return None

    def _do(self, event: AnyEvent) -> None:
        detector = self._proxies["detector"]
        match event:
            case MoveSlice() | TiltSlice() | ZoomSlice():
                self._place(event)
            case Seek():
                frames = detector.read_attribute("recording_frames").value
                detector.Seek(event.position if event.part is None else min(int(event.part * frames), frames - 1))
            case OtherRecording():
                detector.write_attribute("recording", str(self._recording(event)))
                detector.Stop()
                detector.Start()
            case CenterShift():
                detector.write_attribute("center_shift_px", event.columns)
            case Dose():
                detector.write_attribute("dose", event.fraction)
            case Write():
                setattr(self._proxies[event.device], event.attribute, event.value)
            case Command():
                arguments = () if event.argument is None else (event.argument,)
                self._proxies[event.device].command_inout(event.command, *arguments)

    def _recording(self, event: OtherRecording) -> Path:
        if event.path is not None:
            return (self.script.folder / event.path).resolve()
        if event not in self._recordings:
            raise ValueError(f"experiment: expected the recording of {event.experiment} to be made before, it is not")
        return self._recordings[event]

    def _place(self, event: MoveSlice | TiltSlice | ZoomSlice) -> None:
        reconstructor = self._proxies["reconstructor"]
        nine = np.asarray(reconstructor.read_attribute(f"geometry_{event.slice}").value, np.float64)
        match event:
            case MoveSlice(by_mm=tuple() as by_mm):
                nine = moved(nine, by_mm)
            case MoveSlice(by_part=tuple() as by_part):
                nine = moved(nine, np.array(by_part) * max(np.linalg.norm(nine[3:6]), np.linalg.norm(nine[6:])))
            case TiltSlice():
                nine = tilted(nine, event.about, event.degrees)
            case ZoomSlice():
                nine = zoomed(nine, event.factor)
        reconstructor.MoveSlice((nine.tolist(), [event.slice]))


def moved(nine: Nine, by_mm: ArrayLike) -> Nine:
    """A slice (9,) in mm at another place; `by_mm` (3,)."""
    return np.concatenate([nine[:3] + np.asarray(by_mm, np.float64), nine[3:]])


def tilted(nine: Nine, about: str, degrees: float) -> Nine:
    """A slice (9,) in mm turned about x, y or z through its centre, by the right-hand rule."""
    a, b = [axis for axis in range(3) if "xyz"[axis] != about]
    if about == "y":
        a, b = b, a
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.eye(3)
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cosine, -sine, sine, cosine
    u, v = turn @ nine[3:6], turn @ nine[6:]
    return np.concatenate([_centre(nine) - (u + v) / 2, u, v])


def zoomed(nine: Nine, factor: float) -> Nine:
    """The middle of a slice (9,) in mm, 1 / factor as long and wide."""
    edges = nine[3:] / factor
    return np.concatenate([_centre(nine) - (edges[:3] + edges[3:]) / 2, edges])


def _centre(nine: Nine) -> Nine:
    return nine[:3] + (nine[3:6] + nine[6:]) / 2
