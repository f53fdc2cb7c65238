"""Files of runs: what is written comes back, while they grow too, and other programs understand them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from silx.io import open as silx_open
from silx.io.nxdata.parse import get_default

from tango_jit.learn.blend import BANDS
from tango_jit.runs import Run, RunWriter
from tango_jit.runs.columns import COLUMNS, SHARES
from tango_jit.services.making import digest
from tests.runs import START_S, picture, place, weights

FACTS = {
    "trainer": {"device": "jit/trainer/1", "version": "0.1", "settings": {"buffer_size": 320}},
    "detector": {"device": "jit/detector/1", "settings": {"recording": "/a.nxs"}},
}


def writer(folder: Path, **options: Any) -> RunWriter:
    shapes = {"xz": (16, 24), "xy": (16, 24)}
    given: dict[str, Any] = {"weights": True} | options
    return RunWriter(folder / "run.nxs", shapes, started_s=START_S, facts=FACTS, **given)


def default_plot(file: Any) -> Any:
    return get_default(file)


def test_everything_of_a_picture_comes_back(tmp_path):
    with writer(tmp_path) as run:
        run.append(picture(0))
        run.append(picture(7, accuracy=None, complete=False, task="SEGMENT", made={"mode": "none"}))
        run.close(START_S + 9)
    with Run(tmp_path / "run.nxs") as run:
        assert run.slices == ["xz", "xy"]
        assert (run.count("xy"), run.count("xz"), run.ended) == (2, 0, True)
        first, last = run.picture("xy", 0), run.picture("xy", -1)
        assert run.index_of("xy", 149) == 0
    assert first.denoised is not None
    assert first.raw is not None
    assert (first.denoised == 0.25).all()
    assert (first.raw == 0.5).all()
    assert first.geometry == place()
    assert (first.first_frame, first.last_frame, first.timestamp_s, first.series) == (0, 149, START_S, "a scan")
    assert (first.accuracy, first.weights_version, first.weights_sha256) == (0.55, 3, digest(weights()))
    assert (first.mode, first.guarded, first.shares, first.complete) == ("full", False, (0.5, 1.0), True)
    assert (last.mode, last.accuracy, last.shares, last.complete, last.task) == ("none", None, (), False, "SEGMENT")
    assert last.index == 1


def test_there_is_room_for_the_shares_of_all_bands():
    assert SHARES >= BANDS


def test_weights_notes_and_settings_come_back(tmp_path):
    with writer(tmp_path, title="Ein Stück Käse") as run:
        for version in (3, 5):
            run.add_weights(weights(version), digest(weights(version)))
        run.note(START_S, "mark", text="Öl\n")
        run.note(START_S + 1, "setting", device="trainer", name="buffer_size", before=320, now=[1, 2])
    with Run(tmp_path / "run.nxs") as run:
        assert run.weights(digest(weights(5))) == weights(5)
        assert run.weights(digest(weights(3))) == weights(3)
        with pytest.raises(ValueError, match="expected the weights 00, got 2 others"):
            run.weights("00")
        assert [line["kind"] for line in run.journal()] == ["mark", "setting"]
        assert run.journal()[0]["text"] == "Öl\n"
        assert run.facts()["trainer"]["settings"] == {"buffer_size": 320}
        assert run.facts()["detector"]["device"] == "jit/detector/1"
        assert not run.ended
    with h5py.File(tmp_path / "run.nxs", swmr=True) as opened:
        file: Any = opened
        assert file["entry/title"].asstr()[()] == "Ein Stück Käse"
        assert file["entry/training"].attrs["NX_class"] == "NXprocess"


def test_other_programs_find_the_pictures(tmp_path):
    with writer(tmp_path) as run:
        for k in range(3):
            run.append(picture(k, "xz"))
    with silx_open(str(tmp_path / "run.nxs")) as opened:
        file: Any = opened
        found = default_plot(file)
        assert found is not None
        assert found.is_valid
        assert found.signal.shape == (3, 16, 24)
        assert found.signal.name == "/entry/slice_xz/denoised"
        assert found.interpretation == "image"
        assert found.axes_dataset_names == ["time", None, None]
        assert [data.name for data in found.auxiliary_signals] == ["/entry/slice_xz/raw"]
        np.testing.assert_array_equal(file["entry/slice_xz/time"][()], [0, 1, 2])
        assert file["entry/slice_xz/denoised"].attrs["units"] == "1/mm"


@pytest.mark.parametrize(
    ("raw", "denoised", "signal"),
    [(False, True, "denoised"), (True, False, "raw"), (False, False, "accuracy")],
)
def test_what_is_not_wanted_is_not_kept(tmp_path, raw, denoised, signal):
    with writer(tmp_path, raw=raw, denoised=denoised, weights=False) as run:
        run.append(picture(1))
        run.add_weights(weights(), digest(weights()))
    with Run(tmp_path / "run.nxs") as run:
        found = run.picture("xy", 0)
        assert ((found.raw is not None), (found.denoised is not None)) == (raw, denoised)
        assert found.accuracy == 0.55
        with pytest.raises(ValueError, match="expected weights, but none were kept"):
            run.weights(digest(weights()))
    with silx_open(str(tmp_path / "run.nxs")) as opened:
        file: Any = opened
        assert file["entry/slice_xy"].attrs["signal"] == signal
        assert default_plot(file).is_valid


READER = """
    import sys
    from tango_jit.runs import Run
    with Run(sys.argv[1]) as run:
        for line in sys.stdin:
            count = run.count("xy")
            print(count, run.picture("xy", count - 1).last_frame, len(run.journal()), flush=True)
"""


def test_it_is_read_by_another_process_while_it_grows_and_after_a_kill(tmp_path):
    path = tmp_path / "run.nxs"
    run = writer(tmp_path)
    run.append(picture(0))
    run.flush()
    command = [sys.executable, "-c", textwrap.dedent(READER), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for k in range(1, 4):
            run.append(picture(k))
            run.note(START_S + k, "mark", text="x")
            run.flush()
            print("look", file=reader.stdin)
            assert reader.stdout.readline().split() == [str(k + 1), str(60 * k + 149), str(k)]
        reader.stdin.close()
    run.close()


def test_a_killed_writer_leaves_what_it_had_flushed(tmp_path):
    path = tmp_path / "run.nxs"
    script = f"""
    import os, signal
    from pathlib import Path
    from tests.unit.test_runs import writer
    from tests.runs import picture
    run = writer(Path({str(tmp_path)!r}))
    for k in range(5):
        run.append(picture(k))
        run.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    with Run(path) as run:
        assert run.count("xy") == 5
        assert run.picture("xy", 4).last_frame == 60 * 4 + 149
        assert not run.ended


def test_half_a_picture_is_none(tmp_path):
    """One column is shorter than the others: the process was killed in between."""
    with writer(tmp_path) as run:
        run.append(picture(0))
        run.append(picture(1))
    with h5py.File(tmp_path / "run.nxs", "r+") as file:
        entry: Any = file["entry"]
        entry["slice_xy/series"].resize(1, axis=0)
        journal = entry["journal/data"]
        journal.resize(5, axis=0)
        journal[:] = np.frombuffer(b'{"a":', np.uint8)
    with Run(tmp_path / "run.nxs") as run:
        assert run.count("xy") == 1
        assert run.journal() == []
        with pytest.raises(IndexError, match="xy: expected a picture below 1, got 1"):
            run.picture("xy", 1)


def test_what_does_not_belong_is_refused(tmp_path):
    with writer(tmp_path) as run:
        with pytest.raises(ValueError, match=r"xy: expected 16 x 24 pixels, got \(8, 24\)"):
            run.append(picture(0, rows=8))
        with pytest.raises(KeyError, match="zz"):
            run.append(picture(0, "zz"))
        with pytest.raises(FileExistsError):
            writer(tmp_path)
    assert (tmp_path / "run.nxs").exists()  # the one that was there stays
    with Run(tmp_path / "run.nxs") as run:
        assert run.count("xy") == 0
        with pytest.raises(KeyError, match="expected one of the slices xz, xy, got 'zz'"):
            run.picture("zz", 0)
        with pytest.raises(ValueError, match="xy: expected a picture that ends with frame 5, got none"):
            run.index_of("xy", 5)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="expected the file of a run, got another HDF5 file"):
        Run(other)
    with pytest.raises(ValueError, match="cannot be opened"):
        Run(tmp_path / "none.nxs")


def test_every_column_says_what_it_is(tmp_path):
    writer(tmp_path).close()
    with h5py.File(tmp_path / "run.nxs") as file:
        for name in COLUMNS:
            assert file[f"entry/slice_xy/{name}"].attrs["long_name"]
