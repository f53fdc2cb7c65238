"""The plane in which the centre of rotation is searched, and the few detector rows that show it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.reconstructor import fan_plane_z_mm
from tango_jit.recon.window import Window

ROWS = 5  # of the detector, around the mid-plane
DIRECTIONS = 32  # in which the rim of the field of view is looked at


def mid_plane_z_mm(scan: ScanGeometry) -> float:
    """Height of the plane whose rays stay in it: that of the source, of a parallel beam that of the origin. Where the
    detector does not see it, the nearest that it sees at the axis."""
    if scan.rows == 1:
        return fan_plane_z_mm(scan)
    (_, _, along, at), (_, _, depth, one) = scan.matrices(0.0)[0, 1:]
    low, high = sorted((row * one - at) / (along - row * depth) for row in (0, scan.rows - 1))
    return float(min(max(scan.source_mm[2] if scan.beam == "cone" else 0.0, low), high))


def mid_row(scan: ScanGeometry) -> int:
    """The detector row on which that plane falls at the axis."""
    if scan.rows == 1:
        return 0
    _, row, depth = scan.matrices(0.0)[0] @ (0.0, 0.0, mid_plane_z_mm(scan), 1.0)
    return round(row / depth)


def first_of(middle: int, rows: int) -> int:
    """The first of `ROWS` rows around the middle, of a detector of so many."""
    return min(max(middle - ROWS // 2, 0), max(rows - ROWS, 0))


def copied_band(window: Window, scan: ScanGeometry) -> tuple[Window, int]:
    """The window with views of its own, cut to the rows that show the mid-plane, and the first of these rows.

    A detector that is not tilted shows it on a row: of large views only a little is copied.
    """
    first = first_of(mid_row(scan), scan.rows)
    low, high = first, min(first + ROWS, scan.rows)
    if scan.rows > 1:
        angle, height = 2 * math.pi / DIRECTIONS * np.arange(DIRECTIONS), np.full(DIRECTIONS, mid_plane_z_mm(scan))
        reach = scan.radius_mm / math.cos(math.pi / DIRECTIONS)
        points = np.stack([reach * np.cos(angle), reach * np.sin(angle), height, np.ones(DIRECTIONS)])
        seen = window.matrices @ points  # (n, 3, directions)
        before = seen[:, 2] > 0
        rows = seen[:, 1][before] / seen[:, 2][before]
        low = min(low, math.floor(min(rows.min(initial=low), scan.rows)) - 1)
        high = max(high, math.ceil(max(rows.max(initial=high), 0)) + 2)
    low, high = max(low, 0), min(high, scan.rows)
    matrices = window.matrices.copy()
    matrices[:, 1] -= low * matrices[:, 2]
    return replace(
        window,
        projections=window.projections.copied(window.slots, slice(low, high)),
        slots=np.arange(len(window.slots)),
        occupants=window.serials,
        matrices=matrices,
    ), low
