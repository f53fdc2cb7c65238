"""The scanner in the standard fields of NXtomo.

Those describe an ideal circular scan: distances along the beam, pixel sizes, the axis in pixels, flips. Images are as
seen from the source: column 0 at the left, row 0 at the top, unless `transformations` flips them. What they cannot
say (kind of beam, sense of the angle, tilts, a source beside the beam axis) is in the group `tango_jit`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import numpy as np

from tango_jit.geometry import Beam, ScanGeometry
from tango_jit.recordings import extension
from tango_jit.recordings.hdf5 import TO_DEGREE, TO_MM, RecordingError, label, number, subgroup, text, units

X_PIXEL, Y_PIXEL = "instrument/detector/x_pixel_size", "instrument/detector/y_pixel_size"
X_EFFECTIVE, Y_EFFECTIVE = "sample/x_pixel_size", "sample/y_pixel_size"
X_AXIS = "instrument/detector/x_rotation_axis_pixel_position"
Y_AXIS = "instrument/detector/y_rotation_axis_pixel_position"
DETECTOR, SOURCE = "instrument/detector/distance", "instrument/source/distance"
SOURCE_TYPE, FLIPS = "instrument/source/type", "instrument/detector/transformations"
HELP = {
    X_PIXEL: "detector pixel along columns, a length with units",
    Y_PIXEL: "detector pixel along rows, a length with units",
    X_AXIS: "centre of rotation: detector column under the axis, 0-based, pixel centres at whole numbers",
    Y_AXIS: "detector row in the plane of the source, 0-based, pixel centres at whole numbers",
    DETECTOR: "axis to detector, a length with units",
    SOURCE: "source to axis, a length with units (negative in NeXus: the source is upstream)",
    f"{extension.NAME}/angle_sense": extension.SENSE_HELP,
}


def read(entry: h5py.Group, said: extension.Said, rows: int, cols: int) -> ScanGeometry:
    """The exact geometry where the file has it, else the one of the standard fields.

    Raises RecordingError that lists all missing fields, or says where the two contradict each other.
    """
    if said.geometry is not None:
        _agree(entry, said.geometry)
        return said.geometry
    beam = said.beam or _beam(entry)
    there = {X_PIXEL: _pixel(entry, beam, 0), X_AXIS: number_or_none(entry, X_AXIS)}
    if rows > 1:
        there[Y_PIXEL] = _pixel(entry, beam, 1)
    if beam == "cone":
        there |= {path: number_or_none(entry, path) for path in (SOURCE, DETECTOR)}
        there[f"{extension.NAME}/angle_sense"] = said.angle_sense
        if rows > 1:
            there[Y_AXIS] = number_or_none(entry, Y_AXIS)
    missing = [path for path, value in there.items() if value is None]
    if missing:
        raise RecordingError(
            f"{label(entry)}: the geometry is incomplete ({beam} beam); missing are "
            + "; ".join(f"{label(entry, path).partition(':')[2]} ({HELP[path]})" for path in missing)
            + ". Write them into the file, give a geometry, or store one with tango_jit.recordings.set_geometry"
        )
    return _ideal(entry, beam, rows, cols)


def write(entry: h5py.Group, geometry: ScanGeometry) -> None:
    """The standard fields that describe `geometry`, as well as they can."""
    for path, value in _fields(geometry).items():
        in_mm = path not in (X_AXIS, Y_AXIS)
        entry[path] = value * 1e-3 if in_mm else value
        if in_mm:
            entry[path].attrs["units"] = "m"
    flips = _flips(geometry)
    if any(flips):
        group = entry.create_group(FLIPS)
        group.attrs["NX_class"] = "NXtransformations"
        for name, vector, flipped in (("ry", (0, 1, 0), flips[0]), ("rx", (1, 0, 0), flips[1])):
            group[name] = 180.0 if flipped else 0.0
            group[name].attrs.update(
                units="degree", transformation_type="rotation", vector=vector, depends_on="gravity"
            )
        group["gravity"] = 9.80665
        group["gravity"].attrs.update(units="m/s^2", transformation_type="gravity", vector=(0, 0, -1))


def _beam(entry: h5py.Group) -> Beam:
    """A recorded source distance makes a cone; a synchrotron without one is parallel; else nobody knows."""
    if number_or_none(entry, SOURCE) is not None:
        return "cone"
    if "synchrotron" in (text(entry, SOURCE_TYPE) or "").lower():
        return "parallel"
    raise RecordingError(
        f"{label(entry)}: the geometry is incomplete: expected {SOURCE} ({HELP[SOURCE]}) for a cone beam, or "
        f"{extension.NAME}/beam = parallel; got neither. Write it into the file, give a geometry, or store "
        "one with tango_jit.recordings.set_geometry"
    )


def _fields(geometry: ScanGeometry) -> dict[str, float]:
    """Standard field -> value in mm or pixels."""
    matrix = geometry.matrices(0.0)[0]
    u, v = np.array(geometry.u_mm), np.array(geometry.v_mm)
    source, centre = np.array(geometry.source_mm), np.array(geometry.detector_mm)
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    fields = {
        X_PIXEL: float(np.linalg.norm(u)),
        Y_PIXEL: float(np.linalg.norm(v)),
        X_AXIS: float(matrix[0, 3]),
        Y_AXIS: float(matrix[1, 3]),
    }
    if geometry.beam == "cone":
        fields |= {DETECTOR: abs(float(normal @ centre)), SOURCE: -abs(float(normal @ source))}
    return fields


def _flips(geometry: ScanGeometry) -> tuple[bool, bool]:
    """(left-right, up-down) flip of the stored image against what is seen from the source."""
    forward = np.array(geometry.detector_mm) - geometry.source_mm if geometry.beam == "cone" else geometry.source_mm
    right = np.cross(forward, (0.0, 0.0, 1.0))
    return float(right @ geometry.u_mm) < 0, geometry.v_mm[2] > 0


def _agree(entry: h5py.Group, geometry: ScanGeometry) -> None:
    """Standard fields that are there must not contradict the exact geometry."""
    for path, expected in _fields(geometry).items():
        found = number_or_none(entry, path)
        if path == SOURCE and found is not None:
            found = -abs(found)
        if path == Y_AXIS and (geometry.beam == "parallel" or geometry.rows == 1):
            continue  # it only says where z = 0 is
        slack = 1e-6 if path in (X_AXIS, Y_AXIS) else 0.0
        if found is not None and not math.isclose(found, expected, rel_tol=1e-6, abs_tol=slack):
            raise RecordingError(
                f"{label(entry, path)}: {found:.9g} contradicts the exact geometry in {extension.NAME}, which "
                f"gives {expected:.9g} (mm or pixels); delete the wrong one"
            )
    if subgroup(entry, FLIPS) is not None and _read_flips(entry) != _flips(geometry):
        raise RecordingError(
            f"{label(entry, FLIPS)}: flips (left-right, up-down) {_read_flips(entry)} contradict the exact "
            f"geometry in {extension.NAME}, which gives {_flips(geometry)}; delete the wrong one"
        )


def number_or_none(entry: h5py.Group, path: str) -> float | None:
    """A standard field in mm or pixels."""
    return number(entry, path, None if path in (X_AXIS, Y_AXIS) else TO_MM)


def _pixel(entry: h5py.Group, beam: Beam, axis: int) -> float | None:
    """Pixel size along columns (0) or rows (1). Optics magnify a parallel beam: there the size at the sample counts."""
    effective, detector = ((X_EFFECTIVE, X_PIXEL), (Y_EFFECTIVE, Y_PIXEL))[axis]
    found = number_or_none(entry, effective) if beam == "parallel" else None
    return number_or_none(entry, detector) if found is None else found


def _ideal(entry: h5py.Group, beam: Beam, rows: int, cols: int) -> ScanGeometry:
    def value(path: str) -> float:
        found = number_or_none(entry, path)
        assert found is not None, path  # `read` has listed what is missing
        return found

    across = _pixel(entry, beam, 0)
    assert across is not None
    pixel, axis = (across, _pixel(entry, beam, 1) or across), value(X_AXIS)
    if not -0.5 <= axis <= cols - 0.5:
        raise RecordingError(
            f"{label(entry, X_AXIS)}: expected a column of the detector, -0.5 to {cols - 0.5}, got {axis:g} "
            "(older programs wrote the distance from the middle here)"
        )
    try:
        if beam == "cone":
            distance = abs(value(SOURCE))
            scan = ScanGeometry.cone(
                rows=rows,
                cols=cols,
                pixel_mm=pixel,
                source_axis_mm=distance,
                axis_column=axis,
                source_detector_mm=distance + value(DETECTOR),
                mid_row=value(Y_AXIS) if rows > 1 else None,
            )
        else:
            scan = ScanGeometry.parallel(
                rows=rows, cols=cols, pixel_mm=pixel, axis_column=axis, mid_row=number_or_none(entry, Y_AXIS)
            )
    except ValueError as error:
        raise RecordingError(f"{label(entry)}: {error}") from error
    left_right, up_down = _read_flips(entry)
    (x, y, z), u, v = scan.detector_mm, np.array(scan.u_mm), np.array(scan.v_mm)
    if left_right:
        x, u = -x, -u
    if not up_down:  # stored rows run downwards, +v of ScanGeometry.cone upwards
        z, v = -z, -v
    return replace(scan, detector_mm=(x, y, z), u_mm=tuple(u.tolist()), v_mm=tuple(v.tolist()))


def _read_flips(entry: h5py.Group) -> tuple[bool, bool]:
    """(left-right, up-down); raises RecordingError for any other rotation or shift of the detector."""
    group = subgroup(entry, FLIPS)
    flips = {(0, 1, 0): False, (1, 0, 0): False}
    for name, item in (group or {}).items():
        kind = item.attrs.get("transformation_type", "")
        value = number(entry, f"{FLIPS}/{name}")
        if (kind.decode() if isinstance(kind, bytes) else kind) == "gravity" or name == "gravity" or value == 0:
            continue
        degrees = (value or 0.0) * TO_DEGREE.get(units(item) or "", math.nan)
        vector = tuple(np.ravel(item.attrs.get("vector", ())).tolist())
        if vector not in flips or not math.isclose(degrees % 360, 180, abs_tol=1e-6):
            raise RecordingError(
                f"{label(entry, FLIPS)}/{name}: expected a half turn about x or y (an image flip), got {value} "
                f"{units(item)} about {vector}; other poses need the exact geometry of {extension.NAME}"
            )
        flips[vector] = not flips[vector]
    return flips[(0, 1, 0)], flips[(1, 0, 0)]
