"""The centre of rotation by opposite views: the shift of the axis for which rays that meet head-on show the same.

A ray, and the one that comes back along the same line half a turn later, pass through the same matter. Where the window
holds whole turns every ray of the mid-plane has such a partner, between two views. Half a turn of a parallel beam
holds partners at its two ends only, and even there they miss each other by a few steps of the rotation: what that
moves is measured with one to `LAGS` steps and taken back to none.

The views are those of the window, filtered: filtering sharpens what is compared, and for the small angle between a
fan's opposite views it does the same to both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.center.plane import ROWS, first_of, mid_row
from tango_jit.recon.center.search import Search, best_of, confidence, vertex
from tango_jit.recon.window import Window

STEP_PX = 0.5
LAGS = 6
BLUR_PX = 1.5  # or else a shift by half a pixel would smooth the noise, and so look better
MARGIN = 0.05  # of the columns at both sides: where an object is cut off both views show the same edge of the detector
NOISE = 5.0  # standard deviations that the best correlation of pure noise may have
FEWEST = 8  # pixels that make a correlation
_DRIFTS = np.arange(-2.0, 2.01, 0.25)  # columns a step of the rotation

Array = NDArray[np.float64]
Scores = dict[float, float]


def by_opposite_views(window: Window, scan: ScanGeometry, reach_px: float, first_row: int) -> Iterator[Search]:
    """Search around the present centre. `first_row`: the detector row with which the window's views begin.

    Two halves of the pairs, searched apart, tell the confidence.
    """
    order = np.argsort(window.angles_rad)
    angles = window.angles_rad[order]
    views = _mid_rows(window, scan, first_row)[order]
    count = int(np.ceil(reach_px / STEP_PX))
    shifts = [k * STEP_PX for k in range(-count, count + 1)]
    whole_turn = holds_whole_turns(window)
    found: list[Array] = []
    for n, shift in enumerate(shifts):
        found.append(_of_a_turn(views, angles, scan.shifted(shift)) if whole_turn else _of_the_ends(views, scan, shift))
        yield Search((n + 1) / (len(shifts) + 1), 0.0)
    curves = np.array(found)  # (shifts, halves) or (shifts, lags, halves)
    lags = curves.shape[1]
    if not whole_turn:
        curves = _taken_back(curves)
    whole, first, second = (dict(zip(shifts, scores.tolist(), strict=True)) for scores in (curves.mean(1), *curves.T))
    best = best_of(whole)
    pairs = len(views) / 2 if whole_turn else lags * (lags + 1) / 2
    trust = min(confidence(whole, first, second), significance(whole[best], pairs * scan.cols))
    yield Search(1.0, best + vertex(whole, best, STEP_PX), trust)


def holds_whole_turns(window: Window) -> bool:
    """Has every view of the window opposite ones, not only those at its ends?"""
    return float(np.ptp(window.angles_rad)) > 1.5 * math.pi


def significance(correlation: float, samples: float) -> float:
    """0 to 1: is the best correlation of so many pairs of smoothed pixels more than the best that noise has?"""
    independent = samples * (1 - 2 * MARGIN) / (2 * math.sqrt(math.pi) * BLUR_PX)
    return min(max((correlation * math.sqrt(independent) - NOISE) / NOISE, 0.0), 1.0)


def _mid_rows(window: Window, scan: ScanGeometry, first_row: int) -> NDArray[np.float32]:
    """The views in the plane of the fan (n, cols), smoothed."""
    low = first_of(mid_row(scan), scan.rows) - first_row
    views = [window.projections.read(int(slot))[low : low + ROWS].mean(0, dtype=np.float32) for slot in window.slots]
    return np.asarray(gaussian_filter1d(np.array(views), BLUR_PX, axis=1), np.float32)


def _partner(scan: ScanGeometry) -> tuple[Array, Array]:
    """For each column at angle 0: by how much the scanner has to turn (rad, 0 to 2 pi), and the column there, for the
    ray that comes back."""
    source, centre, u = (np.array(x)[:2] for x in (scan.source_mm, scan.detector_mm, scan.u_mm))
    pixel = centre + (np.arange(scan.cols)[:, None] - (scan.cols - 1) / 2) * u
    if scan.beam == "parallel":
        turn, point = np.full(scan.cols, math.pi), pixel
    else:
        ray = (pixel - source) / np.linalg.norm(pixel - source, axis=1, keepdims=True)
        point = source - (ray @ source)[:, None] * ray  # of the ray that is nearest to the axis
        other = 2 * point - source  # where the ray leaves the circle that the source runs along
        turn = np.arctan2(other[:, 1], other[:, 0]) - math.atan2(source[1], source[0])
    cosine, sine = np.cos(turn), np.sin(turn)
    x, y = cosine * point[:, 0] + sine * point[:, 1], cosine * point[:, 1] - sine * point[:, 0]
    matrix = scan.matrices(0.0)[0]
    column, _, depth = (matrix[k, 0] * x + matrix[k, 1] * y + matrix[k, 3] for k in range(3))
    return np.mod(turn, 2 * math.pi), column / depth


def _of_a_turn(views: NDArray[np.float32], angles: Array, scan: ScanGeometry) -> Array:
    """Correlation of the even and of the odd views with their partners, (2,)."""
    turn, column = _partner(scan)
    use = np.flatnonzero(_within(np.arange(scan.cols), scan.cols) & _within(column, scan.cols))
    turned = np.mod(angles[:, None] + turn[use] - angles[0], 2 * math.pi)
    place = np.interp(turned, np.append(angles - angles[0], 2 * math.pi), np.arange(len(angles) + 1))
    again = np.concatenate([views, views[:1]])
    back = map_coordinates(again, [place, np.broadcast_to(column[use], place.shape)], order=1)
    return np.array([_correlation(views[k::2, use], back[k::2]) for k in (0, 1)])


def _of_the_ends(views: NDArray[np.float32], scan: ScanGeometry, shift_px: float) -> Array:
    """Correlation of views at the beginning with mirrored ones at the end, (lags, 2): pairs that miss each other by 1,
    2, ... steps, of the even and of the odd lines; a single pair stands for both."""
    columns = np.arange(scan.cols)
    mirrored = 2 * (scan.axis_column + shift_px) - columns
    use = _within(columns, scan.cols) & _within(mirrored, scan.cols)
    correlations = np.empty((min(LAGS, len(views) // 2), 2))
    for lag in range(len(correlations)):
        pairs = [
            _correlation(views[k][use], np.interp(mirrored[use], columns, views[k - lag - 1])) for k in range(lag + 1)
        ]
        correlations[lag] = np.mean(pairs[::2]), np.mean(pairs[1::2] or pairs)
    return correlations


def _taken_back(curves: Array) -> Array:
    """Scores (shifts, 2) of perfect partners, from those (shifts, lags, 2) of some that miss each other: along the line
    of shift over lag on which they are best."""
    shifts, lags = np.arange(len(curves)), curves.shape[1]
    missed = np.arange(1, lags + 1)

    def along(drift: float) -> Array:
        places = shifts[:, None] + drift / STEP_PX * missed
        return np.stack(
            [
                np.mean([np.interp(places[:, lag], shifts, curves[:, lag, half]) for lag in range(lags)], axis=0)
                for half in (0, 1)
            ],
            axis=1,
        )

    return max((along(drift) for drift in _DRIFTS), key=lambda scores: float(scores.mean(1).max()))


def _within(column: NDArray[np.floating] | NDArray[np.integer], cols: int) -> NDArray[np.bool_]:
    return (column >= MARGIN * cols) & (column <= (1 - MARGIN) * cols - 1)


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    if a.size < FEWEST:  # the axis is nearly off the detector
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(math.sqrt(float((a * a).sum() * (b * b).sum())), 1e-30))
