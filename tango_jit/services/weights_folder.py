"""The folder in which a trainer keeps weights over its own end. All files are what Save writes, with a fingerprint.

    last.safetensors     what training goes on from after a crash
    best/*.safetensors   the best of the present regime, of one task and kind of pairs
    known/*.safetensors  the best for each kind of stream that was ever met: a warm start for the next of its kind
    cold                 the series in which the network was reset: nothing from before is taken up in it
    lock                 held by the trainer that uses the folder

Nothing here has a clock or a thread. All methods raise OSError where the disk refuses.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tango_jit.learn.fingerprint import Fingerprint, stamp, stamped
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.versions import figure, task_of
from tango_jit.learn.weights import Weights, from_checkpoint, to_checkpoint, unpack
from tango_jit.services.files import existing, new_file

LAST = "last.safetensors"
MOST_BEST, MOST_KNOWN = 4, 32
MOST_KNOWN_BYTES = 128 << 20
LEAST_FREE_BYTES = 256 << 20  # what is always left of the disk to others
SAME = 0.5  # fingerprints nearer than this are of one kind: the better weights stay
HELPFUL = 0.95  # weights above this figure are not worth keeping for others


class _Known(NamedTuple):
    """Weights in the folder `known`, without their tensors."""

    path: Path
    kind: Fingerprint
    split: str
    shape: object
    figure: float
    size: int

    @classmethod
    def of(cls, path: Path, weights: Weights, found: Fingerprint) -> _Known:
        shape = NetworkConfig.from_dict(weights.network).shape
        return cls(path, found, weights.split, shape, figure(weights), weights.nbytes)


class _Read(NamedTuple):
    """A file with weights, of what they have learned (see `_learned`); `known` None: without a fingerprint."""

    path: Path
    figure: float
    learned: tuple[str, str]
    known: _Known | None


class WeightsFolder:
    """Makes the folder where it is missing, and holds it until `close`.

    Raises OSError where that cannot be, or where another trainer has it. `refused` says which files of it are no
    weights, and why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: list[str] = []
        for folder in (path, path / "best", path / "known"):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(path / "lock", "w")  # noqa: SIM115 - held as long as this object
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise BlockingIOError(f"expected a folder that no other trainer uses, got {path}") from None
        self._sweep()
        self._best = sorted(self._read("best"), key=lambda found: found.figure)
        self._known = [found.known for found in self._read("known") if found.known is not None]

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()

    def _sweep(self) -> None:
        """Remove what a writer that was killed has left half done."""
        for part in self.path.rglob(".*.part"):
            part.unlink(missing_ok=True)

    def _read(self, folder: str) -> list[_Read]:
        """What there is, the least recently met first."""
        found = []
        for path in sorted((self.path / folder).glob("*.safetensors"), key=lambda path: path.stat().st_mtime):
            try:
                data = existing(path, "weights folder", "a file that Save wrote")
                weights, kind = from_checkpoint(data), stamp(data)
                entry = None if kind is None else _Known.of(path, weights, kind)
            except ValueError as error:
                self.refused.append(f"{path}: {error}")
            else:
                found.append(_Read(path, figure(weights), _learned(weights), entry))
        return found

    # ---- reading

    @property
    def cold(self) -> str | None:
        """The series in which the network was reset, empty: before any; None: it was not."""
        try:
            return (self.path / "cold").read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None

    def last(self, shape: object) -> tuple[Weights, float] | None:
        """What training went on with last, and when that was written in s since the epoch; None: nothing.

        Raises ValueError in words for no network of this shape.
        """
        path = self.path / LAST
        return (self._weights(path, shape), path.stat().st_mtime) if path.exists() else None

    def near(self, found: Fingerprint, shape: object, number: int) -> dict[str, Weights]:
        """By their names, weights of this shape that were good for streams like this one, the likeliest first.

        Those that are no weights (any more) are left out and told in `refused`.
        """
        fitting = [entry for entry in self._known if entry.shape == shape]
        fitting.sort(key=lambda entry: entry.kind.distance(found))
        near: dict[str, Weights] = {}
        for entry in fitting:
            if len(near) == number:
                break
            try:
                near[f"known/{entry.path.name}"] = self._weights(entry.path, shape)
            except ValueError as error:
                self.refused.append(str(error))
                self._known.remove(entry)
        return near

    @staticmethod
    def _weights(path: Path, shape: object) -> Weights:
        try:
            weights = from_checkpoint(existing(path, "weights folder", "a file that Save wrote"))
            network = unpack(weights).config
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if network.shape != shape:
            raise ValueError(
                f"{path}: expected a network of the shape {shape}, as the settings say, got {network.shape}"
            )
        return weights

    # ---- writing

    def keep(self, weights: Weights, found: Fingerprint | None, *, settled: bool) -> None:
        """These are the last ones now; and among the best if that is `settled`: their figure is that of many pairs.

        `found`: of the stream that they were trained on; None: not known, so that they are nothing for others.
        """
        data = to_checkpoint(weights)
        data = data if found is None else stamped(data, found)
        self._write(self.path / LAST, data)
        if not settled:
            return
        self._keep_best(data, weights)
        if found is not None and figure(weights) < HELPFUL:
            self._keep_known(data, weights, found)

    def forget_best(self) -> None:
        """Another regime begins: figures of the one before say nothing there."""
        for best in self._best:
            best.path.unlink(missing_ok=True)
        self._best = []

    def forget(self, series: str) -> None:
        """The network was reset in this series, empty: before any. What is known of other streams stays."""
        (self.path / LAST).unlink(missing_ok=True)
        self.forget_best()
        self._write(self.path / "cold", series.encode())

    def warm(self) -> None:
        """The series in which the network was reset is over."""
        (self.path / "cold").unlink(missing_ok=True)

    def _keep_best(self, data: bytes, weights: Weights) -> None:
        if any(best.learned != _learned(weights) for best in self._best):
            self.forget_best()
        if len(self._best) == MOST_BEST and figure(weights) >= self._best[-1].figure:
            return
        path = self.path / "best" / f"{figure(weights):.4f}-{uuid.uuid4().hex[:8]}.safetensors"
        self._write(path, data)
        new = _Read(path, figure(weights), _learned(weights), None)
        self._best = sorted([*self._best, new], key=lambda found: found.figure)
        for worst in self._best[MOST_BEST:]:
            worst.path.unlink(missing_ok=True)
        del self._best[MOST_BEST:]

    def _keep_known(self, data: bytes, weights: Weights, found: Fingerprint) -> None:
        new = _Known.of(self.path / "known" / _name(found), weights, found)
        alike = [e for e in self._known if (e.split, e.shape) == (new.split, new.shape)]
        alike = [e for e in alike if e.kind.distance(found) < SAME]
        if any(entry.figure <= new.figure for entry in alike):
            for entry in alike:  # met again: they are the last ones to be given up
                with suppress(FileNotFoundError):
                    os.utime(entry.path)
                self._known.remove(entry)
                self._known.append(entry)
            return
        self._write(new.path, data)
        for entry in alike:
            self._give_up(entry)
        self._known.append(new)
        while len(self._known) > MOST_KNOWN or sum(e.size for e in self._known) > MOST_KNOWN_BYTES:
            self._give_up(self._known[0])

    def _give_up(self, entry: _Known) -> None:
        entry.path.unlink(missing_ok=True)
        self._known.remove(entry)

    def _write(self, path: Path, data: bytes) -> None:
        free = shutil.disk_usage(path.parent).free  # raises where the folder is gone
        if free - len(data) < LEAST_FREE_BYTES:
            raise OSError(
                f"expected at least {LEAST_FREE_BYTES >> 20} MB of disk free for others beside {len(data) >> 10} kB "
                f"of weights, got {free >> 20} MB in {self.path}"
            )
        with new_file(path, "weights folder", replace=True) as part, open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # also after a power cut it is complete or not there


def _learned(weights: Weights) -> tuple[str, str]:
    """Task and kind of pairs: figures of weights that differ in them cannot be compared."""
    return task_of(weights), weights.split


def _name(found: Fingerprint) -> str:
    """Of a file: for people who look into the folder."""
    noise = f"noise{found.noise:.2g}"
    return f"{found.beam}-{found.views}views-{found.pixel_mm:.3g}mm-{noise}-{uuid.uuid4().hex[:8]}.safetensors"
