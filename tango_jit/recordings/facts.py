"""What a recording holds, as plain values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tango_jit.recordings.recording import Recording


def describe(recording: Recording) -> dict[str, Any]:
    """Plain values of what a recording holds; angles in turns, lengths in mm, times in s. None: not known."""
    header, scan = recording.header, recording.header.geometry
    numbers = np.array(recording.frame_numbers, np.int64)
    steps = np.abs(np.diff(recording.angles_rad))
    step = float(np.median(steps / np.maximum(np.abs(np.diff(numbers)), 1))) if len(steps) else 0.0
    gaps = np.diff(recording.timestamps_s) / np.maximum(np.diff(numbers), 1)
    cone = scan.beam == "cone"
    facts: dict[str, Any] = {
        "format": recording.format,
        "series": header.series,
        "name": header.name,
        "frames": len(recording),
        "planned_frames": recording.planned,
        "first_frame_number": int(numbers.min()),
        "last_frame_number": int(numbers.max()),
        "missing_frame_numbers": int(numbers.max() - numbers.min()) + 1 - len(np.unique(numbers)),
        "rows": scan.rows,
        "cols": scan.cols,
        "dtype": recording.dtype.name,
        "linear": header.linear,
        "beam": scan.beam,
        "source_axis_mm": float(np.hypot(*scan.source_mm[:2])) if cone else None,
        "source_detector_mm": _source_detector_mm(recording) if cone else None,
        "pixel_mm": [float(np.linalg.norm(scan.u_mm)), float(np.linalg.norm(scan.v_mm))],
        "voxel_mm": scan.voxel_mm,
        "axis_column": scan.axis_column,
        "field_of_view_mm": 2 * scan.radius_mm,
        "views_per_turn": 2 * math.pi / step if step else None,
        "turns": float(np.ptp(recording.angles_rad) + step) / (2 * math.pi),
        "exposure_s": header.exposure_s,
        "frame_period_s": float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else None,
        "scenario": recording.scenario,
        "remarks": list(recording.remarks),
    }
    for name, message in (("dark", recording.dark), ("flat", recording.flat)):
        facts[f"{name}s"] = 0 if message is None else message.count
        facts[f"{name}_mean"] = None if message is None else float(np.mean(message.mean, dtype=np.float64))
    return facts


def _source_detector_mm(recording: Recording) -> float:
    """From the source, at right angles to the detector."""
    scan = recording.header.geometry
    normal = np.cross(scan.u_mm, scan.v_mm)
    return abs(float((np.array(scan.detector_mm) - scan.source_mm) @ normal)) / float(np.linalg.norm(normal))
