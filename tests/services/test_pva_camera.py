"""Frames over PVAccess, from a real server on loopback through the camera's service to who pulls them."""

import ast
import time
import zlib

import lz4.block
import numpy as np
import pytest
from p4p import Type, Value

from devices.epics.source import PvaCamera, PVs
from tango_jit.services.camera import CameraService
from tango_jit.services.service import State
from tango_jit.streams import Dark, Flat, Header, Image, SeriesEnd
from tests.events import wait_until
from tests.pva import FIELD, SHAPE, START_S, AreaDetector, axis, pixels

IMAGE = PVs("cam:image")
ALL = PVs("cam:image", "cam:angles", "cam:first", "cam:position", "cam:type", "cam:dark", "cam:flat")


@pytest.fixture
def camera(area_detector):
    """Makes a running service of these PVs and settings, connected."""
    made = []

    def make(pvs=IMAGE, source=None, **settings):
        source = source or PvaCamera(pvs, conf=area_detector.conf)
        service = CameraService(source)
        made.append(service)
        for name, value in settings.items():
            service.write(name, value)
        service.start()
        wait_until(lambda: not service._camera.trouble, 20, "a connection")
        return service

    yield make
    for service in made:
        service.close()


def numbers(raw, count):
    """The frame numbers that came, once there are so many."""
    wait_until(lambda: len(raw.all(Image)) >= count, 20, f"{count} images")
    return [image.frame for image in raw.all(Image)]


def test_frames_arrive_as_they_were_published(area_detector, camera, tap):
    service = camera(angle_step_deg=0.5, pixel_mm=0.1, scan_name="rod")
    raw = tap(service.values["raw_endpoint"])
    for n in range(1, 41):
        area_detector.expose(n, pixels(n))
        numbers(raw, n)  # one at a time: this server keeps only what a slow reader asked for
    images = raw.all(Image)
    assert [i.frame for i in images] == list(range(1, 41))
    for image in images:
        np.testing.assert_array_equal(image.data, pixels(image.frame))
        assert image.data.dtype == np.uint16
        assert image.angle_rad == pytest.approx(np.deg2rad(0.5 * (image.frame - 1)))
        assert image.timestamp_s == pytest.approx(START_S + 0.01 * image.frame, abs=1e-6)
    header = raw.all(Header)[0]
    assert (header.name, header.geometry.rows, header.geometry.cols) == ("rod", *SHAPE)
    wait_until(lambda: service.values["frames_received"] == 40, what="the count")
    values = service.values
    assert (values["frames_received"], values["frames_lost"], values["frames_dropped"]) == (40, 0, 0)
    assert values["frame_number"] == 40
    np.testing.assert_array_equal(values["image"], pixels(40))
    wait_until(lambda: service.values["state"] is State.RUNNING, what="RUNNING")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_of_pixels(area_detector, camera, tap, dtype):
    raw = tap(camera().values["raw_endpoint"])
    area_detector.expose(1, pixels(1, dtype))
    numbers(raw, 1)
    np.testing.assert_array_equal(raw.all(Image)[0].data, pixels(1))


@pytest.mark.parametrize("parameters", [6, 3])
@pytest.mark.parametrize("codec", ["lz4", "zlib"])
def test_compressed_frames(area_detector, camera, tap, codec, parameters):
    """The type of the pixels as pvData numbers it, as int or long, and as early NDPluginPvxs does."""
    raw = tap(camera().values["raw_endpoint"])
    plain = pixels(3).tobytes()
    packed = zlib.compress(plain) if codec == "zlib" else lz4.block.compress(plain, store_size=False)
    payload = np.frombuffer(packed, np.uint8)
    area_detector.expose(3, pixels(3), value=payload, codec={"name": codec, "parameters": parameters})
    numbers(raw, 1)
    np.testing.assert_array_equal(raw.all(Image)[0].data, pixels(3))


def test_the_type_that_a_real_area_detector_publishes(shared_data, tap):
    spec = ast.literal_eval((shared_data / "epics_fixtures" / "ndpluginpva_type_aspy.txt").read_text())
    payload = np.frombuffer((shared_data / "epics_fixtures" / "ad_bslz4.bin").read_bytes(), np.uint8)
    area_detector = AreaDetector(Type(spec[2], id=spec[1]))
    service = CameraService(PvaCamera(PVs("cam:image"), conf=area_detector.conf))
    try:
        raw = tap(service.values["raw_endpoint"])
        service.start()
        wait_until(lambda: not service._camera.trouble, 20, "a connection")
        frame = np.empty((647, 768), np.uint16)
        area_detector.expose(150, frame, value=payload, codec={"name": "bslz4", "parameters": 6})
        numbers(raw, 1)
        rows, cols = np.ogrid[:647, :768]
        np.testing.assert_array_equal(raw.all(Image)[0].data, 630 + rows + cols)
    finally:
        service.close()
        area_detector.close()


def test_a_tomoscan_beside_the_camera(area_detector, camera, tap):
    """Means of dark and flat, the table of angles, and frames that are no projections."""
    area_detector.field("dark", np.full(SHAPE, 10, np.float32))
    area_detector.field("flat", np.full(SHAPE, 1000, np.float32))
    area_detector.pvs["first"].post(2)
    area_detector.set_angles([0.0, 90.0, 180.0])
    service = camera(ALL, angle_source="TABLE")
    raw = tap(service.values["raw_endpoint"])
    wait_until(lambda: service.values["darks"] and service.values["flats"], what="both fields")
    for number in (3, 4, 5):
        area_detector.expose(number, pixels(number))
        numbers(raw, number - 2)
    assert [i.angle_rad for i in raw.all(Image)] == pytest.approx([0, np.pi / 2, np.pi])
    assert (raw.all(Dark)[0].mean == 10).all()
    assert (raw.all(Flat)[0].mean == 1000).all()


def test_flats_by_the_type_of_frames(area_detector, camera, tap):
    service = camera(PVs("cam:image", frame_type="cam:type"))
    raw = tap(service.values["raw_endpoint"])
    for number, index, value in ((1, 1, 100), (2, 1, 300), (3, 0, 50)):
        area_detector.set_type(index)
        wait_until(lambda index=index: service._assembly._role == ("projection", "flat")[index], what="the type")
        area_detector.expose(number, np.full(SHAPE, value, np.uint16))
        wait_until(lambda number=number: service._assembly._numbering._newest == number, what="the frame")
    numbers(raw, 1)
    flat = raw.wait(Flat)
    assert (flat.count, flat.mean.max()) == (2, 200)


def test_angles_from_positions_and_from_attributes(area_detector, camera, tap):
    service = camera(PVs("cam:image", position="cam:position"), angle_source="POSITION")
    raw = tap(service.values["raw_endpoint"])
    area_detector.set_position(10.0, START_S + 1.0)
    area_detector.expose(1, pixels(1), at_s=START_S + 1.5, attributes={"ColorMode": 0, "Rotary": 33.0})
    wait_until(lambda: service.values["frames_waiting"] == 1, what="a frame that waits")
    area_detector.set_position(20.0, START_S + 2.0)
    numbers(raw, 1)
    assert raw.all(Image)[0].angle_rad == pytest.approx(np.deg2rad(15), abs=1e-6)
    service.write("angle_source", "ATTRIBUTE")
    service.write("angle_attribute", "Rotary")
    area_detector.expose(2, pixels(2), attributes={"ColorMode": 0, "Rotary": 33.0})
    numbers(raw, 2)
    assert raw.all(Image)[1].angle_rad == pytest.approx(np.deg2rad(33))
    assert raw.all(Image)[1].series != raw.all(Image)[0].series


def test_gaps_repeats_backward_steps_and_a_restart_are_counted(area_detector, camera, tap):
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    sent = [1, 2, 2, 5, 4, 6]
    for i, number in enumerate(sent):
        area_detector.expose(number, pixels(number), at_s=START_S + number)
        wait_until(lambda i=i: service._assembly.count.received + service._assembly.count.duplicate == i + 1)
    assert numbers(raw, 5) == [1, 2, 5, 4, 6]
    wait_until(lambda: service.values["frames_received"] == 5, what="the counts")
    values = service.values
    assert (values["frames_lost"], values["frames_late"], values["frames_duplicate"]) == (1, 1, 1)
    wait_until(lambda: service.values["state"] is State.ALARM, what="an ALARM")
    assert "1 frames lost on the way from the camera" in service.values["status"]
    area_detector.expose(1, pixels(1), at_s=START_S + 100)
    numbers(raw, 6)
    assert len({image.series for image in raw.all(Image)}) == 2


def test_another_region_in_mid_stream_is_a_new_series(area_detector, camera, tap):
    service = camera(pixel_mm=0.1, axis_column_px=10.0)
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(1, pixels(1))
    numbers(raw, 1)
    small = pixels(2, shape=(3, 4))
    area_detector.expose(2, small, dimension=[axis(4, 8, 2), axis(3, 2, 1)])
    numbers(raw, 2)
    headers = raw.all(Header)
    assert [(h.geometry.rows, h.geometry.cols) for h in headers] == [SHAPE, (3, 4)]
    assert [h.geometry.axis_column for h in headers] == pytest.approx([10, 0.75])
    assert np.linalg.norm(headers[1].geometry.u_mm) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"value": np.zeros(3, np.uint16)}, "expected 40 numbers"),
        ({"codec": {"name": "zstd", "parameters": 6}, "value": np.zeros(3, np.uint8)}, "codec: expected one"),
        ({"codec": {"name": "lz4", "parameters": 6}, "value": np.zeros(9, np.uint8)}, "lz4"),
        ({"dimension": []}, "expected columns x rows"),
        ({"dimension": [axis(8), axis(5), axis(3)]}, "grey image"),
        ({"value": np.zeros(40, bool)}, "expected 40 numbers, got bool"),
    ],
)
def test_a_frame_that_is_none_is_refused_and_the_next_one_is_taken(area_detector, camera, tap, fields, why):
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(1, pixels(1))
    numbers(raw, 1)
    area_detector.expose(2, pixels(2), **fields)
    wait_until(lambda: service.values["frames_refused"] == 1, what="the refusal")
    wait_until(lambda: service.values["state"] is State.ALARM, what="an ALARM")
    assert why in service.values["status"]
    area_detector.expose(3, pixels(3))
    assert numbers(raw, 2) == [1, 3]


def test_a_camera_that_dies_and_comes_back(area_detector, camera, tap):
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(7, pixels(7))
    numbers(raw, 1)
    conf = area_detector.conf
    area_detector.stop()
    wait_until(lambda: "cam:image: not connected" in service.values["status"], 30, "the loss of the connection")
    assert service.values["state"] is State.STANDBY
    area_detector.start(conf)
    wait_until(lambda: not service._camera.trouble, 60, "the connection")
    area_detector.expose(1, pixels(1), at_s=START_S + 1000)
    wait_until(lambda: raw.all(Image)[-1].frame == 1, what="the first frame")
    assert raw.all(Image)[-1].series != raw.all(Image)[0].series


def test_frames_that_nobody_takes_are_counted_and_hold_nothing_up(area_detector, camera, tap):
    service = camera()
    for number in range(1, 6):
        area_detector.expose(number, pixels(number))
        wait_until(lambda number=number: service.values["frames_untaken"] == number, what="a frame that nobody took")
    wait_until(lambda: service.values["state"] is State.ALARM, what="an ALARM")
    assert "no reconstructor takes them" in service.values["status"]
    raw = tap(service.values["raw_endpoint"])
    raw.wait(Header)
    area_detector.expose(6, pixels(6))
    assert numbers(raw, 1)[-1] == 6, "what comes then is new"


def test_the_frame_of_before_is_left_out_at_every_connection(area_detector, camera, tap):
    area_detector.expose(99, pixels(99))
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(100, pixels(100))
    assert numbers(raw, 1) == [100]
    service.stop()
    wait_until(lambda: not service.values["running"], what="the stop")
    service.start()
    wait_until(lambda: not service._camera.trouble, 20, "a connection")
    area_detector.expose(101, pixels(101))
    assert numbers(raw, 2) == [100, 101]


def test_frames_without_a_time_are_counted_and_get_that_of_their_arrival(area_detector, camera, tap):
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    began = time.time()
    for number in (1, 2, 4, 3, 3, 5):
        area_detector.expose(number, pixels(number), at_s=0.0)
        time.sleep(0.05)
    assert numbers(raw, 5) == [1, 2, 4, 3, 5]
    assert len({image.series for image in raw.all(Image)}) == 1
    assert all(began - 1 < image.timestamp_s < time.time() + 1 for image in raw.all(Image))
    wait_until(lambda: service.values["frames_duplicate"] == 1, what="the repeat")
    wait_until(lambda: service.values["frames_late"] == 1, what="the late one")


def test_a_pv_beside_that_is_away_is_an_alarm_and_frames_go_on(area_detector, camera, tap):
    source = PvaCamera(PVs("cam:image", dark="cam:nowhere"), conf=area_detector.conf)
    service = camera(source=source)
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(1, pixels(1))
    numbers(raw, 1)
    wait_until(lambda: service.values["state"] is State.ALARM, what="an ALARM")
    assert service.values["status"] == "frames without cam:nowhere: not connected"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("type", {"index": 3, "choices": ["Projection", "FlatField", "DarkField"]}, "expected one of 3 choices"),
        ("type", {"index": -1, "choices": ["Projection", "FlatField", "DarkField"]}, "expected one of 3 choices"),
        ("type", {"index": 0, "choices": []}, "expected one of 0 choices"),
        ("position", np.inf, "expected at most 1e+09 degrees"),
    ],
)
def test_what_no_pv_should_tell_is_refused_and_the_work_goes_on(area_detector, camera, tap, name, value, why):
    service = camera(PVs("cam:image", frame_type="cam:type", position="cam:position"))
    raw = tap(service.values["raw_endpoint"])
    area_detector.pvs[name].post(value)
    wait_until(lambda: service.values["frames_refused"] >= 1, what="the refusal")
    assert why in service._assembly.why
    area_detector.set_type(0)
    area_detector.expose(1, pixels(1))
    assert numbers(raw, 1) == [1]


def test_fields_of_impossible_sides_are_refused(area_detector, camera):
    service = camera(ALL)
    area_detector.pvs["flat"].post(Value(FIELD, {"value": np.zeros(70_000, np.float32), "sizex": 70_000, "sizey": 1}))
    wait_until(lambda: service.values["frames_refused"] == 1, what="the refusal")
    assert "flat: ValueError: expected 70000 x 1 numbers, at most 65536 a side" in service._assembly.why
    wait_until(lambda: service.values["state"] is State.ALARM, what="an ALARM")


def test_a_name_that_no_message_carries_is_refused(camera):
    service = camera()
    for name in ("a" * 300, "two\nlines"):
        with pytest.raises(ValueError, match="scan_name: expected at most 200 printable characters"):
            service.write("scan_name", name)
    assert service.values["scan_name"] == ""


def test_stop_ends_the_series_and_start_begins_another(area_detector, camera, tap):
    service = camera()
    raw = tap(service.values["raw_endpoint"])
    area_detector.expose(1, pixels(1))
    numbers(raw, 1)
    service.stop()
    assert raw.wait(SeriesEnd) == SeriesEnd(raw.all(Header)[0].series, 1)
    wait_until(lambda: service.values["state"] is State.STANDBY, what="the stop")
    service.start()
    wait_until(lambda: not service._camera.trouble, 20, "a connection")
    area_detector.expose(2, pixels(2))
    wait_until(lambda: len({image.series for image in raw.all(Image)}) == 2, what="the next series")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pvs": PVs("  ")}, "image: expected the name of a PV"),
        ({"pvs": PVs("a"), "queue_size": 1}, "queue size: expected 2 to 1000 frames, got 1"),
        ({"pvs": PVs("a"), "queue_size": 5000}, "got 5000"),
    ],
)
def test_wrong_properties_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        PvaCamera(**arguments)
