"""The chain from raw frames to filtered views, for one scanner with one set of darks and flats.

Every factor that does not depend on the slice is in here, so that a slice is `sum of W / w**2 * sample` in mm^-1,
with angular weights W that sum to pi over any complete set of views. Derivation: docs/explanations/reconstruction.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.preprocess.corrections import Corrections
from tango_jit.recon.preprocess.fields import beam
from tango_jit.recon.preprocess.gain import fdk_gain
from tango_jit.recon.preprocess.host import HostChain
from tango_jit.recon.preprocess.plan import Plan
from tango_jit.recon.preprocess.rings import bias_of
from tango_jit.recon.preprocess.tensors import TensorChain

# exp(-v) of line integrals that are taken back to transmissions must stay a normal float32.
_LEAST_OF_LINES = 1e-30


class Preprocessor:
    """Filters frames of one scanner with one set of darks and flats.

    Parameters
    ----------
    filter : one of `FILTERS`.
    linear : the frames are line integrals already; darks and flats are not used.
    dark, flat : (rows, cols) mean counts with beam off, and with beam but without object. `dark` None: zero.
    edge_extend : continue truncated objects beyond the detector (a smooth decay over half its width) instead of
        ending them abruptly, which would show as a bright rim.
    min_transmission : lower limit of (counts - dark)/(flat - dark); anything below, or negative, is taken as this.
    saturation_counts : counts at which a pixel is saturated; None: the top of an integer type, nothing for floats.
    corrections : see `Corrections`. Those that remember (zingers, rings) want the frames in their order, and begin
        anew with every preprocessor: windows never mix.
    dtype : of the views, float32 or float16; what is too large for float16 is cut off.
    device : where it is done: "cpu" (numba and torch), or a device of torch, "cuda".
    as_tensors : use the tensor implementation; None: on other devices than the cpu. The results are the same.

    Pixels are replaced by interpolation along their row where the flat does not exceed the dark, or is not
    finite or saturated (every frame), and where a frame is saturated or not finite (that frame).

    On the cpu it keeps to the calling thread, but for the Fourier transforms, which use `torch.get_num_threads()`:
    one is cheapest.

    Raises ValueError for an unknown filter, wrong shapes, counts without a flat, a flat without any good pixel, and
    corrections that do not fit the scanner.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        *,
        filter: str = "ram-lak",
        linear: bool = False,
        dark: ArrayLike | None = None,
        flat: ArrayLike | None = None,
        edge_extend: bool = False,
        min_transmission: float = 1e-4,
        saturation_counts: float | None = None,
        corrections: Corrections | None = None,
        dtype: str | type = "float32",
        device: str = "cpu",
        as_tensors: bool | None = None,
    ) -> None:
        self.geometry, self.filter, self.linear = geometry, filter, linear
        shape = self.shape = (geometry.rows, geometry.cols)
        if not 0 < min_transmission < 1:
            raise ValueError(f"min_transmission: expected a number between 0 and 1, got {min_transmission!r}")
        if np.dtype(dtype) not in (np.float32, np.float16):
            raise ValueError(f"dtype: expected float32 or float16, got {np.dtype(dtype)}")
        corrections = corrections or Corrections()
        corrections.check(geometry)
        dark, light = (np.zeros(shape), np.ones(shape)) if linear else beam(dark, flat, shape, saturation_counts)
        self._from_lines = linear and corrections.of_counts
        plan = Plan(
            geometry,
            filter,
            edge_extend,
            corrections,
            plain=linear and not corrections.of_counts,
            dark=dark.astype(np.float32),
            light=light.astype(np.float32),
            gain=fdk_gain(geometry).astype(np.float32),
            least=_LEAST_OF_LINES if linear else min_transmission,
            half=np.dtype(dtype) == np.float16,
        )
        self._saturation_counts = np.inf if linear else saturation_counts
        tensors = torch.device(device).type != "cpu" if as_tensors is None else as_tensors
        self._chain = TensorChain(plan, device) if tensors else HostChain(plan)

    def __call__(self, frames: NDArray[Any], angles_rad: ArrayLike | None = None) -> Any:
        """Filtered views (n, rows, cols) of frames (n, rows, cols) of any real type: a new array, on another
        device a tensor there. `angles_rad` (n,), unwrapped: for the ring correction, which learns turn by turn.

        Raises ValueError for the wrong shape, and for a frame that says nothing about the object: without a good
        pixel, without beam (mean transmission below `NO_BEAM`), or with numbers too large to filter. In a window
        such a frame has to be missing: the weights of its neighbours then stand in for it.
        """
        if frames.ndim != 3 or frames.shape[1:] != self.shape:
            raise ValueError(f"frames: expected shape (n, {self.shape[0]}, {self.shape[1]}), got {frames.shape}")
        if angles_rad is None:
            if self._chain.wants_angles:
                raise ValueError("angles_rad: expected the angle of every frame for the ring correction, got None")
            angles = np.zeros(len(frames))
        else:
            angles = np.asarray(angles_rad, np.float64).reshape(len(frames))
        return self._chain(self._typed(frames), angles, self._ceiling(frames.dtype))

    @property
    def replaced(self) -> float:
        """Part of the pixels of the last frame that were replaced by their neighbours, 0 to 1: dead ones, saturated
        ones, and those that are no numbers."""
        return self._chain.replaced

    def _ceiling(self, dtype: np.dtype[Any]) -> float:
        """Counts from which on a pixel is saturated."""
        if self._saturation_counts is not None:
            return self._saturation_counts
        return float(np.iinfo(dtype).max) if dtype.kind in "ui" else np.inf

    def _typed(self, frames: NDArray[Any]) -> NDArray[Any]:
        """The frames as one of the two types that the chains are made for; what float32 cannot hold becomes inf."""
        if frames.dtype != np.uint16 or self.linear:
            with np.errstate(over="ignore"):
                frames = frames.astype(np.float32, copy=False)
            if self._from_lines:  # exp(-inf) would be a good pixel behind an opaque object
                frames = np.exp(-np.where(np.isfinite(frames), frames, np.float32(np.nan)))
        return np.ascontiguousarray(frames)


def warm_up() -> None:
    """Compile, or load from a cache, what the preprocessor does on the cpu: frames then take no extra time."""
    geometry = ScanGeometry.parallel(rows=2, cols=2, pixel_mm=1.0)
    flat = np.full((2, 2), 1000.0)
    for dtype in (np.uint16, np.float32):
        cleaning = Preprocessor(geometry, flat=flat, corrections=Corrections(zinger_excess=0.2))
        frames = np.full((2, 2, 2), 500, dtype)
        frames[1, 1, 1] = 60_000  # a zinger, and so all of the code
        cleaning(frames)
    Preprocessor(geometry, linear=True)(np.zeros((1, 2, 2), np.float32))
    bias_of(torch.zeros(2, 2, 2))
