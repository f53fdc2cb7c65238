"""One moment as a file: every slice, raw and denoised, with what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py

from tango_jit import __version__
from tango_jit.learn.tasks import TASKS
from tango_jit.services.files import new_file
from tango_jit.streams import Denoised


def write_snapshot(path: Path, slices: Mapping[str, Denoised]) -> None:
    """Write slices as NXdata groups (denoised, raw; depth, rows, columns) to a new HDF5 file, in 1/mm; what
    another task than DENOISE made has no unit.

    The file is complete or not there. Raises ValueError if the folder is missing or the file exists, OSError.
    """
    with new_file(path, "Snapshot") as part, h5py.File(part, "w") as file:
        file.attrs.update({"creator": f"tango-jit {__version__}", "default": next(iter(slices))})
        for name, message in slices.items():
            group = file.create_group(name)
            group.attrs.update({"NX_class": "NXdata", "signal": "denoised"})
            for index, field in enumerate(("denoised", "raw")):
                data = group.create_dataset(field, data=message.data[index])
                restored = field == "raw" or TASKS[message.task].restores
                data.attrs["units"] = "1/mm" if restored else "1"
            group.attrs.update(
                {
                    "series": message.series,
                    "first_frame": message.first_frame,
                    "last_frame": message.last_frame,
                    "timestamp_s": message.timestamp_s,
                    "generation": message.generation,
                    "weights_version": message.weights_version,
                    "task": message.task,
                    "geometry": json.dumps(message.geometry.to_dict()),
                }
            )
            if message.accuracy is not None:
                group.attrs["accuracy"] = message.accuracy
