"""A run in several parts: rate, changes of shape, weights, full disks."""

from __future__ import annotations

import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tango_jit.runs import Run
from tango_jit.services.backlog import Backlog, Shot
from tango_jit.services.facts_watch import Change, FactsWatch, Look
from tango_jit.services.making import digest
from tango_jit.services.run_names import new_run
from tango_jit.services.run_recording import Keep, RunRecording
from tests.runs import START_S, picture, small_disk, weights

KEEP = Keep(every_s=0, denoised=True, raw=True, weights=True, title="")
SHAPES = {"xy": (16, 24), "xz": (16, 24)}
KNOWN = {digest(weights()): weights()}


TOLD: list[str] = []


class Settings(FactsWatch):
    """Facts of one moment, and changes that a test makes up."""

    def __init__(self, *changes: Change) -> None:
        self.last = Look(START_S, START_S, {"trainer": {"settings": {"a": 2}}})
        self._changes = deque(enumerate(changes, start=1))


def recording(folder: Path, *changes: Change, **keep: Any) -> RunRecording:
    TOLD.clear()
    return RunRecording(folder / "run.nxs", KEEP._replace(**keep), Settings(*changes), KNOWN.get, START_S, TOLD.append)


def shot(k: int, name: str = "xy", shapes: dict[str, tuple[int, int]] | None = None, **fields: Any) -> Shot:
    return Shot(picture(k, name, **fields), START_S + k, SHAPES if shapes is None else shapes)


def test_pictures_are_kept_at_the_rate_that_is_wanted_each_slice_by_itself(tmp_path):
    run = recording(tmp_path, every_s=2.5)
    for k in range(9):
        run.take(shot(k))
        run.take(shot(k, "xz"))
    run.end(START_S + 9)
    assert (run.recorded, run.lost) == (6, 0)
    with Run(tmp_path / "run.nxs") as file:
        assert [file.picture("xy", i).last_frame for i in range(3)] == [60 * k + 149 for k in (0, 3, 6)]
        assert file.ended
        assert file.journal()[-1] == {
            "time_s": START_S + 9,
            "kind": "ended",
            "settings_until_s": START_S,
            "recorded": 6,
            "lost": 0,
        }


def test_a_clock_that_is_set_back_loses_nothing(tmp_path):
    run = recording(tmp_path, every_s=2.5)
    run.take(shot(1000))
    run.take(shot(3))
    run.end(START_S)
    assert run.recorded == 2


def test_another_shape_begins_another_part_and_what_came_too_late_is_counted(tmp_path):
    run = recording(tmp_path)
    run.take(shot(0))
    larger = SHAPES | {"xy": (20, 24)}
    run.take(shot(1, "xz", shapes=larger))  # fits still: the first picture of the new shape is yet to come
    run.take(shot(1, shapes=larger, rows=20))
    run.take(shot(1, shapes=larger))  # of the old shape
    run.take(shot(2, "cut", shapes=larger))  # nobody said yet that there is one
    run.end(START_S + 3)
    assert (run.recorded, run.lost, run.parts) == (4, 1, 3)
    with Run(tmp_path / "run.nxs") as one, Run(tmp_path / "run_2.nxs") as two, Run(tmp_path / "run_3.nxs") as three:
        assert (one.count("xy"), one.count("xz"), two.count("xy"), three.count("cut")) == (1, 1, 1, 1)
        assert three.slices == ["xy", "cut", "xz"]
        assert next(line["kind"] for line in two.journal()) == "continued"


def test_a_part_knows_what_its_first_pictures_were_made_with(tmp_path):
    """They are older than the settings that stand in the file."""
    changes = [Change(START_S + k - 1, START_S + k, "trainer", "a", k - 1, k) for k in (-9, 1, 2)]
    run = recording(tmp_path, *changes)
    run.take(shot(0))
    run.note_changes(START_S)
    run._facts._changes.append((4, Change(START_S + 4, START_S + 5, "trainer", "a", 2, 5)))
    run.note_changes(START_S)
    run.take(shot(6))
    run.end(START_S + 7)
    with Run(tmp_path / "run.nxs") as file:
        noted = [line for line in file.journal() if line["kind"] == "setting"]
        assert [(line["after_s"] - START_S, line["time_s"] - START_S, line["now"]) for line in noted] == [
            (0, 1, 1),
            (1, 2, 2),
            (4, 5, 5),
        ]


def test_weights_are_kept_once_in_each_part_and_missing_ones_are_told(tmp_path):
    run = recording(tmp_path)
    made = dict(picture(0).made) | {"weights_sha256": "ab" * 32}
    for k in range(3):
        run.take(shot(k))
        run.take(shot(k, made=made, weights_version=4))
    run.end(START_S)
    with Run(tmp_path / "run.nxs") as file:
        assert file.weights(digest(weights())) == weights()
        missing = [line for line in file.journal() if line["kind"] == "weights missing"]
        assert missing == [{"time_s": START_S, "kind": "weights missing", "version": 4, "sha256": "ab" * 32}]
    assert run.written_bytes == 6 * 2 * 16 * 24 * 4 + 1000


def test_a_run_that_is_held_goes_on_in_another_part(tmp_path):
    run = recording(tmp_path)
    run.take(shot(0))
    run.hold(START_S + 1, "full")
    assert run.held == "full"
    with Run(tmp_path / "run.nxs") as file:
        assert file.ended
        assert file.journal() == [{"time_s": START_S + 1, "kind": "held", "settings_until_s": START_S, "why": "full"}]
    run.note(START_S + 2, "mark", text="meanwhile")
    run.resume(START_S + 3)
    run.take(shot(4))
    run.end(START_S + 5)
    with Run(tmp_path / "run_2.nxs") as file:
        assert [line["kind"] for line in file.journal()] == ["mark", "resumed", "ended"]
        assert file.count("xy") == 1


def test_a_disk_that_fills_up_in_the_middle_of_a_picture_leaves_the_ones_before(tmp_path):
    with small_disk(tmp_path / "disk", 40) as disk:
        run = recording(disk)
        big = SHAPES | {"xy": (256, 256)}
        k = 0
        while not run.held:
            run.take(shot(k, shapes=big, rows=256, cols=256))
            k += 1
            assert k < 40
        assert (run.recorded, run.lost) == (k, 0)  # the last one with the room that was kept back
        assert any("No space left" in line for line in TOLD)
        with Run(disk / "run.nxs") as file:
            assert file.ended
            assert file.count("xy") == k
            for index in range(k):
                found = file.picture("xy", index)
                assert found.raw is not None
                assert (found.raw == index + 0.5).all()
                assert (found.last_frame, found.series) == (60 * index + 149, "a scan")
        with (disk / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, shutil.disk_usage(disk).free)
        run.resume(START_S)
        run.take(shot(k, shapes=big, rows=256, cols=256))  # there is not even room for another part
        assert run.held
        assert (run.recorded, run.lost, run.parts) == (k, 1, 1)
        assert not (disk / "run_2.nxs").exists()
        run.end(START_S)


def test_names_are_new_and_wrong_ones_are_refused(tmp_path):
    path = new_run(str(tmp_path), "run", START_S)
    assert path.parent == tmp_path
    assert path.name.startswith("run_2023")
    path.touch()
    second = new_run(str(tmp_path), "run", START_S)
    assert second == path.with_name(f"{path.stem}-2.nxs")
    second.with_name(f"{second.stem}_projections.nxs").touch()
    assert new_run(str(tmp_path), "run", START_S) not in (path, second)
    for folder, name, words in (
        ("", "run", "folder: expected a folder to write to, none is set"),
        ("here", "run", "folder: expected a path from the root"),
        (str(path), "run", "of a folder that exists"),
        (str(tmp_path), "../run", "file_name: expected letters, digits"),
        (str(tmp_path), "", "file_name: expected letters, digits"),
    ):
        with pytest.raises(ValueError, match=words):
            new_run(folder, name, START_S)


def test_the_backlog_keeps_seconds_and_bytes():
    backlog = Backlog(10 * picture(0).nbytes)
    assert [backlog.add(shot(k), 3) for k in range(5)] == [0, 0, 0, 0, 1]
    assert (len(backlog), backlog.span_s, backlog.oldest_s) == (4, 3, START_S + 1)
    assert backlog.trim(START_S + 5, 3) == 1
    assert sum(backlog.add(shot(k), float("inf")) for k in range(5, 25)) == 13
    assert len(backlog) == 10
    assert backlog.pop().picture.last_frame == 60 * 15 + 149
