"""Simulated experiments: their frames, filtered, are made once and kept in the user's cache.

A file there belongs to one scenario, number of turns and version. Whoever changes the simulator or the filters within
a version has to count `FORMAT` up, or what was made before is used on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import platformdirs
from numpy.typing import NDArray

from benchmarks.lab.experiment import Experiment, Target
from benchmarks.lab.windows import window_of
from sim.experiment import Experiment as Simulation
from sim.scenario import Scenario, load
from sim.truth import in_view
from tango_jit import __version__
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor

FORMAT = 1
KEPT = 8  # files; one of ten turns has 370 MB
PHOTONS = 2400.0
KINDS = "noise_free", "object"


@dataclass(frozen=True, eq=False)
class Recorded:
    """The stream."""

    views: NDArray[np.float16]  # (n, rows, cols) in mm^-1
    angles_rad: NDArray[np.float64]  # (n,) unwrapped

    def filtered(self, k: int) -> NDArray[np.float16]:
        return np.asarray(self.views[k])

    def angle_rad(self, k: int) -> float:
        return float(self.angles_rad[k])


def simulated(
    name: str,
    *,
    turns: int = 10,
    binning: int = 2,
    photons: float = PHOTONS,
    start_s: float = 0.0,
    cache: Path | None = None,
) -> Experiment:
    """A scenario by its name, with approximate noise; references of its last turn: `noise_free` and `object`.

    `photons` for each binned pixel and frame; `start_s`: how long the experiment has been going on at the first frame.
    `cache`: a folder; None: the user's. What is not there is made, which takes a minute or two.
    Raises ScenarioError, FileNotFoundError for an unknown scenario, OSError.
    """
    scenario = scenario_of(name, binning=binning, photons=photons, start_s=start_s)
    geometry, views_a_turn = scenario.scanner.geometry, scenario.scanner.views_a_turn
    frames = turns * views_a_turn
    path = _prepared(scenario, frames, cache)
    with np.load(path.with_suffix(".npz")) as stored:
        angles_rad, pictures = stored["angles_rad"], {kind: stored[kind] for kind in KINDS}  # (places, rows, cols)
    targets = {
        name: Target(place, in_view(geometry, place), {kind: pictures[kind][number] for kind in KINDS})
        for number, (name, place) in enumerate(places_of(geometry).items())
    }
    stream = Recorded(np.load(path, mmap_mode="r"), angles_rad)
    shown = scenario.name if start_s == 0 else f"{scenario.name}-{start_s:g}s"
    return Experiment(shown, geometry, views_a_turn, frames, False, stream, targets)


def scenario_of(name: str, *, binning: int = 2, photons: float = PHOTONS, start_s: float = 0.0) -> Scenario:
    """What `simulated` simulates."""
    plain = load(name)
    return plain.with_(fast=True, start_s=start_s, photons=photons, scanner=plain.scanner.binned(binning))


def places_of(geometry: ScanGeometry) -> dict[str, SliceGeometry]:
    """A horizontal and a vertical slice: squares of voxels, three quarters of the field of view wide."""
    directions, side = {"xy": (0, -1, 0), "xz": (0, 0, -1)}, geometry.cols * 3 // 4
    return {
        name: SliceGeometry.centered((0, 0, -5), (1, 0, 0), down, pixel_mm=geometry.voxel_mm, shape=(side, side))
        for name, down in directions.items()
    }


def noise_free_views(simulation: Simulation, numbers: Iterable[int]) -> Iterator[tuple[float, NDArray[np.float16]]]:
    """Filtered views (rows, cols) of frames without noise, each after its angle in rad."""
    preprocess = Preprocessor(simulation.geometry, linear=True, dtype=np.float16)
    for frame in simulation.noise_free_frames(numbers):
        yield frame.angle_rad, np.asarray(preprocess(frame.data[None])[0])


def _prepared(scenario: Scenario, frames: int, cache: Path | None) -> Path:
    """The file (.npy) of filtered views (frames, rows, cols); beside it (.npz) lie their angles and references."""
    folder = cache or platformdirs.user_cache_path("tango-jit") / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{__version__} {FORMAT} {frames}\n{scenario.to_toml()}"
    path = folder / f"{scenario.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npy"
    beside = path.with_suffix(".npz")
    if not (path.exists() and beside.exists()):
        simulation = Simulation(scenario)
        with TemporaryDirectory(dir=folder, prefix="unfinished-") as private:  # two may be making it at once
            made = Path(private) / path.name
            _write_views(simulation, frames, made)
            _write_references(simulation, frames, made.with_suffix(".npz"))
            made.with_suffix(".npz").replace(beside)
            made.replace(path)
    os.utime(path)  # it is used
    prune(folder)
    return path


def prune(folder: Path) -> None:
    """Remove all but the files that were used last, each with what lies beside it."""
    by_use = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_use[KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".npz").unlink(missing_ok=True)


def _write_views(simulation: Simulation, frames: int, path: Path) -> None:
    """Filtered as the pipeline does it."""
    geometry = simulation.geometry
    preprocess = Preprocessor(geometry, dark=simulation.dark().mean, flat=simulation.flat().mean, dtype=np.float16)
    views = np.lib.format.open_memmap(path, "w+", np.float16, (frames, geometry.rows, geometry.cols))
    for number, frame in enumerate(simulation.frames(range(frames))):
        views[number] = preprocess(frame.data[None])[0]
    views.flush()


def _write_references(simulation: Simulation, frames: int, path: Path) -> None:
    """Of the last turn: from noise-free frames, and the object itself."""
    geometry, places = simulation.geometry, places_of(simulation.geometry).values()
    numbers = range(frames - simulation.scenario.scanner.views_a_turn, frames)
    window = window_of(geometry, noise_free_views(simulation, numbers))
    reconstructor = Reconstructor(geometry)
    np.savez(
        path,
        angles_rad=np.array([simulation.angle_rad(number) for number in range(frames)]),
        noise_free=np.stack([full_slice(reconstructor.reconstruct(window, place)) for place in places]),
        object=np.stack([simulation.mean_truth(place, numbers).astype(np.float32) for place in places]),
    )
