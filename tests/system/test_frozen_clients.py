"""A client that freezes (suspended laptop, debugger) must not stall the servers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tango

from tests.events import Events

CLIENT = """
import sys, time, tango
device = tango.DeviceProxy(sys.argv[1])
for name in device.get_attribute_list():
    for kind in (tango.EventType.CHANGE_EVENT, tango.EventType.ARCHIVE_EVENT):
        try: device.subscribe_event(name, kind, lambda event: None)
        except tango.DevFailed: pass
print("ready", flush=True)
while len(sys.argv) > 2: device.read_attribute(sys.argv[2])
time.sleep(600)
"""

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together


@pytest.fixture(scope="module")
def fast(system, recording):
    """A replay that updates large slices often, so that socket buffers fill soon."""
    system.replay(recording)
    system.await_picture("denoiser")
    system.reconstructor.shape_xy = [1024, 1024]
    system.reconstructor.update_every = 10
    return system


def stopped_client(*arguments: str) -> subprocess.Popen[str]:
    client = subprocess.Popen([sys.executable, "-c", CLIENT, *arguments], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    time.sleep(0.5)  # let it read or receive something first
    client.send_signal(signal.SIGSTOP)
    return client


def end(client: subprocess.Popen[str]) -> None:
    client.send_signal(signal.SIGCONT)
    client.kill()
    client.communicate()


@pytest.mark.parametrize(("member", "image"), [("reconstructor", "slice_xy"), ("denoiser", "denoised_xy")])
@pytest.mark.parametrize("reads", [False, True])
def test_a_stopped_client_does_not_stall_the_device(fast, member, image, reads):
    proxy = tango.DeviceProxy(fast.name(member))
    proxy.set_timeout_millis(1000)
    client = stopped_client(fast.name(member), *([image] if reads else []))
    try:
        with Events(fast.devices[member], "frame_number_xy") as numbers:
            last = numbers.wait()
            for _ in range(15):
                names = list(proxy.get_attribute_list())
                readings: Any = proxy.read_attributes(names)
                assert not [r.name for r in readings if r.has_failed]
                last = numbers.wait(lambda n, before=last: n != before, timeout_s=15)
    finally:
        end(client)


PICTURES = {"detector": {"image"}, "reconstructor": {"slice_xy"}, "denoiser": {"denoised_xy", "raw_xy"}}


@pytest.mark.parametrize("member", PICTURES)
def test_pictures_are_never_events(fast, member):
    """The other cure, looked at directly. (That pictures are not synchronised: tests/devices/test_door.py.)"""
    proxy = fast.devices[member]
    images = {
        c.name
        for c in proxy.get_attribute_config(list(proxy.get_attribute_list()))
        if c.max_dim_x * max(c.max_dim_y, 1) > 1000
    }
    assert images >= PICTURES[member]
    for name in images:
        with pytest.raises(tango.DevFailed):
            proxy.subscribe_event(name, tango.EventType.CHANGE_EVENT, print)
        value = proxy.read_attribute(name).value
        if not name.startswith(("uncertainty", "compared", "hour")):  # NaN where there is none
            assert value is None or np.isfinite(value).all()
