"""Reads the file of a run, also while it grows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import SliceGeometry
from tango_jit.runs.columns import COLUMNS, GROUP, MODES
from tango_jit.runs.writer import STAGES
from tango_jit.streams.messages import Weights, decode

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """One picture of a run; images are (rows, cols), in mm^-1 where the task restores the slice, None where they were
    not kept. The rest: see `columns.COLUMNS`; `shares` has no entry for bands that all of the change is shown of."""

    name: str
    index: int
    denoised: Image | None = field(repr=False)
    raw: Image | None = field(repr=False)
    geometry: SliceGeometry
    first_frame: int
    last_frame: int
    timestamp_s: float
    generation: int
    complete: bool
    accuracy: float | None
    weights_version: int
    weights_sha256: str
    mode: str
    guarded: bool
    shares: tuple[float, ...]
    task: str
    series: str


class Run:
    """A file that RunWriter has written or is writing.

    Raises ValueError in words for a file that is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(path, "r", libver="latest", swmr=True)
        except OSError as error:
            raise ValueError(f"{path}: expected the file of a run, got one that cannot be opened: {error}") from error
        entry = self._file.get("entry")
        if not isinstance(entry, h5py.Group) or not isinstance(entry.get("journal"), h5py.Group):
            self._file.close()
            raise ValueError(f"{path}: expected the file of a run, got another HDF5 file")
        self._entry: Any = entry

    @property
    def slices(self) -> list[str]:
        """The slices, the one that is shown first in front."""
        groups = [name for name, group in self._entry.items() if group.attrs.get("NX_class") == "NXdata"]
        groups.sort(key=lambda name: name != self._entry.attrs["default"])
        return [name.removeprefix(GROUP) for name in groups]

    @property
    def ended(self) -> bool:
        """Has it been ended as it should?"""
        return bool(self._data("end_time")[()])

    def count(self, name: str) -> int:
        """How many pictures of a slice there are now, all of their data included."""
        group = self._slice(name)
        images = [data for image in ("denoised", "raw") if isinstance(data := group.get(image), h5py.Dataset)]
        columns = [group[column] for column in ("time", *COLUMNS)]
        return min(self._length(data) for data in (*images, *columns))

    def picture(self, name: str, index: int) -> Picture:
        """Raises KeyError for a slice that is not there, IndexError."""
        count = self.count(name)
        if not -count <= index < count:
            raise IndexError(f"{self.path}: {name}: expected a picture below {count}, got {index}")
        index %= count
        group = self._slice(name)
        row = {column: group[column][index] for column in COLUMNS}
        images = {
            image: None if group.get(image) is None else group[image][index].astype(np.float32)
            for image in ("denoised", "raw")
        }
        rows, cols = row["shape"].tolist()
        place = row["geometry"].tolist()
        accuracy = float(row["accuracy"])
        return Picture(
            name=name,
            index=index,
            **images,
            geometry=SliceGeometry((*place[:3],), (*place[3:6],), (*place[6:],), rows, cols),
            first_frame=int(row["first_frame"]),
            last_frame=int(row["last_frame"]),
            timestamp_s=float(row["timestamp"]),
            generation=int(row["generation"]),
            complete=bool(row["complete"]),
            accuracy=None if np.isnan(accuracy) else accuracy,
            weights_version=int(row["weights_version"]),
            weights_sha256=row["weights_sha256"].decode(),
            mode=MODES[row["mode"]],
            guarded=bool(row["guarded"]),
            shares=tuple(row["shares"][~np.isnan(row["shares"])].tolist()),
            task=row["task"].decode(),
            series=row["series"].decode(),
        )

    def index_of(self, name: str, frame: int) -> int:
        """The picture of which `frame` is the newest. Raises ValueError if there is none."""
        found = np.flatnonzero(self._slice(name)["last_frame"][: self.count(name)] == frame)
        if not len(found):
            raise ValueError(f"{self.path}: {name}: expected a picture that ends with frame {frame}, got none")
        return int(found[-1])

    def facts(self) -> dict[str, Any]:
        """What was known of each device at the start, by its member name."""
        stages = {member: self._json(f"{stage}/settings/data") for member, stage in STAGES.items()}
        return stages | self._json("devices/data")

    @property
    def facts_s(self) -> float:
        """When that was told, in s since the epoch. What changed around then stands in the journal."""
        return float(self._entry["devices"].attrs["time_s"])

    def journal(self) -> list[dict[str, Any]]:
        """The lines of the journal so far."""
        data = self._data("journal/data")
        text = data[: self._length(data)].tobytes()
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def weights(self, sha256: str) -> Weights:
        """The weights of that digest. Raises ValueError if they are not kept."""
        group = self._entry.get("weights")
        if group is None:
            raise ValueError(f"{self.path}: expected weights, but none were kept")
        data = {name: group[name] for name in ("sha256", "header_end", "tensors_end", "headers", "tensors")}
        complete = min(self._length(data[name]) for name in ("sha256", "header_end", "tensors_end"))
        for name in ("headers", "tensors"):
            self._length(data[name])
        known = data["sha256"][:complete]
        found = np.flatnonzero(known == sha256.encode())
        if not len(found):
            raise ValueError(f"{self.path}: expected the weights {sha256[:12]}, got {len(known)} others")
        at = int(found[0])
        parts = []
        for ends, blob in (("header_end", "headers"), ("tensors_end", "tensors")):
            start = int(data[ends][at - 1]) if at else 0
            parts.append(data[blob][start : int(data[ends][at])].tobytes())
        message = decode(parts)
        assert isinstance(message, Weights)
        return message

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _slice(self, name: str) -> Any:
        if name not in self.slices:
            raise KeyError(f"{self.path}: expected one of the slices {', '.join(self.slices)}, got {name!r}")
        return self._entry[f"{GROUP}{name}"]

    def _data(self, path: str) -> Any:
        return self._entry[path]

    def _json(self, path: str) -> dict[str, Any]:
        return json.loads(self._data(path)[()])

    @staticmethod
    def _length(data: Any) -> int:
        data.id.refresh()
        return len(data)
