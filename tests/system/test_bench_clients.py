"""The clients of `tango-jit bench` on real servers: both get the same pictures, and know when they were needed."""

from __future__ import annotations

import psutil
import pytest

from sim.bench.observe import observe
from sim.bench.station import Station
from tests.events import wait_until

pytestmark = pytest.mark.timeout(300)


def test_both_clients_get_the_pictures(system, recording):
    system.replay(recording, frame_period_s=0.024)
    wait_until(lambda: system.denoiser.weights_version > 0, 120, "weights")
    processes = system.deployment.processes()
    servers = Station(system.devices, {name: psutil.Process(processes[name].pid) for name in system.devices})
    number = system.await_picture()

    seen = observe(servers, 6.0, memory=True)
    for _ in range(9):  # on a busy machine a slice may take longer than that to come
        if {one.slice for one in seen.zmq} == {"xy", "xz", "yz"} and seen.tango:
            break
        seen = observe(servers, 6.0, memory=True)

    assert seen.samples[-1].counters["reconstructor.frames_received"] > number
    assert seen.grown("reconstructor.frames_lost") == 0
    pictures = {(one.slice, one.last_frame) for one in seen.zmq}
    assert {name for name, _ in pictures} == {"xy", "xz", "yz"}
    assert all(one.needed_at_s is not None and one.needed_at_s < one.at_s for one in seen.zmq)
    read = {(one.slice, one.last_frame) for one in seen.tango}
    assert read & pictures
    assert len(seen.latency_ms()) == len(seen.zmq)
    assert 0 < len(seen.tango_latency_ms()) <= len(read)
    assert all(time > 0 for time in seen.tango_latency_ms())
    assert set(seen.samples[0].memory_mb) == set(system.devices)
    assert min(seen.samples[0].memory_mb.values()) > 10
    system.detector.Stop()
