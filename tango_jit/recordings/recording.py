"""A recorded scan, read or written one frame at a time: memory does not grow with the length of the file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import extension
from tango_jit.recordings.hdf5 import DTYPES, Column, RecordingError, read_frame
from tango_jit.streams.messages import Dark, Flat, Header, Image

Mean = tuple[NDArray[np.float32], int] | None  # the mean frame, of how many; None: there is none


class Recording:
    """Base of the readers. Positions run over the valid projections, in the order of the file."""

    header: Header

    def __init__(
        self,
        file: h5py.File,
        stack: h5py.Dataset,
        table: extension.Table,
        stored: NDArray[np.int64],
        frame_numbers: NDArray[np.int64],
        angles_rad: NDArray[np.float64],
        timestamps_s: NDArray[np.float64],
        dark: Callable[[], Mean],
        flat: Callable[[], Mean],
    ) -> None:
        """`stored` (n,): where each projection stands in `stack`; then its number, angle and time, (n,) each.

        `dark` and `flat` average their frames; that is done when they are first asked for: there may be gigabytes.
        """
        if len(stored) == 0:
            raise RecordingError(
                f"{file.filename}:{stack.name}: expected projections, got none among {len(stack)} frames"
            )
        if (frame_numbers < 0).any():
            raise RecordingError(f"{file.filename}: expected frame numbers from 0, got {frame_numbers.min()}")
        self._file, self._stack, self._table, self._stored = file, stack, table, stored
        self.frame_numbers: Sequence[int] = frame_numbers.tolist()
        self.angles_rad, self.timestamps_s = angles_rad, timestamps_s
        self._read_means, self._means = {"dark": dark, "flat": flat}, dict[str, Mean]()
        for values in (angles_rad, timestamps_s):
            values.setflags(write=False)

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def dark(self) -> Dark | None:
        """The mean frame without beam; None: there is none. Read when first asked for, raises as `frame` does."""
        found = self._mean("dark")
        return None if found is None else Dark(self.header.series, *found)

    @property
    def flat(self) -> Flat | None:
        """The mean frame without a sample; None: there is none. Read when first asked for, raises as `frame` does."""
        found = self._mean("flat")
        return None if found is None else Flat(self.header.series, *found)

    def _mean(self, kind: str) -> Mean:
        if kind not in self._means:
            if not self._file:
                raise ValueError(f"{kind}: the recording is closed")
            self._means[kind] = self._read_means[kind]()
        return self._means[kind]

    def frame(self, index: int) -> Image:
        """The projection at position `index`, 0 to len - 1 (not its number: `frame_numbers[index]` is).

        Raises IndexError, RecordingError where the file is damaged, ValueError after `close`.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame: expected a position from 0 to {len(self) - 1}, got {index}")
        if not self._file:
            raise ValueError(f"frame {index}: the recording is closed")
        stored = int(self._stored[index])
        return Image(
            self.header.series,
            self.frame_numbers[index],
            float(self.angles_rad[index]),
            float(self.timestamps_s[index]),
            read_frame(self._stack, stored),
            self._table.pose(stored),
        )

    def close(self) -> None:
        """Free the file; twice is no error."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordingWriter(ABC):
    """Base of the writers. The file is complete after `close`; the first frame settles the type of the data.

    Raises FileExistsError rather than overwrite, ValueError for a header or means that do not fit.
    """

    def __init__(
        self, path: str | os.PathLike[str], header: Header, dark: Dark | None = None, flat: Flat | None = None
    ) -> None:
        if header.stage != "raw":
            raise ValueError(f"header: expected stage raw, got {header.stage!r}: filtered projections are not recorded")
        self._shape = (header.geometry.rows, header.geometry.cols)
        for name, message in (("dark", dark), ("flat", flat)):
            if message is not None and message.mean.shape != self._shape:
                raise ValueError(f"{name}: expected a mean of shape {self._shape}, got {message.mean.shape}")
        if os.path.exists(path):
            raise FileExistsError(f"{os.fspath(path)}: expected a new file, but there is one of that name")
        self.header, self._dark, self._flat = header, dark, flat
        self._file = h5py.File(path, "w-", locking="best-effort")
        self._dtype: np.dtype[Any] | None = None
        self.frames = 0

    def append(self, image: Image) -> None:
        """Add a projection. Raises ValueError for another series, shape or type than the file's."""
        where, data = f"frame {image.frame}", image.data
        if not self._file:
            raise ValueError(f"{where}: the recording is closed")
        if image.series != self.header.series:
            raise ValueError(f"{where}: expected series {self.header.series!r}, got {image.series!r}")
        if data.shape != self._shape or data.dtype.name not in DTYPES:
            raise ValueError(
                f"{where}: expected shape {self._shape} and one of {', '.join(DTYPES)}, got {data.shape} of "
                f"{data.dtype}"
            )
        if self._dtype is None:
            self._dtype = np.dtype(data.dtype.name)
            self._start(self._dtype)
        if data.dtype.name != self._dtype.name:
            raise ValueError(f"{where}: expected {self._dtype} as before, got {data.dtype}")
        self._add(image)
        self.frames += 1

    def close(self) -> None:
        """Complete the file; twice is no error. Without any projection it holds darks and flats alone."""
        if self._file:
            if self._dtype is None:
                self._start(np.dtype("float32"))
            for column in self._columns():
                column.flush()
            self._file.close()

    @abstractmethod
    def _start(self, dtype: np.dtype[Any]) -> None:
        """Create everything that does not grow."""

    @abstractmethod
    def _add(self, image: Image) -> None:
        """Append to every column."""

    @abstractmethod
    def _columns(self) -> list[Column]:
        """All that grows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_fits(where: str, given: ScanGeometry | None, rows: int, cols: int) -> None:
    """A geometry from the caller has to be for frames of this size; RecordingError if it is not."""
    if given is not None and (given.rows, given.cols) != (rows, cols):
        raise RecordingError(
            f"{where}: frames are {rows} x {cols} pixels, but the geometry given is for {given.rows} x {given.cols}"
        )


def settle_linear(where: str, given: bool | None, said: bool | None, has_flat: bool) -> bool:
    """Whether -log is applied already: as given, else as the file says, else raw counts, which need flats."""
    if given is not None or said is not None:
        return bool(said if given is None else given)
    if not has_flat:
        raise RecordingError(
            f"{where}: expected flat frames, or the flag {extension.NAME}/linear to say whether the data "
            "are -log already (true) or raw counts (false); got neither"
        )
    return False


def unwrap_degrees(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles of many turns from angles that a controller folded into one turn.

    More than 360 degrees between the extremes means that nothing was folded; otherwise a step back (or ahead)
    by more than half a turn is the fold.
    """
    return angles if len(angles) == 0 or np.ptp(angles) > 360 else np.unwrap(angles, period=360)


def series_of(file: h5py.File, said: str | None) -> str:
    """The series: as recorded, else the file's name without its ending."""
    return printable(said or "") or printable(os.path.splitext(os.path.basename(file.filename))[0]) or "recording"


def printable(words: str) -> str:
    """Text from a file as a message may carry it: one line of at most 256 characters."""
    return "".join(x if x.isprintable() else " " for x in words)[:256].strip()
