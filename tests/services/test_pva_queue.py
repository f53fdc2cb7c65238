"""What comes over PVAccess while nobody takes it: bounded, counted, and nothing of it lost but frames."""

import time

import numpy as np
import pytest

from devices.epics.source import PvaCamera, PVs
from tango_jit.cameras import Exposure, Position, Refused, RoleNow
from tests.events import wait_until
from tests.pva import START_S, pixels


@pytest.fixture
def unread(area_detector):
    """Cameras of these PVs that nobody reads, connected."""
    made = []

    def make(pvs=None, **options):
        source = PvaCamera(pvs or PVs("cam:image"), conf=area_detector.conf, **options)
        made.append(source)
        source.open()
        wait_until(lambda: not (source.trouble or source.missing), 20, "a connection")
        return source

    yield make
    for source in made:
        source.close()


def drained(source):
    """All that waits."""
    return list(iter(lambda: source.receive(0.3), None))


def test_a_flood_is_bounded_and_counted_and_costs_only_frames(area_detector, unread):
    source = unread(PVs("cam:image", frame_type="cam:type", position="cam:position"), budget_bytes=10 * 80)
    wait_until(lambda: len(source._queue) == 2, 20, "what the other PVs tell at first")
    for number in range(1, 31):
        area_detector.expose(number, pixels(number))
        area_detector.set_position(number, START_S + number)
        time.sleep(0.01)
    area_detector.set_type(1)
    wait_until(lambda: source._queue[-1][1] == RoleNow("flat"), 20, "the type, though the queue is full")
    assert source._bytes == 800
    assert source.dropped == 20
    told = drained(source)
    assert [e.number for e in told if isinstance(e, Exposure)] == list(range(1, 11))
    assert [e.degrees for e in told if isinstance(e, Position)][-30:] == list(range(1, 31))
    assert source._bytes == 0


def test_of_what_nobody_takes_the_newest_is_kept(area_detector, unread):
    source = unread(PVs("cam:image", frame_type="cam:type"))
    for index in (1, 0, 1, 0, 1, 2) * 3:
        area_detector.set_type(index)
        time.sleep(0.01)
    wait_until(lambda: source._queue[-1][1] == RoleNow("dark"), 20, "the last type")
    assert len(drained(source)) == 4


def test_attributes_are_bounded(area_detector, unread):
    source = unread()
    texts = {f"text {i}": "x" * 100_000 for i in range(20)}
    area_detector.expose(1, pixels(1), attributes={"ColorMode": 0, **texts, "theta": 4.5, "word": "flat"})
    (frame,) = drained(source)
    assert frame.attributes == {"ColorMode": 0, "theta": 4.5, "word": "flat"}
    area_detector.expose(2, pixels(2), attributes={f"n{i}": i for i in range(5000)})
    (frame,) = drained(source)
    assert len(frame.attributes) == 256


def test_the_time_of_the_server_stands_in_for_that_of_the_driver(area_detector, unread):
    source = unread()
    area_detector.expose(1, pixels(1), dataTimeStamp={"secondsPastEpoch": 0, "nanoseconds": 0})
    (frame,) = drained(source)
    assert frame.timestamp_s == pytest.approx(START_S + 0.01, abs=1e-6)


def test_frames_that_cannot_be_read_take_the_place_of_none(area_detector, unread):
    source = unread()
    for number in range(1, 9):
        area_detector.expose(number, pixels(number))
        area_detector.expose(100 + number, pixels(number), value=np.zeros(40, "b1"))
        time.sleep(0.02)
    wait_until(lambda: source._waiting["image"] == 16, 20, "all of them")
    told = drained(source)
    assert [e.number for e in told if isinstance(e, Exposure)] == list(range(1, 9))
    assert [e.number for e in told if isinstance(e, Refused)] == list(range(101, 109))
    assert source._bytes == 0
