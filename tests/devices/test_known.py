"""What is learned of looks, and what is read next; the devices are those of the system tests."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from devices.watch import known as module
from devices.watch.known import Known
from devices.watch.look import Seen
from devices.watch.pictures import Picture

DEVICES = {member: f"jit/{member}/1" for member in ("reconstructor", "trainer", "denoiser")}
NINE = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
HIGHER = [0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
KINDS = frozenset({"raw", "denoised"})


class Reader:
    """Notes what is to be read."""

    def __init__(self) -> None:
        self.wanted: list[Any] = []

    def want(self, source: str, name: str, kinds: frozenset[str]) -> None:
        self.wanted.append((source, name, kinds))

    def want_preview(self) -> None:
        self.wanted.append("preview")

    def new(self) -> list[Any]:
        found, self.wanted = self.wanted, []
        return found


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def known(reader: Any) -> Known:
    found = Known(DEVICES, reader)
    found.look(seen("denoiser", frame_number_xy=-1))
    found.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8]))
    return found


def seen(member: str, *, trouble: str = "", state: str = "RUNNING", **values: Any) -> Seen:
    return Seen(member, DEVICES[member], time.time(), state, "", values, trouble=trouble)


def picture(source: str = "denoiser", number: int = 7, name: str = "xy") -> Picture:
    images = {"raw": np.ones((8, 8), np.float32)}
    return Picture(name, source, images, None, {"frame_number": number}, time.time() - 10)


def test_a_new_frame_number_is_read_and_one_that_failed_again(known: Known, reader: Reader) -> None:
    known.rung("denoiser", "frame_number_xy")
    known.rung("reconstructor", "frame_number_xy")  # not shown
    assert reader.new() == [("denoiser", "xy", KINDS)]
    known.look(seen("denoiser", frame_number_xy=7))  # it has not come
    assert reader.new() == [("denoiser", "xy", KINDS)]
    known.take(picture())
    known.look(seen("denoiser", frame_number_xy=7))
    assert reader.new() == []
    known.watching = False
    known.rung("denoiser", "frame_number_xy")
    known.look(seen("denoiser", frame_number_xy=8))
    assert reader.new() == []


def test_without_a_denoiser_pictures_are_those_of_the_reconstructor(known: Known, reader: Reader) -> None:
    known.take(picture())
    lines = known.look(seen("denoiser", trouble="it does not answer")).lines
    assert lines == (("denoiser: it does not answer", True), ("pictures are those of the reconstructor", True))
    assert reader.new() == [("reconstructor", "xy", KINDS)]
    assert not known.take(picture())  # it was on its way
    assert known.pictures["xy"].source == "denoiser"  # the last there is, until another has come
    known.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8], frame_number_xy=7))
    assert reader.new() == [("reconstructor", "xy", KINDS)]  # of the same frame, but another picture
    assert known.take(picture("reconstructor"))
    assert known.values["denoiser"] == {"frame_number_xy": -1}


def test_a_slice_that_was_brought_stays_there_until_it_settles(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    place = known.places["xy"].moved_to(5.0)
    known.bring("xy", place)
    assert known.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8])).placed == ()
    assert known.places["xy"] == place
    monkeypatch.setattr(module, "SETTLING_S", 0.0)
    assert known.look(seen("reconstructor", geometry_xy=HIGHER, shape_xy=[8, 8])).placed == ("xy",)
    assert known.places["xy"].nine.tolist() == HIGHER


def test_a_slice_whose_move_was_refused_is_where_it_is_told(known: Known) -> None:
    known.bring("xy", known.places["xy"].moved_to(5.0))
    assert known.refused("reset") == ""
    assert known.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8])).placed == ()
    assert known.refused("move xy") == "xy"  # also where nobody tells a second time
    assert known.places["xy"].nine.tolist() == NINE
    assert known.refused("move xy") == known.refused("move nobody") == ""


def test_slices_come_and_go_with_their_pictures(known: Known) -> None:
    known.take(picture())
    both = {"geometry_xy": NINE, "shape_xy": [8, 8], "geometry_b": HIGHER, "shape_b": [8, 8]}
    change = known.look(seen("reconstructor", **both))
    assert (change.slices, change.placed, tuple(known.places)) == (True, ("b",), ("xy", "b"))
    change = known.look(seen("reconstructor", geometry_b=HIGHER, shape_b=[8, 8]))
    assert (change.slices, change.placed, dict(known.pictures)) == (True, (), {})
    assert not known.take(picture())  # of a slice that is gone


def test_places_are_those_of_the_pictures_until_the_reconstructor_tells(reader: Any) -> None:
    known = Known(DEVICES, reader)
    known.look(seen("reconstructor", trouble="gone"))
    for nine in (NINE, HIGHER):  # the denoiser goes on to tell
        known.look(seen("denoiser", geometry_xy=nine))
        assert known.places["xy"].nine.tolist() == nine
    known.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8]))
    known.look(seen("reconstructor", trouble="gone again"))
    known.look(seen("denoiser", geometry_xy=HIGHER))
    assert known.places["xy"].nine.tolist() == NINE


@pytest.mark.parametrize(
    ("counts", "jumps"),
    [
        ((0, 1, 1, 2), ["", "motion", "", "motion"]),
        ((3, 3, 0, 1), ["", "", "", "motion"]),  # a trainer that has just been found, and began anew
    ],
)
def test_jumps_are_told_once(known: Known, counts: tuple[int, ...], jumps: list[str]) -> None:
    assert [known.look(seen("trainer", jumps=count, last_jump="motion")).jump for count in counts] == jumps


def test_a_preview_is_read_once_and_again_where_that_failed(
    known: Known, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: the link may be too slow for it."""

    def look(number: int) -> list[Any]:
        known.look(seen("reconstructor", geometry_xy=NINE, shape_xy=[8, 8], preview_frame_number=number))
        return reader.new()

    assert [look(3), look(3), look(4)] == [["preview"], [], ["preview"]]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert [look(4), look(4)] == [["preview"], []]
    known.take_preview()
    monkeypatch.setattr(time, "monotonic", lambda: now + 62)
    assert look(4) == []


def test_other_kinds_are_read_at_once(known: Known, reader: Reader) -> None:
    known.show({"raw", "denoised"})
    assert reader.new() == []
    known.show({"raw", "denoised", "uncertainty"})
    assert reader.new() == [("denoiser", "xy", KINDS | {"uncertainty"})]


def test_a_device_that_says_nothing_is_told(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known.silent() == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert [one.member for one in known.silent()] == ["denoiser", "reconstructor"]
    assert "has not answered for 60 s" in known.silent()[0].trouble
