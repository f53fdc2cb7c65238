"""Backprojection by the ASTRA toolbox (extra `astra`, GPL-3.0): for comparison, and as a backend for whole volumes.

It shares nothing with our kernels but the matrices. What ASTRA can do depends on the computer:

* with a CUDA device, everything: BP3D_CUDA on the `cone_vec` or `parallel3d_vec` of the matrices (`astra_geometry`);
* without one ASTRA works in two dimensions. Slices that fall on one detector row in every view are such problems:
  horizontal ones under a parallel beam, the mid-plane of a cone, a fan. Others are refused in words.

In two dimensions a value is the mean over the area of its pixel; our kernels take a sample in the middle. The two meet
where pixels are smaller than what the detector resolves. This is the one module that imports ASTRA, and only when used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.backproject import astra_geometry, reference
from tango_jit.recon.backproject.arguments import MIN_DEPTH, check
from tango_jit.recon.backproject.ring import HostRing, Ring, host_array

Array = NDArray[Any]
Image = NDArray[np.float32]

DIFFERENT = 0.02  # of the largest value: then ASTRA does not weigh or turn as expected


def obstacle() -> str:
    """Why this backend cannot run here, in words; empty: it can."""
    try:
        import_module("astra")
    except ImportError as error:
        return f"it needs the ASTRA toolbox (the extra astra), which cannot be loaded: {error}"
    return ""


def _toolbox() -> Any:
    if why := obstacle():
        raise RuntimeError(f"backend astra: {why}")
    return import_module("astra")


def make_ring(capacity: int, rows: int, cols: int) -> HostRing:
    """See `Backend`."""
    return HostRing.empty(capacity, rows, cols)


def backproject(
    projections: Ring | NDArray[np.float32],
    slots: NDArray[np.integer],
    matrices: Array,
    weights: Image,
    poses: Array,
    shape: tuple[int, int],
    out: Image | None = None,
) -> Image:
    """See `Backend`. Raises ValueError for a slice that ASTRA cannot make here, RuntimeError if ASTRA fails."""
    projections = host_array(projections)
    out = check(projections, slots, matrices, weights, poses, shape, out)
    astra = _toolbox()
    used = np.flatnonzero(weights.any(axis=0))
    slots, matrices, weights = slots[used], matrices[used], weights[:, used]
    try:
        if projections.shape[1] > 1 and astra.use_cuda():
            for first, last in _stacks(poses):
                out[first:last] = _volume(astra, projections, slots, matrices, weights, poses[first:last], shape)
        else:
            for pose, planes in zip(poses, out, strict=True):
                planes[:] = _slice(astra, projections, slots, matrices, weights, pose, shape)
    except astra.log.AstraError as error:
        raise RuntimeError(f"ASTRA: {error}") from error
    return out


def warm_up() -> None:
    """See `Backend`: nothing is compiled. Two small slices, off the axis and of views that differ from row to row, are
    compared with the reference, so that a version of ASTRA that weighs or turns otherwise is noticed; raises
    RuntimeError then."""
    views = np.tile(np.hanning(35)[1:-1] * np.linspace(1, 3, 9)[:, None], (8, 1, 1)).astype(np.float32)
    weights = np.full((1, 8), np.pi / 8, np.float32)
    size: dict[str, Any] = dict(rows=9, cols=33, pixel_mm=1.0)
    for scan, heights in (
        (ScanGeometry.parallel(**size), (-2, 1)),
        (ScanGeometry.cone(**size, source_axis_mm=99, source_detector_mm=99), (0,)),
    ):
        places = [
            SliceGeometry.centered((4, 3, z), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(14, 16)) for z in heights
        ]
        poses = np.stack([place.pose for place in places])
        arguments = (views, np.arange(8), scan.matrices(np.arange(8) * np.pi / 4), weights, poses, (14, 16))
        expected, got = reference.backproject(*arguments), backproject(*arguments)
        if np.abs(got - expected).max() > DIFFERENT * np.abs(expected).max():
            raise RuntimeError(
                f"ASTRA: expected the values of the reference backprojection of a {scan.beam} beam, "
                f"got up to {np.abs(got - expected).max() / np.abs(expected).max():.3g} of the largest off"
            )


def _slice(
    astra: Any,
    projections: Image,
    slots: NDArray[np.integer],
    matrices: Array,
    weights: Image,
    pose: Array,
    shape: tuple[int, int],
) -> Image:
    """(planes, rows, cols) on the processor."""
    homographies = astra_geometry.centred(matrices, pose, shape)
    try:
        flat = astra_geometry.flattened(homographies, projections.shape[1], shape)
    except astra_geometry.NotFlatError as error:
        raise ValueError(
            "slice: expected one on a single detector row in every view (horizontal; of a cone beam the mid-plane "
            f"alone), which is all that the backend astra can do without a CUDA device, but {error}"
        ) from error
    total = np.zeros((len(weights), *shape), np.float32)
    seen = [(view, n) for n, view in enumerate(flat) if view is not None]
    if not seen:
        return total
    data = [astra_geometry.lines(projections[slots[n]], view.row) for view, n in seen]
    views, weights = [view for view, _ in seen], weights[:, [n for _, n in seen]]
    if views[0].parallel:
        _parallel(astra, views, data, weights, total)
    else:
        _fan(astra, views, data, weights, homographies[[n for _, n in seen], 2], total)
    return total


def _parallel(astra: Any, views: list[astra_geometry.Flat], data: list[Array], weights: Image, total: Image) -> None:
    """All views at once, for every plane."""
    columns = len(data[0])
    finer = astra_geometry.FINER
    positions = (np.arange(columns * finer) + 0.5) / finer - 0.5
    sinogram = np.stack([view.bins(line, positions) for view, line in zip(views, data, strict=True)])
    vectors = np.stack([view.parallel_vec(columns) for view in views])
    sinogram *= np.linalg.norm(vectors[:, 4:], axis=1, keepdims=True)  # the strip of a bin covers area / width
    geometry = astra.create_proj_geom("parallel_vec", columns * finer, vectors)
    volume = astra.create_vol_geom(*total.shape[1:])
    for plane, row in zip(total, weights, strict=True):
        plane[:] = _strips(astra, "strip", geometry, volume, sinogram * row[:, None])


def _fan(
    astra: Any, views: list[astra_geometry.Flat], data: list[Array], weights: Image, depths: Array, total: Image
) -> None:
    """View by view, since each has its own 1/w. A strip weighs 1 / (w * cosine), we want 1/w**2."""
    rows, cols = total.shape[1:]
    x = np.arange(cols) - (cols - 1) / 2
    y = (rows - 1) / 2 - np.arange(rows)
    for view, line, row, depth in zip(views, data, weights.T, depths, strict=True):
        fan = astra_geometry.Fan.of(view, len(line))
        across, up = fan.foot
        bins = view.bins(line, fan.columns) * (fan.cosines * fan.pitch)
        window = (-cols / 2 - across, cols / 2 - across, -rows / 2 - up, rows / 2 - up)
        volume = astra.create_vol_geom(rows, cols, *window)
        geometry = astra.create_proj_geom("fanflat", fan.pitch, bins.size, [fan.angle_rad], fan.distance, 0.0)
        value = _strips(astra, "strip_fanflat", geometry, volume, bins[None].astype(np.float32))
        w = depth[0] * x + depth[1] * y[:, None] + depth[2]
        value = np.where(w > MIN_DEPTH, value / np.maximum(w, MIN_DEPTH), 0)
        for plane, weight in zip(total, row, strict=True):
            if weight:
                plane += weight * value


def _strips(astra: Any, kind: str, geometry: Any, volume: Any, sinogram: Image) -> Image:
    """ASTRA's backprojection on the processor, (rows, cols)."""
    projector = astra.create_projector(kind, geometry, volume)
    try:
        with _data(astra.data2d, "-sino", geometry, sinogram) as given, _data(astra.data2d, "-vol", volume) as made:
            _run(astra, "BP", given, made, ProjectorId=projector)
            return astra.data2d.get(made)
    finally:
        astra.projector.delete(projector)


def _stacks(poses: Array) -> Iterator[tuple[int, int]]:
    """Where a pose is not one step further than the one before, a new stack begins: (first, last) of each."""
    cuts, step = [0], None
    for n, (before, pose) in enumerate(pairwise(poses), 1):
        moved = pose[0] - before[0]
        parallel = np.array_equal(pose[1:], before[1:]) and abs(np.linalg.det([moved, *pose[1:]])) > 0
        if parallel and (step is None or np.allclose(moved, step, rtol=1e-9, atol=1e-12)):
            step = moved
        else:
            cuts.append(n)
            step = None
    return pairwise([*cuts, len(poses)]) if len(poses) else iter(())


def _volume(
    astra: Any,
    projections: Image,
    slots: NDArray[np.integer],
    matrices: Array,
    weights: Image,
    poses: Array,
    shape: tuple[int, int],
) -> Image:
    """A stack of slices on a CUDA device, (k, planes, rows, cols)."""
    _, rows, cols = projections.shape
    kind, vectors = astra_geometry.vectors(astra_geometry.centred_volume(matrices, poses, shape), rows, cols)
    areas = np.linalg.norm(np.cross(vectors[:, 6:9], vectors[:, 9:]), axis=1)  # a pixel weighs 1 / (w**2 * area)
    geometry = astra.create_proj_geom(kind, rows, cols, vectors)
    volume = astra.create_vol_geom(*shape, len(poses))
    result = np.empty((len(poses), len(weights), *shape), np.float32)
    for plane, row in enumerate(weights):
        data = np.ascontiguousarray((projections[slots] * (row * areas)[:, None, None]).transpose(1, 0, 2), np.float32)
        with (
            _data(astra.data3d, "-sino", geometry, data) as given,
            _data(astra.data3d, "-vol", volume) as made,
        ):
            _run(astra, "BP3D_CUDA", given, made)
            result[:, plane] = astra.data3d.get(made)
    return result


@contextmanager
def _data(store: Any, kind: str, geometry: Any, values: Image | float = 0.0) -> Iterator[int]:
    """An array that ASTRA keeps for the time of a calculation; its number."""
    number = store.create(kind, geometry, values)
    try:
        yield number
    finally:
        store.delete(number)


def _run(astra: Any, algorithm: str, given: int, made: int, **options: int) -> None:
    config = astra.astra_dict(algorithm) | {"ProjectionDataId": given, "ReconstructionDataId": made} | options
    number = astra.algorithm.create(config)
    try:
        astra.algorithm.run(number)
    finally:
        astra.algorithm.delete(number)
