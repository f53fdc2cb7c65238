"""The scan that the demo makes by itself: balls moving in a glass of water, seen by a cone-beam scanner.

Everything is known in closed form, so that tests can compare with the truth: the line integral of a ray is the sum
of its chords through cylinders and balls, and a point's attenuation is the sum of what contains it. Each projection
shows the object at its own time (mid-exposure; the balls stand still during an exposure).

The motion has a period of PERIOD_TURNS turns of the scanner, so a recording of a multiple of that length can be
replayed in a loop without a jump.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, Vector, rotate_about_z
from tango_jit.recordings import NXtomoWriter
from tango_jit.streams.messages import Dark, Flat, Header, Image

VIEWS_A_TURN = 150
PERIOD_TURNS = 8
FRAME_PERIOD_S = 0.024
PHOTONS = 3500.0
"""Photons per pixel in the open beam: the slice of one turn has a signal-to-noise ratio of about 4 in the water."""
OFFSET, READOUT_NOISE, AVERAGED = 100.0, 4.0, 64  # counts, counts (std), frames in each of the dark and flat means
MAX_PHOTONS = 60000.0  # more would saturate 16 bits
_GAIN, _DARK, _FLAT = 2**62, 2**62 + 1, 2**62 + 2  # random streams beside those of the frames

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ball:
    """A ball swinging along a line: centre = center + swing * sin(2 pi (cycles * time / period + phase)).

    `excess_per_mm` is its attenuation minus that of the water.
    """

    center_mm: Vector
    radius_mm: float
    excess_per_mm: float
    swing_mm: Vector = (0.0, 0.0, 0.0)
    cycles: int = 1
    phase: float = 0.0

    def center(self, time: float) -> Array:
        """(3,) in mm; `time` in periods."""
        return np.array(self.center_mm) + np.array(self.swing_mm) * np.sin(
            2 * np.pi * (self.cycles * time + self.phase)
        )


@dataclass(frozen=True)
class Scene:
    """A cylinder of water in a glass wall, on the rotation axis, with balls in it."""

    balls: tuple[Ball, ...]
    inner_mm: float = 24.5
    outer_mm: float = 26.0
    half_height_mm: float = 24.0
    water_per_mm: float = 0.02
    wall_per_mm: float = 0.04

    def attenuation(self, points_mm: ArrayLike, time: float) -> Array:
        """Attenuation in 1/mm at points (..., 3); `time` in periods."""
        points = np.asarray(points_mm, np.float64)
        radius = np.hypot(points[..., 0], points[..., 1])
        value = np.where(radius <= self.inner_mm, self.water_per_mm, self.wall_per_mm * (radius <= self.outer_mm))
        value = np.where(np.abs(points[..., 2]) <= self.half_height_mm, value, 0.0)
        for ball in self.balls:
            value += ball.excess_per_mm * (np.linalg.norm(points - ball.center(time), axis=-1) <= ball.radius_mm)
        return value


SCENE = Scene(
    (
        Ball((0.0, 0.0, 0.0), 4.0, 0.020, swing_mm=(0.0, 0.0, 3.0)),
        Ball((13.0, 0.0, 1.0), 5.0, 0.012, swing_mm=(0.0, 3.0, 0.0), phase=0.25),
        Ball((-12.0, 4.0, -2.0), 4.5, -0.020, swing_mm=(1.0, 0.0, 3.0), phase=0.5),
        Ball((-5.0, -13.0, 0.0), 3.5, 0.030, swing_mm=(3.0, 0.0, 0.0)),
        Ball((3.0, 13.0, 2.0), 4.0, -0.020, swing_mm=(2.0, 0.0, 2.0), phase=0.7),
        Ball((8.0, -9.0, -3.0), 2.0, 0.025, swing_mm=(0.0, 0.0, 1.5), cycles=2, phase=0.1),
        Ball((0.0, 5.0, 14.0), 4.0, 0.015, swing_mm=(2.5, 0.0, 0.0), phase=0.3),
        Ball((4.0, 0.0, -14.0), 5.0, -0.012, swing_mm=(0.0, 2.5, 0.0), phase=0.6),
    )
)


class Projector:
    """Exact line integrals of a scene on a detector: built once, called for each view."""

    def __init__(self, scene: Scene, geometry: ScanGeometry) -> None:
        self._scene, self._shape = scene, (geometry.rows, geometry.cols)
        self._foot, self._along = _rays(geometry)
        self._foot_squared = (self._foot**2).sum(axis=0)
        # The vessel stands on the axis: it looks the same from every side.
        inner = _cylinder_chord(self._foot, self._along, scene.inner_mm, scene.half_height_mm)
        outer = _cylinder_chord(self._foot, self._along, scene.outer_mm, scene.half_height_mm)
        self._vessel = scene.water_per_mm * inner + scene.wall_per_mm * (outer - inner)

    def __call__(self, angle_rad: float, time: float) -> Array:
        """(rows, cols): attenuation integrated along the ray of every pixel centre; `time` in periods."""
        balls = self._scene.balls
        if not balls:
            return self._vessel.reshape(self._shape)
        # Turning the balls backwards is cheaper than turning all rays.
        centers = rotate_about_z([ball.center(time) for ball in balls], [-angle_rad])[0]
        radii = np.array([ball.radius_mm for ball in balls])
        inside = (radii**2 - (centers**2).sum(axis=1))[:, None] - self._foot_squared  # radius^2 - distance^2 ...
        inside += 2 * (centers @ self._foot)
        inside += (centers @ self._along) ** 2  # ... as the foot is at right angles to the ray
        half_chords = np.sqrt(np.maximum(inside, 0.0))  # (balls, rays)
        excess = np.array([ball.excess_per_mm for ball in balls])
        return (self._vessel + 2 * excess @ half_chords).reshape(self._shape)


def _rays(geometry: ScanGeometry) -> tuple[Array, Array]:
    """The ray of each pixel centre at angle 0: its point nearest to the origin, its unit direction; (3, rays) each."""
    u, v = np.array(geometry.u_mm), np.array(geometry.v_mm)
    across = np.arange(geometry.cols)[None, :, None] - (geometry.cols - 1) / 2
    up = np.arange(geometry.rows)[:, None, None] - (geometry.rows - 1) / 2
    pixels = (np.array(geometry.detector_mm) + across * u + up * v).reshape(-1, 3)
    source = np.array(geometry.source_mm)
    along = pixels - source if geometry.beam == "cone" else np.broadcast_to(source, pixels.shape)
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    foot = pixels - (pixels * along).sum(axis=1, keepdims=True) * along
    return np.ascontiguousarray(foot.T), np.ascontiguousarray(along.T)


def _cylinder_chord(start: Array, along: Array, radius: float, half_height: float) -> Array:
    """Chord (rays,) through a cylinder about the z axis: where the ray is within its mantle and between its ends."""
    x, y, z = start
    dx, dy, dz = along
    a, b, c = dx**2 + dy**2, x * dx + y * dy, x**2 + y**2 - radius**2
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    dz = np.where(np.abs(dz) < 1e-12, 1e-12, dz)  # a level ray meets the ends far away, or never
    ends = np.sort([(-half_height - z) / dz, (half_height - z) / dz], axis=0)
    enter, leave = np.maximum((-b - root) / a, ends[0]), np.minimum((-b + root) / a, ends[1])
    return np.maximum(leave - enter, 0.0)


def scanner() -> ScanGeometry:
    """256 x 256 pixels of 0.5 mm, magnification 2: the field of view at the axis has a radius of 31.7 mm."""
    return ScanGeometry.cone(rows=256, cols=256, pixel_mm=0.5, source_axis_mm=250.0, source_detector_mm=500.0)


def truth(slice_geometry: SliceGeometry, time_s: float, *, frame_period_s: float = FRAME_PERIOD_S) -> Array:
    """Attenuation (rows, cols) in 1/mm at the pixel centres of a slice, `time_s` after the start of the recording."""
    return SCENE.attenuation(slice_geometry.points(), time_s / (PERIOD_TURNS * VIEWS_A_TURN * frame_period_s))


def simulate(
    path: str | os.PathLike[str],
    *,
    turns: int = PERIOD_TURNS,
    seed: int = 0,
    i0: float = PHOTONS,
    frame_period_s: float = FRAME_PERIOD_S,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the recording as NXtomo, VIEWS_A_TURN frames a turn.

    Counts are Poisson noise around `i0` photons times the gain of each pixel (one count a photon), plus offset and
    readout noise. The same seed gives the same file. `progress(done, total)` is called after each frame. The file
    appears when it is complete; an existing one is replaced.
    """
    if not 1 <= turns <= 10000 or not 1 <= i0 <= MAX_PHOTONS or not frame_period_s > 0 or seed < 0:
        raise ValueError(
            f"simulate: expected 1 to 10000 turns, 1 to {MAX_PHOTONS:g} photons, a frame period above 0 s and a "
            f"seed from 0, got {turns}, {i0}, {frame_period_s} and {seed}"
        )
    geometry, total = scanner(), turns * VIEWS_A_TURN
    header = Header(
        "balls", "raw", geometry, False, exposure_s=frame_period_s, name="simulated balls in a glass of water"
    )
    open_beam = i0 * _gain(geometry, seed)
    dark, flat = _means(header.series, open_beam, seed)
    project = Projector(SCENE, geometry)
    unfinished = f"{os.fspath(path)}.part"
    if os.path.exists(unfinished):
        os.remove(unfinished)
    with NXtomoWriter(unfinished, header, dark, flat) as writer:
        for frame in range(total):
            turn = (frame + 0.5) / VIEWS_A_TURN  # mid-exposure
            photons = open_beam * np.exp(-project(2 * np.pi * turn, turn / PERIOD_TURNS))
            random = _random(seed, frame)
            counts = random.poisson(photons) + random.normal(OFFSET, READOUT_NOISE, photons.shape)
            data = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
            writer.append(Image(header.series, frame, 2 * np.pi * turn, (frame + 0.5) * frame_period_s, data, None))
            if progress is not None:
                progress(frame + 1, total)
    os.replace(unfinished, path)


def _random(seed: int, stream: int) -> np.random.Generator:
    """Independent numbers for every frame, whatever order they are made in."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


def _gain(geometry: ScanGeometry, seed: int) -> Array:
    """Sensitivity (rows, cols), at most about 1.05: the beam is weaker at the corners, and pixels differ by 1 %."""
    y, x = np.meshgrid(np.linspace(-1, 1, geometry.rows), np.linspace(-1, 1, geometry.cols), indexing="ij")
    return (1 - 0.1 * (x**2 + y**2)) * (1 + 0.01 * _random(seed, _GAIN).standard_normal(x.shape))


def _means(series: str, open_beam: Array, seed: int) -> tuple[Dark, Flat]:
    """Dark and flat, each the mean of AVERAGED frames. (A sum of Poisson counts is one Poisson count.)"""
    noise = READOUT_NOISE / np.sqrt(AVERAGED)
    random = _random(seed, _DARK)
    dark = random.normal(OFFSET, noise, open_beam.shape)
    random = _random(seed, _FLAT)
    flat = random.poisson(open_beam * AVERAGED) / AVERAGED + random.normal(OFFSET, noise, open_beam.shape)
    return Dark(series, dark.astype(np.float32), AVERAGED), Flat(series, flat.astype(np.float32), AVERAGED)
