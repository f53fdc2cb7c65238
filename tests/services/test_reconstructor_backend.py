"""Which backend a reconstructor uses when the one that was asked for cannot run, or fails while it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tango_jit.recon import backproject
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.services.reconstructor import ReconstructorService
from tango_jit.services.service import State
from tango_jit.streams import Slice
from tests.reconstructions import window_of
from tests.services.conftest import CONE, STEP_RAD, VIEWS, Scan
from tests.services.test_reconstructor_service import filled

ROOT = Path(__file__).resolve().parents[2]


def test_a_backend_that_cannot_run_is_cpu_and_an_alarm(bench, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "astra", None)  # importing it now raises ImportError, as where it is not installed
    scan = Scan(CONE)
    bench = bench(clock=clock, backend="astra")
    bench.after(0.3)
    assert bench.values["state"] is State.STANDBY
    assert "backend astra: it needs the ASTRA toolbox" in bench.values["status"]
    filled(bench, scan)
    bench.after(0.3)
    assert (bench.values["backend"], bench.values["backend_wanted"]) == ("cpu", "astra")
    assert bench.values["state"] is State.ALARM
    assert bench.values["running"]
    assert "3 slices; backend astra: it needs the ASTRA toolbox" in bench.values["status"]
    assert bench.values["status"].endswith("; cpu is used instead")
    window = window_of(CONE, range(VIEWS), STEP_RAD * np.arange(VIEWS), scan.views)
    for slice in bench.slices.all(Slice)[-3:]:
        expected = Reconstructor(CONE).reconstruct(window, slice.geometry)
        np.testing.assert_allclose(slice.data, expected, atol=1e-3 * np.abs(expected).max())


def test_a_backend_that_runs_is_no_alarm(bench, clock):
    bench = filled(bench(clock=clock, backend="reference"), Scan(CONE))
    bench.after(0.3)
    assert (bench.values["backend"], bench.values["backend_wanted"]) == ("reference", "reference")
    assert bench.values["state"] is State.RUNNING


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"backend: expected one of cpu, .*, got 'abacus'"):
        ReconstructorService(lambda: None, backend="abacus")


@pytest.mark.parametrize("name", backproject.BACKENDS)
def test_an_obstacle_is_told_in_words_or_the_backend_warms_up(name):
    why = backproject.obstacle(name)
    if why:
        assert len(why.split()) > 3
    else:
        backproject.get(name).warm_up()


FAILING = """
import json, resource
import numpy as np
from tango_jit.recon.backproject import cpu
from tango_jit.services.slices import SliceTable
from tango_jit.streams import Slice
from tests.events import wait_until
from tests.services.conftest import FAN, MU_PER_MM, VIEWS, ReconstructorBench, Scan
from tests.services.scans import StandingClock

def address_space():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10

cpu.warm_up()
scan, bench = Scan(FAN), ReconstructorBench(StandingClock(), backend="reference", slices=SliceTable({"xy": None}))
bench.service.write("update_every", 1)
bench.push(scan.header)
bench.frames(scan, *range(VIEWS))
bench.slices.wait(Slice)
bench.after(0.3)
before = dict(backend=bench.values["backend"], state=bench.values["state"].name)
resource.setrlimit(resource.RLIMIT_AS, (address_space() + (350 << 20),) * 2)
bench.service.write("shape_xy", np.array([2048, 2048]))  # cpu needs a fifth of what the reference asks for
wait_until(lambda: bench.values["backend"] == "cpu", what="the other backend")
bench.frames(scan, *range(VIEWS, 2 * VIEWS))
wait_until(lambda: bench.values["slice_xy"].shape == (2048, 2048), what="the large slice")
bench.after(0.3)
rows, cols = np.indices((2048, 2048)) + 0.5
x0, y0, _, u, _, _, _, v, _ = bench.values["geometry_xy"]
x, y = x0 + cols / 2048 * u - scan.ball_mm[0], y0 + rows / 2048 * v - scan.ball_mm[1]
value = bench.values["slice_xy"][np.hypot(x, y) < 0.6 * scan.ball_radius_mm].mean() / MU_PER_MM
names = ("running", "status", "last_error", "frame_number_xy")
after = {name: bench.values[name] for name in names} | {"state": bench.values["state"].name}
print(json.dumps(dict(before=before, after=after, value=float(value))))
bench.close()
"""


def test_a_backend_that_fails_in_mid_run_is_cpu_from_then_on():
    """The system refuses the memory that the reference asks for; what it kept is lost, so the window fills anew."""
    result = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=100, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["before"] == {"backend": "reference", "state": "RUNNING"}
    assert (told["after"]["state"], told["after"]["running"]) == ("ALARM", True)
    assert "backend reference failed: " in told["after"]["status"]
    assert "MemoryError" in told["after"]["last_error"]
    assert told["after"]["frame_number_xy"] == 2 * VIEWS - 1
    assert told["value"] == pytest.approx(1, rel=0.1)
