"""The chain on any device of torch: as many frames at once as come."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tango_jit.recon.preprocess.bridge import tensor_mend
from tango_jit.recon.preprocess.lines import Field, tensor_lines_of_counts, tensor_scaled_lines
from tango_jit.recon.preprocess.phase import phase_of
from tango_jit.recon.preprocess.plan import (
    HALF_MAX,
    LARGEST,
    NO_GOOD_PIXEL,
    TOO_LARGE,
    Plan,
    air_scale,
    refuse_no_beam,
)
from tango_jit.recon.preprocess.ramp import Ramp
from tango_jit.recon.preprocess.rings import Rings
from tango_jit.recon.preprocess.zingers import TensorZingers


class TensorChain:
    """Contiguous uint16 or float32 arrays (n, rows, cols) to filtered views on `device`; see `Preprocessor`."""

    def __init__(self, plan: Plan, device: str) -> None:
        self._plan, self._device, corrections = plan, device, plan.corrections
        self._ramp = Ramp(plan.geometry.cols, plan.filter, edge_extend=plan.edge_extend, device=device)
        self._gain, self._dark, self._light = (
            torch.from_numpy(array).to(device) for array in (plan.gain, plan.dark, plan.light)
        )
        self._field = Field(self._dark, 1 / self._light, -self._gain, plan.least, np.inf)
        excess, turns = corrections.zinger_excess, corrections.ring_turns
        self._zingers = TensorZingers(self._field, excess) if excess else None
        self._rings = Rings(plan.shape, turns, device) if turns else None
        self._phase = phase_of(plan.geometry, corrections, device)
        self.replaced = 0.0

    @property
    def wants_angles(self) -> bool:
        return self._rings is not None

    def __call__(self, frames: NDArray[Any], angles_rad: NDArray[np.float64], ceiling: float) -> torch.Tensor:
        counts = self._sent(frames)
        if not len(counts):
            return torch.empty(frames.shape, dtype=self._dtype, device=self._device)
        if self._plan.plain:
            lines = tensor_scaled_lines(counts, self._gain)
            self._refuse_bad(lines)
            if bool((lines.nan_to_num(0).abs() > LARGEST).any()):
                raise ValueError(TOO_LARGE.format(float(counts.abs().max())))
        else:
            lines = self._lines_of_counts(counts, ceiling)
        lines = tensor_mend(lines)
        if self._rings is not None:
            for view, angle in zip(lines, angles_rad.tolist(), strict=True):
                self._rings(view, angle)
        n, rows, cols = lines.shape
        start = self._ramp.start
        padded = torch.zeros(n * rows, self._ramp.size, device=self._device)
        padded[:, start : start + cols] = lines.flatten(0, 1)
        views = torch.empty(n * rows, cols, dtype=self._dtype, device=self._device)
        self._ramp(padded, views, HALF_MAX if self._plan.may_overflow else None)
        return views.view(n, rows, cols)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self._plan.half else torch.float32

    def _sent(self, frames: NDArray[Any]) -> torch.Tensor:
        """Float32 on the device; integers travel as they are, in half the bytes."""
        if frames.dtype == np.uint16:
            # As int16: torch has few operations on uint16.
            return torch.from_numpy(frames.view(np.int16).copy()).to(self._device).int().bitwise_and_(0xFFFF).float()
        return torch.from_numpy(frames.copy()).to(self._device)

    def _lines_of_counts(self, counts: torch.Tensor, ceiling: float) -> torch.Tensor:
        field = self._field._replace(ceiling=ceiling)
        if self._zingers is not None:
            counts = self._zingers(counts)
        scale = self._air(counts, ceiling) if self._plan.corrections.air_region else counts.new_ones(len(counts))
        if self._phase is None:
            lines, light = tensor_lines_of_counts(counts, field, scale)
            self._refuse_bad(lines)
            self._refuse_dark(lines, light)
            return lines
        above = torch.where(counts.abs() < ceiling, counts - field.dark, torch.nan)
        transmission = above * field.per_flat
        self._refuse_bad(transmission)
        self._refuse_dark(transmission, above.nansum((1, 2), dtype=torch.float64))
        transmission = (tensor_mend(transmission) * scale[:, None, None]).clamp(min=field.least)
        return self._phase(transmission).clamp(min=field.least).log_().mul_(field.gain)

    def _refuse_bad(self, lines: torch.Tensor) -> None:
        rows, cols = self._plan.shape
        bad = lines.isnan().sum((1, 2)).tolist()
        self.replaced = bad[-1] / (rows * cols)
        if max(bad) == rows * cols:
            raise ValueError(NO_GOOD_PIXEL)

    def _refuse_dark(self, lines: torch.Tensor, light: torch.Tensor) -> None:
        """`light` (n,): counts above the dark of the pixels that are no NaN in `lines`."""
        whole = torch.where(lines.isnan(), 0, self._light).sum((1, 2), dtype=torch.float64)
        refuse_no_beam(float((light / whole).min()))

    def _air(self, counts: torch.Tensor, ceiling: float) -> torch.Tensor:
        assert self._plan.corrections.air_region is not None
        left, right, low, high = self._plan.corrections.air_region
        place = slice(low, high + 1), slice(left, right + 1)
        counts, light = counts[:, *place], self._light[place]
        good = (counts.abs() < ceiling) & light.isfinite()
        above = torch.where(good, counts - self._dark[place], 0).sum((1, 2), dtype=torch.float64)
        whole = torch.where(good, light, 0).sum((1, 2), dtype=torch.float64)
        return torch.tensor([air_scale(part) for part in (above / whole).tolist()], device=self._device)
