"""An areaDetector that nobody here wrote: its frames through the camera's server to slices, and none is lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tango

from devices.registration import free_port
from tango_jit.geometry import SliceGeometry
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.recordings import open_recording
from tests.events import wait_until
from tests.pva import AreaDetector
from tests.unit.test_doc_snippets import snippets

pytestmark = pytest.mark.timeout(300)
VIEWS = 150
PERIOD_S = 0.024
PROGRAMS = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parents[2]


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def loopback() -> dict[str, str]:
    """PVAccess of this test alone."""
    port, search = str(free_port()), str(free_udp_port())
    return {
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_PVA_SERVER_PORT": port,
        "EPICS_PVAS_SERVER_PORT": port,
        "EPICS_PVA_BROADCAST_PORT": search,
        "EPICS_PVAS_BROADCAST_PORT": search,
    }


class Simulator:
    """pvapy's simulated areaDetector, one turn again and again."""

    def __init__(self, frames: Path, environment: dict[str, str], log: Path) -> None:
        self.frames, self.environment, self.log = frames, environment, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, fps: float = 1 / PERIOD_S) -> None:
        command = [
            sys.executable,
            PROGRAMS / "pvapy-ad-sim-server",
            "-cn",
            "sim:Pva1:Image",
            "-if",
            self.frames,
            "-fps",
            f"{fps:.3f}",
        ]
        command += ["-rt", "120", "-std", "1", "-shd", "1", "-rp", "1000", "-dc", *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | self.environment, stdout=log, stderr=log)

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


@pytest.fixture
def simulator(recording: Path, loopback: dict[str, str], tmp_path: Path) -> Iterator[Simulator]:
    frames = tmp_path / "turn.npy"
    with open_recording(recording) as source:
        np.save(frames, np.stack([source.frame(i).data for i in range(VIEWS)]))
    simulator = Simulator(frames, loopback, tmp_path / "simulator.log")
    yield simulator
    simulator.stop()


@pytest.fixture
def fields(recording: Path) -> Iterator[AreaDetector]:
    """Dark and flat of the recording, as a tomoScan publishes them."""
    tomoscan = AreaDetector()
    with open_recording(recording) as source:
        assert source.dark is not None
        assert source.flat is not None
        tomoscan.field("dark", source.dark.mean)
        tomoscan.field("flat", source.flat.mean)
    yield tomoscan
    tomoscan.close()


@pytest.fixture
def camera(
    system: Any, recording: Path, loopback: dict[str, str], fields: AreaDetector, tmp_path: Path
) -> Iterator[Any]:
    """A server beside the others, registered and set as the guide says, then set as the recording was made."""
    register, start = snippets(CHECKOUT / "docs/how-to/connect-an-epics-camera.md")
    for name, instead in (("13SIM1:", "sim:"), ("2bmb:TomoScan:StreamDarkFields", "cam:dark")):
        register = register.replace(name, instead)
    _run(register.replace("2bmb:TomoScan:StreamFlatFields", "cam:flat"), system)
    beside = {"EPICS_PVA_NAME_SERVERS": f"127.0.0.1:{fields.conf['EPICS_PVA_SERVER_PORT']}"}
    environment = os.environ | loopback | beside | {"TANGO_HOST": system.host}
    with (tmp_path / "camera.log").open("wb") as log:
        process = subprocess.Popen([PROGRAMS / "tango-jit-epics-camera", "1"], env=environment, stdout=log, stderr=log)
    proxy = tango.DeviceProxy(f"tango://{system.host}/jit/epics_camera/1")
    try:
        wait_until(lambda: proxy.ping() >= 0, 60, "the camera's server")
        _run(start, system)
        with open_recording(recording) as source:
            _set_as(proxy, source)
        yield proxy
    finally:
        process.terminate()
        process.wait(20)
        database = tango.Database(*_host_port(system.host))
        database.put_device_property("jit/reconstructor/1", {"DetectorDevice": ["jit/detector/1"]})
        system.reconstructor.Init()
    assert "Traceback" not in (tmp_path / "camera.log").read_text()


def _run(program: str, system: Any) -> None:
    """A snippet of the guide, in a process of its own."""
    environment = os.environ | {"TANGO_HOST": system.host}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def _host_port(tango_host: str) -> tuple[str, int]:
    host, _, port = tango_host.rpartition(":")
    return host, int(port)


def _set_as(camera: Any, source: Any) -> None:
    """What no camera knows, from the recording."""
    scan = source.header.geometry
    source_mm, detector_mm = np.array(scan.source_mm), np.array(scan.detector_mm)
    settings = {
        "beam": 1,  # CONE
        "pixel_mm": float(np.linalg.norm(scan.u_mm)),
        "axis_detector_mm": float(detector_mm[1]),
        "source_axis_mm": float(-source_mm[1]),
        "axis_column_px": scan.axis_column,
        "start_angle_deg": float(np.rad2deg(source.frame(0).angle_rad)),  # mid-exposure
        "angle_step_deg": 360 / VIEWS,
        "first_projection": 1,
        "linear": source.header.linear,
    }
    for name, value in settings.items():
        camera.write_attribute(name, value)


def test_slices_of_a_foreign_camera_are_those_of_the_recording(system, camera, simulator, recording):
    wait_until(lambda: camera.flats and camera.darks, 60, "dark and flat")
    simulator.start()
    wait_until(lambda: camera.frames_sent >= 4 * VIEWS, 120, "four turns")
    assert camera.State() == tango.DevState.RUNNING, camera.Status()
    figures = {
        n: camera.read_attribute(n).value for n in ("frames_lost", "frames_dropped", "frames_refused", "frames_untaken")
    }
    assert figures == dict.fromkeys(figures, 0)
    assert system.reconstructor.frames_lost == 0
    np.testing.assert_allclose(_shown(system), _offline(system, recording), atol=0.002)


def _shown(system: Any) -> np.ndarray:
    return system.reconstructor.read_attribute("slice_xy").value


def _offline(system: Any, recording: Path) -> np.ndarray:
    """The slice xy of the recording's first turn."""
    geometry = system.reconstructor.read_attribute("geometry_xy").value
    shape = system.reconstructor.read_attribute("shape_xy").value
    place = SliceGeometry(geometry[:3], geometry[3:6], geometry[6:], *(int(n) for n in shape))
    with open_recording(recording) as source:
        pipeline = Pipeline(source.header, source.dark, source.flat, Options(), "cpu")
        for i in range(VIEWS):
            image = source.frame(i)
            pipeline.add(image, pipeline.filter(image))
    window = pipeline.window()
    assert window is not None
    return pipeline.reconstruct(window, place).mean(axis=(0, 1))


def test_a_camera_that_is_killed_and_started_again_goes_on(system, camera, simulator):
    simulator.start()
    wait_until(lambda: camera.frames_sent >= 10, 60, "frames")
    before = camera.series
    simulator.stop()
    wait_until(lambda: "not connected" in camera.Status(), 60, "the loss of the connection")
    assert camera.State() == tango.DevState.STANDBY
    simulator.start()
    wait_until(lambda: camera.series != before and camera.frames_sent >= 10, 90, "the next series")
    assert camera.frames_lost == 0
    series = camera.series
    wait_until(lambda: system.reconstructor.read_attribute("series").value == series, 30, "it downstream")


def test_compressed_frames_of_a_file(system, camera, simulator, tmp_path):
    """The simulator publishes the chunks of an HDF5 file as they are stored: bitshuffle and LZ4, with their headers."""
    import h5py
    import hdf5plugin

    frames = np.load(simulator.frames)[:20]
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=frames, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle())
    shutil.copy(path, simulator.frames.with_suffix(".h5"))
    simulator.frames = path
    simulator.start("-hds", "exchange/data", "-hcm")
    wait_until(lambda: camera.frames_sent >= 40, 60, "frames")
    assert camera.frames_refused == 0, camera.Status()
    image = camera.read_attribute("image").value
    assert any(np.array_equal(image, frame) for frame in frames)
