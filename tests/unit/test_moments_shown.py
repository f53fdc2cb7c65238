"""Which slices of the last while a network of several moments is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry
from tango_jit.learn import NetworkConfig
from tango_jit.services.moments import DENSE, Moments
from tango_jit.stacks import StackError
from tango_jit.streams import Slice

PLACE = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(2, 3))
TURN = 150
MIDDLE = NetworkConfig("CUSTOM", frames=3, frame_interval=60)
LAST = replace(MIDDLE, target="last")


def slice_(last_frame: int, *, planes: int = 2, depth: int = 1, complete: bool = True, place=PLACE, name="xy") -> Slice:
    """Of the value `last_frame`, plus a tenth of its plane's number; neighbours are a thousand more."""
    data = np.full((planes, depth, 2, 3), 1000.0 + last_frame, np.float32)
    data += 0.1 * np.arange(planes, dtype=np.float32)[:, None, None, None]
    data[:, depth // 2] -= 1000
    return Slice(name, 1, place, "s", last_frame - TURN + 1, last_frame, last_frame / 100, complete, data)


def stacked(moments: Moments, network: NetworkConfig, *last_frames: int) -> Slice:
    """What is shown after these slices."""
    for last in last_frames[:-1]:
        with pytest.raises(StackError, match="expected 3 moments 60 frames apart"):
            moments.stack(slice_(last), network)
    return moments.stack(slice_(last_frames[-1]), network)


def values(shown: Slice) -> list[float]:
    return [round(float(image[0, 0]), 1) for image in shown.data[0]]


def test_the_middle_one_is_an_earlier_slice_and_the_last_one_this():
    for network, expected in ((MIDDLE, 261), (LAST, 320)):
        shown = stacked(Moments(), network, 199, 261, 320)
        assert values(shown) == [199, 261, 320]
        assert shown.data.shape == (2, 3, 2, 3)
        assert (shown.last_frame, shown.timestamp_s) == (expected, expected / 100)
        assert shown.first_frame == expected - TURN + 1


def test_one_moment_passes_as_it_is():
    message = slice_(300, depth=3)
    assert Moments().stack(message, NetworkConfig()) is message


def test_a_moment_that_is_too_far_off_is_told():
    moments = Moments()
    with pytest.raises(StackError, match="near frame 180: they are still to come, or slices come too seldom"):
        stacked(moments, LAST, 164, 240, 300)
    assert values(moments.stack(slice_(360), LAST)) == [240, 300, 360]


def test_another_place_begins_anew():
    moments = Moments()
    stacked(moments, LAST, 199, 261, 320)
    with pytest.raises(StackError):
        moments.stack(slice_(321, place=replace(PLACE, origin_mm=(1.0, 0.0, 0.0))), LAST)
    stacked(moments, LAST, 500, 560, 620)
    moments.forget("xy")
    with pytest.raises(StackError):
        moments.stack(slice_(621), LAST)
    moments.clear()
    with pytest.raises(StackError):
        moments.stack(slice_(622), LAST)


def test_numbers_that_start_anew_do_not_mix_with_the_old_ones():
    moments = Moments()
    stacked(moments, LAST, 819, 880, 940)
    stacked(moments, LAST, 160, 220, 279)


def test_neighbours_are_left_out_and_slices_do_not_mix():
    moments = Moments()
    for last in (200, 260):
        for name, more in (("xy", 0), ("xz", 1)):
            with pytest.raises(StackError):
                moments.stack(slice_(last + more, depth=3, name=name), LAST)
    assert values(moments.stack(slice_(320, depth=3), LAST)) == [200, 260, 320]
    assert values(moments.stack(slice_(321, depth=3, name="xz"), LAST)) == [201, 261, 321]


def test_a_moment_with_a_gap_makes_the_stack_incomplete_and_has_a_whole_of_its_own():
    moments = Moments()
    with pytest.raises(StackError):
        moments.stack(slice_(200), LAST)
    with pytest.raises(StackError):
        moments.stack(slice_(260, planes=3, complete=False), LAST)
    shown = moments.stack(slice_(320), LAST)
    assert not shown.complete
    assert shown.data.shape == (3, 3, 2, 3)
    np.testing.assert_allclose(shown.data[2, :, 0, 0], [200.05, 260.2, 320.05], atol=1e-4)


def test_memory_is_bounded_however_often_slices_come():
    moments = Moments()
    shown = None
    for last in range(200, 1000):
        try:
            shown = moments.stack(slice_(last), LAST)
        except StackError:
            assert last < 200 + 120
    assert shown is not None
    assert shown.last_frame == 999
    np.testing.assert_allclose(values(shown), [879, 939, 999], atol=60 / DENSE)
    assert len(moments._kept["xy"]) <= 3 * DENSE + 2
