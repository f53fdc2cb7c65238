"""Exact projections of a simulated sample: built once for a scanner, called for each frame."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim import rays
from sim.solids import MOST_QUADRICS, Array, Ellipsoids, Objects, Solid
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.threads import use_safe_layer

Image32 = NDArray[np.float32]


class Projector:
    """Line integrals and transmissions of `Objects` on the detector of a scanner.

    The object is fixed and the scanner turns by the angle of the view, as everywhere (tango_jit.geometry). Solids that
    look the same from every side of the axis are projected once, and again when they change.
    """

    def __init__(self, geometry: ScanGeometry) -> None:
        use_safe_layer()
        self.geometry = geometry
        self._cone = geometry.beam == "cone"
        start, step = self._rays(0.0)
        pixels = (
            step[0]
            + np.arange(geometry.cols)[None, :, None] * step[1]
            + np.arange(geometry.rows)[:, None, None] * step[2]
        )
        long = np.linalg.norm(pixels if self._cone else np.broadcast_to(start, pixels.shape), axis=-1)
        self._length: Image32 = long.astype(np.float32)
        self._base: dict[bytes, NDArray[np.float32]] = {}

    def integrals(self, objects: Objects, angle_rad: float) -> NDArray[np.float32]:
        """(energies, rows, cols): excess attenuation integrated along the ray of every pixel centre, no unit."""
        return self._project([objects], [angle_rad], np.empty(0))

    def transmission(
        self, moments: Sequence[Objects], angles_rad: ArrayLike, weights: Sequence[float] = (1.0,)
    ) -> Image32:
        """(rows, cols): the part of the beam that gets through, averaged over the moments of an exposure.

        `moments` (s) are the objects at the times when the scanner stands at `angles_rad` (s,); `weights`
        (energies,): how much of the beam has each energy.
        """
        return self._project(moments, np.asarray(angles_rad, np.float64), np.asarray(weights, np.float64))[0]

    def _project(self, moments: Sequence[Objects], angles_rad: ArrayLike, weights: Array) -> NDArray[np.float32]:
        energies, shape = moments[0].energies, self._length.shape
        keys = [{solid.key for solid in objects.solids if solid.on_axis} for objects in moments]
        same = set.intersection(*keys)  # at every moment: those are projected once
        base = self._standing([solid for solid in moments[0].solids if solid.key in same], energies)
        turning = [[solid for solid in objects.solids if solid.key not in same] for objects in moments]
        aim = [self._rays(angle) for angle in np.asarray(angles_rad, np.float64)]
        start, step = (np.stack([a[i] for a in aim]) for i in range(2))
        balls = self._balls([objects.ellipsoids for objects in moments], start, step)
        solids = self._solids(turning, energies, start, step)
        out = np.empty((1 if len(weights) else energies, *shape), np.float32)
        rays.project(numba.get_num_threads(), self._cone, start, step, base, balls, solids, self._length, weights, out)
        return out

    def _rays(self, angle_rad: float) -> tuple[Array, Array]:
        """`start` (3,) and `step` (3, 3) as `rays.silhouettes` wants them."""
        geometry = self.geometry
        source, detector, u, v = geometry.vectors(angle_rad)[0].reshape(4, 3)
        first = detector - (geometry.cols - 1) / 2 * u - (geometry.rows - 1) / 2 * v
        return source, np.stack([first - source if self._cone else first, u, v])

    def _balls(self, groups: list[Ellipsoids], start: Array, step: Array) -> tuple[Array, Array, Array, Array]:
        most, moments = max(len(group) for group in groups), len(groups)
        disc, lead, seen = np.zeros((moments, most, 6)), np.zeros((moments, most, 6)), np.zeros((moments, most, 2))
        seen[:] = (0.0, -1.0)
        excess = np.zeros((moments, most, groups[0].excess_per_mm.shape[1]))
        for s, group in enumerate(groups):
            n = len(group)
            rays.silhouettes(
                self._cone, start[s], step[s], group.centers_mm, group.forms, disc[s, :n], lead[s, :n], seen[s, :n]
            )
            excess[s, :n] = group.excess_per_mm
        return disc, lead, seen, excess

    def _standing(self, standing: list[Solid], energies: int) -> NDArray[np.float32]:
        """(energies, rows, cols) of the solids that stand on the axis."""
        key = b"".join(solid.key for solid in standing)
        found = self._base.get(key)
        if found is None:
            shape = self._length.shape
            start, step = (x[None] for x in self._rays(0.0))
            balls = self._balls([Ellipsoids.none(energies)], start, step)
            solids = self._solids([standing], energies, start, step)
            none, out = np.zeros((energies, *shape), np.float32), np.empty((energies, *shape), np.float32)
            rays.project(
                numba.get_num_threads(), self._cone, start, step, none, balls, solids, self._length, np.empty(0), out
            )
            self._base = {key: out}
            return out
        return found

    def _solids(
        self, moments: list[list[Solid]], energies: int, start: Array, step: Array
    ) -> tuple[NDArray[np.int64], Array, Array, NDArray[np.int64], Array]:
        shape = (len(moments), max(len(solids) for solids in moments))
        box = np.tile(np.array([0, -1, 0, -1]), (*shape, 1))
        centers, forms = np.zeros((*shape, MOST_QUADRICS, 3)), np.zeros((*shape, MOST_QUADRICS, 3, 3))
        quadrics, excess = np.zeros(shape, np.int64), np.zeros((*shape, energies))
        for s, solids in enumerate(moments):
            for m, solid in enumerate(solids):
                quadrics[s, m] = q = len(solid.forms)
                centers[s, m, :q], forms[s, m, :q], excess[s, m] = solid.centers_mm, solid.forms, solid.excess_per_mm
                box[s, m] = self._box(solid, start[s], step[s])
        return box, centers, forms, quadrics, excess

    def _box(self, solid: Solid, start: Array, step: Array) -> list[int]:
        """First and last column, first and last row that may see the solid: what the ellipsoids around it cover."""
        rows, cols = self._length.shape
        whole = [q for q, form in enumerate(solid.forms) if np.linalg.det(form) * solid.reach_mm**6 > 1e-9]
        around = Ellipsoids(
            np.concatenate([solid.middle_mm[None], solid.centers_mm[whole]]),
            np.concatenate([np.eye(3)[None] / solid.reach_mm**2, solid.forms[whole]]),
            np.zeros((len(whole) + 1, 1)),
        )
        limits: list[int] = []
        for steps, most in ((step[[0, 2, 1]], cols), (step, rows)):  # columns and rows exchanged, then as they are
            disc, _, seen, _ = self._balls([around], start[None], np.ascontiguousarray(steps)[None])
            ends = seen[0][disc[0, :, 3] < 0]  # no silhouette: the ellipsoid goes around the source
            first, last = ends[:, 0].max(initial=0.0), ends[:, 1].min(initial=most - 1.0)
            limits += [max(int(first), 0), min(int(np.ceil(last)), most - 1)]
        return limits


def paint(objects: Objects, place: SliceGeometry, weights: Sequence[float] = (1.0,)) -> Array:
    """Attenuation (rows, cols) in 1/mm at the pixel centres of a slice; with several energies their weighted mean."""
    use_safe_layer()
    pose, weight = place.pose, np.asarray(weights, np.float64)
    balls, solids = objects.ellipsoids, objects.solids
    disc, seen = np.zeros((len(balls), 6)), np.zeros((len(balls), 2))
    rays.sections(pose, balls.centers_mm, balls.forms, disc, seen)
    centers, forms = np.zeros((len(solids), MOST_QUADRICS, 3)), np.zeros((len(solids), MOST_QUADRICS, 3, 3))
    quadrics = np.array([len(solid.forms) for solid in solids], np.int64)
    for m, solid in enumerate(solids):
        centers[m, : quadrics[m]], forms[m, : quadrics[m]] = solid.centers_mm, solid.forms
    excess = np.array([solid.excess_per_mm @ weight for solid in solids], np.float64)
    out = np.zeros(place.shape)
    rays.cut(
        numba.get_num_threads(), pose, disc, seen, balls.excess_per_mm @ weight, centers, forms, quadrics, excess, out
    )
    return out
