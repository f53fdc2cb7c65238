"""Pictures and weights for the files of runs, and a small disk that can be full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry
from tango_jit.services.making import digest
from tango_jit.streams import Denoised, Weights

START_S = 1_700_000_000.0


def weights(version: int = 3) -> Weights:
    return Weights(version, {"preset": "PRODUCT"}, 0.03, 0.6, 1, "turns", bytes([version]) * 1000)


def place(rows: int = 16, cols: int = 24) -> SliceGeometry:
    return SliceGeometry((-1.0, 2.0, 0.5), (10.0, 0.0, 0.0), (0.0, -8.0, 0.0), rows, cols)


def picture(k: int, name: str = "xy", *, rows: int = 16, cols: int = 24, **fields: Any) -> Denoised:
    """The k-th picture of a slice: 60 frames and a second after the one before; its images say k."""
    data = np.stack([np.full((1, rows, cols), k + 0.25), np.full((1, rows, cols), k + 0.5)]).astype(np.float32)
    made = {"mode": "full", "guarded": False, "weights_sha256": digest(weights()), "share_0": 0.5, "share_1": 1.0}
    given: dict[str, Any] = {
        "slice": name,
        "generation": 2,
        "geometry": place(rows, cols),
        "series": "a scan",
        "first_frame": 60 * k,
        "last_frame": 60 * k + 149,
        "timestamp_s": START_S + k,
        "complete": True,
        "data": data,
        "weights_version": 3,
        "accuracy": 0.55,
        "made": made,
    }
    return Denoised(**given | fields)


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A disk of its own at `folder`; skips where this user may not mount one."""
    folder.mkdir()
    size = f"size={int(megabytes * 1e6)}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # refused while a file is open there
