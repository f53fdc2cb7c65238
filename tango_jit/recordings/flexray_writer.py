"""FleX-ray folders: writer. Other programs find what the scanner writes; beside it lie the exact values."""

from __future__ import annotations

import glob
import io
import math
import os
import secrets
import shutil
from typing import Any

import numpy as np

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import flexray_exact, tiff
from tango_jit.recordings.flexray import FlexRayReader
from tango_jit.recordings.flexray_exact import Exact
from tango_jit.recordings.flexray_folder import MEANS, SCENARIO, TABLE
from tango_jit.recordings.flexray_geometry import roi_shift
from tango_jit.recordings.flexray_options import COMPANION
from tango_jit.recordings.flexray_settings import NATIVE_COLS, NATIVE_MM, NATIVE_ROWS, SCAN
from tango_jit.recordings.hdf5 import RecordingError
from tango_jit.recordings.plan import Plan, check_space
from tango_jit.recordings.recording import RecordingWriter, as_type, printable
from tango_jit.recordings.stack import locked
from tango_jit.streams.messages import Dark, Flat, Header, Image

MAX_TILT_RAD = math.radians(10)


class FlexRayWriter(RecordingWriter):
    """Writes a FleX-ray folder, see `RecordingWriter`; one file for each frame, so frame numbers must be unique.

    The settings file carries a cone beam with square pixels, columns along +x and rows along +z. Anything else is
    refused, but for tilts of the detector below 10 degrees, which the exact geometry alone carries.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        dark: Dark | None = None,
        flat: Flat | None = None,
        *,
        plan: Plan | None = None,
        scenario: str | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__(path, header, dark, flat, plan=plan, scenario=scenario, resume=resume)
        check_expressible(header.geometry)
        self.path = os.path.normpath(self.path)
        self._table: io.TextIOWrapper | None = None
        self._span: tuple[float, float] | None = None
        self._lock = -1
        if resume:
            if not os.path.isfile(os.path.join(self.path, COMPANION)):
                raise RecordingError(f"{self.path}: was not written by tango-jit ({COMPANION} is missing)")
            self._lock = locked(os.path.join(self.path, COMPANION))
            self._resume()
        elif plan is not None:
            check_space(self.path, (self.frame_bytes + 8192) * (len(plan) + 4))
            self._lay_out(plan)
            self._lock = locked(os.path.join(self.path, COMPANION))
        else:
            os.mkdir(self.path)
        self._open = True

    def _lay_out(self, plan: Plan) -> None:
        parent, name = os.path.split(os.path.abspath(self.path))
        part = os.path.join(parent, f".{name}.{secrets.token_hex(4)}.part")
        os.mkdir(part)
        try:
            self._describe(part, np.dtype(plan.dtype), len(plan))
            self._write_table(part, plan)
            self._span = float(plan.angles_rad[0]), float(plan.angles_rad[-1])
            self._write_settings(part, len(plan))
            os.rename(part, self.path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _resume(self) -> None:
        assert self.plan is not None
        try:
            with FlexRayReader(self.path, include_unwritten=True) as found:
                self._check_resumed(found)
        except BaseException:
            os.close(self._lock)
            raise
        for left in glob.glob(os.path.join(glob.escape(self.path), "scan_*.tif.part")):
            os.unlink(left)
        numbers = self.plan.frame_numbers.tolist()
        there = (os.path.isfile(self._file_of(number)) for number in numbers)
        self.frames = next((k for k, exists in enumerate(there) if not exists), len(numbers))
        check_space(self.path, (self.frame_bytes + 8192) * (len(self.plan) - self.frames))

    def _start(self, dtype: np.dtype[Any]) -> None:
        self._describe(self.path, dtype, None)

    def _describe(self, folder: str, dtype: np.dtype[Any], planned: int | None) -> None:
        """All that does not grow."""
        counts = [None if message is None else message.count for message in (self._dark, self._flat)]
        text = flexray_exact.to_toml(Exact(self.header, dtype, counts[0], counts[1], planned))
        _write_text(
            os.path.join(folder, COMPANION), f"# Exact values by tango-jit: they win over the settings.\n{text}"
        )
        if self.scenario is not None:
            _write_text(os.path.join(folder, SCENARIO), self.scenario)
        for kind, name, message in (("dark", "di", self._dark), ("flat", "io", self._flat)):
            if message is not None:
                mean = np.asarray(message.mean, np.float32)[::-1]
                tiff.write(os.path.join(folder, MEANS[kind]), np.ascontiguousarray(mean))
                tiff.write(os.path.join(folder, f"{name}000000.tif"), as_type(mean, np.dtype("uint16")))

    def _write_table(self, folder: str, plan: Plan) -> None:
        poses = plan.poses_mm is not None
        rows = (
            flexray_exact.row(number, angle, time, plan.pose(k), poses)
            for k, (number, angle, time) in enumerate(
                zip(plan.frame_numbers.tolist(), plan.angles_rad.tolist(), plan.timestamps_s.tolist())
            )
        )
        _write_text(os.path.join(folder, TABLE), flexray_exact.head(poses) + "".join(rows))

    def _add(self, image: Image) -> None:
        path = self._file_of(image.frame)
        if self.plan is None:
            if os.path.exists(path):
                raise ValueError(f"frame {image.frame}: expected each number once, got it again")
            self._add_row(image)
        tiff.write(path, np.ascontiguousarray(image.data[::-1]))

    def _add_row(self, image: Image) -> None:
        """Before its image: a row without an image is a gap, an image without a row would be foreign."""
        if self._table is None:
            self._table = open(os.path.join(self.path, TABLE), "w", encoding="utf-8", newline="\n")  # noqa: SIM115
            self._table.write(flexray_exact.head(True))
        self._span = (self._span or (image.angle_rad,))[0], image.angle_rad
        self._table.write(flexray_exact.row(image.frame, image.angle_rad, image.timestamp_s, image.pose, True))
        self._table.flush()

    def _finish(self) -> None:
        if self.plan is not None:
            os.close(self._lock)
            return
        if self._dtype is None:
            self._start(np.dtype("float32"))
        if self._table is not None:
            self._table.close()
        else:
            _write_text(os.path.join(self.path, TABLE), flexray_exact.head(False))
        self._write_settings(self.path, self.frames)

    def _file_of(self, number: int) -> str:
        return os.path.join(self.path, f"scan_{number:06d}.tif")

    def _write_settings(self, folder: str, frames: int) -> None:
        text = settings_text(
            self.header, frames, self._span or (0.0, 0.0), int(self._dark is not None), int(self._flat is not None)
        )
        _write_text(os.path.join(folder, SCAN), text)


def check_expressible(scan: ScanGeometry) -> None:
    """Raises ValueError for a scanner that is none of the FleX-ray kind."""
    u, v = np.array(scan.u_mm), np.array(scan.v_mm)
    du, dv = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    problem = None
    if scan.beam != "cone":
        problem = f"a cone beam, got a {scan.beam} one"
    elif scan.rows > 1 and not math.isclose(du, dv, rel_tol=1e-9):
        problem = f"square pixels, got {du:g} x {dv:g} mm"
    elif u[0] / du < math.cos(MAX_TILT_RAD) or v[2] / dv < math.cos(MAX_TILT_RAD):
        problem = f"columns along +x and rows along +z within 10 degrees, got {scan.u_mm} and {scan.v_mm}"
    elif not scan.source_mm[1] < 0 < scan.detector_mm[1] - scan.source_mm[1] or scan.detector_mm[1] < 0:
        problem = f"the beam along +y at angle 0, got source {scan.source_mm} and detector {scan.detector_mm}"
    if problem:
        raise ValueError(f"geometry: the settings of FleX-ray folders say nothing but {problem}; write NXtomo instead")


def settings_text(header: Header, frames: int, span_rad: tuple[float, float], darks: int, flats: int) -> str:
    """`scan settings.txt` of the scanner; numbers in full, so that they give the geometry back."""
    scan = header.geometry
    sod, sdd = -scan.source_mm[1], scan.detector_mm[1] - scan.source_mm[1]
    pixel = float(np.linalg.norm(scan.u_mm))
    binning = next((b for b in (1, 2, 4) if math.isclose(pixel, b * NATIVE_MM, rel_tol=1e-9)), 1)
    native = math.isclose(pixel, binning * NATIVE_MM, rel_tol=1e-9)
    roi = region(scan, binning, native)
    shift = roi_shift(roi)
    mode = {1: "HW1SW1", 2: "HW2SW1High", 4: "HW2SW2High"}[binning]
    entries: list[tuple[str, object]] = [
        ("ScanID", printable(header.series)),
        ("START", ""),
        ("date", "unknown"),
        ("SDD", sdd),
        ("SOD", sod),
        ("Voxel size", 1000 * pixel * sod / sdd),
        ("Magnification", sdd / sod),
        ("Tube voltage", "unknown"),
        ("Tube power", "unknown"),
        ("Filter", "unknown"),
        *([] if header.exposure_s is None else [("Exposure time (ms)", 1000 * header.exposure_s)]),
        ("Number of averages", 1.0),
        ("Original pixel size", pixel / binning),
        ("Imaging mode", mode),
        ("Binning value", binning),
        ("Binned pixel size", pixel),
        ("ROI (LTRB)", ", ".join(map(str, roi))),
        ("ver_tube", scan.source_mm[2]),
        ("tra_tube", scan.source_mm[0]),
        ("ver_det", scan.detector_mm[2] - shift[1]),
        ("tra_det", scan.detector_mm[0] - shift[0]),
        ("tra_obj", 0.0),
        ("# projections", frames),
        ("Start angle", math.degrees(span_rad[0])),
        ("Last angle", math.degrees(span_rad[1])),
        ("# pre flat fields", flats),
        ("# post flat fields", 0),
        ("# offset images", darks),
        ("Sample name", printable(header.name)),
    ]
    return "".join(f"{key} : {_number(value)}\n" for key, value in entries)


def region(scan: ScanGeometry, binning: int, native: bool) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels without binning: where on the detector of the scanner the images may lie.

    With the scanner's own pixels the place follows the offset of the detector in whole pixels, as far as it stays on
    the detector; with others it says nothing, and the images are put into the middle.
    """
    sides = [scan.cols * binning, scan.rows * binning]
    first = list[int]()
    for side, length, offset in zip(sides, (NATIVE_COLS, NATIVE_ROWS), (scan.detector_mm[0], scan.detector_mm[2])):
        start = (length - 1) // 2 - (side - 1) // 2 + (round(offset / NATIVE_MM) if native else 0)
        first.append(max(0, min(start, length - side)))
    return first[0], first[1], first[0] + sides[0] - 1, first[1] + sides[1] - 1


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return np.format_float_positional(value, trim="0")  # in full, and without an exponent, which some readers mistake


def _write_text(path: str, text: str) -> None:
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(part, path)
