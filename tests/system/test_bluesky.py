"""Pictures and places in Bluesky: plans of a real RunEngine against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
import tango
from bluesky import RunEngine
from bluesky.utils import FailedStatus
from ophyd_async.core import init_devices

from devices.bluesky import LiveSlices, SlicePosition, look_through, wait_for_accuracy
from tests.events import wait_until

# PyTango leaves a coroutine of its own behind where an asyncio proxy asks whether there are events.
LEFT = "ignore:.*__async_dummy_event_receiver:pytest.PytestUnraisableExceptionWarning"
pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings(LEFT)]


@pytest.fixture(scope="module")
def running(system: Any, recording: Path) -> Any:
    system.replay(recording)
    system.await_picture("denoiser")
    return system


class Beamline:
    """A RunEngine with the devices, and the events of its last run."""

    def __init__(self, running: Any) -> None:
        self.engine = RunEngine()
        self.events: list[dict[str, Any]] = []
        self.descriptors: list[dict[str, Any]] = []
        self.engine.subscribe(self._note)
        names = {member: running.name(member) for member in ("denoiser", "reconstructor")}
        with init_devices():
            slices = LiveSlices("xy", "xz", **names)
            position = SlicePosition("xy", reconstructor=names["reconstructor"])
        self.slices, self.position = slices, position

    def _note(self, kind: str, document: dict[str, Any]) -> None:
        if kind == "start":
            self.events, self.descriptors = [], []
        elif kind == "event":
            self.events.append(document["data"])
        elif kind == "descriptor":
            self.descriptors.append(document)

    def column(self, name: str) -> list[Any]:
        return [event[name] for event in self.events]

    def close(self) -> None:
        self.engine.loop.call_soon_threadsafe(self.engine.loop.stop)
        self.engine._th.join(10)
        self.engine.loop.close()


@pytest.fixture(scope="module")
def beamline(running: Any) -> Iterator[Beamline]:
    beamline = Beamline(running)
    try:
        yield beamline
    finally:
        beamline.close()


@pytest.fixture
def settings(running: Any, beamline: Beamline) -> Iterator[Beamline]:
    """Settings are put back, and the detector runs afterwards."""
    try:
        yield beamline
    finally:
        running.detector.Start()
        beamline.engine(set_to(beamline, frames=1, timeout_s=60.0))


def set_to(beamline: Beamline, *, frames: int, timeout_s: float = 60.0) -> Any:
    yield from bps.abs_set(beamline.slices.new_frames, frames, wait=True)
    yield from bps.abs_set(beamline.slices.timeout_s, timeout_s, wait=True)


def stand_still(running: Any) -> None:
    running.detector.Pause()
    wait_until(lambda: running.denoiser.State() == tango.DevState.STANDBY, what="the denoiser without data")


def test_a_count_takes_pictures_of_after_its_trigger(running: Any, beamline: Beamline) -> None:
    received, lost = (r.value for r in running.reconstructor.read_attributes(["frames_received", "frames_lost"]))
    beamline.engine(bp.count([beamline.slices], num=3))
    numbers = beamline.column("slices-frame_number_xy")
    assert numbers[0] >= received + lost
    assert (np.diff(numbers) > 0).all()
    keys = beamline.descriptors[0]["data_keys"]
    picture = keys["slices-denoised_xy"]
    assert (picture["shape"], picture["dtype_numpy"], picture["units"]) == ([256, 256], "<f4", "1/mm")
    assert set(keys) == set(beamline.events[0])
    assert beamline.events[0]["slices-raw_xz"].dtype == np.float32


def test_accuracy_is_waited_for(beamline: Beamline) -> None:
    result = beamline.engine(wait_for_accuracy(beamline.slices, 0.99))
    assert result is not None
    with pytest.raises(TimeoutError, match=r"expected an accuracy of 0.01 or less within 1 s, got 0\."):
        beamline.engine(wait_for_accuracy(beamline.slices, 0.01, 1.0))
    with pytest.raises(ValueError, match="expected more than 0 and less than 1, got 2"):
        beamline.engine(wait_for_accuracy(beamline.slices, 2))


def test_a_look_through_has_what_the_device_has(running: Any, settings: Beamline) -> None:
    settings.engine(set_to(settings, frames=0))
    stand_still(running)
    before = running.reconstructor.geometry_xy
    settings.engine(look_through(settings.slices, settings.position, -2, 2, 3, accuracy=0.99))
    assert settings.column("position") == [-2, 0, 2]
    assert np.array_equal(running.reconstructor.geometry_xy, before)  # put back
    raw = settings.column("slices-raw_xy")
    for point, position in enumerate([-2, 0, 2]):
        settings.engine(bps.mv(settings.position, position))
        settings.engine(bp.count([settings.slices]))
        picture, number = running.denoiser.read_attributes(["raw_xy", "frame_number_xy"])
        assert np.array_equal(raw[point], picture.value)
        assert np.array_equal(settings.column("slices-raw_xy")[0], picture.value)
        assert settings.column("slices-frame_number_xy") == [number.value]
    settings.engine(bps.mv(settings.position, 0))


def test_nothing_comes_and_it_is_said(running: Any, settings: Beamline) -> None:
    settings.engine(set_to(settings, frames=1, timeout_s=1.0))
    stand_still(running)
    with pytest.raises(FailedStatus) as failed:
        settings.engine(bp.count([settings.slices]))
    told = str(failed.value.__cause__ or failed.value)
    assert "waited 1 s in vain: expected pictures beyond frame" in told
    assert "is STANDBY" in told


def test_a_server_that_dies_in_a_run_and_comes_back(running: Any, beamline: Beamline) -> None:
    def die_and_come_back() -> Any:
        running.kill("denoiser")
        running.restart("denoiser")
        yield from bps.null()

    def plan() -> Any:
        yield from bps.open_run()
        yield from bps.stage(beamline.slices)
        yield from bps.trigger_and_read([beamline.slices])
        yield from die_and_come_back()
        yield from bps.trigger_and_read([beamline.slices])
        yield from bps.unstage(beamline.slices)
        yield from bps.close_run()

    beamline.engine(plan())
    first, second = beamline.column("slices-frame_number_xz")
    assert second > first


def test_what_is_not_there_is_refused_in_words(running: Any, beamline: Beamline) -> None:
    names = {member: running.name(member) for member in ("denoiser", "reconstructor")}
    with init_devices():
        wrong = LiveSlices("foo", **names)
        nowhere = SlicePosition("foo", reconstructor=names["reconstructor"])
    for plan, told in (
        (bp.count([wrong]), "slices: expected some of xy, xz, yz, got foo"),
        (bps.mv(nowhere, 1.0), "expected a slice of this name, got foo"),
    ):
        with pytest.raises((FailedStatus, RuntimeError)) as failed:
            beamline.engine(plan)
        assert told in f"{failed.value} {failed.value.__cause__}"
    with pytest.raises(ValueError, match="pictures: expected some of denoised"):
        LiveSlices("xy", pictures=["sharpened"])
    unread = LiveSlices("xy", name="unread")
    with pytest.raises(RuntimeError, match="expected a trigger before it is read"):
        asyncio.run(unread.read())
