"""A recorded scan, read or written one frame at a time: memory does not grow with the length of the file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import extension
from tango_jit.recordings.hdf5 import DTYPES, RecordingError
from tango_jit.recordings.plan import Plan
from tango_jit.streams.messages import Dark, Flat, Header, Image

Mean = tuple[NDArray[np.float32], int] | None  # the mean frame, of how many; None: there is none


class Frames(Protocol):
    """Where the frames of a recording lie; positions count the stored frames."""

    @property
    def name(self) -> str:
        """The file, and the place in it, for messages."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frames as they are read."""
        ...

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        ...

    def read(self, stored: int, /) -> NDArray[Any]:
        """One frame (rows, cols); RecordingError where it is damaged."""
        ...

    def poses(self, stored: NDArray[np.int64], /) -> NDArray[np.float64] | None:
        """ASTRA rows (n, 12) in mm of some frames, NaN where one has none; None: no frame has any."""
        ...

    def close(self) -> None:
        """Twice is no error."""
        ...


class Recording:
    """Base of the readers. Positions run over the valid projections, in the order of the file.

    `angles_rad`, `timestamps_s` (n,) are those of the frames. `scenario`: the text of the simulated experiment it was
    made from; None: none is carried. `planned`: how many frames it is to have, where it was planned; None: no plan. A
    recording whose writing was interrupted has fewer frames than that. `remarks`: what a person should know of how the
    file was understood.
    """

    format: ClassVar[str]
    header: Header

    def __init__(
        self,
        frames: Frames,
        stored: NDArray[np.int64],
        frame_numbers: NDArray[np.int64],
        angles_rad: NDArray[np.float64],
        timestamps_s: NDArray[np.float64],
        dark: Callable[[], Mean],
        flat: Callable[[], Mean],
        *,
        scenario: str | None = None,
        planned: int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        """`stored` (n,): where each projection stands in `frames`; then its number, angle and time, (n,) each.

        `dark` and `flat` average their frames; that is done when they are first asked for: there may be gigabytes.
        """
        if len(stored) == 0:
            of = "" if planned is None else f": none of {planned} planned ones is written yet"
            raise RecordingError(f"{frames.name}: expected projections, got none{of}")
        if (frame_numbers < 0).any():
            raise RecordingError(f"{frames.name}: expected frame numbers from 0, got {frame_numbers.min()}")
        self._frames, self._stored = frames, stored
        self.frame_numbers: Sequence[int] = frame_numbers.tolist()
        self.angles_rad, self.timestamps_s = angles_rad, timestamps_s
        self.scenario, self.planned, self.remarks = scenario, planned, tuple(remarks)
        self._read_means, self._means = {"dark": dark, "flat": flat}, dict[str, Mean]()
        for values in (angles_rad, timestamps_s):
            values.setflags(write=False)

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the frames: uint8, uint16, uint32 or float32."""
        return self._frames.dtype

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
            if not self._frames.is_open:
                raise ValueError(f"{kind}: the recording is closed")
            self._means[kind] = self._read_means[kind]()
        return self._means[kind]

    def frame(self, index: int) -> Image:
        """The projection at position `index`, 0 to len - 1 (not its number: `frame_numbers[index]` is).

        Raises IndexError, RecordingError where the file is damaged, ValueError after `close`.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame: expected a position from 0 to {len(self) - 1}, got {index}")
        if not self._frames.is_open:
            raise ValueError(f"frame {index}: the recording is closed")
        stored = int(self._stored[index])
        pose = self._frames.poses(self._stored[index : index + 1])
        return Image(
            self.header.series,
            self.frame_numbers[index],
            float(self.angles_rad[index]),
            float(self.timestamps_s[index]),
            self._frames.read(stored),
            None if pose is None or not np.isfinite(pose).all() else tuple(pose[0].tolist()),
        )

    def plan(self) -> Plan:
        """What a writer needs to lay out a copy of it; raises ValueError where frame numbers occur twice."""
        return Plan(
            np.array(self.frame_numbers, np.int64),
            self.angles_rad,
            self.timestamps_s,
            self.dtype.name,
            self._frames.poses(self._stored),
        )

    def close(self) -> None:
        """Free the file; twice is no error."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordingWriter(ABC):
    """Base of the writers. The recording is complete after `close`; the first frame settles the type of the data.

    With a `plan` all but the frames is written at once, `append` takes the planned frames in their order, and a
    process that is killed leaves a recording that `resume=True` goes on with: `frames` then says how many there are.
    `scenario` is carried as it is. Raises FileExistsError rather than overwrite, ValueError for a header, means or a
    plan that do not fit, RecordingError where what is to be resumed differs, OSError where the disk is too small.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        dark: Dark | None = None,
        flat: Flat | None = None,
        *,
        plan: Plan | None = None,
        scenario: str | None = None,
        resume: bool = False,
    ) -> None:
        if header.stage != "raw":
            raise ValueError(f"header: expected stage raw, got {header.stage!r}: filtered projections are not recorded")
        self._shape = (header.geometry.rows, header.geometry.cols)
        for name, message in (("dark", dark), ("flat", flat)):
            if message is not None and message.mean.shape != self._shape:
                raise ValueError(f"{name}: expected a mean of shape {self._shape}, got {message.mean.shape}")
        if resume and plan is None:
            raise ValueError(f"{os.fspath(path)}: expected the plan that its writing began with, got none")
        if resume and not os.path.exists(path):
            raise FileNotFoundError(f"{os.fspath(path)}: expected a recording to go on with, but there is none")
        if not resume and os.path.lexists(path):
            raise FileExistsError(f"{os.fspath(path)}: expected a new file, but there is one of that name")
        self.path, self.header, self.plan, self.scenario = os.fspath(path), header, plan, scenario
        self._dark, self._flat = dark, flat
        self._dtype = None if plan is None else np.dtype(plan.dtype)
        self._open = False
        self.frames = 0

    @property
    def frame_bytes(self) -> int:
        """Size of a frame; 0 while its type is not known."""
        return 0 if self._dtype is None else self._shape[0] * self._shape[1] * self._dtype.itemsize

    def append(self, image: Image) -> None:
        """Add a projection. Raises ValueError for another series, shape or type than the file's, or than planned."""
        where, data = f"frame {image.frame}", image.data
        if not self._open:
            raise ValueError(f"{where}: the recording is closed")
        if image.series != self.header.series:
            raise ValueError(f"{where}: expected series {self.header.series!r}, got {image.series!r}")
        if data.shape != self._shape or data.dtype.name not in DTYPES:
            raise ValueError(
                f"{where}: expected shape {self._shape} and one of {', '.join(DTYPES)}, got {data.shape} of "
                f"{data.dtype}"
            )
        if self.plan is not None:
            self.plan.check(self.frames, image)
        if self._dtype is None:
            self._dtype = np.dtype(data.dtype.name)
            self._start(self._dtype)
        if data.dtype.name != self._dtype.name:
            raise ValueError(f"{where}: expected {self._dtype} as before, got {data.dtype}")
        self._add(image)
        self.frames += 1

    def close(self) -> None:
        """Complete the recording; twice is no error. Without any projection it holds darks and flats alone."""
        if self._open:
            self._open = False
            self._finish()

    def flush(self) -> None:
        """Put what was added on the disk: a process that is killed later leaves it behind."""
        return  # formats that write a file for each frame have nothing to do

    def revert(self) -> None:
        """Forget what was added since the last `flush`, after something could not be written; then only `close`."""
        return

    @abstractmethod
    def _start(self, dtype: np.dtype[Any]) -> None:
        """Create everything that does not grow."""

    @abstractmethod
    def _add(self, image: Image) -> None:
        """Write a frame, which is checked already."""

    @abstractmethod
    def _finish(self) -> None:
        """Complete and close the files."""

    def _check_resumed(self, found: Recording) -> None:
        """Raises RecordingError that lists in what `found`, read with all its planned frames, differs."""
        assert self.plan is not None
        if found.planned is None:
            raise RecordingError(f"{self.path}: was written without a plan, so nobody can tell where to go on")
        plan, differences = found.plan(), list[str]()
        for name, ours, theirs in (
            ("header", self.header, found.header),
            ("dark", self._dark, found.dark),
            ("flat", self._flat, found.flat),
            ("scenario", self.scenario, found.scenario),
            ("number of frames", len(self.plan), len(plan)),
            ("dtype", self.plan.dtype, plan.dtype),
        ):
            if ours != theirs:
                differences.append(f"{name} (expected {_short(ours)}, got {_short(theirs)})")
        for name in ("frame_numbers", "angles_rad", "timestamps_s", "poses_mm"):
            if not _same(getattr(self.plan, name), getattr(plan, name)):
                differences.append(name)
        if differences:
            raise RecordingError(
                f"{self.path}: cannot be resumed, it is another recording: {'; '.join(differences)} differ"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _short(value: object) -> str:
    words = "none" if value is None else repr(value)
    return words if len(words) < 120 else words[:117] + "..."


def as_type(mean: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A mean as a frame of `dtype`: rounded, and clipped to what an integer type holds."""
    if dtype.kind != "u":
        return mean.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(mean.astype(np.float64)), limits.min, limits.max).astype(dtype)


def rounds_to(exact: NDArray[np.float32], mean: NDArray[np.float32], dtype: np.dtype[Any]) -> bool:
    """Is `mean` the exact mean as `as_type` stores it?"""
    tolerance = 0.51 if dtype.kind == "u" else 1e-6 * np.abs(mean)
    return not (np.abs(as_type(exact, dtype) - mean) > tolerance).any()


def check_fits(where: str, given: ScanGeometry | None, rows: int, cols: int) -> None:
    """A geometry from the caller has to be for frames of this size; RecordingError if it is not."""
    if given is not None and (given.rows, given.cols) != (rows, cols):
        raise RecordingError(
            f"{where}: frames are {rows} x {cols} pixels, but the geometry given is for {given.rows} x {given.cols}"
        )


def settle_linear(
    where: str, given: bool | None, said: bool | None, has_flat: bool, flag: str = f"{extension.NAME}/linear"
) -> bool:
    """Whether -log is applied already: as given, else as the file says, else raw counts, which need flats."""
    if given is not None or said is not None:
        return bool(said if given is None else given)
    if not has_flat:
        raise RecordingError(
            f"{where}: expected flat frames, or the flag {flag} to say whether the data "
            "are -log already (true) or raw counts (false); got neither"
        )
    return False


def unwrap_degrees(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles of many turns from angles that a controller folded into one turn.

    More than 360 degrees between the extremes means that nothing was folded; otherwise a step back (or ahead)
    by more than half a turn is the fold.
    """
    return angles if len(angles) == 0 or np.ptp(angles) > 360 else np.unwrap(angles, period=360)


def series_of(path: str, said: str | None) -> str:
    """The series: as recorded, else the file's name without its ending."""
    return printable(said or "") or printable(os.path.splitext(os.path.basename(path))[0]) or "recording"


def printable(words: str) -> str:
    """Text from a file as a message may carry it: one line of at most 256 characters."""
    return "".join(x if x.isprintable() else " " for x in words)[:256].strip()
