"""Exact line integrals through quadrics, and exact cuts through them: the inner loops of the simulation (numba).

A ray P + t d is inside |M (x - c)| <= 1 where A t^2 + 2 B t + C <= 0 with A = d.Qd, B = d.Q(P - c) and
C = (P - c).Q(P - c) - 1, over a length of 2 sqrt(B^2 - A C) / A |d|. As d (cone) or P (parallel) are linear in column
and row, the discriminant is a polynomial of the second degree on the detector: the silhouette of an ellipsoid is found
by solving it for each row, and between those ends a loop without branches adds the chords.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

BAND = 8  # rows that one thread works on at a time: its scratch stays in the nearest cache
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn", "nnan", "ninf"}
DARKEST = np.float32(40.0)  # exp(-40) of the beam is no photon


@njit(error_model="numpy", nogil=True, cache=True)
def silhouettes(cone, start, step, centers, forms, disc, lead, rows):
    """Polynomials of n ellipsoids on the detector.

    `start` (3,) is the source (cone) or the ray direction (parallel); `step` (3, 3) has as rows what leads to pixel
    (0, 0) (from the source; or from the origin), to the next column and to the next row. Filled are `disc` and `lead`
    (n, 6), the coefficients of 1, column, row, column^2, column row, row^2 in B^2 - A C and in A, and `rows` (n, 2):
    the first and the last row (as real numbers) where the ellipsoid is seen; first > last: nowhere.
    """
    moved, turned, other = step.copy(), np.empty((4, 3)), start.copy()
    for n in range(len(centers)):
        if cone:
            other[:] = start - centers[n]  # P - c; d is linear in the pixel
        else:
            moved[0] = step[0] - centers[n]  # P - c is linear in the pixel; other = d
        for i in range(3):
            for x in range(3):
                turned[i, x] = _dot(forms[n, x], moved[i])
        for x in range(3):
            turned[3, x] = _dot(forms[n, x], other)
        inner = _dot(other, turned[3])
        factor = inner - 1 if cone else inner
        k = 0
        for i in range(3):
            for j in range(i, 3):
                twice = 1 if i == j else 2
                gram = _dot(moved[i], turned[j])
                lead[n, k] = twice * gram if cone else 0.0
                disc[n, k] = twice * (_dot(moved[i], turned[3]) * _dot(moved[j], turned[3]) - factor * gram)
                k += 1
        if not cone:
            disc[n, 0] += inner
            lead[n, 0] = inner
        rows[n, 0], rows[n, 1] = _rows(disc[n])


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(error_model="numpy", nogil=True, cache=True)
def sections(pose, centers, forms, disc, rows):
    """What `silhouettes` gives, for the pixels of a slice: `disc` (n, 6) of 1 - |M (x - c)|^2, and `rows` (n, 2).

    `pose` (3, 3) has as rows the centre of pixel (0, 0), the step to the next column and that to the next row.
    """
    moved = pose.copy()
    for n in range(len(centers)):
        moved[0] = pose[0] - centers[n]
        k = 0
        for i in range(3):
            for j in range(i, 3):
                gram = 0.0
                for x in range(3):
                    gram += moved[i, x] * _dot(forms[n, x], moved[j])
                disc[n, k] = -gram if i == j else -2 * gram
                k += 1
        disc[n, 0] += 1
        rows[n, 0], rows[n, 1] = _rows(disc[n])


@njit(error_model="numpy", nogil=True, cache=True)
def _rows(k):
    """Where, in rows, the polynomial k is positive at all: its largest value in a row is a polynomial of the row."""
    if k[3] >= 0:
        return 0.0, -1.0
    c2, c1, c0 = k[5] - k[4] ** 2 / (4 * k[3]), k[2] - k[1] * k[4] / (2 * k[3]), k[0] - k[1] ** 2 / (4 * k[3])
    under = c1**2 - 4 * c2 * c0
    if c2 >= 0 or under <= 0:
        return 0.0, -1.0
    return (-c1 + np.sqrt(under)) / (2 * c2), (-c1 - np.sqrt(under)) / (2 * c2)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _span(k, row):
    """(centre, half width squared, -k3) of where the polynomial k is positive in a row; half width <= 0: nowhere."""
    centre = -(k[1] + k[4] * row) / (2 * k[3])
    peak = k[0] + k[2] * row + k[5] * row * row - k[3] * centre * centre
    return centre, peak / -k[3], -k[3]


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _chords(first, count, away, square, scale, a0, a1, a2, length, out):
    """Chords (count,) of pixels `first`...: a row of one silhouette. `away`: of the first pixel from its middle."""
    for t in range(count):
        x = away + np.float32(t)
        inside = max(square - x * x, np.float32(0))
        a = a0 + np.float32(t) * (a1 + np.float32(t) * a2)
        out[t] = scale * np.sqrt(inside) * length[first + t] / a


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _add(first, count, excess, chord, out):
    for t in range(count):
        out[first + t] += excess * chord[t]


@njit(error_model="numpy", nogil=True, cache=True)
def _add_ellipsoids(low, high, disc, lead, seen, excess, length, chord, total):
    """Add all ellipsoids to `total` (energies, high - low, cols), the rows from `low` to `high` of the detector."""
    energies, _, cols = total.shape
    for n in range(len(disc)):
        begin, end = max(low, int(np.ceil(seen[n, 0]))), min(high - 1, int(np.floor(seen[n, 1])))
        for row in range(begin, end + 1):
            centre, square, fall = _span(disc[n], row)
            if square <= 0:
                continue
            half = np.sqrt(square)
            first, last = max(0, int(np.ceil(centre - half))), min(cols - 1, int(np.floor(centre + half)))
            count = last - first + 1
            if count <= 0:
                continue
            a = lead[n]
            a0 = a[0] + a[1] * first + a[2] * row + (a[3] * first + a[4] * row) * first + a[5] * row * row
            _chords(
                first, count, np.float32(first - centre), np.float32(square), np.float32(2 * np.sqrt(fall)),
                np.float32(a0), np.float32(a[1] + 2 * a[3] * first + a[4] * row), np.float32(a[3]), length[row], chord,
            )  # fmt: skip
            for e in range(energies):
                _add(first, count, np.float32(excess[n, e]), chord, total[e, row - low])


@njit(error_model="numpy", nogil=True, cache=True)
def _inside(position, direction, centers, forms, count):
    """Length in units of |direction| over which a ray is inside all `count` quadrics."""
    enter, leave = -np.inf, np.inf
    for q in range(count):
        w0, w1, w2 = position[0] - centers[q, 0], position[1] - centers[q, 1], position[2] - centers[q, 2]
        a, b, c = 0.0, 0.0, -1.0
        for x in range(3):
            f = forms[q, x]
            turned = f[0] * w0 + f[1] * w1 + f[2] * w2
            a += direction[x] * _dot(f, direction)
            b += direction[x] * turned
            c += (w0, w1, w2)[x] * turned
        if a < 1e-18 * (1 + abs(c)):  # along the planes of a slab, or along the axis of a cylinder
            if c > 0:
                return 0.0
            continue
        under = b * b - a * c
        if under <= 0:
            return 0.0
        root = np.sqrt(under)
        enter, leave = max(enter, (-b - root) / a), min(leave, (-b + root) / a)
    return max(leave - enter, 0.0)


@njit(error_model="numpy", nogil=True, cache=True)
def _add_solid(low, high, cone, start, step, box, centers, forms, count, excess, length, total):
    """Add one solid to `total` (energies, high - low, cols); `box`: first and last column and row where it may be."""
    position, direction = start.copy(), start.copy()
    for row in range(max(low, box[2]), min(high - 1, box[3]) + 1):
        for col in range(box[0], box[1] + 1):
            for x in range(3):
                there = step[0, x] + col * step[1, x] + row * step[2, x]
                if cone:
                    direction[x] = there
                else:
                    position[x] = there
            inside = _inside(position, direction, centers, forms, count) * length[row, col]
            for e in range(len(excess)):
                total[e, row - low, col] += np.float32(excess[e] * inside)


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _add_transmission(total, weight, out):
    """out += weight exp(-total), to 5e-6 for up to 10: (polynomial of x / 64)^64, as that vectorises."""
    for t in range(len(total)):
        x = max(-total[t], -DARKEST) * np.float32(1 / 64)
        p = np.float32(1 / 120) * x + np.float32(1 / 24)
        p = p * x + np.float32(1 / 6)
        p = p * x + np.float32(0.5)
        p = (p * x + np.float32(1)) * x + np.float32(1)
        p = p * p
        p = p * p
        p = p * p
        p = p * p
        p = p * p
        out[t] += weight * (p * p)


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def project(workers, cone, start, step, base, balls, solids, length, weights, out):
    """Fill `out`: line integrals (energies, rows, cols) without weights, else the transmission (rows, cols).

    `start` (s, 3) and `step` (s, 3, 3) as for `silhouettes`, for each of s moments of an exposure, over which the
    transmission is averaged; line integrals are those of the last moment. `base` (energies, rows, cols) are integrals
    that are the same at every moment. `balls` = disc, lead (s, n, 6), rows (s, n, 2), excess (s, n, energies);
    `solids` = box (s, m, 4), centers (s, m, 3, 3), forms (s, m, 3, 3, 3), quadrics (s, m), excess (s, m, energies).
    `length` (rows, cols): |d| of each ray. `weights` (energies,): how much of the beam has each energy, sum 1.
    """
    disc, lead, seen, excess = balls
    box, centers, forms, quadrics, solid_excess = solids
    energies, rows, cols = base.shape
    moments, bands = len(start), (rows + BAND - 1) // BAND
    for worker in prange(workers):
        total, chord = np.empty((energies, BAND, cols), np.float32), np.empty(cols, np.float32)
        for band in range(worker, bands, workers):  # interleaved, as some rows have more in them than others
            low, high = band * BAND, min(rows, (band + 1) * BAND)
            here = total[:, : high - low]
            if len(weights):
                out[0, low:high] = 0
            for s in range(moments):
                here[:] = base[:, low:high]
                _add_ellipsoids(low, high, disc[s], lead[s], seen[s], excess[s], length, chord, here)
                for m in range(quadrics.shape[1]):
                    _add_solid(
                        low, high, cone, start[s], step[s], box[s, m], centers[s, m], forms[s, m], quadrics[s, m],
                        solid_excess[s, m], length, here,
                    )  # fmt: skip
                for e in range(len(weights)):
                    for row in range(low, high):
                        _add_transmission(here[e, row - low], np.float32(weights[e] / moments), out[0, row])
            if not len(weights):
                out[:, low:high] = here


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def cut(workers, pose, disc, seen, excess, centers, forms, quadrics, solid_excess, out):
    """Add to `out` (rows, cols) the excess of every ellipsoid and solid that contains a pixel centre of a slice.

    `pose` (3, 3): centre of pixel (0, 0), step to the next column, to the next row. `disc` (n, 6), `seen` (n, 2):
    1 - |M (x - c)|^2 as a polynomial of column and row. `excess` (n,), `solid_excess` (m,).
    """
    rows, cols = out.shape
    for worker in prange(workers):
        point = np.empty(3)
        for row in range(worker, rows, workers):
            for n in range(len(disc)):
                if row < seen[n, 0] or row > seen[n, 1]:
                    continue
                centre, square, _ = _span(disc[n], row)
                if square > 0:
                    half = np.sqrt(square)
                    first, last = max(0, int(np.ceil(centre - half))), min(cols - 1, int(np.floor(centre + half)))
                    for col in range(first, last + 1):
                        out[row, col] += excess[n]
            for m in range(len(quadrics)):
                for col in range(cols):
                    for x in range(3):
                        point[x] = pose[0, x] + col * pose[1, x] + row * pose[2, x]
                    if _contains(point, centers[m], forms[m], quadrics[m]):
                        out[row, col] += solid_excess[m]


@njit(error_model="numpy", nogil=True, cache=True)
def _contains(point, centers, forms, count):
    for q in range(count):
        value = 0.0
        for x in range(3):
            for y in range(3):
                value += (point[x] - centers[q, x]) * forms[q, x, y] * (point[y] - centers[q, y])
        if value > 1:
            return False
    return True
