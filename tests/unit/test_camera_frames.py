"""Numbers, angles and regions of a camera's frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.cameras import AngleSettings, Exposure, Scanner, role_of
from tango_jit.cameras.angles import AngleFinder, NoAngleError
from tango_jit.cameras.numbering import Numbering


def frame(number=1, at_s=1e9, shape=(4, 6), **fields) -> Exposure:
    return Exposure(number, at_s, np.zeros(shape, np.uint16), **fields)


def placed(*numbers, times=None):
    """What numbering makes of these numbers; a second lies between two, or nothing is told of time."""
    numbering = Numbering()
    return [numbering.place(n, 0.0 if times is None else times[i]) for i, n in enumerate(numbers)]


# ---- numbers


def test_numbers_go_on_over_gaps_late_frames_and_repeats():
    assert placed(5, 6, 9, 8, 9, 10) == [(5, "anew"), *((n, "on") for n in (6, 9, 8, 9, 10))]


@pytest.mark.parametrize(("end", "signed"), [(1 << 16, False), (1 << 32, False), (1 << 32, True)])
def test_numbers_count_through_the_end_of_their_range(end, signed):
    told = [end - 2, end - 1, 0, 1, end - 3, 2]
    sent = [n - (1 << 32) if signed and n >= 1 << 31 else n for n in told]
    expected = [end - 2, end - 1, end, end + 1, end - 3, end + 2]
    assert [n for n, _ in placed(*sent)] == expected


def test_signed_numbers_count_through_their_sign():
    assert [n for n, _ in placed(2**31 - 1, -(2**31), -(2**31) + 1)] == [2**31 - 1, 2**31, 2**31 + 1]


def test_a_camera_that_begins_again_is_told_by_the_time_of_its_frame():
    assert placed(40, 41, 1, 2, times=[1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3])[2:] == [(1, "anew"), (2, "on")]
    assert placed(40, 41, 1, times=[1e9, 1e9 + 2, 1e9 + 1])[2] == (1, "on"), "an old frame that comes late"


def test_without_times_a_camera_begins_again_where_no_frame_can_be_late():
    assert placed(40, 41, 1)[2] == (1, "on")
    assert placed(400, 401, 1, 2)[2:] == [(1, "anew"), (2, "on")]


def test_a_corrupt_number_or_clock_does_not_end_the_series_for_good():
    told = [5000, 5001, -5, *range(5002, 5060)]
    times = [1e9 + i for i in range(len(told))]
    times[2] = 2e9
    got = placed(*told, times=times)
    assert got[2] == (2**32 - 5, "anew"), "no camera loses so many frames"
    assert [n for n, _ in got[-20:]] == told[-20:]
    back = placed(*range(1, 200), *range(1, 100), times=[*(1e9 + i for i in range(199)), *(9e8 + i for i in range(99))])
    assert back[-50:] == [(n, "on") for n in range(50, 100)], "the camera began again, and so did its clock"
    assert sum(step == "anew" for _, step in back) == 2


def test_a_number_that_wraps_late_is_a_restart():
    assert placed(64700, 1, times=[1e9, 1e9 + 600])[1] == (1, "anew")
    assert placed(64700, 1, times=[1e9, 1e9 + 6])[1] == (65537, "on")


def test_numbers_told_elsewhere_are_counted_alike():
    numbering = Numbering()
    for number in (65530, 65535, 2):
        numbering.place(number, 0.0)
    assert numbering.counted(65531) == 65531
    assert numbering.counted(1) == 65537


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), st.booleans())
def test_whatever_comes_numbers_are_whole_and_not_negative(numbers, timed):
    times = [1e9 + i for i in range(len(numbers))] if timed else None
    for number, _ in placed(*numbers, times=times):
        assert isinstance(number, int)
        assert number >= 0


# ---- angles


def finder(scheme, **fields) -> AngleFinder:
    found = AngleFinder()
    found.begin(AngleSettings(scheme, **fields))
    return found


def test_computed_angles_begin_with_the_first_frame_or_where_somebody_says():
    angles = finder("COMPUTED", start_deg=10.0, step_deg=0.5)
    assert [angles.of(frame(), n) for n in (7, 8, 10)] == [10.0, 10.5, 11.5]
    assert finder("COMPUTED", step_deg=0.5, first_number=1).of(frame(), 7) == 3.0


def test_a_table_is_looked_up_from_the_first_number():
    angles = finder("TABLE")
    angles.begin(AngleSettings("TABLE"), first=21)
    assert angles.of(frame(), 22) is None, "before the table came"
    angles.set_table(np.array([0.0, 1.5, 3.0]))
    assert [angles.of(frame(), n) for n in (21, 22, 23)] == [0.0, 1.5, 3.0]
    for number in (20, 24):
        with pytest.raises(NoAngleError, match=f"expected frame 0 to 2 of the scan's table, got {number - 21}"):
            angles.of(frame(), number)
    assert not angles.set_table(np.array([0.0, 1.5, 3.0])), "the same again is no news"
    assert angles.set_table(np.array([0.0, 1.5]))


def test_an_attribute_is_counted_through_its_period():
    angles = finder("ATTRIBUTE", attribute="SampleRotary", period_deg=360.0)
    told = [350.0, 355.0, 2.0, 10.0, 358.0, 1.0]
    got = [angles.of(frame(attributes={"SampleRotary": value}), i) for i, value in enumerate(told)]
    assert got == [350.0, 355.0, 362.0, 370.0, 358.0, 361.0]
    for value in (1.7e308, -1.7e308):
        with pytest.raises(NoAngleError):
            angles.of(frame(attributes={"SampleRotary": value}), 9)


def test_without_a_period_an_attribute_is_what_it_is():
    angles = finder("ATTRIBUTE", attribute="theta")
    assert [angles.of(frame(attributes={"theta": v}), 0) for v in (350, np.float32(2), 725.5)] == [350, 2, 725.5]


@pytest.mark.parametrize("value", ["12", True, None, np.nan])
def test_an_attribute_that_is_no_number_is_refused_with_those_there_are(value):
    with pytest.raises(NoAngleError, match=r"expected a number in the attribute 'theta'.*there are: Gain, theta"):
        finder("ATTRIBUTE", attribute="theta").of(frame(attributes={"theta": value, "Gain": 1}), 0)


def test_a_position_is_found_by_time_between_two_others():
    angles = finder("POSITION")
    assert angles.of(frame(at_s=1e9), 0) is None
    for i in range(4):
        angles.add_position(1e9 + i, 10.0 * i)
    assert angles.of(frame(at_s=1e9 + 2), 0) == 20.0
    assert angles.of(frame(at_s=1e9 + 1.25), 0) == pytest.approx(12.5, abs=1e-5)
    assert angles.of(frame(at_s=1e9 + 3.5), 0) is None, "the next position is to come"
    with pytest.raises(NoAngleError, match="expected a position before"):
        angles.of(frame(at_s=1e9 - 1), 0)
    with pytest.raises(NoAngleError, match="a frame with a time"):
        angles.of(frame(at_s=0.0), 0)


def test_positions_and_table_outlive_a_series_and_a_setting_comes_before_what_the_scan_says():
    angles = finder("POSITION")
    angles.add_position(1e9, 5.0)
    angles.set_table(np.array([1.0, 2.0]))
    angles.begin(AngleSettings("POSITION"))
    assert angles.of(frame(at_s=1e9), 10) == 5.0
    angles.begin(AngleSettings("TABLE"), first=10)
    assert angles.of(frame(), 11) == 2.0
    angles.begin(AngleSettings("TABLE", first_number=11), first=10)
    assert angles.of(frame(), 11) == 1.0


def test_one_position_with_a_wrong_time_does_not_spoil_the_rest():
    angles = finder("POSITION")
    angles.add_position(1e9, 0.0)
    angles.add_position(2e9, 7.0)  # of another clock
    for i in range(1, 12):
        angles.add_position(1e9 + i, 90.0 * i)
    assert angles.of(frame(at_s=1e9 + 10.5), 0) == pytest.approx(945.0)


def test_positions_that_cannot_be_are_ignored():
    angles = finder("POSITION", period_deg=360.0)
    for at_s, degrees in ((0.0, 5.0), (1e9, 1.7e308), (1e9, np.nan), (1e9, np.inf)):
        angles.add_position(at_s, degrees)
    assert angles.of(frame(at_s=1e9), 0) is None


def test_a_stage_may_rest_unheard_but_not_turn():
    angles = finder("POSITION")
    for at_s, degrees in ((0, 0.0), (60, 0.5), (120, 90.0)):
        angles.add_position(1e9 + at_s, degrees)
    assert angles.of(frame(at_s=1e9 + 30), 0) == pytest.approx(0.25)
    with pytest.raises(
        NoAngleError, match=r"expected positions within 10 s of each other, got 60\.0 s with 89\.5 degrees"
    ):
        angles.of(frame(at_s=1e9 + 90), 0)


def test_positions_of_an_endless_run_are_bounded():
    angles = finder("POSITION")
    for i in range(30_000):
        angles.add_position(1e9 + i, float(i))
    assert len(angles._times) == len(angles._degrees) == 10_000
    assert angles.of(frame(at_s=1e9 + 29_990), 0) == 29_990.0


# ---- what frames show


@pytest.mark.parametrize(
    ("told", "role"),
    [
        ("Projection", "projection"), ("FlatField", "flat"), ("DarkField", "dark"), (b"dark", "dark"),
        ("/exchange/data", "projection"), ("/exchange/data_white", "flat"), ("/exchange/data_dark", "dark"),
        (0, "projection"), (1, "flat"), (np.int32(2), "dark"),
    ],
)  # fmt: skip
def test_roles_in_the_words_of_sites(told, role):
    assert role_of(told) == role


@pytest.mark.parametrize("told", ["", "open", 3, -1, None, True, [1]])
def test_unknown_roles_are_refused(told):
    with pytest.raises(ValueError, match="expected projection, flat or dark"):
        role_of(told)


# ---- regions


def test_the_axis_is_given_on_the_whole_sensor():
    scanner = Scanner(pixel_mm=0.01, axis_column=1000.0, mid_row=500.0)
    whole = scanner.geometry(frame(shape=(1024, 2048)))
    part = scanner.geometry(frame(shape=(512, 512), offset=(300, 800)))
    binned = scanner.geometry(frame(shape=(256, 256), offset=(300, 800), binning=(2, 2)))
    assert whole.axis_column == pytest.approx(1000)
    assert part.axis_column == pytest.approx(200)
    assert binned.axis_column == pytest.approx(99.75)  # pixel 200 of the part: its middle is at 200.5 / 2 - 0.5
    assert np.linalg.norm(binned.u_mm) == pytest.approx(0.02)
    assert part.matrices(0.0)[0, 1, 3] == pytest.approx(200)


def test_without_an_axis_it_is_the_middle_of_the_frames():
    assert Scanner().geometry(frame(shape=(4, 7), offset=(0, 500))).axis_column == pytest.approx(3)


@pytest.mark.parametrize("beam", ["PARALLEL", "CONE"])
def test_rows_that_count_downwards_are_a_detector_upside_down(beam):
    up = Scanner(beam=beam, axis_detector_mm=500.0, mid_row=1.0).geometry(frame(shape=(5, 6)))
    down = Scanner(beam=beam, axis_detector_mm=500.0, mid_row=1.0, rows="DOWN").geometry(frame(shape=(5, 6)))
    point = np.array([0.002, 0.001, 0.004, 1.0])
    column_up, row_up, w = up.matrices(0.3)[0] @ point
    column_down, row_down, w_down = down.matrices(0.3)[0] @ point
    assert w == pytest.approx(w_down)
    assert column_up == pytest.approx(column_down)
    assert row_up / w - 1.0 == pytest.approx(1.0 - row_down / w), "as far above row 1 as below it"
