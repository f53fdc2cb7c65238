"""From exposures to a scan: series, numbers, fields, waiting for angles, and what disturbs all that."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.cameras import (
    Angles,
    AngleSettings,
    Assembly,
    CameraSettings,
    Exposure,
    FieldMean,
    FirstNumber,
    Position,
    Refused,
    RoleNow,
    Scanner,
)
from tango_jit.cameras.assembly import WAITING_FRAMES
from tango_jit.streams import Dark, Flat, Header, Image, SeriesEnd

SHAPE = (4, 6)


class Camera:
    """Feeds an assembly and keeps what comes of it."""

    def __init__(self, **settings) -> None:
        names = (f"series-{i}" for i in itertools.count())
        self.assembly = Assembly(CameraSettings(**settings), lambda: next(names))
        self.seen = []

    def tell(self, *events):
        news = [message for event in events for message in self.assembly.take(event)]
        self.seen += news
        return news

    def expose(self, *numbers, value=1, shape=SHAPE, dtype=np.uint16, start_s=1e9, **fields):
        frames = (Exposure(n, start_s + n, np.full(shape, value, dtype), **fields) for n in numbers)
        return self.tell(*frames)

    def all(self, kind):
        return [message for message in self.seen if isinstance(message, kind)]

    @property
    def kinds(self):
        return [type(message).__name__ for message in self.seen]


def turns(step_deg=1.0, **fields):
    return AngleSettings("COMPUTED", step_deg=step_deg, **fields)


def test_the_first_projection_begins_a_series_with_its_header():
    camera = Camera(angles=turns(2.0), scanner=Scanner(pixel_mm=0.5), name="rod")
    camera.expose(1, 2, 3)
    header, *images = camera.seen
    assert header == Header("series-0", "raw", header.geometry, False, name="rod")
    assert (header.geometry.rows, header.geometry.cols) == SHAPE
    assert [(i.series, i.frame, i.timestamp_s) for i in images] == [("series-0", n, 1e9 + n) for n in (1, 2, 3)]
    np.testing.assert_allclose([i.angle_rad for i in images], np.deg2rad([0, 2, 4]))


def test_clockwise_angles_count_down():
    camera = Camera(angles=turns(90.0), scanner=Scanner(turn="CLOCKWISE"))
    camera.expose(1, 2)
    assert [i.angle_rad for i in camera.all(Image)] == pytest.approx([0, -np.pi / 2])


def test_losses_late_frames_and_repeats_are_counted():
    camera = Camera()
    camera.expose(1, 2, 5, 4, 4, 6, 6)
    count = camera.assembly.count
    assert (count.received, count.lost, count.late, count.duplicate) == (5, 1, 1, 2)
    assert [i.frame for i in camera.all(Image)] == [1, 2, 5, 4, 6], "repeats are left out"


def test_fields_that_somebody_averaged_come_with_the_header_and_later_ones_at_once():
    camera = Camera()
    camera.tell(FieldMean("dark", np.full(SHAPE, 3, np.float32)), FieldMean("flat", np.full(SHAPE, 9, np.float32)))
    camera.expose(1)
    assert camera.kinds == ["Header", "Dark", "Flat", "Image"]
    assert {m.series for m in camera.seen} == {"series-0"}
    assert camera.tell(FieldMean("flat", np.full(SHAPE, 8, np.float32))) == [
        Flat("series-0", np.full(SHAPE, 8, np.float32), 1)
    ]


def test_fields_of_another_shape_are_not_sent():
    camera = Camera()
    camera.tell(FieldMean("flat", np.ones((5, 5), np.float32)))
    camera.expose(1)
    assert camera.kinds == ["Header", "Image"]
    assert camera.tell(FieldMean("flat", np.ones((5, 5), np.float32))) == []


@pytest.mark.parametrize("told_by", ["attribute", "word"])
def test_darks_and_flats_among_the_frames_are_averaged_and_are_no_gap(told_by):
    camera = Camera(role_attribute="FrameType" if told_by == "attribute" else "")

    def expose(role, *numbers, value):
        if told_by == "word":
            camera.tell(RoleNow(role))
        camera.expose(*numbers, value=value, attributes={"FrameType": role})

    expose("dark", 1, 2, value=10)
    expose("flat", 3, value=100)
    expose("flat", 4, value=200)
    assert not camera.seen, "nothing to look at yet"
    expose("projection", 5, 6, value=50)
    assert camera.kinds == ["Header", "Dark", "Flat", "Image", "Image"]
    dark, flat = camera.all(Dark)[0], camera.all(Flat)[0]
    assert (dark.count, dark.mean.max(), flat.count, flat.mean.max()) == (2, 10, 2, 150)
    expose("flat", 7, 8, value=300)
    expose("projection", 9, value=50)
    assert camera.kinds[5:] == ["Flat", "Image"]
    assert camera.assembly.count.lost == 0
    assert [i.frame for i in camera.all(Image)] == [1, 2, 3], "numbers of projections alone"
    assert camera.assembly.fields == {"dark": 2, "flat": 2}


def test_an_unknown_frame_type_is_refused_in_words():
    camera = Camera(role_attribute="FrameType")
    camera.expose(1, attributes={"FrameType": "open"})
    camera.expose(2, attributes={"Gain": 3})
    assert not camera.seen
    assert camera.assembly.refused == 2
    assert "expected the attribute 'FrameType', there are: Gain" in camera.assembly.why


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": (4, 7)},
        {"dtype": np.float32},
        {"offset": (0, 8)},
        {"binning": (2, 2)},
    ],
)
def test_another_region_binning_or_type_begins_a_new_series(changed):
    camera = Camera()
    camera.tell(FieldMean("flat", np.ones(SHAPE, np.float32)))
    camera.expose(1, 2)
    camera.expose(3, 4, **changed)
    fields = [] if "shape" in changed else ["Flat"]
    assert camera.kinds == ["Header", "Flat", "Image", "Image", "SeriesEnd", "Header", *fields, "Image", "Image"]
    assert camera.all(SeriesEnd) == [SeriesEnd("series-0", 2)]
    assert {i.series for i in camera.all(Image)[2:]} == {"series-1"}


def test_a_camera_that_was_started_again_begins_a_new_series():
    camera = Camera(angles=turns(1.0))
    camera.expose(500, 501)
    camera.expose(1, 2, start_s=2e9)
    assert [(i.series, i.frame) for i in camera.all(Image)] == [
        ("series-0", 500), ("series-0", 501), ("series-1", 1), ("series-1", 2),
    ]  # fmt: skip
    assert camera.all(Image)[2].angle_rad == 0
    assert camera.assembly.count.lost == 0


def test_settings_begin_a_new_series():
    camera = Camera()
    camera.expose(1)
    camera.assembly.set(CameraSettings(scanner=Scanner(pixel_mm=0.5)))
    camera.expose(2)
    assert camera.kinds == ["Header", "Image", "SeriesEnd", "Header", "Image"]


def test_settings_that_are_no_scanner_refuse_frames_in_words():
    camera = Camera(scanner=Scanner(beam="CONE", source_axis_mm=-10))
    camera.expose(1, 2)
    assert not camera.seen
    assert (camera.assembly.refused, "source_axis_mm: expected a length" in camera.assembly.why) == (2, True)


def test_frames_wait_for_their_table_and_keep_their_order():
    camera = Camera(angles=AngleSettings("TABLE"))
    camera.expose(11, 12)
    assert camera.kinds == ["Header"]
    camera.tell(FirstNumber(11))
    camera.tell(Angles(np.array([0.0, 45.0])))
    assert [i.angle_rad for i in camera.all(Image)] == pytest.approx([0, np.pi / 4])
    camera.expose(13)
    assert camera.assembly.refused == 1
    assert "expected frame 0 to 1 of the scan's table, got 2" in camera.assembly.why


def test_frames_wait_for_the_position_after_them():
    camera = Camera(angles=AngleSettings("POSITION"))
    camera.tell(Position(1e9, 0.0))
    camera.expose(1, 2, 3)
    assert camera.assembly.waiting == 3
    camera.tell(Position(1e9 + 2, 20.0))
    assert [i.frame for i in camera.all(Image)] == [1, 2]
    assert [i.angle_rad for i in camera.all(Image)] == pytest.approx(np.deg2rad([10, 20]))


def test_frames_whose_angle_never_comes_are_bounded():
    camera = Camera(angles=AngleSettings("POSITION"))
    camera.expose(*range(1, WAITING_FRAMES + 101))
    assert camera.assembly.waiting == WAITING_FRAMES
    assert camera.assembly.refused == 100
    assert "expected one from POSITION, none came" in camera.assembly.why
    (end,) = camera.assembly.end()
    assert end == SeriesEnd("series-0", 0)
    assert camera.assembly.waiting == 0


def test_what_could_not_be_read_is_counted():
    camera = Camera()
    camera.tell(Refused("frame 3: lz4: cut"))
    assert (camera.assembly.refused, camera.assembly.why) == (1, "frame 3: lz4: cut")


EVENTS = st.one_of(
    st.builds(
        Exposure,
        st.integers(-(2**31), 2**31 - 1),
        st.floats(0, 2e9),
        st.sampled_from([np.zeros(SHAPE, np.uint16), np.zeros((1, 3), np.float32)]),
        st.dictionaries(
            st.sampled_from(["a", "type"]),
            st.one_of(st.floats(), st.sampled_from(["dark", "flat", "projection", "open", None, 0, 2, 7])),
        ),
        st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ),
    st.builds(FieldMean, st.sampled_from(["dark", "flat"]), st.just(np.ones(SHAPE, np.float32))),
    st.builds(Angles, st.just(np.arange(5.0))),
    st.builds(FirstNumber, st.integers(-(2**31), 2**31)),
    st.builds(Position, st.floats(0, 2e9), st.floats(-1e6, 1e6)),
    st.builds(RoleNow, st.sampled_from(["dark", "flat", "projection"])),
    st.builds(Refused, st.just("why")),
)


@pytest.mark.parametrize("scheme", ["COMPUTED", "TABLE", "ATTRIBUTE", "POSITION"])
@given(events=st.lists(EVENTS, max_size=25), role=st.sampled_from(["", "type"]))
def test_any_stream_of_events_is_a_scan_in_order(scheme, events, role):
    """A header before its images, one series at a time, every frame sent, refused or waiting, and no exception."""
    camera = Camera(angles=AngleSettings(scheme, attribute="a", period_deg=360), role_attribute=role)
    camera.tell(*events)
    camera.seen += camera.assembly.end()
    series, images = "", 0
    for message in camera.seen:
        match message:
            case Header():
                assert not series
                series, images = message.series, 0
            case SeriesEnd():
                assert (message.series, message.frames) == (series, images)
                series = ""
            case Image():
                images += 1
                assert message.series == series
            case Dark() | Flat():
                assert message.series == series
    assert not series
