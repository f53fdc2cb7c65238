"""Stacks: a slice and its neighbours, which networks of `depth` see together.

The planes are parallel and a pixel apart, so that a network sees the same distances in all directions. They follow each
other along the normal: the direction of the columns times that of the rows. On the wire a stack has an odd number of
planes, the slice itself in the middle.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import SliceGeometry, Vector

Array = NDArray[np.float64]


class StackError(ValueError):
    """Fewer neighbours came than a network sees."""


def normals(poses: Array) -> Array:
    """Steps (k, 3) in mm from a plane to the next one, of poses (k, 3, 3), see `SliceGeometry.pose`.

    A pixel long; where pixels are not square, as long as the side of a square one of their area.
    """
    across = np.cross(poses[:, 1], poses[:, 2])  # as long as a pixel is large
    return across / np.sqrt(np.linalg.norm(across, axis=1, keepdims=True))


def stacked(poses: Array, depth: int) -> Array:
    """Poses (k, depth, 3, 3) of the planes around each of (k, 3, 3), that itself in the middle."""
    planes = np.repeat(poses[:, None], depth, axis=1)
    planes[:, :, 0] += (np.arange(depth) - depth // 2)[:, None] * normals(poses)[:, None]
    return planes


def neighbours(geometry: SliceGeometry, depth: int) -> tuple[SliceGeometry, ...]:
    """The `depth` slices of a stack, an odd number of them; the middle one is `geometry` itself."""
    step = normals(geometry.pose[None])[0]

    def moved(by: int) -> SliceGeometry:
        return replace(geometry, origin_mm=cast(Vector, tuple(np.array(geometry.origin_mm) + by * step)))

    return tuple(moved(by) if by else geometry for by in range(-(depth // 2), depth // 2 + 1))


def seen(sent: int, depth: int) -> slice:
    """Which of the `sent` planes of a stack a network of this depth sees: those in the middle. Raises StackError where
    fewer came."""
    if sent < depth:
        raise StackError(f"slices: expected stacks of {depth} planes, as the network sees them, got {sent}")
    first = (sent - depth) // 2
    return slice(first, first + depth)
