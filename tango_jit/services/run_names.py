"""Names of the files of a run."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check(name: str, value: Any) -> None:
    """Raises ValueError in words for a `folder` or `file_name` that can never be one; a folder may come into being."""
    if name == "folder" and value.strip() and not Path(value.strip()).is_absolute():
        raise ValueError(f"folder: expected a path from the root, got {value}")
    if name == "file_name" and not NAME.fullmatch(value):
        raise ValueError(f"file_name: expected letters, digits, . _ and -, up to 100, got {value!r}")


def new_run(folder: str, name: str, now_s: float) -> Path:
    """Where a run that begins now is written: `<name>_<date>_<time>.nxs`, with a number where that is taken.

    Raises ValueError in words for a folder that is none, or a name that is; OSError for one that cannot be written to.
    """
    if not folder.strip():
        raise ValueError("folder: expected a folder to write to, none is set")
    check("folder", folder)
    check("file_name", name)
    place = Path(folder.strip())
    if not place.is_dir():
        raise ValueError(f"folder: expected a path from the root, of a folder that exists, got {folder}")
    with tempfile.TemporaryFile(dir=place):
        pass  # it can be written to, or this raises
    stem = f"{name}_{time.strftime('%Y%m%d_%H%M%S', time.localtime(now_s))}"
    taken = {path.name for path in place.iterdir()}
    for k in range(1, len(taken) + 2):
        path = place / (f"{stem}.nxs" if k == 1 else f"{stem}-{k}.nxs")
        if not any(one.startswith((f"{path.stem}.", f"{path.stem}_")) for one in taken):
            return path
    raise AssertionError("unreachable: more names than files")


def numbered(path: Path, number: int) -> Path:
    """The file itself for 1, then `<name>_2` and so on."""
    return path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")
