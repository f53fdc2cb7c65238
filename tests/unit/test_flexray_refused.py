"""FleX-ray folders that lack something, or hold what does not belong there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tango_jit.recordings import FlexRayOptions, RecordingError, open_recording
from tango_jit.recordings.flexray_settings import read
from tests.unit.test_flexray_foreign import ROI, SCAN, SOD, expected, folder

__all__ = ["folder"]  # a fixture; pytest finds it here


def test_missing_values_are_listed(folder: Path) -> None:
    path = folder / "scan settings.txt"
    path.write_text("\n".join(line for line in SCAN.splitlines() if not line.startswith(("tra_", "SDD"))))
    with pytest.raises(RecordingError, match=r"missing are SDD, tra_tube, tra_det, tra_obj\. Give a geometry"):
        open_recording(folder)
    with open_recording(folder, geometry=expected()) as source:
        assert source.header.geometry == expected()
    path.write_text(SCAN.replace(f"SOD : {SOD}", "SOD : far"))
    with pytest.raises(RecordingError, match=r"scan settings\.txt: sod: expected a number, got 'far'"):
        open_recording(folder)
    path.write_text(SCAN.replace(ROI, "0, 0, 1943, 1535"))
    with pytest.raises(RecordingError, match="is 768 x 972 pixels, but the images have 10 x 16"):
        open_recording(folder)
    path.write_text(SCAN.replace(f"ROI (LTRB) : {ROI}\n", ""))
    with pytest.raises(RecordingError, match="ROI: expected the place of the 10 x 16 images"):
        open_recording(folder)


def test_missing_darks_flats_and_projections(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("di*"):
        path.unlink()
    with open_recording(folder) as source:
        assert source.dark is None
        assert source.flat is not None
    for path in folder.glob("io*"):
        path.unlink()
    with pytest.raises(RecordingError, match=r"expected flat frames, or the flag linear in tango-jit\.toml"):
        open_recording(folder)
    with open_recording(folder, flexray=FlexRayOptions(linear=True)) as source:
        assert source.header.linear is True
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"empty: expected projections scan_000000\.tif"):
        open_recording(tmp_path / "empty")


def test_foreign_files_and_repeated_numbers_are_named(folder: Path) -> None:
    (folder / "notes.txt").write_text("other files do no harm")
    tifffile.imwrite(folder / "scan_000003 (copy).tif", np.zeros((2, 2), np.uint16))
    with pytest.raises(RecordingError, match=r"\(copy\)\.tif: expected TIFF files named scan_NUMBER"):
        open_recording(folder)
    (folder / "scan_000003 (copy).tif").rename(folder / "scan_000003.tiff")
    with pytest.raises(RecordingError, match=r"scan_000003\.tif.*: expected each number once"):
        open_recording(folder)
    (folder / "scan_000003.tiff").unlink()
    tifffile.imwrite(folder / "di000002.tif", np.zeros((2, 2), np.uint16))
    with open_recording(folder) as source, pytest.raises(RecordingError, match=r"di000002\.tif: expected 10 x 16"):
        _ = source.dark


def test_lower_case_keys_later_keys_and_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "scan settings.txt"
    path.write_text("sod : 1\nSOD : 200.5 mm\nSDD:700\nver_tube : -7.0; 12\ntra_tube : -7.5 ; 12\n[x] : 1\n12 : 3\n")
    found = read(str(path))
    assert (found.source_axis_mm, found.source_detector_mm) == (200.5, 700.0)
    assert (found.src_ort_mm, found.src_tan_mm, found.det_tan_mm, found.pixel_mm) == (-7.0, -7.5, None, None)
