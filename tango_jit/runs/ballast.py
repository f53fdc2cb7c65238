"""Room on a disk that is given back when a file needs it to be closed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

BALLAST_BYTES = 32 << 20


class Ballast:
    """Holds `size_bytes` of the disk of `folder` without a name; a process that dies gives them back.

    HDF5 writes late: on a disk without any room it can neither flush nor close a file, and leaves it damaged. Raises
    OSError where there is no room for it.
    """

    def __init__(self, folder: Path, size_bytes: int = BALLAST_BYTES) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until it is released
        try:
            os.posix_fallocate(self._file.fileno(), 0, size_bytes)
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """Give the room back; twice is no error."""
        self._file.close()
