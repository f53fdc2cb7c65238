"""The frames of the HDF5 formats: one dataset (n, rows, cols), read, grown, or laid out at once and filled in place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from abc import abstractmethod
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from tango_jit.recordings import extension
from tango_jit.recordings.hdf5 import Column, RecordingError, dataset, label, read_frame
from tango_jit.recordings.plan import Plan, check_space
from tango_jit.recordings.recording import Recording, RecordingWriter
from tango_jit.streams.messages import Dark, Flat, Header, Image


class StackFrames:
    """Frames of a dataset, with the poses of the table; see `recording.Frames`."""

    def __init__(self, file: h5py.File, stack: h5py.Dataset, table: extension.Table) -> None:
        self._file, self._stack, self._table = file, stack, table
        self.name = f"{file.filename}:{stack.name}"
        self.dtype = np.dtype("float32" if stack.dtype.name == "float64" else stack.dtype.name)

    @property
    def is_open(self) -> bool:
        return bool(self._file)

    def read(self, stored: int, /) -> NDArray[Any]:
        return read_frame(self._stack, stored)

    def poses(self, stored: NDArray[np.int64], /) -> NDArray[np.float64] | None:
        poses = self._table.poses
        if poses is None:
            return None
        if len(stored) == 1:
            return np.asarray(poses[int(stored[0])], np.float64)[None]
        return np.asarray(poses[()], np.float64)[stored]

    def close(self) -> None:
        self._file.close()


def new_dataset(group: h5py.Group, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """A dataset whose place in the file is fixed at once and which takes no room before it is written (zeros)."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, path.encode(), kind, space, dcpl=layout, lcpl=links)
    made = dataset(group, path)
    assert made is not None
    return made


class _Fixed:
    """Stands for a Column where the length is known."""

    def __init__(self, made: h5py.Dataset) -> None:
        self.dataset, self._length = made, 0

    def append(self, value: NDArray[Any]) -> None:
        self.dataset[self._length] = value
        self._length += 1

    def flush(self) -> None:
        """Nothing waits."""


class HDF5Writer(RecordingWriter):
    """Base of the HDF5 writers.

    With a plan the file is laid out under another name, closed, renamed and from then on never again opened by HDF5:
    frames, and after each of them the count of frames, are written in place. So there is no moment at which a killed
    process leaves a damaged file. Without a plan the datasets grow and are complete after `close`.
    """

    stack_path: ClassVar[str]
    home: ClassVar[str]
    """The group that holds `tango_jit`."""
    reader: ClassVar[type[Recording]]

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
        super().__init__(path, header, dark, flat, plan=plan, scenario=scenario, resume=resume)
        self._descriptor = -1
        self._safe: dict[Any, int] = {}  # how long each column was when it was last put on the disk
        if plan is None:
            self._file = h5py.File(path, "w-", locking="best-effort")
        elif resume:
            self._resume()
        else:
            check_space(path, self.frame_bytes * (len(plan) + 2))
            self._lay_out(plan)
        self._open = True

    @abstractmethod
    def _create(self, file: h5py.File) -> None:
        """Create everything but the stack, which is there; store the means."""

    @abstractmethod
    def _row(self, angle_rad: float, number: int, timestamp_s: float, pose: tuple[float, ...] | None) -> None:
        """One entry for each column but the stack."""

    @abstractmethod
    def _columns(self) -> list[Column]:
        """All that grows but the stack."""

    def _means(self) -> int:
        """How many frames of the stack are darks and flats; they come first."""
        return 0

    def _start(self, dtype: np.dtype[Any]) -> None:
        if self.plan is None:
            self._stack: Column | _Fixed = Column(self._file, self.stack_path, self._shape, dtype.name)
        else:
            length = self._means() + len(self.plan)
            self._stack = _Fixed(new_dataset(self._file, self.stack_path, (length, *self._shape), dtype))
        self._create(self._file)

    def _lay_out(self, plan: Plan) -> None:
        part = f"{self.path}.{secrets.token_hex(4)}.part"
        try:
            with h5py.File(part, "w-", locking="best-effort") as self._file:
                assert self._dtype is not None
                self._start(self._dtype)
                new_dataset(self._file, self._counter_path, (1,), np.dtype("<i8"))[0] = 0
                for index in range(len(plan)):
                    self._row(
                        float(plan.angles_rad[index]),
                        int(plan.frame_numbers[index]),
                        float(plan.timestamps_s[index]),
                        plan.pose(index),
                    )
                for column in self._columns():
                    column.flush()
                self._locate(self._file)
            os.rename(part, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
        self._descriptor = locked(self.path)

    def _locate(self, file: h5py.File) -> None:
        """Where in the file, in bytes, the first planned frame and the counter are."""
        stack, counter = dataset(file, self.stack_path), dataset(file, self._counter_path)
        assert stack is not None and counter is not None
        start, self._counter = stack.id.get_offset(), counter.id.get_offset()
        if start is None or self._counter is None or not stack.dtype.isnative:
            raise RecordingError(f"{label(file, self.stack_path)}: expected frames in one piece, as they were laid out")
        self._first = start + self._means() * self.frame_bytes

    def _resume(self) -> None:
        with self.reader(self.path, include_unwritten=True) as found:  # type: ignore[call-arg]
            self._check_resumed(found)
        with h5py.File(self.path, "r", locking="best-effort") as file:
            self._locate(file)
        self._descriptor = locked(self.path)
        self.frames = int.from_bytes(os.pread(self._descriptor, 8, self._counter), "little")
        # The counter follows the frame; where the machine itself went down, the disk may have kept the counter alone.
        while self.frames and not any(os.pread(self._descriptor, self.frame_bytes, self._place(self.frames - 1))):
            self.frames -= 1
        assert self.plan is not None
        check_space(self.path, self.frame_bytes * (len(self.plan) - self.frames))

    @property
    def _counter_path(self) -> str:
        return f"{self.home}/{extension.NAME}/{extension.WRITTEN}"

    def _place(self, index: int) -> int:
        return self._first + index * self.frame_bytes

    def _add(self, image: Image) -> None:
        if self.plan is None:
            self._row(image.angle_rad, image.frame, image.timestamp_s, image.pose)
            self._stack.append(np.array(image.data))  # a copy: a block may be written after the buffer is used again
            return
        _write(self._descriptor, np.ascontiguousarray(image.data).data.cast("B"), self._place(self.frames))
        _write(self._descriptor, memoryview((self.frames + 1).to_bytes(8, "little")), self._counter)

    @property
    def _grows(self) -> bool:
        """Is there a stack that frames are added to?"""
        return self.plan is None and self._open and self._dtype is not None

    def flush(self) -> None:
        if self._grows and isinstance(self._stack, Column):
            columns = [self._stack, *self._columns()]
            for column in columns:
                column.flush()
            self._file.flush()
            self._safe = {column.dataset.name: len(column) for column in columns}

    def revert(self) -> None:
        if self._grows and isinstance(self._stack, Column):
            for column in [self._stack, *self._columns()]:
                column.cut(self._safe.get(column.dataset.name, min(self._safe.values(), default=0)))
            self._file.flush()

    def _finish(self) -> None:
        if self.plan is not None:
            os.close(self._descriptor)
            return
        if self._dtype is None:
            self._start(np.dtype("float32"))
        for column in [self._stack, *self._columns()]:
            column.flush()
        self._file.close()


def locked(path: str) -> int:
    """A descriptor to write with. While it is open, HDF5 and other writers of ours keep away from the file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # others than these: a file system without locks
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            problem = "another program holds it open (file lock); wait until it has closed it"
            raise RecordingError(f"{path}: {problem}") from error
    return descriptor


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
