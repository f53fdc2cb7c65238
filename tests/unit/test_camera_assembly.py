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

    def __init__(self, tells=(), **settings) -> None:
        names = (f"series-{i}" for i in itertools.count())
        self.assembly = Assembly(CameraSettings(**settings), lambda: next(names), tells)
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
    assert [i.frame for i in camera.all(Image)] == [5, 6, 7], "the flats between are no gap"
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
    assert camera.kinds == ["Header", "Flat", "Image", "Image", "SeriesEnd", "Header", "Image", "Image"], (
        "no flat of others"
    )
    assert camera.all(SeriesEnd) == [SeriesEnd("series-0", 2)]
    assert {i.series for i in camera.all(Image)[2:]} == {"series-1"}
    camera.expose(5)
    assert camera.kinds[8:] == ["SeriesEnd", "Header", "Flat", "Image"], "it is known again where it fits"


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


@pytest.mark.parametrize("other", [{"binning": (2, 2)}, {"offset": (0, 8)}, {"dtype": np.float32}])
def test_flats_among_the_frames_are_for_frames_like_them(other):
    camera = Camera(role_attribute="T")
    camera.expose(1, 2, value=10, attributes={"T": "flat"})
    camera.expose(3, value=40, attributes={"T": "flat"}, **other)
    camera.expose(4, attributes={"T": "projection"}, **other)
    flat = camera.all(Flat)[0]
    assert (flat.count, flat.mean.max()) == (1, 40)


def test_sums_of_a_scan_do_not_go_into_the_next():
    camera = Camera(role_attribute="T")
    camera.expose(900, value=10, attributes={"T": "dark"})
    camera.expose(1, value=30, attributes={"T": "dark"}, start_s=2e9)
    camera.expose(2, attributes={"T": "projection"}, start_s=2e9)
    assert [(d.count, d.mean.max()) for d in camera.all(Dark)] == [(1, 30)]


def test_a_frame_of_another_form_does_not_cost_the_flat():
    camera = Camera()
    camera.tell(FieldMean("flat", np.ones(SHAPE, np.float32)))
    camera.expose(1)
    camera.expose(2, shape=(5, 5))
    camera.expose(3)
    assert camera.kinds == [
        "Header", "Flat", "Image", "SeriesEnd", "Header", "Image", "SeriesEnd", "Header", "Flat", "Image",
    ]  # fmt: skip


def test_flats_at_the_end_of_a_scan_come_when_nothing_follows():
    camera = Camera(role_attribute="T")
    camera.expose(1, attributes={"T": "projection"})
    camera.expose(2, 3, value=9, attributes={"T": "flat"})
    camera.seen += camera.assembly.settle()
    assert [(f.series, f.count) for f in camera.all(Flat)] == [("series-0", 2)]
    camera.expose(4, value=9, attributes={"T": "flat"})
    camera.seen += camera.assembly.end()
    assert camera.kinds[-2:] == ["Flat", "SeriesEnd"]


def test_a_new_acquisition_that_begins_with_darks_ends_the_series():
    camera = Camera(role_attribute="T")
    camera.expose(500, attributes={"T": "projection"})
    camera.expose(1, attributes={"T": "dark"}, start_s=2e9)
    assert camera.kinds == ["Header", "Image", "SeriesEnd"]
    camera.expose(2, attributes={"T": "projection"}, start_s=2e9)
    assert camera.kinds[3:] == ["Header", "Dark", "Image"]


def test_repeats_of_flats_and_late_frames_beside_flats_cost_no_projection():
    camera = Camera(role_attribute="T")
    for number, role in ((1, "p"), (2, "p"), (4, "f"), (4, "f"), (3, "p"), (5, "p"), (7, "p"), (6, "f"), (8, "p")):
        camera.expose(number, value=number, attributes={"T": {"p": "projection", "f": "flat"}[role]})
    images = {int(i.data.max()): i.frame for i in camera.all(Image)}
    assert images == {1: 1, 2: 2, 3: 3, 5: 4, 7: 6, 8: 7}, "flat 6 came late: its number stays a gap"
    assert [f.count for f in camera.all(Flat)] == [1, 1]
    assert camera.assembly.count.duplicate == 1


def test_the_next_scan_of_a_camera_that_counts_on_is_a_new_series():
    camera = Camera(angles=AngleSettings("TABLE"))
    table = np.array([0.0, 60.0, 120.0])
    camera.tell(FirstNumber(3), Angles(table))
    camera.expose(3, 4, 5)
    camera.tell(Angles(table), FirstNumber(6))
    camera.expose(6, 7)
    assert [(i.series, i.angle_rad) for i in camera.all(Image)] == [
        (f"series-{n}", pytest.approx(np.deg2rad(angle))) for n, angle in ((0, 0), (0, 60), (0, 120), (1, 0), (1, 60))
    ]
    camera.tell(Angles(table), FirstNumber(6))
    camera.expose(8)
    assert camera.all(Image)[-1].series == "series-1", "the same published again is no news"


def test_the_first_number_is_found_beyond_a_wrap():
    camera = Camera(angles=AngleSettings("TABLE"))
    camera.tell(Angles(np.arange(0.0, 90.0, 10.0)))
    camera.expose(65534, 65535, 0, 1)
    camera.tell(FirstNumber(2))
    camera.expose(2, 3)
    assert [i.angle_rad for i in camera.all(Image)][-2:] == pytest.approx(np.deg2rad([0, 10]))


def test_frames_wait_until_what_they_are_not_understood_without_has_come():
    camera = Camera({RoleNow, FirstNumber}, angles=AngleSettings("TABLE"))
    camera.tell(Angles(np.array([0.0, 1.0, 2.0])))
    camera.expose(7, 8)
    camera.tell(FirstNumber(7))
    assert not camera.seen
    assert camera.assembly.waiting == 2
    camera.tell(RoleNow("projection"))
    assert [i.angle_rad for i in camera.all(Image)] == pytest.approx(np.deg2rad([0, 1]))


def test_frames_that_are_never_understood_are_bounded():
    camera = Camera({RoleNow})
    camera.expose(*range(1, WAITING_FRAMES + 11))
    assert (camera.assembly.waiting, camera.assembly.refused) == (WAITING_FRAMES, 10)
    assert "expected RoleNow before it is understood, none came" in camera.assembly.why


def test_what_waits_keeps_the_settings_of_its_series_and_is_not_lost_unseen():
    camera = Camera(angles=AngleSettings("POSITION"))
    camera.tell(Position(1e9, 0.0))
    camera.expose(1, 2)
    camera.assembly.set(CameraSettings(angles=AngleSettings("POSITION"), scanner=Scanner(turn="CLOCKWISE")))
    camera.tell(Position(1e9 + 1, 10.0))
    assert [i.angle_rad for i in camera.all(Image)] == pytest.approx([np.deg2rad(10)])
    camera.expose(3)
    assert camera.assembly.refused == 1, "frame 2 lost its series while it waited"
    assert "the series ended before its angle came" in camera.assembly.why
    camera.tell(Position(1e9 + 3, 30.0))
    assert [i.angle_rad for i in camera.all(Image)][1:] == pytest.approx([-np.deg2rad(30)])


def test_a_name_that_no_message_carries_begins_no_series():
    camera = Camera(name="a" * 300)
    camera.expose(1)
    assert not camera.seen
    assert "name" in camera.assembly.why
    assert not list(camera.assembly.end())


def test_frames_wait_for_their_table_and_keep_their_order():
    camera = Camera(angles=AngleSettings("TABLE"))
    camera.tell(FirstNumber(11))
    camera.expose(11)
    camera.tell(Angles(np.array([0.0, 45.0])))
    camera.expose(12)
    assert [(i.series, i.angle_rad) for i in camera.all(Image)] == [
        ("series-0", pytest.approx(0)),
        ("series-0", pytest.approx(np.pi / 4)),
    ]
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
