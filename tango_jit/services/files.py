"""Files that are complete or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def existing(path: Path, what: str, expected: str) -> bytes:
    """The content of a file. Raises ValueError where it cannot be read, in words that name what was expected."""
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ValueError(f"{what}: expected {expected}, got {path}: {error.strerror}") from error


@contextmanager
def new_file(path: Path, what: str, *, replace: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` at the end, and is removed after an error.

    Raises ValueError if the folder is missing, or if the file exists and `replace` is not set.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{what}: expected a path in a folder that exists, got {path}")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{what}: expected a regular file or a new one, got {path}")
    if path.exists() and not replace:
        raise ValueError(f"{what}: expected a new file, got {path}, which exists")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
