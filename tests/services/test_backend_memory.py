"""A device without the memory for a window: the reconstructor goes on with fewer bits, and says so."""

from __future__ import annotations

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.backproject import cuda, memory
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.services.service import State
from tango_jit.streams import Slice
from tests.cuda_emulator import COMPILER, Device
from tests.events import wait_until
from tests.reconstructions import window_of
from tests.services.conftest import STEP_RAD, VIEWS, Scan

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ on this machine: nothing to emulate a device with")
CONE = ScanGeometry.cone(rows=8, cols=64, pixel_mm=0.05, source_axis_mm=200, source_detector_mm=300)
VIEW, REST = memory.ring_bytes(1, CONE.rows, CONE.cols), memory.beside_bytes(CONE.rows, CONE.cols)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Compiled: the deadlines of the test are for the service."""
    device = Device(tmp_path_factory.mktemp("kernels"))
    with pytest.MonkeyPatch.context() as patch:
        device.put_in_place(patch)
        cuda.warm_up()
    return device


@pytest.mark.parametrize(("views", "backend"), [(1000, "cuda"), (16, "cuda_half"), (5, "cpu")])
def test_what_does_not_fit_is_kept_in_fewer_bits_or_on_the_host(bench, clock, monkeypatch, built, views, backend):
    """The window begins with room for 16 views in 32 bits; then there is room for so many more: `backend` goes on."""
    built.reset()
    built.put_in_place(monkeypatch)
    built.free = REST + 16 * VIEW
    scan, bench = Scan(CONE), bench(clock=clock, backend="cuda")
    bench.service.write("update_every", 1)
    bench.push(scan.header)
    bench.frames(scan, 0)
    built.free = REST + views * VIEW
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
