"""Angles of a replay that begins again: the object stands where it stood, and a window fills over the seam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import pytest

from sim.replay import PASSES as ROWS
from sim.replay import Replay, recording_index
from tango_jit.geometry import ScanGeometry
from tango_jit.recon.window import ProjectionWindow
from tango_jit.streams import Header, Image

PARALLEL = ScanGeometry.parallel(rows=1, cols=32, pixel_mm=0.1)
CONE = ScanGeometry.cone(rows=1, cols=32, pixel_mm=0.1, source_axis_mm=100, source_detector_mm=150)
PASSES = 4


class Scan:
    """Equal steps over some angle, with or without a last view at its end: a source of frames."""

    dark = flat = None

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def frame_numbers(self) -> Sequence[int]:
        return self.numbers

    def __init__(self, geometry: ScanGeometry, views: int, turns: float, endpoint: bool) -> None:
        self.angles = np.linspace(0, 2 * math.pi * turns, views, endpoint=endpoint)
        self.header = Header("scan", "raw", geometry, linear=True)
        self.numbers: Sequence[int] = range(views)

    def __len__(self) -> int:
        return len(self.angles)

    def frame(self, index: int) -> Image:
        return Image(
            "scan", self.numbers[index], float(self.angles[index]), 0.0, np.full((1, 32), index + 1, np.float32)
        )


@pytest.mark.parametrize(
    ("geometry", "full_turn", "views", "turns", "endpoint", "expected"),
    [
        (PARALLEL, False, 60, 0.5, False, 60),
        (PARALLEL, True, 60, 0.5, False, 120),
        (PARALLEL, False, 61, 0.5, True, 60),
        (PARALLEL, True, 61, 0.5, True, 120),
        (PARALLEL, False, 60, 1.0, False, 30),
        (PARALLEL, True, 61, 1.0, True, 60),
        (PARALLEL, False, 60, 1.5, False, 20),
        (CONE, False, 60, 1.0, False, 60),
        (CONE, False, 61, 1.0, True, 60),
        (CONE, False, 61, -1.0, True, 60),
        (CONE, False, 180, 2.0, False, 90),
        (CONE, False, 723, 361 / 360, True, 720),
        (PARALLEL, False, 362, 180.5 / 360, True, 360),
    ],
)
def test_a_loop_fills_the_window_without_gaps(geometry, full_turn, views, turns, endpoint, expected):
    window = ProjectionWindow(geometry, 2 * math.pi if full_turn else None)
    left = iter([True] * (PASSES - 1))
    frames = []
    beyond = views - expected if 0 < views - expected < 4 else 0  # what goes beyond the turn is seen twice for a moment
    scan = Scan(geometry, views, turns, endpoint)
    for image in Replay(scan, "scan", 0, -1, lambda: next(left, False)):
        window.add(image.frame, image.angle_rad, image.data, image.pose)
        frames.append(image.frame)
        now = window.window()
        # Where two views in a row have the same angle the halves meet unevenly for a moment: look between the seams.
        if now is not None and image.frame > views + expected and image.frame % views == views // 2:
            assert now.complete, image.frame
            assert expected <= len(now.frames) <= expected + beyond, image.frame
    assert frames == list(range(PASSES * views))
    assert window.fill == 1


def forever() -> bool:
    return True


def index_of(image: Image) -> int:
    """The pixels of a frame say which one of the recording it is."""
    return int(image.data[0, 0]) - 1


def sent(replay: Replay, frames: int) -> list[Image]:
    """The next frames, taken."""
    out = []
    for _ in range(frames):
        found = replay.peek()
        assert found is not None
        assert found[0] == index_of(found[1])
        out.append(found[1])
        replay.take()
    return out


@pytest.mark.parametrize(
    ("geometry", "full_turn", "turns"),
    [(CONE, False, 3.0), (CONE, False, -3.0), (PARALLEL, False, 1.5), (PARALLEL, True, 3.0), (PARALLEL, False, 0.5)],
)
@pytest.mark.parametrize("target", [0, 10, 59, 61, 120, 179])
def test_a_window_never_holds_what_was_before_and_after_a_jump(geometry, full_turn, turns, target):
    scan = Scan(geometry, 180, turns, endpoint=False)
    replay, window = (
        Replay(scan, "scan", 0, -1, forever),
        ProjectionWindow(geometry, 2 * math.pi if full_turn else None),
    )
    seen = sent(replay, 60)
    for image in seen:
        window.add(image.frame, image.angle_rad, image.data, image.pose)
    before = seen[-1]
    replay.seek(target)
    for count, image in enumerate(sent(replay, 400), start=1):
        if count == 1:
            assert (index_of(image), image.frame) == (target, before.frame + 1)
            assert 1 < (image.angle_rad - before.angle_rad) * math.copysign(1, turns) / (2 * math.pi) <= 2 + 1e-9
        assert window.add(image.frame, image.angle_rad, image.data, image.pose) == "new"
        if count <= 180:
            assert len(window) <= count  # nothing from before
        taken_from = image.pose or tuple(geometry.vectors(image.angle_rad)[0])
        np.testing.assert_allclose(taken_from, geometry.vectors(scan.angles[index_of(image)])[0], atol=1e-9)
    now = window.window()
    assert now is not None
    assert now.first_frame > before.frame


def test_late_frames_from_before_a_jump_find_no_place_after_it():
    scan = Scan(CONE, 180, 3.0, endpoint=False)
    replay, window = Replay(scan, "scan", 0, -1, forever), ProjectionWindow(CONE)
    *early, late = sent(replay, 100)
    replay.seek(150)
    for image in (*early, *sent(replay, 1)):
        window.add(image.frame, image.angle_rad, image.data)
    assert window.add(late.frame, late.angle_rad, late.data) == "stale"
    for image in sent(replay, 20):
        window.add(image.frame, image.angle_rad, image.data)
    assert window.add(late.frame, late.angle_rad, late.data) == "stale"
    assert len(window) == 21


def test_passes_tell_which_frame_is_which_of_the_recording():
    scan = Scan(CONE, 50, 1.0, endpoint=False)
    scan.numbers = [*range(30), *range(33, 53)]  # three were lost when it was recorded
    replay = Replay(scan, "scan", 5, -1, forever, at=20)
    frames = sent(replay, 45)
    replay.seek(7)
    frames += sent(replay, 3)
    replay.seek(8)
    replay.seek(48)
    frames += sent(replay, 5)
    assert replay.passes.tolist() == [[0, 20], [13, 30], [33, 5], [48, 7], [51, 48], [53, 5]]
    assert [recording_index(replay.passes, image.frame) for image in frames] == [index_of(image) for image in frames]
    assert [image.frame for image in frames[8:12]] == [8, 9, 13, 14]
    assert recording_index(replay.passes[2:], 12) is None
    assert recording_index([], 0) is None


def test_passes_are_the_newest_five_hundred():
    replay = Replay(Scan(CONE, 3, 1.0, endpoint=False), "scan", 0, -1, forever)
    frames = sent(replay, 3 * ROWS + 7)
    assert replay.passes.shape == (ROWS, 2)
    assert recording_index(replay.passes, frames[-1].frame) == index_of(frames[-1])
    assert recording_index(replay.passes, frames[0].frame) is None


def test_a_frame_that_is_read_ahead_and_not_sent_leaves_no_trace():
    replay = Replay(Scan(CONE, 4, 1.0, endpoint=False), "scan", 0, -1, forever)
    sent(replay, 4)
    assert replay.peek() is not None  # the first of the next pass
    replay.seek(2)
    (image,) = sent(replay, 1)
    assert (image.frame, replay.passes.tolist()) == (4, [[0, 0], [4, 2]])


def test_rotation_does_not_count_leaps():
    replay = Replay(Scan(CONE, 60, 1.0, endpoint=False), "scan", 0, -1, forever)
    sent(replay, 31)
    assert replay.turned_rad == pytest.approx(math.pi)
    replay.seek(0)
    sent(replay, 91)
    assert replay.turned_rad == pytest.approx(math.pi + 3 * math.pi)


def test_skipped_frames_are_as_if_they_had_been_sent():
    scan = Scan(CONE, 60, 1.0, endpoint=False)
    replay, other = (Replay(scan, "scan", 0, -1, forever) for _ in range(2))
    sent(replay, 5)
    assert replay.peek() is not None
    assert replay.skip(70) == 70
    assert sent(replay, 3) == sent(other, 78)[75:]
    assert replay.passes.tolist() == other.passes.tolist()
    once = Replay(scan, "scan", 0, 9, lambda: False)
    assert once.skip(100) == 10
    assert once.peek() is None


def test_a_replay_at_its_end_goes_on_when_it_may():
    left = [False]
    replay = Replay(Scan(CONE, 5, 1.0, endpoint=False), "scan", 0, -1, lambda: left[0])
    sent(replay, 5)
    assert replay.peek() is None
    left[0] = True
    assert index_of(sent(replay, 1)[0]) == 0
    left[0] = False
    sent(replay, 4)
    replay.seek(3)
    assert [index_of(image) for image in replay] == [3, 4]


@pytest.mark.parametrize("index", [1, 8, 20])
def test_positions_outside_of_the_replay_are_refused(index):
    replay = Replay(Scan(CONE, 20, 1.0, endpoint=False), "scan", 2, 7, forever)
    with pytest.raises(ValueError, match=f"position: expected 2 to 7, got {index}"):
        replay.seek(index)
    assert replay.upcoming == 2
