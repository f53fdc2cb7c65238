"""What lies in a FleX-ray folder: projections by number, darks, flats, settings."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango_jit.recordings import flexray_settings, tiff
from tango_jit.recordings.flexray_options import COMPANION
from tango_jit.recordings.hdf5 import RecordingError

TABLE, SCENARIO, MEANS = "frames.csv", "scenario.toml", {"dark": "dark_mean.tif", "flat": "flat_mean.tif"}
_IMAGE = re.compile(r"(scan_|di|io)(\d+)\.tiff?$", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """Paths. `numbers` (n,) sorted, `scans` the file of each; None: there is no such file.

    `series`: it is, or is part of, a series in `pre_scan`, `scan_1`, ...: one of many turns, whatever the settings say.
    """

    path: str
    series: bool
    numbers: NDArray[np.int64]
    scans: Sequence[str]
    darks: Sequence[str]
    flats: Sequence[str]
    settings: str | None
    vectors: str | None
    companion: str | None
    table: str | None
    scenario: str | None


def look(path: str | os.PathLike[str], *, restart: bool) -> Folder:
    """The content of a folder, or of a series in `pre_scan`, `scan_1`, `scan_2`, ...; `restart` as in FlexRayOptions.

    Raises RecordingError for TIFF files of other names, and for numbers that occur twice.
    """
    root = os.path.normpath(os.fspath(path))
    with os.scandir(root) as entries:
        folders = [entry for entry in entries if entry.is_dir()]
    parts = sorted(
        (int(found.group(1)), entry.path) for entry in folders if (found := re.fullmatch(r"scan_(\d+)", entry.name))
    )
    own = _images(root)
    if parts and own["scan_"]:
        raise RecordingError(f"{root}: expected projections in it or in scan_1, scan_2, ..., got both")
    scans = [own["scan_"]] if not parts else [_images(part)["scan_"] for _, part in parts]
    numbers, files = _joined(root, [scan for scan in scans if scan], restart)
    beside = os.path.join(root, "pre_scan")
    if not os.path.isdir(beside) and re.fullmatch(r"scan_\d+", os.path.basename(os.path.abspath(root))):
        beside = os.path.join(os.path.dirname(os.path.abspath(root)), "pre_scan")  # that of the series
    series = bool(parts) or os.path.isdir(beside)
    before = _images(beside) if os.path.isdir(beside) and not own["di"] and not own["io"] else own
    places = [root, beside]
    tables = sorted(x for folder in places for x in glob.glob(os.path.join(glob.escape(folder), "*.geom")))
    if len(tables) > 1:
        raise RecordingError(f"{root}: expected one .geom table, got {', '.join(map(os.path.basename, tables))}")
    companion, table, scenario = (_first(places, name) for name in (COMPANION, TABLE, SCENARIO))
    return Folder(
        root,
        series,
        numbers,
        files,
        [path for _, path in before["di"]],
        [path for _, path in before["io"]],
        flexray_settings.find(places),
        tables[0] if tables else None,
        companion,
        table,
        scenario,
    )


def _first(folders: Sequence[str], name: str) -> str | None:
    return next((path for path in (os.path.join(folder, name) for folder in folders) if os.path.isfile(path)), None)


def _images(folder: str) -> dict[str, list[tuple[int, str]]]:
    """(number, path) of the projections (scan_), darks (di) and flats (io), sorted by the number in the name."""
    found: dict[str, list[tuple[int, str]]] = {"scan_": [], "di": [], "io": []}
    with os.scandir(folder) as entries:
        files = list(entries)
    for entry in files:
        if not entry.name.lower().endswith((".tif", ".tiff")) or entry.name in MEANS.values():
            continue
        match = _IMAGE.fullmatch(entry.name)
        if match is None:
            raise RecordingError(
                f"{entry.path}: expected TIFF files named scan_NUMBER, diNUMBER (dark) or ioNUMBER (flat), got this; "
                "move it elsewhere"
            )
        found[match.group(1).lower()].append((int(match.group(2)), entry.path))
    for images in found.values():
        images.sort()
        for one, other in itertools.pairwise(images):
            if one[0] == other[0]:
                raise RecordingError(f"{other[1]}: expected each number once, got it in {one[1]}, too")
    return found


def _joined(root: str, scans: list[list[tuple[int, str]]], restart: bool) -> tuple[NDArray[np.int64], list[str]]:
    """One numbering over the parts of a series."""
    numbers, files, after = list[int](), list[str](), -1
    for scan in scans:
        offset = after + 1 if restart else 0
        if scan[0][0] + offset <= after:
            raise RecordingError(
                f"{root}: expected numbers that go on from scan_1 to scan_2 and so on, got {scan[0][1]} after number "
                f"{after}. If the series begins to count again in each folder, and made no pause: restart = true"
            )
        numbers += [number + offset for number, _ in scan]
        files += [path for _, path in scan]
        after = numbers[-1]
    return np.array(numbers, np.int64), files


class TiffFrames:
    """One file for each frame; see `recording.Frames`. `poses_mm` (n, 12) by position, None: no frame has one."""

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        stored_shape: tuple[int, int],
        dtype: np.dtype,
        flip_rows: bool,
        transpose: bool,
        poses_mm: NDArray[np.float64] | None,
    ) -> None:
        self.name, self.dtype, self.is_open = name, dtype, True
        self._paths, self._shape, self._poses = paths, stored_shape, poses_mm
        self._flip, self._transpose = flip_rows, transpose

    def read(self, stored: int, /) -> NDArray:
        return self.upright(tiff.read(self._paths[stored], self._shape, self.dtype))

    def upright(self, image: NDArray) -> NDArray:
        """A stored image (rows, cols) as it is in memory: row 0 where v is lowest."""
        flipped = image[::-1] if self._flip else image
        return np.ascontiguousarray(flipped.T if self._transpose else flipped)

    def mean(self, paths: Sequence[str]) -> NDArray[np.float32]:
        """Of some images, one in memory at a time."""
        total = np.zeros(self._shape, np.float64)
        for path in paths:
            total += tiff.read(path, self._shape)
        return self.upright((total / len(paths)).astype(np.float32))

    def poses(self, stored: NDArray[np.int64], /) -> NDArray[np.float64] | None:
        return None if self._poses is None else self._poses[stored]

    def close(self) -> None:
        self.is_open = False
