"""The folder of a trainer: real files, and what happens when they are foreign, cut short, too many or not to be had."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tango_jit.learn import Trainer, build
from tango_jit.learn.fingerprint import Fingerprint, stamp
from tango_jit.learn.weights import Weights, pack
from tango_jit.services import weights_folder
from tango_jit.services.weights_folder import LAST, MOST_BEST, MOST_KNOWN, WeightsFolder
from tests.training import SMALL, equal

SOME = Fingerprint("cone", "hann", 100.0, 250.0, 0.2, 64, 180, 0.08, 0.1)
SHAPE = SMALL.network.shape


def weights(version: int = 1, accuracy: float | None = 0.6, features: int = 8, **changes) -> Weights:
    network = build(SMALL.edited(features=features).network, version)
    return pack(network, version=version, scale=0.02, patch_accuracy=accuracy, generation=1, **changes)


@pytest.fixture
def folder(tmp_path: Path):
    made = WeightsFolder(tmp_path / "new" / "folder")
    yield made
    made.close()


def names(folder: WeightsFolder, where: str) -> list[str]:
    return sorted(path.name for path in (folder.path / where).iterdir())


def again(folder: WeightsFolder) -> WeightsFolder:
    """As the next run finds it."""
    folder.close()
    return WeightsFolder(folder.path)


def test_the_last_weights_come_back_as_a_file_that_load_reads(folder):
    assert folder.last(SHAPE) is None
    for version in (1, 2):
        folder.keep(weights(version), SOME, settled=False)
    found, written_s = folder.last(SHAPE)
    assert equal(found, weights(2))
    assert (found.version, written_s) == (2, (folder.path / LAST).stat().st_mtime)
    data = (folder.path / LAST).read_bytes()
    assert stamp(data) == SOME
    trainer = Trainer(SMALL)
    trainer.load(data)
    assert trainer.scale == 0.02
    assert sorted(path.name for path in folder.path.iterdir()) == ["best", "known", LAST, "lock"]
    assert names(folder, "best") == names(folder, "known") == [], "their figure is not that of many pairs"


def test_the_best_of_a_regime_are_kept_and_no_more(folder):
    figures = [0.9, 0.5, 0.8, None, 0.6, 0.7, 0.55]
    for version, accuracy in enumerate(figures):
        folder.keep(weights(version, accuracy), None, settled=True)
    assert [name[:6] for name in names(folder, "best")] == ["0.5000", "0.5500", "0.6000", "0.7000"]
    assert len(names(folder, "best")) == MOST_BEST
    assert names(folder, "known") == [], "of a stream that nobody knows"
    folder = again(folder)
    folder.keep(weights(9, 0.65), None, settled=True)
    assert [name[:6] for name in names(folder, "best")] == ["0.5000", "0.5500", "0.6000", "0.6500"]
    folder.forget_best()
    assert names(folder, "best") == []
    assert folder.last(SHAPE) is not None
    folder.close()


def test_the_best_are_of_one_kind_of_pairs(folder):
    """Between halves with streaks figures fall below those of any two turns."""
    for version in range(MOST_BEST):
        folder.keep(weights(version, 0.1), None, settled=True)
    folder.keep(weights(9, 0.55, split="turns"), None, settled=True)
    assert [name[:6] for name in names(folder, "best")] == ["0.5500"]
    folder = again(folder)
    folder.keep(weights(10, 0.6, split="turns"), None, settled=True)
    assert [name[:6] for name in names(folder, "best")] == ["0.5500", "0.6000"]
    folder.keep(weights(11, 0.1), None, settled=True)
    assert [name[:6] for name in names(folder, "best")] == ["0.1000"]
    folder.close()


def test_of_each_kind_of_stream_the_better_weights_stay(folder):
    like = replace(SOME, noise=1.2 * SOME.noise)
    noisy = replace(SOME, noise=4 * SOME.noise)
    folder.keep(weights(1, 0.7), SOME, settled=True)
    folder.keep(weights(2, 0.6), like, settled=True)  # better
    folder.keep(weights(3, 0.65), SOME, settled=True)  # worse
    folder.keep(weights(4, 0.8), noisy, settled=True)  # of another kind
    folder.keep(weights(5, 0.7, split="turns"), SOME, settled=True)  # figures of another split cannot be compared
    folder.keep(weights(6, 0.99), replace(SOME, noise=99.0), settled=True)  # hardly better than nothing
    folder = again(folder)
    near = folder.near(SOME, SHAPE, 9)
    assert {w.version for w in near.values()} == {2, 5, 4}
    assert list(near.values())[2].version == 4, "the least like"
    assert all((folder.path / name).is_file() for name in near)
    assert [w.version for w in folder.near(noisy, SHAPE, 1).values()] == [4]
    assert folder.near(SOME, SMALL.edited(features=4).network.shape, 9) == {}
    folder.close()


def test_kinds_that_were_not_met_for_longest_are_given_up(folder):
    kinds = [replace(SOME, views=2 ** (k % 12 + 1), pixel_mm=2.0 ** (k // 12)) for k in range(MOST_KNOWN + 2)]
    for version, kind in enumerate(kinds[:MOST_KNOWN]):
        folder.keep(weights(version + 1), kind, settled=True)
    folder.keep(weights(99, 0.9), kinds[0], settled=True)  # met again, though nothing better came of it
    for version, kind in enumerate(kinds[MOST_KNOWN:]):
        folder.keep(weights(version + 51), kind, settled=True)
    assert len(names(folder, "known")) == MOST_KNOWN
    versions = {w.version for w in folder.near(SOME, SHAPE, 99).values()}
    assert versions == {1, *range(4, MOST_KNOWN + 1), 51, 52}


def test_the_folder_is_bounded_in_bytes_too(folder, monkeypatch):
    size = weights().nbytes
    monkeypatch.setattr(weights_folder, "MOST_KNOWN_BYTES", 3 * size)
    for version, views in enumerate((30, 60, 120, 240, 480)):
        folder.keep(weights(version), replace(SOME, views=views), settled=True)
    assert len(names(folder, "known")) == 3


def test_a_reset_forgets_the_experiment_and_not_what_is_known(folder):
    folder.keep(weights(), SOME, settled=True)
    assert folder.cold is None
    folder.forget("scan 7")
    folder = again(folder)
    assert (folder.cold, folder.last(SHAPE), names(folder, "best")) == ("scan 7", None, [])
    assert len(folder.near(SOME, SHAPE, 9)) == 1
    folder.warm()
    assert folder.cold is None
    folder.close()


def test_what_is_no_network_of_this_shape_is_refused_in_words(folder):
    path = folder.path / LAST
    folder.keep(weights(features=4), SOME, settled=False)
    with pytest.raises(ValueError, match=r"last\.safetensors: expected a network of the shape .*as the settings say"):
        folder.last(SHAPE)
    for nonsense in (b"", b"nothing", bytes(100)):
        path.write_bytes(nonsense)
        with pytest.raises(ValueError, match=r"last\.safetensors: checkpoint: expected a safetensors file"):
            folder.last(SHAPE)
    folder.keep(weights(), SOME, settled=False)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"last\.safetensors: weights: expected a safetensors file"):
        folder.last(SHAPE)


def test_foreign_files_are_told_left_alone_and_never_offered(folder):
    folder.keep(weights(1), SOME, settled=True)
    folder.keep(weights(2), replace(SOME, views=90), settled=True)
    foreign = folder.path / "known" / "mine.safetensors"
    foreign.write_bytes(b"notes of an operator")
    (folder.path / "known" / "README").write_text("hello")
    folder = again(folder)
    assert len(folder.refused) == 1
    assert "mine.safetensors: checkpoint: expected a safetensors file" in folder.refused[0]
    spoilt = next(path for path in (folder.path / "known").glob("cone-180*"))
    spoilt.write_bytes(spoilt.read_bytes()[:-8])
    assert [w.version for w in folder.near(SOME, SHAPE, 9).values()] == [2]
    assert spoilt.name in folder.refused[1]
    assert foreign.exists()
    folder.close()


def test_half_written_files_of_a_killed_writer_are_removed(folder):
    (folder.path / "known" / ".x.safetensors.0123abcd.part").write_bytes(b"half")
    again(folder).close()
    assert names(folder, "known") == []


def test_one_trainer_has_a_folder_until_it_ends_or_dies(folder):
    with pytest.raises(BlockingIOError, match="expected a folder that no other trainer uses"):
        WeightsFolder(folder.path)
    folder.close()
    program = (
        "import sys, time; from pathlib import Path; from tango_jit.services.weights_folder import WeightsFolder\n"
        "folder = WeightsFolder(Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(folder.path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    with other:
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(BlockingIOError):
            WeightsFolder(folder.path)
        other.kill()
    WeightsFolder(folder.path).close()


def test_a_disk_that_is_nearly_full_is_left_alone(folder, monkeypatch):
    folder.keep(weights(1), SOME, settled=False)
    monkeypatch.setattr(weights_folder, "LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(OSError, match=r"MB of disk free for others beside \d+ kB of weights, got"):
        folder.keep(weights(2), SOME, settled=True)
    assert folder.last(SHAPE)[0].version == 1


def test_a_folder_that_cannot_be_made_or_has_gone_is_an_error_of_the_disk(folder, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        WeightsFolder(tmp_path / "file" / "folder")
    os.rename(folder.path, tmp_path / "elsewhere")
    with pytest.raises(OSError, match="No such file"):
        folder.keep(weights(2), SOME, settled=True)
