"""The devices in Sardana: a real Pool, MacroServer and Door beside real servers, as an operator uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tango

from devices.sardana.registration import register_sardana
from tests.events import wait_until
from tests.system.sardana import MacroError, Sardana

pytestmark = pytest.mark.timeout(400)
SLICES = ("xy", "xz", "yz")


@pytest.fixture(scope="module")
def running(system: Any, recording: Path) -> Any:
    system.replay(recording)
    system.await_picture("denoiser")
    return system


@pytest.fixture(scope="module")
def sardana(running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sardana]:
    """An empty Sardana in which one command has set all up; it writes its scans to a file of its own."""
    folder = tmp_path_factory.mktemp("sardana")
    sardana = Sardana(running.host, folder)
    try:
        sardana.run("jit_setup")
        sardana.run("senv", "ScanDir", folder)
        sardana.run("senv", "ScanFile", "scan.h5")
        yield sardana
        assert sardana.process.poll() is None  # it has lived through all of this
    finally:
        sardana.close()


@pytest.fixture
def pictures(running: Any, sardana: Sardana) -> Iterator[Any]:
    """The controller of the pictures; its settings are put back, and the detector runs afterwards."""
    controller = sardana.element("jit_pictures")
    try:
        yield controller
    finally:
        controller.Timeout, controller.NewFrames = 60.0, 1
        running.detector.Start()


def text(file: Any, name: str) -> bytes:
    return file[name][()]


def last_scan(sardana: Sardana) -> dict[str, Any]:
    """The columns of the last scan in the file."""
    with h5py.File(sardana.folder / "scan.h5") as file:
        entry = max(file, key=lambda name: int(str(name).removeprefix("entry")))
        assert text(file, f"{entry}/definition") == b"NXscan"
        measurement: Any = file[f"{entry}/measurement"]
        return {name: data[()] for name, data in measurement.items() if isinstance(data, h5py.Dataset)}


def refused(sardana: Sardana, *command: Any) -> str:
    """What a macro says that has to fail."""
    with pytest.raises(MacroError) as told:
        sardana.run(*command)
    return str(told.value)


def stand_still(running: Any) -> None:
    """Pause the replay, and wait until all of its pictures are there."""
    running.detector.Pause()
    wait_until(lambda: running.denoiser.State() == tango.DevState.STANDBY, what="the denoiser without data")


def test_one_command_sets_all_up_and_may_be_given_again(sardana: Sardana) -> None:
    assert "nothing to change" in sardana.run("jit_setup")
    channels = list(sardana.element("jit").ElementList)
    assert channels[0] == "jit_timer"
    assert {f"jit_{kind}_{n}" for kind in ("denoised", "raw", "frame_number", "quality") for n in SLICES} < set(
        channels
    )
    assert sardana.element("jit_denoised_xz").Reading == "denoised_xz"


def test_a_name_that_is_taken_is_refused_before_anything_is_made(sardana: Sardana) -> None:
    sardana.run("defctrl", "DummyMotorController", "odd_places")
    told = refused(sardana, "jit_setup", "jit/supervisor/1", "odd")
    assert "odd_places: expected a JitSliceMotorController, there is a DummyMotorController: give another name" in told
    assert "odd_figures" not in sardana.run("lsctrl")


def test_a_count_takes_pictures_of_after_its_start(running: Any, sardana: Sardana) -> None:
    received, lost = (r.value for r in running.reconstructor.read_attributes(["frames_received", "frames_lost"]))
    assert "jit_frame_number_xy" in sardana.run("ct", 0.1)
    for name in SLICES:
        assert sardana.element(f"jit_frame_number_{name}").Value >= received + lost
    assert sardana.element("jit_denoised_xy").Value.shape == (256, 256)
    assert 0.1 <= sardana.element("jit_timer").Value < 60


def test_all_of_a_window_may_have_to_be_new(running: Any, sardana: Sardana, pictures: Any) -> None:
    pictures.NewFrames = 150  # a turn
    received, lost = (r.value for r in running.reconstructor.read_attributes(["frames_received", "frames_lost"]))
    sardana.run("ct", 0.1)
    assert sardana.element("jit_frame_number_xy").Value >= received + lost + 149


def test_the_file_has_what_the_device_has(running: Any, sardana: Sardana, pictures: Any) -> None:
    """Slices through a window that stands still: every picture at its place, to the bit."""
    pictures.NewFrames = 0
    stand_still(running)
    sardana.run("ascan", "jit_position_xy", -2, 2, 2, 0.01)
    scan = last_scan(sardana)
    assert scan["jit_position_xy"].tolist() == [-2, 0, 2]
    for kind in ("denoised", "raw"):
        assert (scan[f"jit_{kind}_xy"].shape, scan[f"jit_{kind}_xy"].dtype) == ((3, 256, 256), np.float32)
    for point, position in enumerate([-2, 0, 2]):
        sardana.run("mv", "jit_position_xy", position)
        sardana.run("ct", 0.01)
        assert running.reconstructor.geometry_xy[2] == position
        picture, raw, number = running.denoiser.read_attributes(["denoised_xy", "raw_xy", "frame_number_xy"])
        assert np.array_equal(scan["jit_raw_xy"][point], raw.value)
        assert scan["jit_frame_number_xy"][point] == number.value
        assert np.array_equal(sardana.element("jit_denoised_xy").Value, picture.value)  # newer weights than in the scan
    assert np.abs(scan["jit_raw_xy"][0] - scan["jit_raw_xy"][2]).max() > 0.01
    sardana.run("mv", "jit_position_xy", 0)


def test_a_series_moves_nothing(sardana: Sardana) -> None:
    sardana.run("jit_series", 3)
    scan = last_scan(sardana)
    assert scan["jit_picture"].tolist() == [1, 2, 3]
    numbers = scan["jit_frame_number_xy"]
    assert (np.diff(numbers) > 0).all()
    assert not np.array_equal(scan["jit_raw_xy"][0], scan["jit_raw_xy"][1])


def test_nothing_comes_and_it_is_said(running: Any, sardana: Sardana, pictures: Any) -> None:
    stand_still(running)
    pictures.Timeout = 1.0
    told = refused(sardana, "ascan", "jit_picture", 1, 3, 2, 0.01)
    assert "waited 1 s in vain: expected pictures beyond frame" in told
    assert "jit/denoiser/1 is STANDBY" in told
    with pytest.raises(tango.DevFailed, match="waited 1 s in vain"):
        _ = sardana.element("jit_denoised_xy").Value  # never an old picture
    running.detector.Start()
    pictures.Timeout = 60.0
    sardana.run("ct", 0.1)  # what failed holds nobody up


def test_an_abort_ends_a_count_that_waits(running: Any, sardana: Sardana, pictures: Any) -> None:
    stand_still(running)
    sardana.begin("jit_series", 3)
    wait_until(lambda: sardana.element("jit").state() == tango.DevState.MOVING, what="a count that waits")
    sardana.door.AbortMacro()
    assert "aborted" in sardana.await_end(30)
    wait_until(lambda: sardana.element("jit_timer").state() == tango.DevState.ON, what="the channels' end")
    running.detector.Start()
    sardana.run("ct", 0.1)


def test_a_server_that_dies_in_a_scan_and_comes_back(running: Any, sardana: Sardana) -> None:
    sardana.begin("jit_series", 5)
    wait_until(lambda: sardana.element("jit").state() == tango.DevState.MOVING, what="the first count")
    running.kill("denoiser")
    running.restart("denoiser")
    sardana.await_end()
    scan = last_scan(sardana)
    assert len(scan["jit_picture"]) == 5
    assert (np.diff(scan["jit_frame_number_xy"]) > 0).all()
    assert all(np.isfinite(picture).all() for picture in scan["jit_denoised_xy"])


def test_a_server_that_stays_away(running: Any, sardana: Sardana, pictures: Any) -> None:
    running.kill("denoiser")
    try:
        assert "jit/denoiser/1" in refused(sardana, "ct", 0.1)
        assert "denoiser" in refused(sardana, "jit_snapshot", "/tmp/never.h5")
        assert "denoiser      does not answer" in sardana.run("jit_status")
    finally:
        running.restart("denoiser")
    running.await_picture("denoiser")
    sardana.run("ct", 0.1)


def test_slices_come_change_and_go(running: Any, sardana: Sardana, pictures: Any) -> None:
    assert "shown at its place" in sardana.run("jit_add_slice", "tilted", -5, -5, -5, 10, 0, 0, 0, 7, 7)
    running.reconstructor.shape_tilted = [64, 96]
    sardana.run("jit_setup")
    sardana.run("jit_series", 2)
    assert last_scan(sardana)["jit_denoised_tilted"].shape == (2, 64, 96)
    assert last_scan(sardana)["jit_denoised_xy"].shape == (2, 256, 256)

    sardana.begin("jit_series", 50)
    sardana.await_text("   0 ")
    running.reconstructor.shape_tilted = [80, 80]
    with pytest.raises(MacroError, match="expected 64 x 96 pixels as at the start, got 80 x 80"):
        sardana.await_end()

    sardana.run("jit_remove_slice", "tilted")
    assert "slice tilted: expected to be there, it was removed" in refused(sardana, "ct", 0.1)
    sardana.run("jit_setup")
    assert not [c for c in sardana.element("jit").ElementList if c.endswith("tilted")]
    sardana.run("ct", 0.1)


def test_wrong_values_are_refused_and_change_nothing(running: Any, sardana: Sardana, pictures: Any) -> None:
    channel, figure = sardana.element("jit_denoised_xy"), sardana.element("jit_quality_xy")
    for element, attribute, value, told in [
        (channel, "Reading", "denoised_foo", "expected an image of jit/denoiser/1"),
        (channel, "Reading", "quality_xy", "expected an image of jit/denoiser/1"),
        (channel, "Reading", "", "expected an image"),
        (figure, "Reading", "denoised_xy", "expected a number of jit/denoiser/1"),
        (figure, "Reading", "jit/trainer/1/foo", "expected a number of jit/trainer/1"),
        (figure, "Reading", "no/such/device/loss", "expected a number"),
        (pictures, "Timeout", 0.0, "expected more than 0"),
        (pictures, "NewFrames", -1, "expected 0 to"),
    ]:
        before = element.read_attribute(attribute).value
        with pytest.raises(tango.DevFailed, match=told):
            element.write_attribute(attribute, value)
        assert element.read_attribute(attribute).value == before

    place = running.reconstructor.geometry_xy.tolist()
    for command, told in [
        (("jit_move_slice", "foo", 1), "expected one of xy, xz, yz, got foo"),
        (("jit_move_slice", "xy", 1, 2), "expected 1 (along its normal) or 9 (corner, u, v) in mm, got 2"),
        (("jit_move_slice", "xy", *[0] * 9), "span a plane"),
        (("jit_add_slice", "Foo"), "slice name: expected a letter"),
        (("jit_add_slice", "flat", *[0] * 9), "span a plane"),
        (("jit_remove_slice", "foo"), "foo"),
        (("jit_wait_accuracy", 2), "expected more than 0 and less than 1, got 2"),
        (("jit_wait_quality", 0), "expected more than 0"),
        (("jit_snapshot", "here.h5"), "expected one from the root"),
        (("jit_series", 1), "expected 2 or more, got 1"),
        (("jit_record", "/no/such/folder"), "folder"),
        (("jit_finish",), "expected a run that is being recorded"),
        (("jit_setup", "no/such/device"), "supervisor: expected a device as jit/supervisor/1"),
    ]:
        assert told in refused(sardana, *command)
    assert running.reconstructor.geometry_xy.tolist() == place
    assert "geometry_flat" not in running.reconstructor.get_attribute_list()


def test_macros_steer_and_record(running: Any, sardana: Sardana, tmp_path: Path) -> None:
    sardana.run("jit_move_slice", "xy", 1.5)
    assert running.reconstructor.geometry_xy[2] == 1.5
    assert sardana.element("jit_position_xy").Position == 1.5
    sardana.run("jit_move_slice", "xy", 0)
    assert "accuracy is 0." in sardana.run("jit_wait_accuracy", 0.99)
    assert "expected an accuracy of 0.01 or less within 1 s" in refused(sardana, "jit_wait_accuracy", 0.01, 1)
    sardana.run("jit_freeze")
    assert running.denoiser.frozen
    sardana.run("jit_freeze", False)
    assert not running.denoiser.frozen
    sardana.run("jit_snapshot", tmp_path / "moment.h5")
    with h5py.File(tmp_path / "moment.h5") as file:
        assert set(SLICES) <= set(file)

    file = sardana.run("jit_record", tmp_path, "tablet").partition("recording: ")[2].strip()
    sardana.run("jit_mark", "pump", "on")
    assert "pictures, 0 lost" in sardana.run("jit_finish")
    with h5py.File(file) as run:
        assert text(run, "entry/title") == b"tablet"


def test_stop_and_start(running: Any, sardana: Sardana) -> None:
    sardana.run("jit_stop")
    wait_until(lambda: running.reconstructor.State() == tango.DevState.STANDBY, what="the stop")
    assert "jit/reconstructor/1 is STANDBY" in sardana.run("jit_status")
    assert "is RUNNING" in sardana.run("jit_start")
    sardana.run("ct", 0.1)


def test_sardana_remembers_over_a_restart(sardana: Sardana) -> None:
    sardana.restart()
    assert sardana.element("jit_denoised_xy").Reading == "denoised_xy"
    assert sardana.element("jit_position_xz").Slice == "xz"
    sardana.run("jit_series", 2)
    assert last_scan(sardana)["jit_denoised_xy"].dtype == np.float32


def test_the_command_shows_and_registers(running: Any, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("tango-jit")), "sardana", "--register", "other"]
    environment = os.environ | {"TANGO_HOST": running.host}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "devices/sardana/macros" in done.stdout
    server, port = running.host.split(":")
    database = tango.Database(server, int(port))
    names = register_sardana(database, "other")  # again
    for kind, name, folder in (("Pool", "PoolPath", "controllers"), ("MacroServer", "MacroPath", "macros")):
        assert [Path(path).name for path in database.get_device_property(names[kind], name)[name]] == [folder]
