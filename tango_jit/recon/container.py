"""What holds the sample: an upright cylinder, found in a coarse volume of the present window.

A vessel, or the sample itself where it is held in air. Five numbers in mm: x and y of its axis, its radius, z from and
to. What is found is for orientation: it tells where patches are worth learning from, not where the glass ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.volume import Image, VolumeGeometry, field_of_view, in_parts
from tango_jit.recon.window import Window

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIZE, FLAT_SIZE = 48, 64  # voxels a side; of the one slice that a detector of one row sees
LEAST_SIZE, PIXELS = 16, 2  # a voxel is as large as so many pixels at least, which takes noise away
PART_PIXELS = 4_000_000  # of views that are read at a time: some milliseconds
SMOOTH, MARGIN = 0.7, 0.5  # voxels: standard deviation of a Gaussian; what is added around what was found
VIEWS = 8  # that say which voxels the detector sees
APART = 4.0  # standard deviations between the means of two classes. Noise cut in two has 2.7, an even spread 3.5
CLASSES = 3  # from the densest material down to air
SLIGHT = 0.15  # of the first step from class to class: a smaller one is an artefact in the air
SCRAP = 0.02  # of the largest piece: smaller ones are noise
FULL = 0.9  # of the voxels that are seen: a cylinder that holds so many leaves nothing out


@dataclass(frozen=True)
class Found:
    """`cylinder`: x, y, radius, z from, z to in mm, None where there is none; `why` says it in words."""

    cylinder: Array | None
    why: str


def searched(
    window: Window, scan: ScanGeometry, backend: str = "cpu", part_pixels: int = PART_PIXELS
) -> Iterator[Found | None]:
    """The container bit by bit: every item is some milliseconds of work, the last one what was found.

    Raises StaleWindowError where views are overwritten before they are read, see `volume.in_parts`.
    """
    place = coarse(scan)
    seen, data = _seen(window, scan, place), None
    yield None
    for part in in_parts(window, scan, place, backend, part_pixels=part_pixels):
        data = part.data
        yield None
    assert data is not None
    yield container(data, place, seen)


def coarse(scan: ScanGeometry) -> VolumeGeometry:
    """The volume that is looked at."""
    return field_of_view(scan, max(LEAST_SIZE, min(FLAT_SIZE if scan.rows == 1 else SIZE, scan.cols // PIXELS)))


def found(window: Window, scan: ScanGeometry, backend: str = "cpu") -> Found:
    """The container in one go."""
    *_, last = searched(window, scan, backend)
    assert last is not None
    return last


def container(data: Image, place: VolumeGeometry, seen: Mask | None = None) -> Found:
    """The upright cylinder around all that is no air in a volume `data` (slices, rows, cols) in mm^-1, as
    `volume.field_of_view` has it. `seen`: the voxels that count; None: all."""
    seen = np.isfinite(data) if seen is None else seen & np.isfinite(data)
    smooth = _smoothed(data, seen)
    threshold = _threshold(smooth[seen])
    if threshold is None:
        return Found(None, "nothing stands out from the noise")
    occupied = _pieces((smooth > threshold) & seen)
    start, along, down = place.first.pose
    voxel = place.first.pixel_mm[0]
    ground: Mask = np.asarray(occupied.any(axis=0))
    rows = np.flatnonzero(ground.any(axis=1))  # of each row its ends
    ends = np.concatenate([ground[rows].argmax(axis=1), ground.shape[1] - 1 - ground[rows, ::-1].argmax(axis=1)])
    points = np.stack([start[0] + ends * along[0], start[1] + np.tile(rows, 2) * down[1]], 1)
    x, y, radius = enclosing(points)
    radius += (0.5 + MARGIN) * voxel
    layers = np.flatnonzero(occupied.any(axis=(1, 2)))
    heights = start[2] + place.step_mm[2] * layers[[-1, 0]]
    low, high = heights + np.array([-1, 1]) * (0.5 + MARGIN) * voxel
    cylinder = np.array([x, y, radius, low, high])
    part = _inside(place, cylinder)[seen].mean()
    if part > FULL:
        return Found(None, f"the sample fills the field of view: {100 * part:.0f} % of it")
    return Found(cylinder, f"radius {radius:.3g} mm, {100 * part:.0f} % of the field of view")


def enclosing(points: Array, rounds: int = 200) -> tuple[float, float, float]:
    """Centre and radius of a circle around points (n, 2), larger than the smallest one by a percent at most.

    Badoiu and Clarkson (2003): the centre goes to the farthest point, by less and less.
    """
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    best, radius = center, float("inf")
    for step in range(2, rounds + 2):
        away = np.hypot(*(points - center).T)
        farthest = int(away.argmax())
        if away[farthest] < radius:
            best, radius = center, float(away[farthest])
        center = center + (points[farthest] - center) / step
    return float(best[0]), float(best[1]), radius


def _seen(window: Window, scan: ScanGeometry, place: VolumeGeometry) -> Mask:
    """The voxels that the detector sees in some views all around: the others have no values that mean anything."""
    slices, rows, cols = place.shape
    start, along, down = place.first.pose
    z = (start[2] + np.arange(slices) * place.step_mm[2])[:, None, None].astype(np.float32)
    y = (start[1] + np.arange(rows) * down[1])[:, None].astype(np.float32)
    x = (start[0] + np.arange(cols) * along[0]).astype(np.float32)
    seen = np.ones(place.shape, bool)
    for matrix in window.matrices[:: -(-len(window.matrices) // VIEWS)].astype(np.float32):
        u, v, w = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in matrix)
        seen &= (w > 0) & (u >= -0.5 * w) & (u <= (scan.cols - 0.5) * w)
        if scan.rows > 1:
            seen &= (v >= -0.5 * w) & (v <= (scan.rows - 0.5) * w)
    return seen


def _smoothed(data: Image, seen: Mask) -> Image:
    """A little, without what lies outside."""
    counts = ndimage.gaussian_filter(seen.astype(np.float32), SMOOTH)
    sums = ndimage.gaussian_filter(np.where(seen, data, 0).astype(np.float32), SMOOTH)
    return (sums / np.maximum(counts, 1e-3)).astype(np.float32)


def _threshold(values: Image) -> float | None:
    """What is above it is no air; None: it is all alike.

    Otsu's cut parts the densest material from all others first; the lower part is cut again for as long as it falls
    into two.
    """
    found = first = None
    for _ in range(CLASSES):
        if not len(values):
            break
        cut, step, within = otsu(values)
        first = step if first is None else first
        if step < APART * within or step < SLIGHT * first or step <= 0:
            break
        found, values = cut, values[values <= cut]
    return found


def otsu(values: Image) -> tuple[float, float, float]:
    """The cut that makes the classes below and above it most alike in themselves, how far the means of the classes are
    apart, and the standard deviation within them. Otsu (1979)."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = len(values) - below
    sums = np.cumsum(counts * middles)
    low, high = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (high - low) ** 2 / len(values) ** 2
    cut = int(between.argmax())
    variance = float((counts * (middles - sums[-1] / len(values)) ** 2).sum()) / len(values)
    within = max(variance - float(between[cut]), 0.0) ** 0.5
    return float(edges[cut + 1]), float(high[cut] - low[cut]), within


def _pieces(occupied: Mask) -> Mask:
    """Without pieces that are far smaller than the largest one."""
    labels = np.zeros(occupied.shape, np.int32)
    ndimage.label(occupied, np.ones((3, 3, 3)), labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= SCRAP * sizes.max())[labels] & occupied


def _inside(place: VolumeGeometry, cylinder: Array) -> Mask:
    """The voxels in the cylinder; of a single slice whatever its height."""
    slices, rows, cols = place.shape
    start, along, down = place.first.pose
    away = np.hypot(
        start[0] + np.arange(cols) * along[0] - cylinder[0],
        (start[1] + np.arange(rows) * down[1] - cylinder[1])[:, None],
    )
    z = start[2] + np.arange(slices) * place.step_mm[2]
    high = (z >= cylinder[3]) & (z <= cylinder[4]) | (slices == 1)
    return high[:, None, None] & (away <= cylinder[2])
