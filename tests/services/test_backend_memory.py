"""A device without the memory for a window, or that computes nothing: what the services go on with, and say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.backproject import cuda, cuda_device, memory
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.services.service import State
from tango_jit.streams import Slice
from tests.cuda_emulator import COMPILER, Device
from tests.events import wait_until
from tests.reconstructions import window_of
from tests.services import scans
from tests.services.conftest import STEP_RAD, VIEWS, Scan
from tests.services.scans import look, see
from tests.services.trainers import training

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ on this machine: nothing to emulate a device with")
CONE = ScanGeometry.cone(rows=8, cols=64, pixel_mm=0.05, source_axis_mm=200, source_detector_mm=300)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Compiled: the deadlines of the test are for the service."""
    device = Device(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch:
        device.put_in_place(patch)
        cuda.warm_up()
    return device


@pytest.fixture
def device(built: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    built.reset()
    built.put_in_place(monkeypatch)
    return built


def free(device: Device, views: int, geometry: ScanGeometry = CONE) -> None:
    """Leave memory for so many views in 32 bits, and what is needed beside them."""
    rows, cols = geometry.rows, geometry.cols
    device.free = memory.beside_bytes(rows, cols) + memory.ring_bytes(views, rows, cols)


ENOUGH = pytest.mark.parametrize(("views", "backend"), [(1000, "cuda"), (16, "cuda_half"), (5, "cpu")])


@ENOUGH
def test_what_does_not_fit_is_kept_in_fewer_bits_or_on_the_host(bench, clock, device, views, backend):
    """The window begins with room for 16 views in 32 bits; then there is room for so many more: `backend` goes on."""
    free(device, 16)
    scan, bench = Scan(CONE), bench(clock=clock, backend="cuda")
    bench.service.write("update_every", 1)
    bench.service.write("preview_every_s", 0)
    bench.push(scan.header)
    bench.frames(scan, 0)
    free(device, views)
    bench.push(*(scan.image(frame) for frame in range(1, 2 * VIEWS)))  # the one that does not fit in is lost
    wait_until(lambda: bench.values["backend"] == backend, what=backend)
    bench.frames(scan, *range(2 * VIEWS, 4 * VIEWS))
    wait_until(lambda: bench.values["frame_number_xy"] == 4 * VIEWS - 1, what="slices")
    bench.after(0.3)
    assert bench.values["state"] is (State.RUNNING if backend == "cuda" else State.ALARM)
    assert bench.values["frames_refused"] == (backend != "cuda")
    if backend != "cuda":
        assert "MemoryError" in bench.values["status"]
        assert bench.values["status"].endswith(f"{backend} is used instead")
    angles = STEP_RAD * np.arange(3 * VIEWS, 4 * VIEWS)
    window = window_of(CONE, range(3 * VIEWS, 4 * VIEWS), angles, scan.views)
    made = bench.slices.all(Slice)[-1]
    expected = Reconstructor(CONE).reconstruct(window, made.geometry)
    np.testing.assert_allclose(made.data, expected, atol=5e-3 * np.abs(expected).max())
    asked_for(bench)


def asked_for(bench: Any) -> None:
    """A search and a preview are done with the backend that went on, too."""
    bench.service.find_center()
    wait_until(lambda: bench.values["progress"] == 100, what="the centre")
    bench.service.make_preview()
    wait_until(lambda: bench.values["preview_frame_number"] == 4 * VIEWS - 1, what="a preview")
    assert bench.values["running"], bench.values["status"]


@ENOUGH
def test_a_trainer_goes_on_with_fewer_bits_or_on_the_host(make_trainer, feed, device, views, backend):
    """Of `cpu` it hears where not even a new window of 16 bits can begin."""
    free(device, 16, scans.FAN)
    trainer = make_trainer(feed, backend="cuda")
    free(device, views, scans.FAN)
    feed.frames(range(3 * scans.VIEWS))  # of two turns it keeps one before it takes another backend
    see(trainer, backend=backend)
    feed.frames(range(3 * scans.VIEWS, 7 * scans.VIEWS))
    values = training(trainer)
    assert (values["backend"], values["fill"]) == (backend, 1.0)
    assert values["state"] is (State.RUNNING if backend == "cuda" else State.ALARM)
    if backend != "cuda":
        assert "steps done; backend cuda" in values["status"]
        assert "MemoryError" in values["status"]
        assert values["status"].endswith(f"{backend} is used instead")


@pytest.fixture
def idle(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that can be asked, and then computes nothing."""

    def kernel(source: str, name: str) -> Any:
        return device.kernel(source, name) if source == "texels" else lambda *arguments, **stream: None

    monkeypatch.setattr(cuda_device, "kernel", kernel)


def test_a_reconstructor_whose_device_fails_its_proof_starts_on_cpu(idle, bench, clock):
    scan, bench = Scan(CONE), bench(clock=clock, backend="cuda")
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    bench.slices.wait(Slice)
    bench.after(0.3)
    assert (bench.values["backend"], bench.values["state"]) == ("cpu", State.ALARM)
    assert "backend cuda failed: RuntimeError: CUDA: expected 1 from a view of ones" in bench.values["status"]


def test_a_trainer_whose_device_fails_its_proof_starts_on_cpu(idle, make_trainer, feed):
    trainer = make_trainer(feed, backend="cuda")
    assert look(trainer)["backend"] == "cpu"
    feed.frames()
    values = training(trainer)
    assert values["state"] is State.ALARM
    assert "backend cuda failed: RuntimeError: CUDA: expected 1 from a view of ones" in values["status"]
