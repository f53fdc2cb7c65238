"""The chain on the processor: one frame after the other, in buffers that are made once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tango_jit.recon.preprocess.bridge import mend
from tango_jit.recon.preprocess.lines import Field, lines_of_counts, scaled_lines
from tango_jit.recon.preprocess.phase import phase_of
from tango_jit.recon.preprocess.plan import (
    HALF_MAX,
    LARGEST,
    NO_GOOD_PIXEL,
    TOO_LARGE,
    Image,
    Plan,
    air_scale,
    refuse_no_beam,
)
from tango_jit.recon.preprocess.ramp import Ramp
from tango_jit.recon.preprocess.rings import Rings
from tango_jit.recon.preprocess.zingers import HostZingers


class HostChain:
    """Frames (n, rows, cols), contiguous uint16 or float32, to filtered views; see `Preprocessor`."""

    def __init__(self, plan: Plan) -> None:
        self._plan, corrections = plan, plan.corrections
        self._ramp = Ramp(plan.geometry.cols, plan.filter, edge_extend=plan.edge_extend)
        rows, cols = plan.shape
        self._padded = torch.zeros(rows, self._ramp.size)
        self._lines = self._padded[:, self._ramp.start : self._ramp.start + cols]
        self._place = self._padded.numpy(), self._ramp.start
        self._good = np.empty(rows, np.float32)
        self.replaced = 0.0
        self._alive, self._light = int(np.isfinite(plan.light).sum()), float(np.nansum(plan.light, dtype=np.float64))
        self._field = Field(plan.dark, 1 / plan.light, -plan.gain, plan.least, np.inf)
        nothing, whole = np.zeros(plan.shape, np.float32), np.ones(plan.shape, np.float32)
        self._field_retrieved = self._field._replace(dark=nothing, per_flat=whole)
        self._zingers = HostZingers(self._field, corrections.zinger_excess) if corrections.zinger_excess else None
        self._rings = Rings(plan.shape, corrections.ring_turns) if corrections.ring_turns else None
        self._phase = phase_of(plan.geometry, corrections)

    @property
    def wants_angles(self) -> bool:
        return self._rings is not None

    def __call__(self, frames: NDArray[Any], angles_rad: NDArray[np.float64], ceiling: float) -> NDArray[Any]:
        views = torch.empty(frames.shape, dtype=torch.float16 if self._plan.half else torch.float32)
        frames = frames.view()
        frames.flags.writeable = False  # one type for the compiler, whether they come from a message or not
        for frame, angle, view in zip(frames, angles_rad.tolist(), views, strict=True):
            self._write_lines(frame, ceiling)
            if self._rings is not None:
                self._rings(self._lines, angle)
            self._ramp(self._padded, view, HALF_MAX if self._plan.may_overflow else None)
        return views.numpy()

    def _write_lines(self, frame: NDArray[Any], ceiling: float) -> None:
        """Line integrals of one frame, times the gain, where the ramp filter wants them. Raises ValueError."""
        lines, good = self._lines.numpy(), self._good
        if self._plan.plain:
            scaled_lines(frame, self._plan.gain, *self._place, good)
            self._count_replaced()
        else:
            self._write_lines_of_counts(frame, ceiling, lines)
        if not mend(lines, good):
            raise ValueError(NO_GOOD_PIXEL)
        if self._plan.plain and max(lines.max(), -lines.min()) > LARGEST:
            raise ValueError(TOO_LARGE.format(np.abs(frame).max()))

    def _write_lines_of_counts(self, frame: NDArray[Any], ceiling: float, lines: Image) -> None:
        plan = self._plan
        if self._zingers is not None:
            frame = self._zingers(frame)
        scale = self._air(frame, ceiling) if plan.corrections.air_region else 1.0
        if self._phase is None:
            field = self._field._replace(ceiling=ceiling)
            self._refuse(lines_of_counts(frame, field, scale, *self._place, self._good), lines)
            return
        with np.errstate(invalid="ignore"):
            above = np.asarray(frame - plan.dark, np.float32)
            above[np.abs(frame) >= ceiling] = np.nan
        transmission = above * self._field.per_flat
        self._good[:] = np.isfinite(transmission).sum(1)
        self._refuse(float(np.nansum(above, dtype=np.float64)), above)
        if not mend(transmission, self._good):
            raise ValueError(NO_GOOD_PIXEL)
        np.clip(transmission * np.float32(scale), plan.least, None, out=transmission)
        retrieved = self._phase(torch.from_numpy(transmission)[None])[0].contiguous().numpy()
        lines_of_counts(retrieved, self._field_retrieved, 1.0, *self._place, self._good)

    def _count_replaced(self) -> int:
        """Keep the part of this frame's pixels that has to be replaced; returns the number of the good ones."""
        number, (rows, cols) = int(self._good.sum(dtype=np.float64)), self._plan.shape
        self.replaced = 1 - number / (rows * cols)
        return number

    def _refuse(self, light: float, lines: Image) -> None:
        """Raises ValueError for a frame of this light (counts) in its good pixels, those that are no NaN in `lines`."""
        if number := self._count_replaced():
            whole = self._light if number == self._alive else float(self._plan.light[~np.isnan(lines)].sum())
            refuse_no_beam(light / whole)

    def _air(self, frame: NDArray[Any], ceiling: float) -> float:
        assert self._plan.corrections.air_region is not None
        left, right, low, high = self._plan.corrections.air_region
        place = slice(low, high + 1), slice(left, right + 1)
        counts, light = frame[place], self._plan.light[place]
        good = (np.abs(counts) < ceiling) & np.isfinite(light)
        if not good.any():
            return air_scale(np.nan)
        above = counts[good] - self._plan.dark[place][good]
        return air_scale(float(above.sum(dtype=np.float64) / light[good].sum(dtype=np.float64)))
