"""The Python of the pages against real servers: the snippets of a page in one program, in their order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tango

from sim.record import record
from sim.scenario import load
from tests.events import wait_until
from tests.unit.test_doc_snippets import CHECKOUT, WITH_SNIPPETS, snippets

pytestmark = pytest.mark.timeout(600)  # more than the waits of one page together

DEVICES = snippets(CHECKOUT / "docs/how-to/operate.md")[0]
UNTIL = """
import time as _time
_deadline = _time.monotonic() + 120
while not ({}):
    assert _time.monotonic() < _deadline, "no {}"
    _time.sleep(0.1)
"""


def until(condition: str) -> str:
    """Python that waits: what the page tells in words between two snippets."""
    return UNTIL.format(condition, condition.replace('"', "'"))


PICTURES = until("denoiser.frame_number_xy >= 0 and denoiser.accuracy is not None")
# The pages name a run of New Year's night and a frame 1234.
RENAMED = """
from pathlib import Path as _Path
for _path in _Path(FOLDER, "visit-7").glob("run_*.nxs"):
    _path.rename(_path.with_name("run_20260101_120000" + "_projections" * ("_projections" in _path.name) + ".nxs"))
from tango_jit.runs import Run as _Run
with _Run(FOLDER + "/visit-7/run_20260101_120000.nxs") as _run:
    LAST = _run.picture("xy", -1).last_frame
"""


@dataclass(frozen=True)
class Page:
    """`before` maps a snippet's number to what has to happen before it, `left_out` to why it is not run here.

    `instead` has texts for those of the page that go beyond the short scan here.
    """

    path: str
    before: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)


PAGES = (
    Page("README.md", {0: DEVICES + PICTURES}),
    Page("docs/tutorials/first-steps.md", {0: DEVICES + PICTURES}),
    Page(
        "docs/how-to/operate.md",
        {
            2: PICTURES,
            5: until("reconstructor.fill >= 1"),
            6: until("reconstructor.preview_frame_number >= 0"),
            8: PICTURES,
            10: until("trainer.steps > 20")
            + "trainer.network = 'PRODUCT'\ntrainer.ResetNetwork()\nreset = trainer.weights_version\n",
            12: "trainer.StopAutoTune()\n",
            13: until("reconstructor.progress == 100"),
            14: until("trainer.weights_version > reset + 2 and denoiser.weights_version > reset + 2"),
        },
        {11: "the scan has no air beside the object, whose columns these are"},
    ),
    Page(
        "docs/how-to/simulate-faults.md",
        {0: DEVICES},
        {5: "simulates the experiments of the paper: minutes"},
        {"900": "250"},
    ),
    Page("docs/how-to/own-database.md", {1: "import tango\n"}, left_out={0: "endpoints of another computer"}),
    Page("docs/reference/logs.md", {0: DEVICES}),
    Page("docs/how-to/find-what-is-wrong.md"),
    Page("docs/how-to/use-bluesky.md", {0: DEVICES + PICTURES}),
    Page("docs/reference/recordings.md"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is /data in the pages: with a scan of two turns."""
    folder = tmp_path_factory.mktemp("data")
    record(load("tablet-soap").with_(seed=3), folder / "scan.nxs", frames=300)
    return folder


@pytest.fixture
def running(system: Any, folder: Path) -> Any:
    """The devices at work, whatever the page before has left behind."""
    as_at_first = {"fault_drop": 0.0, "fault_late": 0.0, "dose": 1.0, "center_shift_px": 0}
    system.replay(folder / "scan.nxs", frame_period_s=0.024, **as_at_first)
    number = system.denoiser.read_attribute("frame_number_xy").value
    wait_until(lambda: system.denoiser.read_attribute("frame_number_xy").value not in (-1, number), 120, "a picture")
    return system


PATIENT = """
import tango as _tango
_begin = _tango.DeviceProxy.__init__
def _patient(proxy, *arguments, **named):
    _begin(proxy, *arguments, **named)
    proxy.set_timeout_millis(30_000)  # where other tests have the cores
_tango.DeviceProxy.__init__ = _patient
_order = _tango.DeviceProxy.command_inout
def _ordered(proxy, *arguments, **named):
    for _again in range(20):
        try:
            return _order(proxy, *arguments, **named)
        except _tango.DevFailed as _error:
            if "try again" not in _error.args[0].desc:
                raise
    return _order(proxy, *arguments, **named)
_tango.DeviceProxy.command_inout = _ordered
"""
NOT_RUN = {
    "own-recording.md": "run without servers, by tests/unit/test_doc_snippets.py",
    "simulate-an-experiment.md": "run without servers, by tests/unit/test_doc_snippets.py",
    "record-a-run.md": "has a test of its own below",
    "runs.md": "has a test of its own below",
    "connect-a-camera.md": "has a test of its own below",
    "connect-an-epics-camera.md": "run by tests/system/test_epics_camera.py",
    "use-sardana.md": "needs a Sardana: tests/system/test_sardana.py does the same",
    "use-a-gpu.md": "needs a GPU",
    "streams.md": "pieces, with what a reader has already; tests/system/stream_peers.py has whole programs",
    "reconstruction.md": "pieces, with what a reader has already; tests/unit/test_volume.py does the same",
}


def test_every_page_with_python_is_run_or_says_why_not() -> None:
    assert {page.name for page in WITH_SNIPPETS} == {Path(page.path).name for page in PAGES} | NOT_RUN.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_waits_stand_before_snippets_that_there_are(page: Page) -> None:
    count = len(snippets(CHECKOUT / page.path))
    assert all(number < count for number in (*page.before, *page.left_out))


def run(program: str, system: Any, folder: Path) -> str:
    """What a program prints that is run in a folder of data."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", f"FOLDER = {str(folder)!r}\n{PATIENT}\n{program}"],
        cwd=folder,
        env=os.environ | {"TANGO_HOST": system.host},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_snippets_run_against_servers(page: Page, running: Any, folder: Path) -> None:
    parts = []
    for number, text in enumerate(snippets(CHECKOUT / page.path)):
        parts += [page.before.get(number, ""), "" if number in page.left_out else text]
    program = "\n".join(parts)
    for text, other in ({"/data": str(folder)} | dict(page.instead)).items():
        assert text in program or text == "/data"
        program = program.replace(text, other)
    run(program, running, folder)


def test_a_run_is_recorded_read_cited_and_made_again(running: Any, folder: Path) -> None:
    visit = folder / "visit-7"
    visit.mkdir()
    begin, replay, cite = snippets(CHECKOUT / "docs/how-to/record-a-run.md")
    read, follow, again = snippets(CHECKOUT / "docs/reference/runs.md")
    turn_later = until("denoiser.frame_number_xy > begun + 400") + "recorder.Finish()"
    program = [
        DEVICES,
        PICTURES,
        "recorder.keep_projections = True\nbegun = denoiser.frame_number_xy",
        begin.replace("recorder.Finish()", turn_later),
        until("not recorder.recording"),
        "detector.Stop()",
        RENAMED,
        *(cite, read, follow, again),
        replay,
        PICTURES,
    ]
    text = "\n".join(program).replace("/data/run", "/data/visit-7/run").replace("1234", "LAST")
    printed = run(text.replace("/data", str(folder)), running, folder).splitlines()
    assert printed[0].startswith(str(visit / "run_"))
    assert printed[-1] == "0.0 0.0"  # made again, equal to the bit


def test_the_camera_of_the_guide_feeds_the_reconstructor(running: Any, folder: Path) -> None:
    server, connect, start = snippets(CHECKOUT / "docs/how-to/connect-a-camera.md")
    (folder / "camera.py").write_text(server)
    run(connect, running, folder)
    environment = os.environ | {"TANGO_HOST": running.host, "ORBendPoint": "giop:tcp:127.0.0.1:0"}
    with open(folder / "camera.log", "w") as log:
        camera = subprocess.Popen(
            [sys.executable, "camera.py", "1"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        device = tango.DeviceProxy(f"tango://{running.host}/lab/camera/1")
        wait_until(lambda: device.command_inout("State") == tango.DevState.STANDBY, 60, "the camera")
        run(f"import tango\n{start}", running, folder)
        # Other pages have moved the slice, and it stays where it was put.
        running.reconstructor.write_attribute("geometry_xy", [-6.4, 6.4, 0, 12.8, 0, 0, 0, -12.8, 0])
        running.reconstructor.write_attribute("shape_xy", [96, 96])

        def rod() -> bool:
            """The rod of 4 mm and 0.1 per mm, 3 mm beside the axis."""
            reading = running.reconstructor.read_attribute("slice_xy").value
            nine = running.reconstructor.read_attribute("geometry_xy").value
            if np.size(reading) < 96**2 or not running.reconstructor.read_attribute("series").value.startswith("rod-"):
                return False
            rows, columns = np.indices(reading.shape) + 0.5
            x = nine[0] + nine[3] * columns / reading.shape[1]
            y = nine[1] + nine[7] * rows / reading.shape[0]
            inside = (x - 3) ** 2 + y**2 < 1.5**2
            around = (x**2 + y**2 < 5**2) & ((x - 3) ** 2 + y**2 > 2.5**2)
            return abs(reading[inside].mean() - 0.1) < 0.01 and abs(reading[around].mean()) < 0.01

        wait_until(rod, 90, "the rod in the slice")
    finally:
        camera.terminate()
        camera.wait(20)
        back = {"DetectorDevice": ["jit/detector/1"], "DetectorAttribute": ["raw_endpoint"]}
        host, port = running.host.split(":")
        tango.Database(host, int(port)).put_device_property("jit/reconstructor/1", back)
        running.reconstructor.command_inout("Init")
