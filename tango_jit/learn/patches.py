"""Where training patches lie: poses for the backprojector, drawn at random.

A patch is a small square slice with the pixel pitch of a slice on display, because a network serves best at the zoom at
which it was trained. Its pose (3, 3) is that of a slice: centre of the first pixel, step to the next column, step to
the next row, in mm. A patch is good if all its pixels lie in the region and, in every view, on the detector. Both
are convex, so its four corner pixels decide, and each condition is a half-space a x + b y + c z + d >= 0: one column
(a, b, c, d) of an array (4, m). Of the container, an upright cylinder, only the centre of a patch has to lie in it, so
that its rim is learned, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.learn.unet import whole
from tango_jit.stacks import stacked

Array = NDArray[np.float64]
Sampling = Literal["MIXED", "NEAR_SLICES", "UNIFORM"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)

# What does not fit is drawn again: so many times, up to so many candidates at a time.
ROUNDS, CANDIDATES = 50, 4096


class NoRoomError(ValueError):
    """Patches do not fit into where they are to lie."""


class PatchSampler:
    """Draws poses of square patches for one scanner.

    Parameters
    ----------
    patch_size : rows and columns in pixels.
    sampling : UNIFORM: anywhere in the region, in any orientation. NEAR_SLICES: inside the slices on display, in their
        planes, turned and mirrored at random. MIXED: either, with equal chances.
    region_mm : the box that patches stay in, 6 numbers: x, y, z from, then x, y, z to. None or empty: wherever all
        views see the patch.
    depth : a patch is a stack of so many planes, all of which have to fit, and has the pose of the middle one.
    container_mm : the upright cylinder that the centres of patches stay in, 5 numbers: x, y, radius, z from, z to. None
        or empty: anywhere.

    A detector of one row sees one plane only: patches lie in it, turned and mirrored at random, and the z of region and
    container do not matter. The same seed and calls give the same poses. Raises ValueError in words.
    """

    def __init__(
        self,
        scan: ScanGeometry,
        patch_size: int,
        sampling: Sampling = "MIXED",
        region_mm: ArrayLike | None = None,
        seed: int = 0,
        depth: int = 1,
        container_mm: ArrayLike | None = None,
    ) -> None:
        if scan.rows == 1 < depth:
            raise ValueError(f"depth: expected 1, a detector of one row sees a single plane, got {depth}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling: expected one of {', '.join(SAMPLINGS)}, got {sampling!r}")
        self.scan, self.sampling, self.patch_size = scan, sampling, whole("patch_size", patch_size, 2, 4096)
        self._depth = depth
        self._random = np.random.default_rng(seed)
        self._voxel_mm = scan.voxel_mm
        self._low, self._high = _seen_box(scan)  # (3,) mm: where to look for centres
        self._region = np.empty((4, 0))
        if region_mm is not None and np.size(region_mm):
            low, high = _box(region_mm)
            if scan.rows == 1:
                low[2], high[2] = self._low[2] - 1, self._low[2] + 1
            self._region = np.concatenate([np.eye(3, 4), -np.eye(3, 4)]).T
            self._region[3] = np.concatenate([-low, high])
            self._low, self._high = np.maximum(low, self._low), np.minimum(high, self._high)
            if (self._low > self._high).any():
                raise ValueError(f"region: expected a box in mm that meets the field of view, got {region_mm}")
        self._container = None if container_mm is None or not np.size(container_mm) else cylinder(container_mm)
        if self._container is not None:
            self._stay_in(self._container)

    def draw(self, n: int, slices: Mapping[str, SliceGeometry], matrices: Array) -> Array:
        """`n` poses (n, 3, 3) in mm.

        `slices` are those on display; without any, patches lie anywhere, at the pitch of the detector at the axis.
        `matrices` (views, 3, 4) are those of the window that the patches are to be reconstructed from. Raises
        ValueError if every slice is too small for a patch (those that are, are left out), or there is hardly any room
        in the field of view.
        """
        large = [geometry for geometry in slices.values() if min(geometry.shape) >= self.patch_size]
        share = {"UNIFORM": 0.0, "MIXED": 0.5, "NEAR_SLICES": 1.0}[self.sampling] if slices else 0.0
        if share and not large:
            sizes = ", ".join(f"{name} {geometry.rows} x {geometry.cols}" for name, geometry in slices.items())
            raise ValueError(
                f"slices: expected one of {self.patch_size} x {self.patch_size} pixels or more, got {sizes}"
            )
        placed = np.array([geometry.pose for geometry in large or slices.values()]).reshape(-1, 3, 3)
        sizes = np.array([(geometry.cols, geometry.rows) for geometry in large or slices.values()]).reshape(-1, 2)
        allowed = self._region, _on_detector(matrices, self.scan)
        near = int(self._random.binomial(n, share))
        return np.concatenate(
            [
                self._until_they_fit(near, lambda count: self._in_slices(count, placed, sizes), allowed),
                self._until_they_fit(n - near, lambda count: self._anywhere(count, placed), allowed),
            ]
        )

    def _stay_in(self, container: Array) -> None:
        if self.scan.rows == 1:
            container[3:] = -np.inf, np.inf
        x, y, radius, bottom, top = container
        self._low = np.maximum((x - radius, y - radius, bottom), self._low)
        self._high = np.minimum((x + radius, y + radius, top), self._high)
        if (self._low > self._high).any():
            raise NoRoomError(
                "container: expected a cylinder that meets the field of view and the region, got "
                f"x, y {x:g}, {y:g}, radius {radius:g}, z {bottom:g} to {top:g} mm"
            )

    def _until_they_fit(self, n: int, candidates: Callable[[int], Array], allowed: tuple[Array, ...]) -> Array:
        """The first `n` candidates whose corner pixels lie in all half-spaces `allowed`, each (4, m)."""
        poses, count = np.empty((0, 3, 3)), 2 * n
        corners_each = 4 if self._depth == 1 else 8
        for _ in range(ROUNDS):
            if len(poses) >= n:
                return poses[:n]
            drawn = self._held(candidates(count))
            for spaces in allowed:
                corners = _corners(self._outer(drawn), self.patch_size)
                inside = (corners @ spaces).min(axis=1, initial=np.inf) >= 0
                drawn = drawn[inside.reshape(-1, corners_each).all(axis=1)]
            poses = np.concatenate([poses, drawn])
            # Where few fit, more are tried at a time.
            count = min(2 * count, CANDIDATES) if len(drawn) < count / 4 else max(16, 2 * (n - len(poses)))
        raise NoRoomError(
            f"patches: expected room for {self.patch_size} x {self.patch_size} pixels in the region and the field of "
            f"view, got {len(poses)} of {n} in {ROUNDS} rounds: take smaller patches or a larger region"
            f"{'' if self._container is None else ' or container'}"
        )

    def _held(self, poses: Array) -> Array:
        """Those whose centre lies in the container."""
        if self._container is None:
            return poses
        x, y, radius, bottom, top = self._container
        center = poses[:, 0] + (self.patch_size - 1) / 2 * poses[:, 1:].sum(axis=1)
        away = np.hypot(center[:, 0] - x, center[:, 1] - y)
        return poses[(away <= radius) & (center[:, 2] >= bottom) & (center[:, 2] <= top)]

    def _outer(self, poses: Array) -> Array:
        """The first and the last plane of each stack: (2 n, 3, 3); of single planes (n, 3, 3) these themselves."""
        return poses if self._depth == 1 else stacked(poses, self._depth)[:, [0, -1]].reshape(-1, 3, 3)

    def _anywhere(self, n: int, placed: Array) -> Array:
        """Poses anywhere in the box, with the pitch of one of the slices `placed` (k, 3, 3)."""
        pitch = np.full((n, 2), self._voxel_mm)
        if len(placed):
            pitch = np.linalg.norm(placed[self._random.integers(len(placed), size=n), 1:], axis=2)
        if self.scan.rows == 1:
            axes = self._turned(np.broadcast_to(np.eye(2, 3), (n, 2, 3)))
        else:
            axes = _rotations(self._random.normal(size=(n, 4)))[:, :2]
        center = self._low + self._random.random((n, 3)) * (self._high - self._low)
        return _around(center, axes * pitch[:, :, None], self.patch_size)

    def _in_slices(self, n: int, placed: Array, sizes: NDArray[np.int64]) -> Array:
        """Up to `n` poses inside the slices `placed` (k, 3, 3) of `sizes` (k, 2) = (cols, rows)."""
        which = self._random.integers(len(placed), size=n)
        start, grid = placed[which, 0], placed[which, 1:]
        steps = self._turned(_orthonormal(placed[:, 1:])[which]) * np.linalg.norm(grid, axis=2)[:, :, None]
        # In pixels of the slice (column, row): how far the patch reaches from its centre, and what is left around.
        reach = np.abs(steps @ np.linalg.pinv(placed[:, 1:])[which]).sum(axis=1) * (self.patch_size - 1) / 2
        room = sizes[which] - 2 * reach
        center = reach - 0.5 + self._random.random((n, 2)) * room
        fits = (room >= 0).all(axis=1)  # when turned
        return _around(start + (center[:, None] @ grid)[:, 0], steps, self.patch_size)[fits]

    def _turned(self, axes: Array) -> Array:
        """Orthonormal axes (n, 2, 3) turned in their plane by random angles, every other one mirrored."""
        n = len(axes)
        angle = self._random.uniform(0, 2 * math.pi, n)
        c, s, mirror = np.cos(angle), np.sin(angle), self._random.choice((-1.0, 1.0), n)
        return np.stack([np.stack([c, s], 1), mirror[:, None] * np.stack([-s, c], 1)], 1) @ axes


def _around(center: Array, steps: Array, size: int) -> Array:
    """Poses (n, 3, 3) of squares of `size` pixels around `center` (n, 3), with `steps` (n, 2, 3) between pixels."""
    return np.concatenate([(center - (size - 1) / 2 * steps.sum(axis=1))[:, None], steps], axis=1)


def _corners(poses: Array, size: int) -> Array:
    """Centres of the four corner pixels of each pose, (4 n, 4) as (x, y, z, 1)."""
    last = size - 1.0
    at = np.array([(1, 0, 0), (1, last, 0), (1, 0, last), (1, last, last)])
    corners = np.ones((len(poses), 4, 4))
    corners[..., :3] = at @ poses
    return corners.reshape(-1, 4)


def _orthonormal(grid: Array) -> Array:
    """Orthonormal axes (k, 2, 3) in the planes of (k, 2, 3): the first along the first."""
    first = grid[:, 0] / np.linalg.norm(grid[:, 0], axis=1, keepdims=True)
    second = grid[:, 1] - (grid[:, 1] * first).sum(axis=1, keepdims=True) * first
    return np.stack([first, second / np.linalg.norm(second, axis=1, keepdims=True)], axis=1)


def _rotations(quaternions: Array) -> Array:
    """Rotation matrices (n, 3, 3) of (n, 4), of any length; normally distributed ones give all rotations equally."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


def _on_detector(matrices: Array, scan: ScanGeometry) -> Array:
    """Half-spaces (4, m): w > 0, columns and rows (of a detector with rows) in [-0.5, N - 0.5], in all views.

    Both sides of a pair together say w >= 0: (u + w/2) + ((N - 1/2) w - u) = N w.
    """
    pairs = [(matrices[:, 0], scan.cols), (matrices[:, 1], scan.rows)][: 1 if scan.rows == 1 else 2]
    depth = matrices[:, 2]  # each (views, 4), for (x, y, z, 1)
    return np.concatenate([side for u, n in pairs for side in (u + depth / 2, (n - 0.5) * depth - u)]).T


def _seen_box(scan: ScanGeometry) -> tuple[Array, Array]:
    """Lowest and highest corner (3,) in mm of a box around what all views can see."""
    _, row, depth = scan.matrices(0.0)[0]
    edges = np.array([0.0, 0.0] if scan.rows == 1 else [-0.5, scan.rows - 0.5])
    z = np.sort((edges * depth[3] - row[3]) / (row[2] - edges * depth[2]))  # where the axis meets these rows
    radius = scan.radius_mm
    return np.array([-radius, -radius, z[0]]), np.array([radius, radius, z[1]])


def _box(region_mm: ArrayLike) -> tuple[Array, Array]:
    numbers = np.asarray(region_mm, np.float64)
    if numbers.size != 6 or not np.isfinite(numbers).all():
        raise ValueError(f"region: expected 6 numbers in mm (x, y, z from, then x, y, z to), got {region_mm}")
    low, high = numbers.reshape(2, 3).copy()
    if (low >= high).any():
        raise ValueError(f"region: expected each end above its beginning, got {low.tolist()} to {high.tolist()}")
    return low, high


def cylinder(container_mm: ArrayLike) -> Array:
    """(5,) x, y, radius, z from, z to in mm, a copy. Raises ValueError for what is no upright cylinder."""
    numbers = np.array(container_mm, np.float64).reshape(-1)
    if numbers.size != 5 or not np.isfinite(numbers).all():
        raise ValueError(f"container: expected 5 numbers in mm (x, y, radius, z from, z to), got {container_mm}")
    if numbers[2] <= 0:
        raise ValueError(f"container: expected a radius above 0 mm, got {numbers[2]:g}")
    if numbers[3] >= numbers[4]:
        raise ValueError(f"container: expected z from below z to, got {numbers[3]:g} and {numbers[4]:g} mm")
    return numbers
