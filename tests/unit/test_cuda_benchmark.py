"""The benchmark of the CUDA backend where there is no device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from tango_jit.recon import backproject


def test_it_says_why_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (why := backproject.obstacle("cuda")):
        pytest.skip("there is a device: python -m benchmarks.gpu")
    monkeypatch.setattr(sys, "argv", ["gpu", "--json", str(tmp_path / "rows.json")])
    assert gpu.main() == 2
    assert why in capsys.readouterr().out
    assert not (tmp_path / "rows.json").exists()
