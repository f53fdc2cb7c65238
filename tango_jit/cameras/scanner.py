"""From the settings of a beamline and the region of a camera to the scan geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

from tango_jit.cameras.exposure import Exposure
from tango_jit.geometry import ScanGeometry, Vector


@dataclass(frozen=True)
class Scanner:
    """What no camera knows. Lengths in mm; pixels are those of the whole sensor without binning.

    `beam`: PARALLEL, or CONE with its distances. `axis_column` and `mid_row` say where axis and plane z = 0 meet
    the sensor, 0-based, centres at integers; -1: the middle of the frames. `rows`: UP, row 0 is the lowest, or
    DOWN. `turn`: in which sense angles count, seen from above.
    """

    pixel_mm: float = 0.01
    beam: Literal["PARALLEL", "CONE"] = "PARALLEL"
    source_axis_mm: float = 1000.0
    axis_detector_mm: float = 0.0
    axis_column: float = -1.0
    mid_row: float = -1.0
    rows: Literal["UP", "DOWN"] = "UP"
    turn: Literal["COUNTERCLOCKWISE", "CLOCKWISE"] = "COUNTERCLOCKWISE"

    def geometry(self, frame: Exposure) -> ScanGeometry:
        """The scan geometry of frames with this shape, region and binning. Raises ValueError for no scanner."""
        rows, cols = frame.data.shape
        binned_rows, binned_cols = frame.binning
        mid_row = _in_frame(self.mid_row, frame.offset[0], binned_rows)
        if mid_row is not None and self.rows == "DOWN":
            mid_row = rows - 1 - mid_row
        pixel_mm = self.pixel_mm * binned_cols, self.pixel_mm * binned_rows
        axis_column = _in_frame(self.axis_column, frame.offset[1], binned_cols)
        build = ScanGeometry.parallel
        if self.beam == "CONE":
            build = partial(
                ScanGeometry.cone,
                source_axis_mm=self.source_axis_mm,
                source_detector_mm=self.source_axis_mm + self.axis_detector_mm,
            )
        scan = build(rows=rows, cols=cols, pixel_mm=pixel_mm, axis_column=axis_column, mid_row=mid_row)
        return scan if self.rows == "UP" else replace(scan, v_mm=cast(Vector, tuple(-x for x in scan.v_mm)))

    @property
    def sense(self) -> int:
        """1 or -1: by what angles are multiplied."""
        return 1 if self.turn == "COUNTERCLOCKWISE" else -1


def _in_frame(pixel: float, offset: int, binning: int) -> float | None:
    """The place of a pixel of the sensor in a frame; None: it is to be the middle."""
    return None if pixel < 0 else (pixel - offset + 0.5) / binning - 0.5
