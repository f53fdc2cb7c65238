"""What is known of a recording before its first frame, and whether the disk has room for it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tango_jit.recordings.hdf5 import DTYPES
from tango_jit.streams.messages import Image


@dataclass(frozen=True, eq=False)
class Plan:
    """All frames of a recording before they are made: with it a file is laid out at once, and writing can be resumed.

    `frame_numbers`, `angles_rad` (unwrapped, mid-exposure) and `timestamps_s` have one entry for each frame, in the
    order of writing; numbers are from 0 and unique. `dtype`: uint8, uint16, uint32 or float32. `poses_mm` (n, 12): the
    ASTRA vectors of each view, a row of NaN where a frame has none; None: no frame has one. Raises ValueError.
    """

    frame_numbers: NDArray[Any]
    angles_rad: NDArray[Any]
    timestamps_s: NDArray[Any]
    dtype: str
    poses_mm: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        numbers = np.asarray(self.frame_numbers)
        if numbers.ndim != 1 or len(numbers) == 0 or numbers.dtype.kind not in "ui":
            raise ValueError(f"plan: expected whole frame numbers (n,), got {numbers.dtype} of shape {numbers.shape}")
        if numbers.min() < 0 or len(np.unique(numbers)) != len(numbers):
            raise ValueError("plan: frame_numbers: expected each number once, from 0")
        if self.dtype not in DTYPES:
            raise ValueError(f"plan: dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        self._keep("frame_numbers", numbers, np.int64, (len(numbers),))
        for name in ("angles_rad", "timestamps_s"):
            self._keep(name, getattr(self, name), np.float64, (len(numbers),))
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"plan: {name}: expected finite numbers, got NaN or infinity")
        if self.poses_mm is not None and not np.isfinite(self.poses_mm).any():
            object.__setattr__(self, "poses_mm", None)
        if self.poses_mm is not None:
            self._keep("poses_mm", self.poses_mm, np.float64, (len(numbers), 12))

    def _keep(self, name: str, values: ArrayLike, dtype: type[Any], shape: tuple[int, ...]) -> None:
        """A copy that nobody writes into."""
        array = np.array(values, dtype)
        if array.shape != shape:
            raise ValueError(f"plan: {name}: expected shape {shape}, got {array.shape}")
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.frame_numbers)

    def pose(self, index: int) -> tuple[float, ...] | None:
        """The ASTRA row (12 numbers, mm) of the frame at `index`; None: it has none."""
        if self.poses_mm is None or not np.isfinite(self.poses_mm[index]).all():
            return None
        return tuple(self.poses_mm[index].tolist())

    def check(self, index: int, image: Image) -> None:
        """Raises ValueError unless `image` is the planned frame at `index`."""
        if index >= len(self):
            raise ValueError(f"frame {image.frame}: all {len(self)} planned frames are written")
        expected = (
            int(self.frame_numbers[index]),
            float(self.angles_rad[index]),
            float(self.timestamps_s[index]),
            self.pose(index),
            self.dtype,
        )
        got = (image.frame, image.angle_rad, image.timestamp_s, image.pose, image.data.dtype.name)
        for name, wanted, came in zip(("frame", "angle_rad", "timestamp_s", "pose", "dtype"), expected, got):
            if wanted != came:
                raise ValueError(
                    f"frame {image.frame}: {name}: expected {wanted} as planned for position {index}, got {came}"
                )


def check_space(path: str | os.PathLike[str], needed_bytes: int) -> None:
    """Raises OSError unless the disk of `path` has `needed_bytes`, 5 % and 64 MiB to spare."""
    folder = os.path.dirname(os.path.abspath(path))
    wanted, free = int(needed_bytes * 1.05) + (64 << 20), shutil.disk_usage(folder).free
    if free < wanted:
        raise OSError(
            f"{os.fspath(path)}: expected {wanted / 1e6:,.0f} MB of free space for {needed_bytes / 1e6:,.0f} MB of "
            f"frames and a margin, got {free / 1e6:,.0f} MB; make room or choose another disk"
        )
