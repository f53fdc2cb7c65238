"""Scripts: what is accepted, what is refused in words, and where slices go."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sim import scenario
from sim.record import record
from sim.script import KINDS, Script, ScriptError, Seek, Write, builtin, load, parse
from sim.script_run import ScriptRun, moved, tilted, zoomed

NINE = np.array([-4.0, -3.0, 2.0, 8.0, 0.0, 0.0, 0.0, 6.0, 0.0])  # centre (0, 0, 2)


def script(text: str, folder: Path = Path()) -> Script:
    return parse(text, "some.toml", folder)


def event(lines: str, when: str = "at_s = 1") -> str:
    return f"[[event]]\n{when}\n{lines}\n"


def test_every_kind_of_event_is_understood(tmp_path):
    record(scenario.load("balls"), tmp_path / "other.nxs", frames=2)
    text = "".join(
        [
            'title = "all"\nframe_period_s = 0.5\n',
            event('do = "move_slice"\nslice = "xy"\nby_mm = [0, 0, 5]', "at_frame = 3"),
            event('do = "move_slice"\nslice = "xy"\nby_part = [0, 0, 0.5]', "at_turn = 2.5"),
            event('do = "tilt_slice"\nslice = "xy"\nabout = "x"\ndegrees = 90'),
            event('do = "zoom_slice"\nslice = "xy"\nfactor = 8'),
            event('do = "seek"\nposition = 7'),
            event('do = "seek"\npart = 0.5'),
            event('do = "recording"\npath = "other.nxs"'),
            event('do = "center_shift"\ncolumns = -4'),
            event('do = "dose"\nfraction = 0.25'),
            event('do = "write"\ndevice = "trainer"\nattribute = "learning_rate"\nvalue = 0.0001'),
            event('do = "write"\ndevice = "denoiser"\nattribute = "mode"\nvalue = "FULL"'),
            event('do = "write"\ndevice = "denoiser"\nattribute = "enabled"\nvalue = false'),
            event('do = "write"\ndevice = "reconstructor"\nattribute = "geometry_my_own"\nvalue = [0,0,0,1,0,0,0,1,0]'),
            event('do = "command"\ndevice = "trainer"\ncommand = "ResetNetwork"'),
            event('do = "command"\ndevice = "detector"\ncommand = "Stall"\nargument = 2.5'),
            event('do = "command"\ndevice = "detector"\ncommand = "Step"\nargument = 2'),
            event('do = "command"\ndevice = "denoiser"\ncommand = "Init"'),
        ]
    )
    found = script(text, tmp_path)
    assert (found.title, found.frame_period_s, found.folder) == ("all", 0.5, tmp_path)
    assert {type(one).__struct_config__.tag for one in found.events} == set(KINDS)
    assert found.events[5] == Seek(at_s=1, part=0.5)
    assert isinstance(found.events[11], Write)


DOSE = 'do = "dose"\nfraction = 0.5'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "some.toml: object missing required field `event`"),
        ("[[event]", "some.toml: expected TOML"),
        ("event = 1", "some.toml: event: expected `array`, got `int`"),
        ("speed = 3\nevent = []", "unknown field `speed`"),
        ("frame_period_s = 0\nevent = []", "frame_period_s: expected `float` > 0.0, got 0"),
        (event(DOSE) + event("do = 'dance'"), "event 2 (dance): do: expected one of move_slice, tilt_slice"),
        (event("slice = 'xy'"), "event 1 (do: missing): object missing required field `do`"),
        (event("do = 'dose'"), "event 1 (dose): object missing required field `fraction`"),
        (event("do = 'dose'\nfraction = 2"), "event 1 (dose): fraction: expected `float` <= 1.0, got 2"),
        (event("do = 'dose'\nfraction = 'half'"), "fraction: expected `float`, got `str`"),
        (event(DOSE + "\nslice = 'xy'"), "unknown field `slice`"),
        (event(DOSE, ""), "expected exactly one of at_frame, at_turn, at_s, got none"),
        (event(DOSE, "at_s = 1\nat_turn = 1"), "expected exactly one of at_frame, at_turn, at_s, got at_turn and at_s"),
        (event(DOSE, "at_frame = -1"), "at_frame: expected `int` >= 0, got -1"),
        (event(DOSE, "at_frame = 1.5"), "at_frame: expected `int`"),
        (event("do = 'move_slice'\nslice = 'xy'\nby_mm = [1, 2]"), "by_mm: expected `array` of length 3, got 2"),
        (event("do = 'move_slice'\nslice = 'xy'"), "expected exactly one of by_mm, by_part, got none"),
        (event("do = 'zoom_slice'\nslice = 'XY'\nfactor = 2"), "slice: expected `str` matching regex"),
        (event("do = 'zoom_slice'\nslice = 'xy'\nfactor = 0"), "factor: expected `float` > 0.0, got 0"),
        (event("do = 'tilt_slice'\nslice = 'xy'\nabout = 'w'\ndegrees = 1"), "about: invalid enum value 'w'"),
        (event("do = 'seek'"), "expected exactly one of position, part, got none"),
        (event("do = 'recording'\npath = 'none.nxs'"), "event 1 (recording): none.nxs"),
        (event("do = 'write'\ndevice = 'toaster'\nattribute = 'x'\nvalue = 1"), "device: invalid enum value 'toaster'"),
        (
            event("do = 'write'\ndevice = 'trainer'\nattribute = 'speed'\nvalue = 1"),
            "event 1 (write): attribute: expected one of batch_size, buffer_auto, ",
        ),
        (
            event("do = 'write'\ndevice = 'trainer'\nattribute = 'loss'\nvalue = 1"),
            "attribute: expected a setting, got loss, which can only be read",
        ),
        (
            event("do = 'write'\ndevice = 'denoiser'\nattribute = 'mode'\nvalue = 'QUICK'"),
            "mode: expected one of AUTO, HALVES, FULL, got 'QUICK'",
        ),
        (
            event("do = 'write'\ndevice = 'detector'\nattribute = 'fault_drop'\nvalue = 1.5"),
            "fault_drop: expected 0 to 1, got 1.5",
        ),
        (
            event("do = 'write'\ndevice = 'denoiser'\nattribute = 'enabled'\nvalue = 1"),
            "value: expected true or false, got 1",
        ),
        (
            event("do = 'write'\ndevice = 'denoiser'\nattribute = 'mode'\nvalue = 1"),
            "value: expected text, got 1",
        ),
        (
            event("do = 'write'\ndevice = 'detector'\nattribute = 'position'\nvalue = true"),
            "value: expected a number, got True",
        ),
        (
            event("do = 'command'\ndevice = 'trainer'\ncommand = 'Dance'"),
            "command: expected one of AutoTune, Init, Load,",
        ),
        (event("do = 'command'\ndevice = 'trainer'\ncommand = 'Save'"), "argument: expected text, got None"),
        (
            event("do = 'command'\ndevice = 'detector'\ncommand = 'Start'\nargument = 1"),
            "argument: expected none, got 1",
        ),
        (
            event("do = 'command'\ndevice = 'detector'\ncommand = 'Step'\nargument = 1.5"),
            "argument: expected a whole number, got 1.5",
        ),
        (
            event("do = 'command'\ndevice = 'reconstructor'\ncommand = 'MoveSlice'\nargument = 'xy'"),
            "command: expected one with a simple argument, got MoveSlice",
        ),
    ],
)
def test_nonsense_is_refused_with_its_place(text, words):
    with pytest.raises(ScriptError) as caught:
        script(text)
    assert str(caught.value).startswith("some.toml: ")
    assert words in str(caught.value)


def test_scripts_are_found_by_name_or_path(tmp_path):
    assert "paper" in builtin()
    for name in builtin():
        assert load(name).events
    path = tmp_path / "own.toml"
    path.write_text(event(DOSE))
    assert load(str(path)).folder == tmp_path
    with pytest.raises(ScriptError, match=r"expected a file or one of .*paper.*, got 'nope'"):
        load("nope")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScriptError, match=r"own.toml: expected a text file in UTF-8"):
        load(str(path))


@pytest.mark.parametrize(
    ("when", "frames", "turns", "due"),
    [
        ("at_frame = 10", 9, 99.0, False),
        ("at_frame = 10", 10, 0.0, True),
        ("at_turn = 1.5", 999, 1.4, False),
        ("at_turn = 1.5", 0, 1.5, True),
        ("at_s = 2.0", 19, 0.0, False),
        ("at_s = 2.0", 20, 0.0, True),
    ],
)
def test_events_are_due_by_frames_turns_or_virtual_seconds(when, frames, turns, due):
    (one,) = script(event(DOSE, when)).events
    assert one.due(frames, turns, 0.1) is due


def test_moved_slices_keep_their_edges():
    np.testing.assert_allclose(moved(NINE, [1, 2, 3]), [-3, -1, 5, *NINE[3:]])


@pytest.mark.parametrize(
    ("about", "u", "v"),
    [("x", (8, 0, 0), (0, 0, 6)), ("y", (0, 0, -8), (0, 6, 0)), ("z", (0, 8, 0), (-6, 0, 0))],
)
def test_slices_tilt_about_their_centre_by_the_right_hand_rule(about, u, v):
    nine = tilted(NINE, about, 90)
    np.testing.assert_allclose(nine[3:], [*u, *v], atol=1e-12)
    np.testing.assert_allclose(nine[:3] + (nine[3:6] + nine[6:]) / 2, [0, 0, 2], atol=1e-12)
    np.testing.assert_allclose(tilted(tilted(NINE, about, 30), about, -30), NINE, atol=1e-12)
    assert np.linalg.norm(tilted(NINE, about, 17)[3:6]) == pytest.approx(8)


def test_zoomed_slices_keep_their_centre():
    np.testing.assert_allclose(zoomed(NINE, 2), [-2, -1.5, 2, 4, 0, 0, 0, 3, 0])
    np.testing.assert_allclose(zoomed(zoomed(NINE, 8), 1 / 8), NINE)


def test_what_was_not_due_says_so():
    (told,) = ScriptRun(script(event(DOSE)), {}).events
    assert told == {
        "event": 1,
        "do": "dose",
        "at_s": 1.0,
        "fraction": 0.5,
        "t_s": None,
        "frame": None,
        "turn": None,
        "error": None,
    }
    assert math.isfinite(told["at_s"])
