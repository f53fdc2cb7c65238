"""The four settings files of FleX-ray folders as one value. What a file does not say is None, never a default."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango_jit.recordings.hdf5 import RecordingError

SCAN, XRE, METADATA, GEOMETRY = "scan settings.txt", "data settings XRE.txt", "metadata.toml", "geometry.toml"
SETTINGS = (METADATA, SCAN, XRE, GEOMETRY)  # in the order of preference of flexDATA
NATIVE_MM, NATIVE_COLS, NATIVE_ROWS = 0.0748, 1944, 1536
"""The Dexela 1512NDT: pixel without binning, and its size."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BINNING = re.compile(r"HW(\d+)SW(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """What the settings file says: mm, degrees, s. None: nothing.

    `roi`: left, top, right, bottom in pixels without binning, inclusive. `shifted`: the detector position has the shift
    of the region of interest and the calibration in it already. `vertical_mm`: height of the volume centre; None: on
    the line from the source to the detector centre. `thetas_deg`: explicit angles.
    """

    path: str
    source_axis_mm: float | None = None
    source_detector_mm: float | None = None
    pixel_mm: float | None = None
    binning: int | None = None
    roi: tuple[int, int, int, int] | None = None
    src_tan_mm: float | None = None
    src_ort_mm: float | None = None
    det_tan_mm: float | None = None
    det_ort_mm: float | None = None
    axs_tan_mm: float | None = None
    det_roll_deg: float = 0.0
    det_yaw_deg: float = 0.0
    det_pitch_deg: float = 0.0
    vertical_mm: float | None = None
    shifted: bool = False
    projections: int | None = None
    start_deg: float | None = None
    last_deg: float | None = None
    thetas_deg: tuple[float, ...] | None = None
    exposure_s: float | None = None
    name: str = ""
    remarks: tuple[str, ...] = ()


def find(folders: Sequence[str]) -> str | None:
    """The settings file of the first folder that has one."""
    candidates = (os.path.join(folder, name) for folder in folders for name in SETTINGS)
    return next((path for path in candidates if os.path.isfile(path)), None)


def read(path: str) -> Settings:
    """Raises RecordingError that names the file and the key."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    name = os.path.basename(path)
    if name == GEOMETRY:
        return _flexdata(path, text)
    return _scanner(_Keys(path, parse(text, ":" if name == SCAN else "=", stop="POIs" if name == XRE else None)), name)


def parse(text: str, separator: str, stop: str | None = None) -> dict[str, str]:
    """Lower-case key -> value without quotes; a later key overwrites an earlier one, a section named `stop` ends it."""
    found = dict[str, str]()
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            if stop is not None and stop in line:
                break
            continue
        key, mark, value = line.partition(separator)
        if mark and any(letter.isalpha() for letter in key):
            found[key.strip().lower()] = value.strip().strip('"').strip()
    return found


class _Keys:
    """Values of a file by key; several names of the same thing may be given, the first that is there counts."""

    def __init__(self, path: str, values: Mapping[str, str]) -> None:
        self.path, self._values = path, values

    def text(self, *names: str) -> str | None:
        return next((self._values[name] for name in names if self._values.get(name)), None)

    def number(self, *names: str) -> float | None:
        """The first number of the value: motor lines may go on with `;` and more text."""
        value = self.text(*names)
        if value is None:
            return None
        found = _NUMBER.search(value)
        if found is None or not math.isfinite(float(found.group())):
            raise RecordingError(f"{self.path}: {names[0]}: expected a number, got {value!r}")
        return float(found.group())

    def length(self, *names: str) -> float | None:
        value = self.number(*names)
        if value is not None and value <= 0:
            raise RecordingError(f"{self.path}: {names[0]}: expected a length above 0, got {value:g}")
        return value

    def whole(self, *names: str) -> int | None:
        value = self.number(*names)
        if value is not None and (value < 0 or value != int(value)):
            raise RecordingError(f"{self.path}: {names[0]}: expected a whole number from 0, got {value:g}")
        return None if value is None else int(value)

    def four(self, *names: str) -> tuple[int, int, int, int] | None:
        value = self.text(*names)
        if value is None:
            return None
        numbers = [int(x) for x in re.findall(r"-?\d+", value)]
        if len(numbers) != 4:
            raise RecordingError(f"{self.path}: {names[0]}: expected left, top, right, bottom, got {value!r}")
        return numbers[0], numbers[1], numbers[2], numbers[3]


def _scanner(keys: _Keys, name: str) -> Settings:
    """The three files of the scanner have the same names, but for a few of `metadata.toml`."""
    sod, sdd = keys.length("sod"), keys.length("sdd")
    if sod is not None and sdd is not None and sdd < sod:
        raise RecordingError(f"{keys.path}: SDD: expected at least SOD = {sod:g} mm, got {sdd:g}")
    binning = keys.whole("binning value") or _mode(keys.text("imaging mode", "mode"))
    pixel, binning, remarks = _pixel(keys, name, binning, None if None in (sod, sdd) else (sdd or 0) / (sod or 1))
    roi = keys.four("roi (ltrb)", "roi")
    if roi is None and name == XRE and binning is not None:
        roi = _import_roi(keys, binning)
    if roi is not None and (roi[2] < roi[0] or roi[3] < roi[1]):
        raise RecordingError(f"{keys.path}: ROI: expected left, top, right, bottom, got {roi}")
    exposure = keys.number("exposure time (ms)", "exposure")
    return Settings(
        keys.path,
        sod,
        sdd,
        pixel,
        binning,
        roi,
        keys.number("tra_tube"),
        keys.number("ver_tube"),
        keys.number("tra_det"),
        keys.number("ver_det"),
        keys.number("tra_obj"),
        projections=keys.whole("# projections"),
        start_deg=keys.number("start angle", "first_angle"),
        last_deg=keys.number("last angle", "last_angle"),
        exposure_s=None if not exposure or exposure <= 0 else exposure * 1e-3,
        name=keys.text("sample name", "scan_name") or "",
        remarks=remarks,
    )


def _mode(mode: str | None) -> int | None:
    """HW2SW1High: binned twice by the detector, not by the program."""
    found = None if mode is None else _BINNING.search(mode)
    return None if found is None else int(found.group(1)) * int(found.group(2))


def _import_roi(keys: _Keys, binning: int) -> tuple[int, int, int, int] | None:
    """Files before 2020: counted in binned pixels, right and bottom exclusive. Later ones give only the size there."""
    found = keys.four("import roi")
    if found is None:
        return None
    left, top, right, bottom = (binning * x for x in found)
    return left, top, right - 1, bottom - 1


def _pixel(
    keys: _Keys, name: str, binning: int | None, magnification: float | None
) -> tuple[float | None, int | None, tuple[str, ...]]:
    """(pixel as stored in mm, binning, remarks) from what the file says of pixel and voxel.

    The explicit pixel counts. Raises RecordingError where it and the voxel size are apart by a factor that only a
    mix of units explains.
    """
    voxel = keys.length("voxel size") if name != METADATA else None
    if voxel is not None and name == SCAN:
        voxel *= 1e-3  # µm
    derived = None if voxel is None or magnification is None else voxel * magnification
    if name == METADATA:
        explicit, choices = keys.length("detector pixel size"), (binning or 1,)  # without binning
    elif name == XRE:
        explicit = keys.length("pixel size")
        if binning is None and explicit is not None:
            binning = max(1, math.floor(explicit / NATIVE_MM + 1e-6))
        choices = (1, binning or 1)  # binned or not: versions differ, the voxel size tells
    else:
        explicit, choices = keys.length("binned pixel size"), (1,)
        if explicit is None:
            explicit, choices = keys.length("original pixel size"), (binning or 1,)
        if binning is None and explicit is not None:
            binning = max(1, math.floor(explicit * choices[0] / NATIVE_MM + 1e-6))
    if explicit is None:
        if derived is not None and binning is not None and not 0.01 < derived / (NATIVE_MM * binning) < 100:
            raise _mixed(keys.path, derived, NATIVE_MM * binning)
        if binning is None and derived is not None:
            binning = max(1, math.floor(derived / NATIVE_MM + 1e-2))
        return derived, binning, ()
    if derived is None:
        return explicit * choices[0], binning, ()
    factor = min(choices, key=lambda choice: abs(math.log(explicit * choice / derived)))
    pixel = explicit * factor
    if not 0.01 < pixel / derived < 100:
        raise _mixed(keys.path, derived, pixel)
    if abs(pixel / derived - 1) <= 0.01:
        return pixel, binning, ()
    remark = (
        f"{keys.path}: the pixel size {pixel:g} mm and the voxel size, which gives {derived:g} mm, differ by more than "
        "1 %; the pixel size counts"
    )
    return pixel, binning, (remark,)


def _mixed(path: str, derived: float, pixel: float) -> RecordingError:
    return RecordingError(
        f"{path}: Voxel size: gives a detector pixel of {derived:g} mm, expected about {pixel:g} mm: µm and mm are "
        f"mixed up (the voxel size is in µm in {SCAN}, in mm in {XRE})"
    )


def _flexdata(path: str, text: str) -> Settings:
    """flexDATA's own output: real TOML, corrections applied."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecordingError(f"{path}: expected TOML, got {error}") from error
    for key in ("axs_roll", "axs_pitch", "vol_rot"):
        if any(_flat(values.get(key, 0))):
            raise RecordingError(f"{path}: {key}: a tilted axis or volume needs exact vectors (a .geom table), got one")
    shift = _flat(values.get("vol_tra", 0))
    if any(shift[1:]):
        raise RecordingError(f"{path}: vol_tra: expected a vertical shift alone, got {shift}")

    def number(key: str) -> float | None:
        value = values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RecordingError(f"{path}: {key}: expected a number, got {value!r}")
        return None if value is None else float(value)

    source, detector, unit = number("src2obj"), number("det2obj"), values.get("unit", "mm")
    if unit != "mm":
        raise RecordingError(f"{path}: unit: expected mm, got {unit!r}")
    thetas = values.get("thetas")
    return Settings(
        path,
        source,
        None if source is None or detector is None else source + detector,
        number("det_pixel"),
        src_tan_mm=number("src_tan"),
        src_ort_mm=number("src_ort"),
        det_tan_mm=number("det_tan"),
        det_ort_mm=number("det_ort"),
        axs_tan_mm=number("axs_tan"),
        det_roll_deg=number("det_roll") or 0.0,
        det_yaw_deg=number("det_yaw") or 0.0,
        det_pitch_deg=number("det_pitch") or 0.0,
        vertical_mm=shift[0] if "vol_tra" in values else None,
        shifted=True,
        thetas_deg=None if not thetas else tuple(_flat(thetas)),
    )


def _flat(value: Any) -> list[float]:
    return [float(x) for x in value] if isinstance(value, list) else [float(value)]
