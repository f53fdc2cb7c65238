"""The inner loop of the processor's backprojection: sixteen pixels of a slice, one view.

A view is an array of float32, or of 16-bit whole numbers (`fixed.FixedRing`). There places on the detector are whole
numbers too, with 15 bits behind the point, of which pixel and fractions are cut; one load of 32 bits brings two
neighbours of a row, and one instruction blends them. So a sample takes two loads instead of four, and half of the
cache.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from tango_jit.recon.backproject.arguments import MIN_DEPTH
from tango_jit.recon.backproject.lanes import FLOAT, INT, SHORT, Lanes

BITS = 15  # behind the point
ONE = 1 << BITS
LARGEST = ONE - 1  # of a whole number in a view, and of a fraction
MAX_SIDE = 1 << BITS  # of a detector in fixed point


def _split_real(place: Lanes, end: Lanes | None) -> tuple[Lanes, Lanes]:
    """The pixel to begin the blend at, and the share of the next one; at `end` of the detector it is all."""
    pixel = place.whole()
    if end is not None:
        pixel = pixel.at_most(end.whole() - 1)
    return pixel, place - pixel.real()


def _split_fixed(place: Lanes, end: Lanes | None) -> tuple[Lanes, Lanes]:
    """`_split_real` of places in units of 1 / ONE; the share is one of LARGEST."""
    fixed = (place + 0.5).whole()
    if end is not None:
        fixed = fixed.at_most(end.whole() - 1)
    return fixed >> BITS, fixed & LARGEST


def _blend_real(rows: list[Any], index: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """Bilinear samples, from the lower left pixels at `index` in the view and in the `rows` above, two pointers."""
    lower, upper = (
        left + a * (right - left)
        for left, right in ((index.gather(row, FLOAT, FLOAT), (index + 1).gather(row, FLOAT, FLOAT)) for row in rows)
    )
    return lower + b * (upper - lower)


def _blend_fixed(rows: list[Any], index: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """LARGEST times the bilinear samples."""
    shares = (a << 16) - a + LARGEST  # two int16: of the left LARGEST - a, of the right a
    lower, upper = (index.gather(row, SHORT, INT).dot(shares) for row in rows)
    return lower.real() + b.real() * (1 / LARGEST) * (upper - lower).real()


def _add_samples(anywhere: bool) -> Any:
    def add_samples(_context, views, start, stride, right, down, at, place, ends, weight, total, to):
        """total[to : to + 16] += weight / w**2 * sample, for the pixels (down, right)[at : at + 16] of a tile.

        views (n,) float32, or int16 and then samples LARGEST times as large; the one wanted begins at `start`, with
        `stride` from one row to the next (0: the same row again). place: 9 coefficients of (w*column, w*row, w):
        constant, per column and per row of the tile. ends: last column and row. Unless `anywhere`, the pixels are known
        to fall on the detector, and not near its end: reading memory depends on it.
        """

        def codegen(context, builder, signature, arguments):
            def data(k: int) -> Any:
                return context.make_array(signature.args[k])(context, builder, arguments[k]).data

            def scalars(k: int) -> list[Lanes]:
                count = len(signature.args[k])
                return [Lanes.of(builder, builder.extract_value(arguments[k], n)) for n in range(count)]

            fixed = signature.args[0].dtype == types.int16
            unit = ONE if fixed else 1
            columns, rows = (Lanes.load(builder, data(k), arguments[5]) for k in (3, 4))
            c = [number * unit if k < 6 else number for k, number in enumerate(scalars(6))]
            u, v, w = (c[k] + columns * c[k + 1] + rows * c[k + 2] for k in (0, 3, 6))
            near = (w.at_least(MIN_DEPTH) if anywhere else w).inverse()
            depth, limits = near * near, [end * unit for end in scalars(7)]
            places = [u * near, v * near]
            if anywhere:
                clamped = [place.at_least(0).at_most(end) for place, end in zip(places, limits, strict=True)]
                for before, after in zip(places, clamped, strict=True):
                    depth = depth.only(before - after >= -unit / 2).only(before - after <= unit / 2)
                places, depth = clamped, depth.only(w > MIN_DEPTH)
            split, blend = (_split_fixed, _blend_fixed) if fixed else (_split_real, _blend_real)
            (column, a), (row, b) = (
                split(place, end if anywhere else None) for place, end in zip(places, limits, strict=True)
            )
            lower = builder.gep(data(0), [arguments[1]])
            pointers = [lower, builder.gep(lower, [arguments[2]])]
            sample = blend(pointers, column + row * Lanes.of(builder, arguments[2]), a, b)
            sums = Lanes.load(builder, data(9), arguments[10]) + depth * Lanes.of(builder, arguments[8]) * sample
            sums.store(data(9), arguments[10])
            return context.get_dummy_value()

        number = types.int64
        kinds = (views, number, number, right, down, number, place, ends, types.float32, total, number)
        return types.void(*kinds), codegen

    return intrinsic(add_samples)


add_samples_inside: Any = _add_samples(anywhere=False)
add_samples_anywhere: Any = _add_samples(anywhere=True)
