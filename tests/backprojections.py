"""Random problems for backprojectors, and which of their pixels rounding decides about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry

KINDS = ("cone", "parallel", "tilted", "offset", "fan", "two rows")


def scanner(kind: str, rng: np.random.Generator) -> ScanGeometry:
    """A random scanner of that kind with a field of view of about 60 mm."""
    size: dict[str, Any] = dict(rows=int(rng.integers(20, 60)), cols=int(rng.integers(20, 90)))
    if kind in ("fan", "two rows"):
        size["rows"] = 1 if kind == "fan" else 2
    if kind in ("tilted", "offset"):
        size["axis_column"] = size["cols"] * rng.uniform(0.3, 0.7)
    if kind == "tilted":
        size |= dict(zip(("roll_rad", "pitch_rad", "yaw_rad"), rng.uniform(-0.3, 0.3, 3), strict=True))
    if kind == "parallel" or (kind == "tilted" and rng.random() < 0.5):
        return ScanGeometry.parallel(pixel_mm=(60 / size["cols"], 60 / size["rows"]), **size)
    if kind == "offset":
        size["source_offset_mm"] = tuple(rng.uniform(-15, 15, 2))
    return ScanGeometry.cone(
        pixel_mm=(90 / size["cols"], 90 / size["rows"]), source_axis_mm=100, source_detector_mm=150, **size
    )


def problem(kind: str, seed: int, patches: int, shape: tuple[int, int], planes: int = 2) -> tuple[Any, ...]:
    """Random arguments: white noise as projections, poses anywhere and at any angle, half of the weights zero."""
    rng = np.random.default_rng(seed)
    scan = scanner(kind, rng)
    views = 17
    projections = rng.standard_normal((views + 3, scan.rows, scan.cols)).astype(np.float32)
    slots = rng.permutation(views + 3)[:views]
    weights = (rng.random((planes, views)) * rng.integers(0, 2, (planes, views))).astype(np.float32)
    poses = rng.uniform(-0.8, 0.8, (patches, 3, 3))
    poses[:, 0] = rng.uniform(-15, 15, (patches, 3)) - poses[:, 1] * shape[1] / 2 - poses[:, 2] * shape[0] / 2
    if kind == "fan":
        poses[..., 2] = 0
    return projections, slots, scan.matrices(rng.uniform(-50, 50, views)), weights, poses, shape


def on_the_edge(arguments: tuple[Any, ...]) -> NDArray[np.bool_]:
    """Pixels (k, rows, cols) that some view puts within 0.001 pixels of the edge of the field of view, where rounding
    decides if they are seen."""
    projections, _, matrices, _, poses, (rows, cols) = arguments
    i, j = np.mgrid[:rows, :cols][..., None]
    points = poses[:, None, None, 0] + j * poses[:, None, None, 1] + i * poses[:, None, None, 2]
    u, v, w = np.moveaxis(np.einsum("vrx,kijx->kijvr", matrices[..., :3], points) + matrices[..., 3], -1, 0)
    near = np.zeros(points.shape[:3], bool)
    for value, size in ((u / w, projections.shape[2]), (v / w, projections.shape[1])):
        for edge in (-0.5, size - 0.5):
            near |= (np.abs(value - edge) < 1e-3).any(-1)
    return near
