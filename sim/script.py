"""Scripts of an experiment: what happens at which frame, turn or second of it. `docs/how-to/simulate-faults.md`.

A script is checked as a whole before anything starts. Its times are virtual: they count what the detector has made,
so that a script does the same at any pace.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import tango
from msgspec import Meta, Struct

from devices.base import Door
from sim.scenario import Scenario
from sim.scenario import load as load_scenario
from tango_jit.recordings import open_recording
from tango_jit.services.service import ITEM_NAME
from tango_jit.services.slices import denoiser_signals, reconstructor_signals
from tango_jit.signals import Signal

Member = Literal["detector", "reconstructor", "trainer", "denoiser"]
Positive = Annotated[float, Meta(gt=0)]
Whole = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(pattern=f"^{ITEM_NAME.pattern}$")]
Part = Annotated[float, Meta(ge=0, le=1)]
Vector = tuple[float, float, float]
DOORS = {
    "detector": ("sim.detector_device", "SimulatedDetector"),
    "reconstructor": ("devices.reconstructor", "Reconstructor"),
    "trainer": ("devices.trainer", "JitTrainer"),
    "denoiser": ("devices.denoiser", "Denoiser"),
}
OF_A_SLICE = {"reconstructor": reconstructor_signals, "denoiser": denoiser_signals}


class ScriptError(ValueError):
    """No script. The text names the file, the number of the event and the key, what was expected and what came."""


class Event(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, tag_field="do"):
    """Something that happens once, at one of: `at_frame` frames, `at_turn` turns, `at_s` virtual seconds."""

    at_frame: Whole | None = None
    at_turn: Annotated[float, Meta(ge=0)] | None = None
    at_s: Annotated[float, Meta(ge=0)] | None = None

    def check(self, folder: Path) -> None:
        """Raises ValueError in words for what the types of the fields do not say. `folder`: of the script."""

    def due(self, frames: int, turns: float, frame_period_s: float) -> bool:
        """Has the detector made so much?"""
        if self.at_frame is not None:
            return frames >= self.at_frame
        if self.at_turn is not None:
            return turns >= self.at_turn
        assert self.at_s is not None
        return frames * frame_period_s >= self.at_s


class MoveSlice(Event, frozen=True, tag="move_slice"):
    """Move by so much, in mm along x, y, z, or in parts of its longer edge."""

    slice: Name
    by_mm: Vector | None = None
    by_part: Vector | None = None

    def check(self, folder: Path) -> None:
        _one_of(self, "by_mm", "by_part")


class TiltSlice(Event, frozen=True, tag="tilt_slice"):
    """Turn about an axis of the scanner through its centre."""

    slice: Name
    about: Literal["x", "y", "z"]
    degrees: float


class ZoomSlice(Event, frozen=True, tag="zoom_slice"):
    """Show a part of it, 1 / factor as long and wide, around its centre."""

    slice: Name
    factor: Positive


class Seek(Event, frozen=True, tag="seek"):
    """Jump to an index of the recording, or to a part of its length."""

    position: Whole | None = None
    part: Part | None = None

    def check(self, folder: Path) -> None:
        _one_of(self, "position", "part")


class OtherRecording(Event, frozen=True, tag="recording"):
    """Go on with another recording, from its beginning: a `path` from the folder of the script, or the looped one of a
    simulated `experiment` (a built-in name, or a scenario file from that folder), `start_minutes` after it began."""

    path: str | None = None
    experiment: str | None = None
    start_minutes: float | None = None

    def check(self, folder: Path) -> None:
        _one_of(self, "path", "experiment")
        if self.path is not None:
            open_recording(folder / self.path).close()
            if self.start_minutes is not None:
                raise ValueError("start_minutes: expected it with an experiment, got it with a path")
        else:
            self.scenario(folder)

    def scenario(self, folder: Path) -> Scenario:
        """What is simulated. Raises ScenarioError, FileNotFoundError. There must be an experiment."""
        assert self.experiment is not None
        built_in = self.experiment in Scenario.BUILT_IN
        scenario = load_scenario(self.experiment if built_in else str(folder / self.experiment))
        return scenario if self.start_minutes is None else scenario.with_(start_s=60 * self.start_minutes)


class CenterShift(Event, frozen=True, tag="center_shift"):
    """Move the rotation axis by so many columns from where it was recorded."""

    columns: Annotated[int, Meta(ge=-65536, le=65536)]


class Dose(Event, frozen=True, tag="dose"):
    """Part of the recorded dose."""

    fraction: Annotated[float, Meta(ge=0.001, le=1)]


class Write(Event, frozen=True, tag="write"):
    """Set any attribute of any of the four devices."""

    device: Member
    attribute: str
    value: bool | int | float | str | list[float]

    def check(self, folder: Path) -> None:
        signal = _signal(self.device, self.attribute)
        if not signal.writable:
            raise ValueError(f"attribute: expected a setting, got {self.attribute}, which can only be read")
        if signal.kind == "bool" and not isinstance(self.value, bool):
            raise ValueError(f"value: expected true or false, got {self.value!r}")
        if signal.kind in ("str", "enum") and not isinstance(self.value, str):
            raise ValueError(f"value: expected text, got {self.value!r}")
        if signal.kind in ("int", "float") and isinstance(self.value, (bool, str)):
            raise ValueError(f"value: expected a number, got {self.value!r}")
        signal.check(self.value)


class Command(Event, frozen=True, tag="command"):
    """Run a command without or with one argument."""

    device: Member
    command: str
    argument: bool | int | float | str | None = None

    def check(self, folder: Path) -> None:
        known: Mapping[str, Any] = {"Init": INIT, **vars(_door(self.device))["TangoClassClass"].cmd_list}
        if self.command not in known:
            raise ValueError(f"command: expected one of {', '.join(sorted(known))}, got {self.command!r}")
        kind = known[self.command][0][0]
        if (kind == tango.CmdArgType.DevVoid) != (self.argument is None):
            raise ValueError(f"argument: expected {ARGUMENTS.get(kind, kind)}, got {self.argument!r}")
        if kind not in ARGUMENTS:
            raise ValueError(f"command: expected one with a simple argument, got {self.command}")
        wanted = {"a whole number": int, "a number": (int, float), "text": str}.get(ARGUMENTS[kind])
        if wanted and (not isinstance(self.argument, wanted) or isinstance(self.argument, bool)):
            raise ValueError(f"argument: expected {ARGUMENTS[kind]}, got {self.argument!r}")


ARGUMENTS = {
    tango.CmdArgType.DevVoid: "none",
    tango.CmdArgType.DevLong64: "a whole number",
    tango.CmdArgType.DevDouble: "a number",
    tango.CmdArgType.DevString: "text",
}
INIT = ((tango.CmdArgType.DevVoid, ""),)  # Tango's own
AnyEvent = MoveSlice | TiltSlice | ZoomSlice | Seek | OtherRecording | CenterShift | Dose | Write | Command
KINDS = [kind.__struct_config__.tag for kind in get_args(AnyEvent)]  # what `do` may be


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    event: list[dict[str, Any]]
    title: str = ""
    frame_period_s: Positive = 0.024


@dataclass(frozen=True)
class Script:
    """`events` in the order of the file; `frame_period_s`: what a frame counts for `at_s`; `folder` is its own."""

    name: str
    title: str
    frame_period_s: float
    events: tuple[AnyEvent, ...]
    folder: Path


def builtin() -> list[str]:
    """Names of the scripts that come with the package."""
    return sorted(
        path.name.removesuffix(".toml")
        for path in resources.files("sim").joinpath("scripts").iterdir()
        if path.name.endswith(".toml")
    )


def load(name: str) -> Script:
    """A script of the package by its name, or a file. Raises ScriptError for what is none, in words."""
    if name in builtin():
        text = resources.files("sim").joinpath("scripts", f"{name}.toml").read_text(encoding="utf-8")
        return parse(text, name, Path.cwd())
    path = Path(name)
    if not path.is_file():
        raise ScriptError(f"script: expected a file or one of {', '.join(builtin())}, got {name!r}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{name}: expected a text file in UTF-8 ({error})") from None
    return parse(text, name, path.absolute().parent)


def parse(text: str, name: str, folder: Path) -> Script:
    """The script in `text`; `name` is for errors, `folder` for paths in it. Raises ScriptError."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{name}: expected TOML: {error}") from None
    file = _converted(content, _File, name)
    events = []
    for number, fields in enumerate(file.event, start=1):
        where = f"{name}: event {number} ({fields.get('do', 'do: missing')})"
        event: AnyEvent = _converted(fields, AnyEvent, where)
        try:
            _one_of(event, "at_frame", "at_turn", "at_s")
            event.check(folder)
        except (ValueError, OSError) as error:
            raise ScriptError(f"{where}: {error}") from None
        events.append(event)
    return Script(name, file.title, file.frame_period_s, tuple(events), folder)


def _converted(fields: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        words, _, path = str(error).replace(" | null", "").partition(" - at `")
        key = path.removeprefix("$").strip(".`")
        got = fields
        for part in re.findall(r"\w+", key):
            got = got[int(part)] if isinstance(got, list) else got.get(part, "nothing")
        if key == "do":
            words = f"expected one of {', '.join(KINDS)}"
        told = f"{key}: {words[0].lower()}{words[1:]}" if key else words[0].lower() + words[1:]
        raise ScriptError(f"{where}: {told}" + ("" if ", got " in told else f", got {got!r}")) from None


def _one_of(event: Event, *names: str) -> None:
    given = [name for name in names if getattr(event, name) is not None]
    if len(given) != 1:
        raise ValueError(f"expected exactly one of {', '.join(names)}, got {' and '.join(given) or 'none'}")


@cache
def _door(member: str) -> type[Door]:
    """Its class; imported only for scripts that name it."""
    module, name = DOORS[member]
    return getattr(import_module(module), name)


def _signal(member: str, attribute: str) -> Signal:
    """The signal behind an attribute; those of a slice have its name at their end. Raises ValueError."""
    door = _door(member)
    assert door.service_class is not None
    known = {signal.name: signal for signal in door.service_class.table()}
    if attribute in known:
        return known[attribute]
    for at in (found.start() for found in re.finditer("_", attribute)):
        item = attribute[at + 1 :]
        of_a_slice = OF_A_SLICE[member](item) if member in OF_A_SLICE and ITEM_NAME.fullmatch(item) else ()
        for signal in of_a_slice:
            if signal.name == attribute:
                return signal
    writable = sorted(signal.name for signal in known.values() if signal.writable)
    raise ValueError(f"attribute: expected one of {', '.join(writable)}, got {attribute!r}")
