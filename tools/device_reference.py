"""Write docs/reference/devices.md from the code: what every device has, as its signals and its Tango class say.

Usage: python -m tools.device_reference, in the checkout. No server and no database are needed.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tango

from devices.base import Door
from devices.denoiser import Denoiser
from devices.epics.camera import EpicsCamera
from devices.reconstructor import Reconstructor
from devices.recorder import Recorder
from devices.supervisor import Supervisor
from devices.trainer import JitTrainer
from sim.detector_device import SimulatedDetector
from tango_jit.learn.settings import SETTINGS
from tango_jit.services.slices import denoiser_signals, reconstructor_signals
from tango_jit.services.trainer_settings import shown
from tango_jit.signals import Signal

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "devices.md"
DOORS: tuple[type[Door], ...] = (
    SimulatedDetector,
    Reconstructor,
    JitTrainer,
    Denoiser,
    Recorder,
    Supervisor,
    EpicsCamera,
)
OfASlice = Callable[[str], tuple[Signal, ...]]
OF_A_SLICE: dict[type[Door], OfASlice] = {
    Reconstructor: reconstructor_signals,
    Denoiser: denoiser_signals,
}
DEFAULTS: dict[type[Door], dict[str, Any]] = {JitTrainer: shown(SETTINGS["PRODUCT"])}  # a preset sets many at once
TYPES = {"bool": "bool", "int": "int64", "float": "float64", "str": "string", "enum": "enum"}
ARGUMENTS = {
    tango.CmdArgType.DevVoid: "none",
    tango.CmdArgType.DevString: "string",
    tango.CmdArgType.DevLong64: "int64",
    tango.CmdArgType.DevDouble: "float64",
    tango.CmdArgType.DevVarDoubleStringArray: "float64 array, string array",
}
INTRODUCTION = """\
# Devices

Every attribute, command and property of the devices. This page is written by `python -m tools.device_reference`
from the code; do not edit it. What to do with them: [how to operate it](../how-to/operate.md).

- **Settings** can be written. Wrong values are refused and change nothing: numbers outside the limits by Tango itself,
  all else with a message that says what was expected and what came. *kept*: over a restart of the server, by Tango
  ("memorized") or by the device itself in the property of that name.
- **Readings** change by themselves, and are pushed as change and archive events; no polling is needed. Images are never
  pushed: their `frame_number_<n>` is (the detector's `frame_number` for its `image`). All attributes of one
  `read_attributes` call are of the same moment. What is not known yet has the quality ATTR_INVALID.
- *expert*: display level EXPERT. *Warning* and *alarm* are Tango's bounds of what is normal.
- All lengths are in mm, attenuation in 1/mm, times since the epoch in s.
- Every device has Tango's own `State`, `Status` and `Init`. `Init` closes the streams and builds the device anew from
  its properties; the servers downstream find it again by themselves.

## States

| state | meaning |
| --- | --- |
| INIT | starting |
| STANDBY | ready, but no data: nothing comes, paused, stopped or ended. The status says which |
| RUNNING | data are processed |
| ALARM | as RUNNING, but a person should look: the status says at what. It goes back by itself |
| FAULT | not working: the status says what to do, then `Start` or `Init` |

`running` is true in RUNNING and ALARM. Commands marked *at work* are not allowed in INIT and FAULT, where nobody would
carry them out; all others are allowed in every state, and those that need more (a full window, a picture) say so. A
device whose properties are wrong is in FAULT, and allows nothing but `State`, `Status` and `Init`.

## Refusals

What is refused changes nothing, and raises a `DevFailed`. The first of its errors has the reason and a text that says
what was expected and what came:

| reason | meaning |
| --- | --- |
| JIT_InvalidValue | the value or argument is wrong |
| JIT_NotNow | right, but not now: the device is busy (the text says *try again*), or has nothing yet to do it with |
| JIT_File | a file could not be read or written |
| JIT_Unknown | no such slice or setting |
| API_WAttrOutsideLimit | Tango's own: outside the limits of the attribute |
| API_CommandNotAllowed, API_AttrNotAllowed | Tango's own: not in this state |

Each device tells the version of tango-jit that it runs (`DeviceProxy.info().version_info`).
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([INTRODUCTION, *("\n".join(chapter(door)) for door in DOORS)])


def chapter(door: type[Door]) -> Iterator[str]:
    """One device: what it is, then its tables."""
    assert door.service_class is not None
    signals = door.service_class.table()
    about, *more = (door.__doc__ or "").split("\n\n")
    yield f"## {door.__name__}\n\n{about}\n"
    yield from (f"{textwrap.fill(' '.join(text.split()), 120)}\n" for text in more)
    yield from _table("Commands", ("command", "argument", "allowed", "what it does"), commands(door))
    yield from _table("Settings", SETTING_HEAD, (setting(door, s) for s in signals if s.writable))
    yield from _table("Readings", READING_HEAD, (reading(s) for s in signals if not s.writable))
    if door in OF_A_SLICE:
        own = OF_A_SLICE[door]("n")
        settings = [setting(door, s, of_a_slice=True) for s in own if s.writable]
        if settings:
            yield from _table("Settings of each slice `<n>`", SETTING_HEAD, settings)
        readings = (reading(s, of_a_slice=True) for s in own if not s.writable)
        yield from _table("Readings of each slice `<n>`", READING_HEAD, readings)
    yield from _table("Properties", ("property", "type", "default", "meaning"), properties(door))


SETTING_HEAD = ("attribute", "type", "unit", "limits", "default", "kept", "meaning")
READING_HEAD = ("attribute", "type", "unit", "bounds", "meaning")


def commands(door: type[Door]) -> Iterator[tuple[str, ...]]:
    for name, ((kind, text), _, fields) in _tango_class(door).cmd_list.items():
        yield f"`{name}`", ARGUMENTS[kind], "at work" if "is_at_work" in fields["Is allowed"] else "", text


def properties(door: type[Door]) -> Iterator[tuple[str, ...]]:
    for name, (kind, text, default, mandatory) in _tango_class(door).device_property_list.items():
        plain = {tango.CmdArgType.DevString: "string", tango.CmdArgType.DevLong64: "int64"}[kind]
        yield f"`{name}`", plain, "must be set" if mandatory else _code(default), text


def setting(door: type[Door], signal: Signal, *, of_a_slice: bool = False) -> tuple[str, ...]:
    """One row of the settings."""
    default = DEFAULTS.get(door, {}).get(signal.name, signal.initial)
    shown_default = "" if signal.shape else _code(default)
    return (
        _name(signal, of_a_slice),
        _type(signal),
        signal.unit,
        _limits(signal),
        shown_default,
        _kept(door, signal),
        _meaning(signal, of_a_slice),
    )


def reading(signal: Signal, *, of_a_slice: bool = False) -> tuple[str, ...]:
    """One row of the readings."""
    bounds = [
        f"{word} {side} {bound:g}"
        for word, pair in (("warning", signal.warning), ("alarm", signal.alarm))
        for side, bound in zip(("up to", "from"), pair, strict=True)
        if bound is not None
    ]
    return _name(signal, of_a_slice), _type(signal), signal.unit, ", ".join(bounds), _meaning(signal, of_a_slice)


def _kept(door: type[Door], signal: Signal) -> str:
    if signal.memorized and not signal.shape:
        return "memorized"
    assert door.service_class is not None
    settings = {s.name for s in door.service_class.table() if s.writable}  # these are kept for themselves alone
    kept = (name for kept, name in door.kept.items() if kept == signal.name or kept not in settings)
    return ", ".join(f"`{name}`" for name in kept)


def _name(signal: Signal, of_a_slice: bool) -> str:
    return f"`{signal.name.removesuffix('_n')}_<n>`" if of_a_slice else f"`{signal.name}`"


def _meaning(signal: Signal, of_a_slice: bool) -> str:
    text = signal.description.replace("Slice n", "Slice `<n>`") if of_a_slice else signal.description
    return f"{text} *expert*" if signal.level == "expert" else text


def _type(signal: Signal) -> str:
    kind = {"f4": "float32", "": TYPES[signal.kind]}[signal.dtype]
    if not signal.shape:
        return kind
    form = ("spectrum", "image")[len(signal.shape) - 1]
    return f"{kind} {form}, up to {' by '.join(map(str, signal.shape))}"


def _limits(signal: Signal) -> str:
    if signal.choices:
        return ", ".join(signal.choices)
    low, high = (None if bound is None else f"{bound:,.10g}" for bound in (signal.minimum, signal.maximum))
    if low and high:
        return f"{low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else ""


def _code(value: object) -> str:
    return "" if value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"### {title}\n"
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _tango_class(door: type[Door]) -> Any:
    """PyTango's own description of a device class."""
    return vars(door)["TangoClassClass"]


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
