"""The Python in the documentation: all of it is Python, it names what devices have, and what needs no server runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tango

from sim.experiment import Experiment
from sim.record import record
from sim.scenario import parse
from tango_jit.geometry import SliceGeometry
from tango_jit.recordings import open_recording
from tools.device_reference import DOORS, OF_A_SLICE

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NAMES = ("detector", "reconstructor", "trainer", "denoiser", "recorder", "supervisor", "camera")
MEMBERS = dict(zip(NAMES, DOORS, strict=True))
TOML = re.compile(r"^```toml\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
USE = re.compile(rf"\b({'|'.join(MEMBERS)})\.(\w+)")


def snippets(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


WITH_SNIPPETS = [page for page in PAGES if snippets(page)]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_snippets_are_python(page: Path) -> None:
    for number, text in enumerate(snippets(page)):
        compile(text, f"{page.name} {number}", "exec")


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_snippets_use_what_devices_have(page: Path) -> None:
    unknown, tangos = [], {"State", "Status", "Init"} | set(dir(tango.DeviceProxy))
    for member, name in USE.findall("\n".join(snippets(page))):
        door = MEMBERS[member]
        assert door.service_class is not None
        known = {signal.name for signal in door.service_class.table()} | set(vars(door)["TangoClassClass"].cmd_list)
        of_a_slice = tuple(s.name.removesuffix("n") for s in OF_A_SLICE[door]("n")) if door in OF_A_SLICE else ()
        if name not in known | tangos and not name.startswith(of_a_slice):
            unknown.append(f"{member}.{name}")
    assert unknown == []


def test_the_recording_of_the_guide_can_be_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for text in snippets(CHECKOUT / "docs" / "how-to" / "own-recording.md"):
        exec(text, names)
    assert "600 frames, 1437.6" in capsys.readouterr().out
    with open_recording(tmp_path / "rod.nxs") as scan:
        assert scan.header.geometry == names["geometry"]
        assert scan.flat is not None
        first = -np.log((scan.frame(0).data - 100.0) / (scan.flat.mean - 100.0))
    # At angle 0 the middle of the rod, 4 mm of 0.1 per mm, stands 3 mm beside the axis: 60 pixels of 0.05 mm.
    assert abs(first[:, 187:189].mean() - 0.4) < 0.01


def test_the_scenario_of_the_reference_is_possible_and_has_its_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = TOML.findall((CHECKOUT / "docs" / "reference" / "scenarios.md").read_text())
    scenario = parse(text)
    upright = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 0, -1), pixel_mm=0.1, shape=(160, 190))
    materials = [0.0, *(values[0] for values in scenario.materials.values())]
    for time_s in (0.0, 3.0, 9.0, 100.0):
        found = np.unique(Experiment(scenario).truth(upright, time_s, oversampling=1).round(9))
        assert sorted(materials) == found.tolist()  # nothing overlaps, and nothing is out of sight
    monkeypatch.chdir(tmp_path)
    record(scenario, "soap.nxs", frames=200)
    names: dict[str, Any] = {}
    exec(snippets(CHECKOUT / "docs" / "how-to" / "simulate-an-experiment.md")[0], names)
    assert "psnr_db" in capsys.readouterr().out
    assert names["noise_free"].shape == names["moment"].shape == (384, 384)
