"""Measured scans as endless streams. Some of their views are held out: these alone make the reference.

The views of a scan are taken apart into interleaved rotations: of `step` rotations, number r has views r, r + step,
r + 2 step and so on. Whole rotations are held out. The others follow each other, again and again, and the angles go
on, as if the stage had never stopped. So the noise of the reference is not that of any slice of the stream; it is
not small, though, and caps the PSNR. Where few views are held out (walnut), so do the streaks that they leave.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.experiment import Experiment, Image, Target
from benchmarks.lab.windows import window_of
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recordings import open_recording
from tests import real_scans


class Scan(NamedTuple):
    """All views of one turn (of half a turn, if the beam is parallel), filtered, in the order of their angles."""

    geometry: ScanGeometry
    views: Image  # (n, rows, cols) in mm^-1
    angles_rad: NDArray[np.float64]  # (n,) ascending

    def view(self, number: int, turns: int = 0) -> tuple[float, Image]:
        """Angle in rad and view (rows, cols) so many turns of `full_turn_rad` later."""
        view = self.views[number]
        if self.geometry.beam == "parallel" and turns % 2:
            # Half a turn later a parallel beam sees the mirror image; what lies outside it is taken from its edge.
            mirrored = np.rint(2 * self.geometry.axis_column - np.arange(self.geometry.cols)).astype(int)
            view = view[:, np.clip(mirrored, 0, self.geometry.cols - 1)]
        return float(self.angles_rad[number] + turns * self.geometry.full_turn_rad), view


@dataclass(frozen=True, eq=False)
class Rotations:
    """The stream: chosen rotations of a scan, of `step` interleaved ones, in a loop."""

    scan: Scan
    step: int
    chosen: Sequence[int]

    @property
    def views_a_turn(self) -> int:
        return len(self.scan.views) // self.step

    def filtered(self, k: int) -> Image:
        return self._view(k)[1]

    def angle_rad(self, k: int) -> float:
        return self._view(k)[0]

    def _view(self, k: int) -> tuple[float, Image]:
        turn, place = divmod(k, self.views_a_turn)
        return self.scan.view(self.chosen[turn % len(self.chosen)] + place * self.step, turn)


class _Source(NamedTuple):
    """Where a scan comes from, and the slice that is looked at: a square in the plane of the fan."""

    make: Callable[[Path], Path]  # writes the recording into a folder
    side: int  # pixels
    disc: float  # radius of the object, pixels
    pixel_mm: float | None = None  # None: the side is the field of view
    edge_extend: bool = False


def _source(name: str) -> _Source:
    if name.startswith("htc-"):
        make = partial(real_scans.htc, name=name.removeprefix("htc-"))
        return _Source(make, 512, 225.0, real_scans.HTC_PIXEL_MM)
    known = {
        "walnut": _Source(real_scans.walnut, 320, 0.46 * 320),
        "dendrite": _Source(real_scans.dendrite, 640, 0.46 * 640, edge_extend=True),
    }
    if name not in known:
        raise ValueError(f"scan: expected htc-PHANTOM or one of {', '.join(known)}, got {name!r}")
    return known[name]


def read(name: str) -> Scan:
    """`htc-PHANTOM`, `walnut` or `dendrite`. Raises ValueError for another one, OSError where the data are absent."""
    source = _source(name)
    with tempfile.TemporaryDirectory() as folder, open_recording(source.make(Path(folder))) as recording:
        geometry = recording.header.geometry
        lines = np.stack([recording.frame(index).data for index in range(len(recording))])  # (n, 1, cols)
        angles_rad = np.array(recording.angles_rad, np.float64)
    return Scan(geometry, Preprocessor(geometry, linear=True, edge_extend=source.edge_extend)(lines), angles_rad)


def real(name: str, views_a_turn: int, held: Sequence[int] | None = None) -> Experiment:
    """A scan as a stream of rotations of so many views.

    `held`: the rotations, from 0, that are held out; None: every other one, those of odd number.
    Raises ValueError for an unknown scan, rotations that do not come out even, or none to hold out or to stream.
    """
    source, scan = _source(name), read(name)
    step, rest = divmod(len(scan.views), views_a_turn)
    if rest:
        raise ValueError(f"views_a_turn: expected a divisor of {len(scan.views)}, got {views_a_turn}")
    held = range(1, step, 2) if held is None else sorted({*held})
    chosen = [rotation for rotation in range(step) if rotation not in held]
    if not chosen or not held or not {*held} <= {*range(step)}:
        raise ValueError(f"held: expected some of the rotations 0 to {step - 1}, but not all, got {[*held]}")
    geometry = scan.geometry
    shape = source.side, source.side
    pixel_mm = source.pixel_mm or 2 * geometry.radius_mm / source.side
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=pixel_mm, shape=shape)
    row, col = np.mgrid[: source.side, : source.side] - (source.side - 1) / 2
    target = Target(place, np.hypot(row, col) < source.disc, {"held_out": reference(scan, step, held, place)})
    stream = Rotations(scan, step, chosen)
    return Experiment(
        f"{name}-{views_a_turn}", geometry, views_a_turn, views_a_turn * len(chosen), True, stream, {"xy": target}
    )


def reference(scan: Scan, step: int, held: Sequence[int], place: SliceGeometry) -> Image:
    """The slice (rows, cols) in mm^-1 of the rotations that are held out."""
    numbers = [number for number in range(len(scan.views)) if number % step in held]
    # The first view comes again after the turn and replaces itself: the window is full, however uneven the steps.
    window = window_of(scan.geometry, [*(scan.view(number) for number in numbers), scan.view(numbers[0], 1)])
    if len(window.frames) != len(numbers):
        raise ValueError(f"held: expected a window of {len(numbers)} views, got {len(window.frames)}")
    return full_slice(Reconstructor(scan.geometry).reconstruct(window, place))
