"""One scan under one set of settings: raw frames in, filtered views and slices out.

A change of filter, centre, dose or span makes a new pipeline with an empty window, so that nothing is ever mixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.backproject import device, to_host
from tango_jit.recon.incremental import IncrementalSlices
from tango_jit.recon.preprocess import Corrections, Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import Arrival, ProjectionWindow, Window
from tango_jit.streams.messages import Dark, Flat, Header, Image


@dataclass(frozen=True)
class Options:
    """What an operator may choose: a filter name, columns to add to the centre of rotation, 2 pi for parallel beams,
    smooth edges for truncated objects, the counts of a saturated pixel (None: the top of an integer type), and the
    corrections of counts and line integrals."""

    filter: str = "ram-lak"
    center_offset_px: float = 0.0
    full_turn: bool = False
    edge_extend: bool = False
    saturation_counts: float | None = None
    corrections: Corrections = field(default_factory=Corrections)


class Pipeline:
    """Filters and collects the frames of one scan.

    Raises ValueError in words for darks, flats and corrections that do not fit, for counts without a flat field, and
    for an axis beside the detector or a centre further off than half of it.
    """

    def __init__(self, header: Header, dark: Dark | None, flat: Flat | None, options: Options, backend: str) -> None:
        check_center(header.geometry, options.center_offset_px)
        self.geometry = header.geometry.shifted(options.center_offset_px)
        self.options = options
        self._header = header
        self._preprocess = Preprocessor(
            self.geometry,
            filter=options.filter,
            linear=header.linear,
            dark=None if dark is None else dark.mean,
            flat=None if flat is None else flat.mean,
            edge_extend=options.edge_extend,
            saturation_counts=options.saturation_counts,
            corrections=options.corrections,
            dtype=np.float16,
            device=device(backend),
        )
        self._window = ProjectionWindow(self.geometry, 2 * math.pi if options.full_turn else None, backend=backend)
        self._engine = Reconstructor(self.geometry, backend)
        self._slices = IncrementalSlices(self._engine)
        self._coverage: dict[SliceGeometry, float] = {}

    def filtered_header(self, series: str) -> Header:
        """The header of the filtered views, as a series of that name."""
        return replace(
            self._header,
            series=series,
            stage="filtered",
            geometry=self.geometry,
            linear=True,
            filter=self.options.filter,
            full_turn=self.options.full_turn,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of a frame."""
        return self.geometry.rows, self.geometry.cols

    @property
    def fill(self) -> float:
        """Part of the window's span that is covered, 0 to 1."""
        return self._window.fill

    @property
    def obstacle(self) -> str:
        """Why the window may never be full; empty: there is no sign of it."""
        return self._window.obstacle

    @property
    def replaced(self) -> float:
        """Part of the pixels of the last frame that say nothing and were replaced by their neighbours, 0 to 1."""
        return self._preprocess.replaced

    def filter(self, image: Image) -> Any:
        """The filtered view (rows, cols) float16 of one frame in mm^-1, where the backend works: an array, or a tensor
        on its device. Raises ValueError for one that says nothing."""
        return self._preprocess(image.data[None], [image.angle_rad])[0]

    def add(self, image: Image, filtered: Any) -> Arrival:
        """Take a filtered view into the window. Raises WindowOverflowError (the window is empty then)."""
        return self._window.add(image.frame, image.angle_rad, filtered, image.pose)

    def window(self) -> Window | None:
        """The newest full span of views; None before it is full. Valid until the next `add`."""
        return self._window.window()

    def coverage(self, window: Window, geometry: SliceGeometry) -> float:
        """See `Reconstructor.coverage`; for a slice on display it is that of its first window."""
        if geometry not in self._coverage:
            self._coverage[geometry] = self._engine.coverage(window, geometry)
        return self._coverage[geometry]

    def reconstruct(self, window: Window, geometry: SliceGeometry) -> NDArray[np.float32]:
        """A slice as planes (2 or 3, 1, rows, cols) in 1/mm. Raises ValueError for one that this scan cannot show."""
        return to_host(self._slices.reconstruct(window, geometry))

    def keep(self, geometries: Iterable[SliceGeometry]) -> None:
        """These slices are on display: the others need not be kept up to date."""
        kept = set(geometries)
        self._slices.keep(kept)
        self._coverage = {geometry: part for geometry, part in self._coverage.items() if geometry in kept}


def check_center(scan: ScanGeometry, offset_px: float) -> None:
    """Raises ValueError for an axis beside the detector, or moved further than half of it: nothing would be seen."""
    if not scan.radius_mm > 0:
        raise ValueError(
            f"axis of rotation: expected in front of the {scan.cols} columns of the detector, got column "
            f"{scan.axis_column:.1f}"
        )
    if abs(offset_px) > scan.cols / 2:
        raise ValueError(
            f"center_offset_px: expected at most half the detector, {scan.cols / 2:g} columns, got {offset_px:g}"
        )


def full_slice(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole slice (rows, cols) of planes (2 or 3, depth, rows, cols): the third, else the mean of the halves."""
    middle = planes.shape[1] // 2
    return full_stack(planes[:, middle : middle + 1])[0]


def full_stack(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same of the slice and its neighbours: (depth, rows, cols)."""
    return planes[2] if planes.shape[0] == 3 else 0.5 * (planes[0] + planes[1])
