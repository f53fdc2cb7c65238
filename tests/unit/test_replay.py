"""Angles of a replay that begins again: the object stands where it stood, and a window fills over the seam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import pytest

from sim.replay import Replay
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
        return range(len(self))

    def __init__(self, geometry: ScanGeometry, views: int, turns: float, endpoint: bool) -> None:
        self.angles = np.linspace(0, 2 * math.pi * turns, views, endpoint=endpoint)
        self.header = Header("scan", "raw", geometry, linear=True)

    def __len__(self) -> int:
        return len(self.angles)

    def frame(self, index: int) -> Image:
        return Image("scan", index, float(self.angles[index]), 0.0, np.ones((1, 32), np.float32))


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
