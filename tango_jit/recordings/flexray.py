"""FleX-ray folders: reader. `docs/reference/recordings.md` says what lies where and what has to be given."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import flexray_exact, flexray_geometry, flexray_options, flexray_settings, tiff
from tango_jit.recordings.flexray_exact import Exact
from tango_jit.recordings.flexray_folder import MEANS, Folder, TiffFrames, look
from tango_jit.recordings.flexray_options import COMPANION, FlexRayOptions
from tango_jit.recordings.flexray_settings import Settings
from tango_jit.recordings.hdf5 import RecordingError
from tango_jit.recordings.recording import Mean, Recording, check_fits, printable, rounds_to, settle_linear
from tango_jit.streams.messages import Header


@dataclass(frozen=True)
class _Scan:
    """What is known of the frames, (n,) each in the order of recording; `paths` by position."""

    geometry: ScanGeometry
    paths: list[str]
    numbers: NDArray[np.int64]
    angles_rad: NDArray[np.float64]
    timestamps_s: NDArray[np.float64]
    poses_mm: NDArray[np.float64] | None
    remarks: tuple[str, ...] = ()


class FlexRayReader(Recording):
    """A recorded scan in a FleX-ray folder, one TIFF for each frame. Frames come from the disk one at a time.

    What the folder does not say is taken from `options`, else from `tango-jit.toml` in the folder. `geometry` and
    `linear` replace what the folder says. Raises FileNotFoundError, or RecordingError that names file and key.
    `include_unwritten`: also those frames of a plan that are not written yet; they cannot be read.
    """

    format = "flexray"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        geometry: ScanGeometry | None = None,
        linear: bool | None = None,
        options: FlexRayOptions | None = None,
        include_unwritten: bool = False,
    ) -> None:
        if not os.path.isdir(path):
            raise FileNotFoundError(f"{os.fspath(path)}: expected a folder, but there is none")
        companion = os.path.join(os.fspath(path), COMPANION)
        folder = look(path, restart=_restart(options, companion))
        values = {} if folder.companion is None else flexray_options.load(folder.companion)
        where = folder.companion or companion
        options = (options or FlexRayOptions()).over(FlexRayOptions.from_dict(where, values.get("options", {})))
        exact = flexray_exact.read(values["exact"], where) if "exact" in values else None
        useless = set() if exact is None else set(options.to_dict()) - {"linear"}
        if useless:
            raise RecordingError(f"{where}: has exact values, so {', '.join(sorted(useless))} cannot be chosen")
        settings = None if folder.settings is None else flexray_settings.read(folder.settings)

        shape, dtype = _images(folder, exact)
        transpose, flip = bool(options.transpose), options.flip_rows is not False
        rows, cols = shape[::-1] if transpose else shape
        check_fits(folder.path, geometry, rows, cols)
        if exact is None:
            profiles = flexray_options.profiles(values.get("profiles", {}), where)
            profile = flexray_options.choose(options.profile or "none", profiles, folder.path)
            scan = _foreign(folder, settings, options, profile, geometry, (rows, cols))
        else:
            scan = _own(folder, settings, exact, geometry, include_unwritten)
        frames = TiffFrames(folder.path, scan.paths, shape, dtype, flip, transpose, scan.poses_mm)
        dark, flat = (partial(_mean, frames, folder, exact, kind) for kind in ("dark", "flat"))
        scenario = None if folder.scenario is None else _text(folder.scenario)
        super().__init__(
            frames,
            np.arange(len(scan.paths)),
            scan.numbers,
            scan.angles_rad,
            scan.timestamps_s,
            dark,
            flat,
            scenario=scenario,
            planned=None if exact is None else exact.planned,
            remarks=(*(settings.remarks if settings is not None else ()), *scan.remarks),
        )
        self.header = _header(folder, settings, exact, scan, linear if linear is not None else options.linear)


def _restart(options: FlexRayOptions | None, companion: str) -> bool:
    """Needed before all else: it says how files are numbered."""
    if options is not None and options.restart is not None:
        return options.restart
    if not os.path.isfile(companion):
        return False
    return bool(flexray_options.load(companion).get("options", {}).get("restart"))


def _images(folder: Folder, exact: Exact | None) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape as stored, and type, by the first image."""
    if exact is not None:
        shape, dtype = (exact.header.geometry.rows, exact.header.geometry.cols), exact.dtype
        if folder.scans and tiff.describe(folder.scans[0]) != (shape, dtype):
            raise RecordingError(
                f"{folder.scans[0]}: expected {shape} of {dtype} as in {COMPANION}, got "
                f"{' of '.join(map(str, tiff.describe(folder.scans[0])))}"
            )
        return shape, dtype
    if not folder.scans:
        raise RecordingError(f"{folder.path}: expected projections scan_000000.tif, ..., got none")
    return tiff.describe(folder.scans[0])


def _own(
    folder: Folder, settings: Settings | None, exact: Exact, geometry: ScanGeometry | None, unwritten: bool
) -> _Scan:
    """A folder that this project wrote: the exact values count, and must not contradict the settings."""
    if folder.table is None:
        raise RecordingError(f"{folder.path}: expected the table of frames frames.csv beside {COMPANION}, got none")
    scan = exact.header.geometry
    if settings is not None:
        ideal = flexray_geometry.scanner(settings, flexray_options.Profile(), scan.rows, scan.cols)
        if not flexray_geometry.agree(ideal, scan):
            raise RecordingError(
                f"{settings.path}: contradicts the exact geometry in {COMPANION}; correct one, or delete [exact] there"
            )
    table = flexray_exact.read_table(folder.table)
    there = dict(zip(folder.numbers.tolist(), folder.scans))
    unknown = sorted(set(there) - set(table.numbers.tolist()))
    if unknown:
        raise RecordingError(
            f"{there[unknown[0]]}: expected the frames of {folder.table}, which has none of that number"
        )
    if unwritten:
        keep = np.arange(len(table.numbers))
    else:
        keep = np.array([k for k, number in enumerate(table.numbers.tolist()) if number in there], np.int64)
    numbers = table.numbers[keep]
    return _Scan(
        geometry or scan,
        [there.get(number, os.path.join(folder.path, f"scan_{number:06d}.tif")) for number in numbers.tolist()],
        numbers,
        table.angles_rad[keep],
        table.timestamps_s[keep],
        None if table.poses_mm is None else table.poses_mm[keep],
    )


def _foreign(
    folder: Folder,
    settings: Settings | None,
    options: FlexRayOptions,
    profile: flexray_options.Profile,
    geometry: ScanGeometry | None,
    shape: tuple[int, int],
) -> _Scan:
    """A folder from elsewhere."""
    settings = settings or Settings(os.path.join(folder.path, flexray_settings.SCAN))
    vectors = None if folder.vectors is None or geometry is not None else _vectors(folder.vectors)
    numbers = folder.numbers
    if options.reverse:
        count = settings.projections or int(numbers.max()) + 1
        numbers = (count if vectors is None else len(vectors)) - 1 - numbers
    paths = dict(zip(numbers.tolist(), folder.scans))
    numbers = np.sort(numbers)
    if numbers[0] < 0 or (vectors is not None and numbers[-1] >= len(vectors)):
        lines = (
            f"the {len(vectors)} lines of {folder.vectors}"
            if vectors is not None
            else "the projections of the settings"
        )
        raise RecordingError(
            f"{folder.path}: expected numbers of {lines}, got {folder.numbers.min()} to {folder.numbers.max()}"
        )
    angles, keep = _angles(folder, settings, options, numbers, vectors)
    numbers, angles = numbers[keep], angles[keep]
    period = options.frame_period_s or settings.exposure_s or 0.0
    remarks = ()
    if vectors is not None:
        first = vectors[numbers[0]]
        scan = ScanGeometry.from_astra("cone", first, rows=shape[0], cols=shape[1], angle_rad=float(angles[0]))
    elif geometry is not None:
        scan = geometry
    else:
        if options.transpose:
            raise RecordingError(
                f"{folder.path}: transposed images need an exact geometry: a .geom table of 12 columns, or give one"
            )
        scan = flexray_geometry.scanner(settings, profile, *shape, options.roi_rows or "up")
        remarks = _geometry_remarks(settings, options)
    return _Scan(
        scan,
        [paths[number] for number in numbers.tolist()],
        numbers,
        angles,
        numbers.astype(np.float64) * period,
        None if vectors is None else vectors[numbers],
        remarks,
    )


def _geometry_remarks(settings: Settings, options: FlexRayOptions) -> tuple[str, ...]:
    remarks = list[str]()
    if options.profile is None and not settings.shifted:
        remarks.append("no calibration profile: the motor positions are taken as they are")
    if settings.roi is not None and options.roi_rows is None and flexray_geometry.roi_shift(settings.roi)[1]:
        remarks.append("the region of interest is off the middle row: its rows are counted from the lowest (roi_rows)")
    return tuple(remarks)


def _angles(
    folder: Folder,
    settings: Settings,
    options: FlexRayOptions,
    numbers: NDArray[np.int64],
    vectors: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Angles (n,) in rad of the frames with `numbers`, and which of them to keep."""
    every = np.ones(len(numbers), bool)
    thetas = None if settings.thetas_deg is None else np.deg2rad(settings.thetas_deg)
    explicit = None if options.angles_rad is None else np.array(options.angles_rad)
    if explicit is None and vectors is not None:
        explicit = flexray_geometry.angles_of(vectors)
    if explicit is None and options.views_per_turn is None:
        explicit = thetas
    if explicit is not None:
        if numbers[-1] >= len(explicit):
            raise RecordingError(
                f"{folder.path}: expected an angle for each number, got {len(explicit)} for numbers up to {numbers[-1]}"
            )
        step = abs(explicit[-1] - explicit[0]) / max(len(explicit) - 1, 1)
        repeats = abs(abs(explicit[-1] - explicit[0]) - 2 * math.pi) < 0.01 * step
        return explicit[numbers], np.where(repeats, numbers != len(explicit) - 1, every)
    known = None if folder.series else flexray_geometry.single_turn(settings, numbers)
    if options.views_per_turn is None and known is not None:
        angles, keep = known
        return angles * (options.direction or 1) + (options.phase_rad or 0.0), keep
    return flexray_geometry.continuous(folder.path, options, numbers), every


def _vectors(path: str) -> NDArray[np.float64]:
    """ASTRA rows (n, 12) in mm."""
    try:
        found = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: expected 12 numbers in each line, got {error}") from error
    if found.shape[1:] != (12,) or not np.isfinite(found).all():
        raise RecordingError(f"{path}: expected 12 finite numbers in each line, got {found.shape[1]} columns")
    return found


def _header(folder: Folder, settings: Settings | None, exact: Exact | None, scan: _Scan, linear: bool | None) -> Header:
    flats = bool(folder.flats) or (exact is not None and exact.flat_count is not None)
    said = None if exact is None else exact.header.linear
    is_linear = settle_linear(folder.path, linear, said, flats, f"linear in {COMPANION}")
    if exact is not None:
        header = exact.header
        return Header(**{**vars(header), "geometry": scan.geometry, "linear": is_linear})
    series = printable(os.path.basename(os.path.abspath(folder.path))) or "recording"
    exposure, name = (None, "") if settings is None else (settings.exposure_s, printable(settings.name))
    return Header(series, "raw", scan.geometry, is_linear, exposure_s=exposure, name=name)


def _mean(frames: TiffFrames, folder: Folder, exact: Exact | None, kind: str) -> Mean:
    """(mean, how many), None where there are none; the exact mean where this project wrote one."""
    paths = folder.darks if kind == "dark" else folder.flats
    count = None if exact is None else (exact.dark_count if kind == "dark" else exact.flat_count)
    if count is None:
        return (frames.mean(paths), len(paths)) if paths else None
    path = os.path.join(folder.path, MEANS[kind])
    mean = frames.mean([path])
    if paths and not rounds_to(mean, frames.mean(paths), np.dtype("uint16")):
        raise RecordingError(f"{path}: contradicts {', '.join(map(os.path.basename, paths))}; delete the wrong one")
    return mean, count


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
