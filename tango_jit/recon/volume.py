"""A volume of the whole field of view from the present window, coarse, for orientation; and finer ones off line.

A stack of horizontal slices. Where voxels are larger than pixels the views are averaged over blocks of pixels first:
that takes the noise away which single samples would show, and a block of a few views fits into the cache. The work
comes in parts of some milliseconds, so that a live service can do other things between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, Vector
from tango_jit.recon.backproject import get, to_host
from tango_jit.recon.reconstructor import Reconstructor, fan_plane_z_mm
from tango_jit.recon.window import Window

Array = NDArray[np.float64]
Image = NDArray[np.float32]

SIZE = 128  # voxels a side
READING = 0.25  # of the work, roughly
PART_PIXELS = 1_000_000  # of views that are averaged in one part: one or two milliseconds
PART_SAMPLES = 2_500_000  # of the backprojection in one part: four to eight milliseconds on two cores


class StaleWindowError(RuntimeError):
    """Newer views have taken the place of those that a volume is made of."""


@dataclass(frozen=True)
class VolumeGeometry:
    """A stack of equal slices: `slices` of them, the first one `first`, each `step_mm` (x, y, z) from the one before.

    Raises ValueError if the step lies in the plane of the slices.
    """

    first: SliceGeometry
    step_mm: Vector
    slices: int

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise ValueError(f"slices: expected at least 1, got {self.slices}")
        if not abs(np.linalg.det([self.first.u_mm, self.first.v_mm, self.step_mm])) > 0:
            raise ValueError(f"step_mm: expected one that leaves the plane of the slices, got {self.step_mm}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.slices, self.first.rows, self.first.cols

    @property
    def twelve(self) -> Array:
        """Origin, u, v of the first slice and the step, as 12 numbers in mm."""
        return np.concatenate([self.first.nine, self.step_mm])

    @property
    def poses(self) -> Array:
        """(slices, 3, 3), see `SliceGeometry.pose`."""
        poses = np.repeat(self.first.pose[None], self.slices, axis=0)
        poses[:, 0] += np.arange(self.slices)[:, None] * np.array(self.step_mm)
        return poses


def field_of_view(scan: ScanGeometry, size: int = SIZE) -> VolumeGeometry:
    """The smallest cube of `size`**3 cubic voxels about the axis that holds the field of view.

    From top to bottom; each slice lies as the default slice xy does: row 0 has the largest y. The cube reaches as far
    as the nearer detector edge sees in every view, and as high as the axis is seen. A detector of one row has the
    plane of its fan alone: one slice.
    """
    if size < 2:
        raise ValueError(f"size: expected at least 2 voxels a side, got {size}")
    middle, half_height = (fan_plane_z_mm(scan), 0.0) if scan.rows == 1 else _seen_axis(scan)
    voxel = 2 * max(scan.radius_mm, half_height) / size
    slices = 1 if scan.rows == 1 else size
    top = SliceGeometry.centered(
        (0, 0, middle + (slices - 1) / 2 * voxel), (1, 0, 0), (0, -1, 0), pixel_mm=voxel, shape=(size, size)
    )
    return VolumeGeometry(top, (0.0, 0.0, -voxel), slices)


def _seen_axis(scan: ScanGeometry) -> tuple[float, float]:
    """The part of the rotation axis that falls on the detector at angle 0: its middle and half its length, in mm."""
    (_, _, along, at), (_, _, depth, one) = scan.matrices(0.0)[0, 1:]
    ends = [(row * one - at) / (along - row * depth) for row in (-0.5, scan.rows - 0.5)]
    return sum(ends) / 2, abs(ends[1] - ends[0]) / 2


@dataclass(frozen=True)
class Part:
    """How far a volume is: `progress` 0 to 1; `data` (slices, rows, cols) in mm^-1 with the last part, else None."""

    progress: float
    data: Image | None = None


def volume(window: Window, scan: ScanGeometry, place: VolumeGeometry, backend: str = "cpu") -> Image:
    """The volume (slices, rows, cols) float32 in mm^-1. Raises ValueError for a place that this scan, or this backend,
    cannot show."""
    *_, last = in_parts(window, scan, place, backend)
    assert last.data is not None
    return last.data


def in_parts(
    window: Window,
    scan: ScanGeometry,
    place: VolumeGeometry,
    backend: str = "cpu",
    *,
    part_pixels: int = PART_PIXELS,
) -> Iterator[Part]:
    """`volume` bit by bit: every item is some milliseconds of work.

    The views are read in the first parts, about `part_pixels` in each. Raises StaleWindowError if they are overwritten
    before; from then on the window may change.
    """
    Reconstructor(scan, backend).refuse_off_plane(place.poses, place.first.shape)
    engine, weights = get(backend), np.ascontiguousarray(window.weights[2:])
    blocks, views = _blocks(scan, place), len(window.slots)
    coarse = np.empty((-(-scan.rows // blocks[0]), -(-scan.cols // blocks[1])), np.float32)
    ring, slots = engine.make_ring(views, *coarse.shape), np.arange(views)
    some = max(1, part_pixels // (scan.rows * scan.cols))
    for first in range(0, views, some):
        chosen = slice(first, first + some)
        _refuse_overwritten(window, chosen)
        for slot, source in zip(slots[chosen], window.slots[chosen], strict=True):
            _average(window.projections.read(int(source)), *blocks, coarse)
            ring.put(int(slot), coarse)
        yield Part(READING * min(1.0, (first + some) / views))

    data, pieces = np.empty(place.shape, np.float32), list(_pieces(place.shape, views))
    matrices = _blocked(window.matrices, blocks)
    for n, (first, last, top, bottom) in enumerate(pieces, 1):
        poses = place.poses[first:last]
        poses[:, 0] += top * poses[:, 2]
        piece = engine.backproject(ring, slots, matrices, weights, poses, (bottom - top, place.first.cols))
        data[first:last, top:bottom] = to_host(piece)[:, 0]
        yield Part(READING + (1 - READING) * n / len(pieces), data if n == len(pieces) else None)


def _blocks(scan: ScanGeometry, place: VolumeGeometry) -> tuple[int, int]:
    """Rows and columns of the detector that fall on one voxel at the axis, at least 1."""
    voxel = min(place.first.pixel_mm)
    rows = 1 if scan.rows == 1 else int(voxel * abs(scan.matrices(0.0)[0, 1, 2]))
    return max(1, rows), max(1, int(voxel / scan.voxel_mm))


@njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", nogil=True, cache=True)
def _average(view, block_rows, block_cols, out):
    """Means over blocks of a view (rows, cols) into `out`; the last block of a side may have fewer pixels.

    (One thread, and no matrix product: threads of BLAS wait for each other while other processes use the cores.)
    """
    rows, cols = view.shape
    line = np.empty(cols, np.float32)
    for i in range(out.shape[0]):
        low, high = i * block_rows, min((i + 1) * block_rows, rows)
        line[:] = 0
        for row in range(low, high):
            for column in range(cols):
                line[column] += view[row, column]
        for j in range(out.shape[1]):
            left, right = j * block_cols, min((j + 1) * block_cols, cols)
            total = np.float32(0)
            for column in range(left, right):
                total += line[column]
            out[i, j] = total / np.float32((high - low) * (right - left))


def warm_up() -> None:
    """Compile, or load from a cache, all there is beside the backend: takes some seconds on the first time."""
    _average(np.zeros((2, 2), np.float32), 2, 2, np.empty((1, 1), np.float32))


def _blocked(matrices: Array, blocks: tuple[int, int]) -> Array:
    """Projection matrices onto blocks of pixels instead of pixels."""
    coarse = matrices.copy()
    for axis, block in ((1, blocks[0]), (0, blocks[1])):
        coarse[:, axis] = (matrices[:, axis] - (block - 1) / 2 * matrices[:, 2]) / block
    return coarse


def _pieces(shape: tuple[int, int, int], views: int) -> Iterator[tuple[int, int, int, int]]:
    """Several slices or a band of rows of one, each PART_SAMPLES of work: first and last slice, first and last row."""
    slices, rows, cols = shape
    band = min(rows, max(1, PART_SAMPLES // (cols * views)))
    several = max(1, PART_SAMPLES // (rows * cols * views))
    for first in range(0, slices, several):
        for top in range(0, rows, band):
            yield first, min(first + several, slices), top, min(top + band, rows)


def _refuse_overwritten(window: Window, chosen: slice) -> None:
    if not np.array_equal(window.occupants[window.slots[chosen]], window.serials[chosen]):
        raise StaleWindowError("volume: expected the views of the window to stay until they are read, some are gone")
