"""Bubbles in closed form: any moment can be asked for by itself, and two of them never overlap.

The liquid is divided into lanes, upright or fanning out from a narrow source: cones with one apex, whose
cross-sections are discs that do not touch. Each bubble stays in its lane. Lane l has a phase p(t) that grows with time;
bubble k of the lane has the age q = p(t) - k, and one function of q says how high its foot is:

    q < 0               it is not there yet
    0 ... attached      it hangs on the bottom and grows
    ... risen           it rises, faster towards the top, swaying within its lane
    beyond              it is part of the foam, pushed up by those that follow; two neighbours merge into one, which
                        swells until it fills its lane, and bursts at the top of the foam

As the foot of a bubble is always at least a diameter above that of its follower, nothing in a lane overlaps either.
What is random about a bubble (size, sway) is a hash of seed, lane and k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim import packing
from sim.scenario import Bubbles
from sim.solids import Array, Ellipsoids

GAP_MM = 0.06  # of liquid between two lanes; at least half of that between two bubbles
SMALLEST, FILLS = 0.7, 0.78  # radius of a bubble, as part of its lane's: merged ones grow by 1.26
FULL = 0.98  # of its lane's radius has a bubble in a drained foam
BIRTH = 0.15  # of its radius is a bubble's when it appears
SWAY = 0.25  # relative change of a lane's rate


@dataclass(frozen=True, eq=False)
class _Lanes:
    """All of shape (lanes,): foot of the lane, its place and radius, and what it does."""

    x: Array
    y: Array
    radius: Array
    bottom: Array
    safety: Array  # a leaning cone holds a smaller ball
    rate: Array
    attached: Array  # age at which a bubble lets go
    risen: Array  # age at which it arrives
    phase: Array
    sway: Array


class Plume:
    """One population of bubbles (`Bubbles`), with the excess attenuation (energies,) in 1/mm of its gas."""

    def __init__(
        self,
        spec: Bubbles,
        excess_per_mm: ArrayLike,
        seed: int,
        stream: int,
        *,
        obstacle: tuple[float, float, float, float] | None = None,
        loop_s: float | None = None,
    ) -> None:
        """`obstacle`: x, y, radius and top of what stands on the bottom. `loop_s`: everything has this period.

        Raises ValueError where no lane fits.
        """
        self._spec, self._excess, self._loop_s = spec, np.asarray(excess_per_mm, np.float64), loop_s
        self._salt = np.uint64((seed * 1000003 + stream) & 0xFFFFFFFFFFFFFFFF)
        random = np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
        found = packing.discs(random, spec.radius_mm, spec.region_radius_mm, GAP_MM, spec.lanes)
        if len(found) == 0:
            raise ValueError(
                f"bubbles: expected lanes of {spec.radius_mm} mm to fit into a circle of {spec.region_radius_mm} mm"
            )
        self._lanes = self._planned(random, found, obstacle)

    def _planned(
        self, random: np.random.Generator, found: Array, obstacle: tuple[float, float, float, float] | None
    ) -> _Lanes:
        spec, (x, y, radius) = self._spec, found.T
        bottom = np.full(len(x), spec.bottom_mm)
        if obstacle is not None:
            near = np.hypot(spec.narrow * x - obstacle[0], spec.narrow * y - obstacle[1])
            bottom[near - spec.narrow * radius <= obstacle[2]] = obstacle[3]
        if (bottom >= spec.surface_mm).any():
            raise ValueError(f"bubbles: expected a surface above {bottom.max():g} mm, got {spec.surface_mm:g}")
        lean = np.hypot(x, y) * (1 - spec.narrow) / (spec.surface_mm - bottom)
        slowest, fastest = sorted(spec.rise_mm_s)
        takes = 2 * (spec.surface_mm - bottom) / (slowest + fastest)
        largest = FILLS * radius
        rate = spec.rate_hz * np.exp(0.3 * random.standard_normal(len(x)))
        # A bubble has to be out of the way before its follower lets go, with room for the changing rate.
        most = 1 / (spec.growth_s + (2 * largest + GAP_MM) / slowest) / (1 + SWAY)
        rate = np.minimum(rate, 0.8 * most)
        if self._loop_s is not None:
            whole = 2 if spec.foam_mm else 1  # in a foam two merge
            rate = whole * np.maximum(np.floor(rate * self._loop_s / whole), 1) / self._loop_s
            if (rate > most).any():
                raise ValueError(
                    f"loop_s: expected at least {(whole / most).max():.1f} s for bubbles that rise as slowly as "
                    f"{slowest:g} mm/s, got {self._loop_s:g}"
                )
        attached = np.minimum(spec.growth_s * rate, 0.9)
        return _Lanes(
            x, y, radius, bottom, 1 / (1 + lean**2), rate, attached, attached + takes * rate,
            random.uniform(0, 1000, len(x)), random.uniform(0, 1, len(x)),
        )  # fmt: skip

    @property
    def places_mm(self) -> Array:
        """(lanes, 3): x and y of each lane at the surface, and its radius."""
        return np.stack([self._lanes.x, self._lanes.y, self._lanes.radius], axis=1)

    def at(self, time_s: float, slow_s: float) -> Ellipsoids:
        """The bubbles at a moment; `slow_s` is the time that the foam has had to grow."""
        spec, lanes = self._spec, self._lanes
        if not spec.from_s <= time_s < spec.until_s:
            return Ellipsoids.none(len(self._excess))
        top = spec.surface_mm + spec.foam_mm + spec.foam_growth_mm_s * slow_s
        phase = self._phase(time_s)
        oldest = lanes.risen + (top - spec.surface_mm) / (FULL * lanes.radius + GAP_MM / 2) + 3
        count = np.ceil(oldest).astype(np.int64) + 1
        lane = np.repeat(np.arange(len(count)), count)
        k: Array = np.floor(phase)[lane] - (np.arange(len(lane), dtype=np.float64) - (np.cumsum(count) - count)[lane])
        return self._shaped(lane, k, phase[lane] - k, time_s, top)

    def _phase(self, time_s: float) -> Array:
        """(lanes,): growing with time, now faster, now slower."""
        lanes = self._lanes
        period = 9.7 if self._loop_s is None else self._loop_s
        turn = 2 * np.pi * (time_s / period + lanes.sway)
        return lanes.phase + lanes.rate * (time_s + SWAY * period / (2 * np.pi) * np.sin(turn))

    def _shaped(self, lane: NDArray[np.int64], k: Array, age: Array, time_s: float, top: float) -> Ellipsoids:
        """Place, size and form of bubbles k of lanes, (n,) each, at their ages."""
        spec, lanes = self._spec, self._lanes
        radius, risen = lanes.radius[lane], lanes.risen[lane]
        fill = FILLS * (SMALLEST + (1 - SMALLEST) * self._chance(lane, k, 0)) * lanes.safety[lane]
        foot = self._foot(lane, age)
        merged, gone = self._merging(k, age - risen)
        partner = FILLS * (SMALLEST + (1 - SMALLEST) * self._chance(lane, k - 1, 0)) * lanes.safety[lane]
        fill = np.where(merged, np.cbrt(fill**3 + partner**3), fill)
        fill = np.where(merged, fill + (FULL - fill) * np.clip(2 * (age - risen - 1), 0, 1), fill)  # the foam drains
        grown = np.clip(age / lanes.attached[lane], 0, 1)
        fill = fill * np.where(age < lanes.attached[lane], BIRTH + (1 - BIRTH) * np.cbrt(grown), 1.0)
        center, wide = self._widened(lane, foot, fill * radius)
        size = fill * radius * wide
        rising = np.clip((age - lanes.attached[lane]) / (risen - lanes.attached[lane]), 0, 1)
        strength = np.sin(np.pi * rising)  # sways and flattens in the middle of its way
        aside = np.maximum(strength, np.clip(4 * (age - risen), 0, 1))  # and is pushed aside in the foam
        room = np.maximum(radius * wide * lanes.safety[lane] - size - GAP_MM / 2, 0) * aside
        hertz = spec.wobble_hz if self._loop_s is None else np.round(spec.wobble_hz * self._loop_s) / self._loop_s
        turn = 2 * np.pi * (hertz * np.where(rising < 1, time_s, 0.0) + self._chance(lane, k, 1))
        x = lanes.x[lane] * wide + room * np.cos(turn)
        y = lanes.y[lane] * wide + room * np.sin(turn)
        tilt = 0.35 * strength
        axes = np.stack([tilt * np.cos(turn), tilt * np.sin(turn), np.ones_like(tilt)], axis=1)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        keep = ~gone & (age >= 0) & (center + size + GAP_MM <= top) & (size > 0.02)
        flat = 1 - (1 - spec.flatness) * strength
        return Ellipsoids.spheroids(
            np.stack([x, y, center], axis=1)[keep], size[keep], flat[keep], axes[keep], self._excess
        )

    def _foot(self, lane: NDArray[np.int64], age: Array) -> Array:
        """Height of the lowest point of bubbles at their ages, in mm; it never falls with age."""
        spec, lanes = self._spec, self._lanes
        bottom, attached, risen = lanes.bottom[lane], lanes.attached[lane], lanes.risen[lane]
        part = np.clip((age - attached) / (risen - attached), 0, 1)
        slow, fast = (speed / sum(spec.rise_mm_s) for speed in sorted(spec.rise_mm_s))
        risen_mm = (spec.surface_mm - bottom) * (2 * slow * part + (fast - slow) * part**2)
        loose, dense = 2 * FILLS * lanes.radius[lane] + GAP_MM, FULL * lanes.radius[lane] + GAP_MM / 2
        foam = np.maximum(age - risen, 0)
        return bottom + GAP_MM / 2 + risen_mm + loose * np.minimum(foam, 3) + dense * np.maximum(foam - 3, 0)

    def _merging(self, k: Array, foam: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether a bubble has taken in its older neighbour; whether it was taken in itself. Pairs are (2m, 2m + 1)."""
        odd = np.mod(k, 2) == 1
        return odd & (foam >= 1), ~odd & (foam - 1 >= 1)

    def _widened(self, lane: NDArray[np.int64], foot: Array, size: Array) -> tuple[Array, Array]:
        """Height of the centre, and how wide the lane is there (1 at the surface and above).

        Lanes widen evenly from `narrow` at the bottom, bubbles with them: the equation for the height is linear.
        """
        spec, bottom = self._spec, self._lanes.bottom[lane]
        slope = (1 - spec.narrow) / (spec.surface_mm - bottom)
        center = (foot + size * (spec.narrow - slope * bottom)) / (1 - size * slope)
        center = np.where(foot + size >= spec.surface_mm, foot + size, center)
        return center, np.clip(spec.narrow + slope * (center - bottom), spec.narrow, 1.0)

    def _chance(self, lane: NDArray[np.int64], k: Array, purpose: int) -> Array:
        """Between 0 and 1, the same whenever it is asked for (SplitMix64)."""
        if self._loop_s is not None:
            k = np.mod(k, np.round(self._lanes.rate[lane] * self._loop_s))
        bits = (k.astype(np.int64).view(np.uint64) * np.uint64(8) + np.uint64(purpose)) ^ (
            lane.astype(np.uint64) << np.uint64(40)
        )
        bits = (bits + self._salt) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
        return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
