"""The scanner and the angles of a FleX-ray folder from its settings.

At angle 0 the tangent runs along +x, the beam along +y and the vertical along +z, so that the settings give the vectors
of a ScanGeometry directly; the scanner turns counter-clockwise about the fixed sample as the angle grows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings.flexray_options import COMPANION, FlexRayOptions, Profile
from tango_jit.recordings.flexray_settings import NATIVE_COLS, NATIVE_MM, NATIVE_ROWS, Settings
from tango_jit.recordings.hdf5 import RecordingError

ROI_CENTRE = ((NATIVE_COLS - 1) // 2, (NATIVE_ROWS - 1) // 2)  # whole numbers, as in flexDATA


def roi_shift(roi: tuple[int, int, int, int], rows: str = "up") -> tuple[float, float]:
    """How far the centre of a region of interest is from that of the whole detector, (tangential, vertical) in mm."""
    left, top, right, bottom = roi
    sign = 1 if rows == "up" else -1
    return ((left + right) // 2 - ROI_CENTRE[0]) * NATIVE_MM, sign * ((top + bottom) // 2 - ROI_CENTRE[1]) * NATIVE_MM


def scanner(settings: Settings, profile: Profile, rows: int, cols: int, roi_rows: str = "up") -> ScanGeometry:
    """The scanner for images of (rows, cols). Raises RecordingError that lists every value that is missing."""
    needed = {
        "SOD": settings.source_axis_mm,
        "SDD": settings.source_detector_mm,
        "a pixel or voxel size": settings.pixel_mm,
        "tra_tube": settings.src_tan_mm,
        "ver_tube": settings.src_ort_mm,
        "tra_det": settings.det_tan_mm,
        "ver_det": settings.det_ort_mm,
        "tra_obj": settings.axs_tan_mm,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise RecordingError(
            f"{settings.path}: the geometry is incomplete; missing are {', '.join(missing)}. Give a geometry, or put a "
            ".geom table of 12 columns into the folder"
        )
    sod, sdd, pixel, src_tan, src_ort, det_tan, det_ort, axs_tan = (float(x or 0.0) for x in needed.values())
    if not settings.shifted:
        shift = roi_shift(_roi(settings, rows, cols), roi_rows)
        det_tan, det_ort = det_tan + shift[0], det_ort + shift[1]
    src_tan, src_ort = src_tan + profile.src_tan_mm, src_ort + profile.src_ort_mm
    det_tan, det_ort = det_tan + profile.det_tan_mm, det_ort + profile.det_ort_mm
    axs_tan += profile.axs_tan_mm
    middle = (det_ort * sod + src_ort * (sdd - sod)) / sdd  # height of the line source-detector at the axis
    middle = middle if settings.vertical_mm is None else settings.vertical_mm
    try:
        turned = ScanGeometry.cone(
            rows=rows,
            cols=cols,
            pixel_mm=pixel,
            source_axis_mm=sod,
            source_detector_mm=sdd,
            roll_rad=math.radians(settings.det_roll_deg + profile.det_roll_deg),
            yaw_rad=math.radians(settings.det_yaw_deg + profile.det_yaw_deg),
            pitch_rad=math.radians(settings.det_pitch_deg + profile.det_pitch_deg),
        )
        source = (src_tan - axs_tan, -sod, src_ort - middle)
        return replace(turned, source_mm=source, detector_mm=(det_tan - axs_tan, sdd - sod, det_ort - middle))
    except ValueError as error:
        raise RecordingError(f"{settings.path}: {error}") from error


def _roi(settings: Settings, rows: int, cols: int) -> tuple[int, int, int, int]:
    """The region of interest, which must be that of the images; without one, images of the whole detector."""
    binning, roi = settings.binning or 1, settings.roi
    if roi is None:
        if (rows, cols) != (NATIVE_ROWS // binning, NATIVE_COLS // binning):
            raise RecordingError(
                f"{settings.path}: ROI: expected the place of the {rows} x {cols} images on the detector, got nothing, "
                f"and with binning {binning} they are not the whole of it"
            )
        return 0, 0, NATIVE_COLS - 1, NATIVE_ROWS - 1
    left, top, right, bottom = roi
    there = (bottom - top + 1) // binning, (right - left + 1) // binning
    if there != (rows, cols):
        raise RecordingError(
            f"{settings.path}: ROI: {roi} with binning {binning} is {there[0]} x {there[1]} pixels, but the images "
            f"have {rows} x {cols}"
        )
    return roi


def single_turn(settings: Settings, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """(angles in rad, which frames to keep) for the frames of a scan from the first to the last angle.

    None: the settings do not say enough, or the numbers are not those of one scan. An image at 360 degrees from the
    first repeats that, and is not kept.
    """
    count, start, last = settings.projections, settings.start_deg, settings.last_deg
    if count is None and np.array_equal(numbers, np.arange(len(numbers))):
        count = len(numbers)
    if start is None or last is None or count is None or count < 2 or int(numbers.max()) >= count:
        return None
    degrees = start + numbers * (last - start) / (count - 1)
    repeats = math.isclose(abs(last - start), 360.0, abs_tol=1e-6)
    return np.deg2rad(degrees), np.where(repeats, numbers != count - 1, True)


def continuous(where: str, options: FlexRayOptions, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Angles in rad of a series of many turns: the number in the file's name counts steps.

    Raises RecordingError that lists the options that are missing.
    """
    meanings = {
        "views_per_turn": "projections a turn",
        "direction": "+1 counter-clockwise about +z, seen from the sample, or -1",
        "phase_rad": "angle of frame 0",
        "frame_period_s": "time from one frame to the next",
        "profile": "calibration of the scanner, or none",
    }
    missing = [f"{name} ({meaning})" for name, meaning in meanings.items() if getattr(options, name) is None]
    if missing:
        raise RecordingError(
            f"{where}: no single turn (Start angle, Last angle and as many projections in the settings, in one folder)"
            f", and for a continuous series these are missing: {'; '.join(missing)}. Give them as options, "
            f"or in {COMPANION} under [options]"
        )
    step = 2 * math.pi / (options.views_per_turn or 1.0) * (options.direction or 1)
    return numbers.astype(np.float64) * step + (options.phase_rad or 0.0)


def angles_of(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unwrapped angles (n,) in rad of ASTRA rows (n, 12) of a cone beam: those of the source about the axis."""
    return np.unwrap(np.arctan2(vectors[:, 0], -vectors[:, 1]))


def agree(one: ScanGeometry, other: ScanGeometry) -> bool:
    """Are the two scanners the same as far as settings can say: without tilts, and wherever z = 0 may be?"""
    a, b = _positions(one), _positions(other)
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6 * float(np.abs(a).max())))


def _positions(scan: ScanGeometry) -> NDArray[np.float64]:
    source, centre = np.array(scan.source_mm), np.array(scan.detector_mm)
    middle = (centre[2] * -source[1] + source[2] * centre[1]) / (centre[1] - source[1])
    source[2], centre[2] = source[2] - middle, centre[2] - middle
    return np.array([*source, *centre, float(np.linalg.norm(scan.u_mm))])
