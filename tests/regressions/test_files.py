"""Files: what may be written over, and what a broken recording is called."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tango_jit.recordings import RecordingError, open_recording
from tango_jit.services.files import new_file
from tango_jit.services.snapshot import write_snapshot
from tests.services.conftest import FAN, Scan


def save(path: Path) -> None:
    """As the trainer's Save writes: over a file that is there."""
    with new_file(path, "Save", replace=True) as part:
        part.write_bytes(b"new")


def snapshot(path: Path) -> None:
    write_snapshot(path, {})


@pytest.mark.parametrize("write", [save, snapshot])
def test_a_pipe_is_not_replaced(tmp_path, write):
    """It stands for a device node, which a server of the superuser could replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="expected a regular file or a new one"):
        write(pipe)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("write", [save, snapshot])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_neither_replaced_nor_followed(tmp_path, write, there):
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    with pytest.raises(ValueError, match="expected a regular file or a new one"):
        write(link)
    assert link.is_symlink()
    assert target.exists() == there
    assert not there or target.read_bytes() == b"old"


def test_a_file_is_replaced_whole_and_a_folder_is_not(tmp_path):
    (tmp_path / "old").write_bytes(b"something longer")
    save(tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"
    with pytest.raises(ValueError, match="expected a regular file"):
        save(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_recording_is_not_called_locked(tmp_path, kept):
    """HDF5's text on truncated files has "sblock" in it, and a lock is looked for there, too."""
    path = Path(Scan(FAN).write(tmp_path / "scan.h5"))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(RecordingError, match="the file is truncated: its end is missing") as caught:
        open_recording(path)
    assert "another program" not in str(caught.value)
