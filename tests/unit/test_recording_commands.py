"""`tango-jit info` and `tango-jit convert`: what they show, exact copies, and refusals in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from devices import cli, recording_commands
from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import Plan, Recording, create_recording, open_recording
from tango_jit.streams.messages import Image
from tests.recorded import frames_of, scan

GEOMETRY = ScanGeometry.cone(
    rows=3, cols=5, pixel_mm=0.2, source_axis_mm=100.0, source_detector_mm=250.0, axis_column=1.7, mid_row=0.9
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nxs"
    header, dark, flat, images = scan(10, geometry=GEOMETRY)
    with create_recording(path, header, dark, flat, scenario="seed = 1\n") as writer:
        for image in images:
            writer.append(image)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """What the script prints before it ends with exit status 1."""
    monkeypatch.setattr(sys, "argv", ["tango-jit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_info_for_scripts(source: Path) -> None:
    facts: dict[str, Any] = json.loads(run("info", source, "--json"))
    assert facts["format"] == "nxtomo"
    assert (facts["frames"], facts["first_frame_number"], facts["last_frame_number"]) == (10, 3, 21)
    assert facts["missing_frame_numbers"] == 9  # they are counted by twos
    assert (facts["rows"], facts["cols"], facts["dtype"], facts["linear"]) == (3, 5, "uint16", False)
    assert facts["source_axis_mm"] == pytest.approx(100.0)
    assert facts["source_detector_mm"] == pytest.approx(250.0)
    assert facts["pixel_mm"] == pytest.approx([0.2, 0.2])
    assert facts["voxel_mm"] == pytest.approx(0.08)
    assert facts["axis_column"] == pytest.approx(1.7)
    assert facts["views_per_turn"] == pytest.approx(2 * np.pi / 0.05)  # 0.1 rad from one to the next but one
    assert facts["turns"] == pytest.approx(0.95 / (2 * np.pi))
    assert facts["frame_period_s"] == pytest.approx(0.05, rel=1e-3)
    assert (facts["darks"], facts["flats"], facts["scenario"]) == (17, 23, "seed = 1\n")
    assert facts["flat_mean"] == pytest.approx(175, abs=10)


def test_info_for_people(source: Path) -> None:
    words = run("info", source)
    for expected in ("NXtomo", "a sample", "3 to 21, 9 missing", "3 rows x 5 columns, uint16", "raw counts", "0.08 mm"):
        assert expected in words


@pytest.mark.parametrize(("name", "format"), [("copy", None), ("copy.h5", "dxchange"), ("copy.nxs", None)])
def test_converted_and_back_is_the_same(source: Path, name: str, format: str | None) -> None:
    target, back = source.with_name(name), source.with_name("back.nxs")
    run("convert", source, target, *(["--format", format] if format else []))
    run("convert", target, back)
    with open_recording(source) as first, open_recording(back) as last:
        assert last.header == first.header
        assert (last.dark, last.flat, last.scenario) == (first.dark, first.flat, first.scenario)
        assert frames_of(last) == frames_of(first)
    assert sorted(os.listdir(source.parent)) == sorted(["scan.nxs", name, "back.nxs"])


def test_a_part_of_a_recording(source: Path) -> None:
    target = source.with_name("part.nxs")
    run("convert", source, target, "--first", 2, "--last", 5)
    with open_recording(source) as first, open_recording(target) as part:
        assert frames_of(part) == frames_of(first)[2:6]


@pytest.mark.parametrize("name", ["copy", "copy.nxs"])
def test_force_replaces_what_is_there(source: Path, name: str) -> None:
    target = source.with_name(name)
    run("convert", source, target)
    run("convert", source, target, "--last", 2, "--force")
    with open_recording(target) as found:
        assert len(found) == 3
    assert sorted(os.listdir(source.parent)) == sorted(["scan.nxs", name])


def test_targets_that_are_refused(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = source.with_name("there.nxs")
    there.write_text("[precious]")
    own = source.with_name("folder")
    own.mkdir()
    (own / "precious").write_text("")
    link = source.with_name("link.nxs")
    link.symlink_to(source.with_name("elsewhere"))
    for arguments, words in (
        ((source, there), "there.nxs: expected a new file, but there is one of that name (--force replaces it)"),
        ((source, own, "--force"), "folder: expected a folder that tango-jit wrote (tango-jit.toml)"),
        ((source, link, "--force"), "link.nxs: expected a regular file to replace"),
        ((source, source, "--force"), "scan.nxs: expected another file than the source"),
        ((source, source.with_name("a.tif")), "a.tif: expected the format nxtomo, dxchange, flexray"),
        ((source, source.parent / "no" / "a.nxs"), "expected a folder"),
        ((source, source.with_name("a.nxs"), "--last", 10), "expected positions from 0 to 9, got 0 and 10"),
        ((source, source.with_name("a.nxs"), "--direction", 2), "direction: expected 1 or -1, got 2"),
        ((source, source.with_name("a.nxs"), "--direction", 1), "expected a FleX-ray folder for these options"),
        ((source.with_name("absent.nxs"), there, "--force"), "absent.nxs: expected a recording, but there is no such"),
    ):
        assert words in refused(capsys, monkeypatch, "convert", *arguments)
    assert there.read_text() == "[precious]"
    assert sorted(os.listdir(source.parent)) == ["folder", "link.nxs", "scan.nxs", "there.nxs"]


def test_files_that_are_no_recordings(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    assert "scan.nxs: the file is truncated" in refused(capsys, monkeypatch, "info", source)
    source.write_text("text")
    assert "not an HDF5 file [" in refused(capsys, monkeypatch, "info", source)
    assert "expected projections scan_000000.tif" in refused(capsys, monkeypatch, "info", source.parent)


def test_an_error_half_way_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Recording.frame

    def fail(self: Recording, index: int) -> Image:
        if index == 4:
            raise OSError("the disk is gone")
        return frame(self, index)

    monkeypatch.setattr(Recording, "frame", fail)
    for name in ("copy", "copy.nxs"):
        with pytest.raises(OSError, match="the disk is gone"):
            run("convert", source, source.with_name(name))
    assert os.listdir(source.parent) == ["scan.nxs"]


def test_what_is_there_of_an_interrupted_recording(tmp_path: Path) -> None:
    header, dark, flat, images = scan(9, geometry=GEOMETRY)
    columns = zip(*((image.frame, image.angle_rad, image.timestamp_s) for image in images))
    numbers, angles, times = (np.array(column) for column in columns)
    plan = Plan(numbers, angles, times, "uint16", np.array([image.pose or (np.nan,) * 12 for image in images]))
    path = tmp_path / "scan.nxs"
    with create_recording(path, header, dark, flat, plan=plan) as writer:
        for image in images[:4]:
            writer.append(image)
    assert "4 of 9 planned: interrupted, or some are gone" in run("info", path)
    run("convert", path, tmp_path / "copy")
    with open_recording(tmp_path / "copy") as found:
        assert (len(found), found.planned) == (4, None)


def test_options_of_folders_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A continuous series without its options is refused; with them it becomes an NXtomo file that needs none."""
    monkeypatch.setattr(recording_commands.console, "width", 200)
    folder = tmp_path / "scan"
    folder.mkdir()
    for k in range(6):
        tifffile.imwrite(folder / f"scan_{k:06d}.tif", np.full((4, 8), k, np.uint16))
    tifffile.imwrite(folder / "io000000.tif", np.full((4, 8), 9, np.uint16))
    (folder / "scan settings.txt").write_text(
        "SDD : 700\nSOD : 225\nBinned pixel size : 0.0748\nBinning value : 1\nROI (LTRB) : 968, 766, 975, 769\n"
        "ver_tube : 0\ntra_tube : 0\nver_det : 0\ntra_det : 0\ntra_obj : 0\n"
    )
    given = ("--views-per-turn", 4, "--direction", -1, "--phase-deg", 90, "--recorded-period", 12)
    with pytest.raises(ValueError, match="these are missing: profile"):
        run("info", folder, *given)
    assert "views a turn" in run("info", folder, *given, "--profile", "none")
    run("convert", folder, tmp_path / "scan.nxs", *given, "--profile", "cwi-flexray-2019-04-24")
    with open_recording(tmp_path / "scan.nxs") as found:
        np.testing.assert_allclose(found.angles_rad, np.pi / 2 * (1 - np.arange(6)), atol=1e-15)
        np.testing.assert_allclose(found.timestamps_s, 0.012 * np.arange(6))
        assert found.header.geometry.source_mm[0] == pytest.approx(0.5)
