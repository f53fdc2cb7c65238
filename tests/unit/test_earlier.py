"""Which slice of a turn ago the present one is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango_jit.geometry import SliceGeometry
from tango_jit.services.earlier import KEPT, Earlier
from tango_jit.streams import Slice

PLACE = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(2, 3))
TURN = 150


def slice_(last_frame: int, *add: float, series: str = "s", place: SliceGeometry = PLACE, name: str = "xy") -> Slice:
    """Two planes or, with three numbers to `add` to them, three, of the value `last_frame`."""
    data = np.stack([np.full((1, 2, 3), last_frame + more, np.float32) for more in add or (0.0, 0.0)])
    return Slice(name, 1, place, series, last_frame - TURN + 1, last_frame, 0.0, True, data)


def frames(earlier: Earlier, *last_frames: int) -> list[float | None]:
    found = [earlier.exchange(slice_(last)) for last in last_frames]
    return [None if image is None else float(image[0, 0, 0]) for image in found]


def test_the_newest_one_without_a_view_in_common():
    earlier = Earlier()
    assert frames(earlier, 150, 210, 270, 300, 360, 420) == [None, None, None, 150, 210, 270]


def test_halves_are_averaged_and_a_full_slice_is_taken_as_it_is():
    for add, expected in (((2.0, 0.0), 151.0), ((2.0, 0.0, 7.0), 157.0)):
        earlier = Earlier()
        earlier.exchange(slice_(150, *add))
        image = earlier.exchange(slice_(301, *add))
        assert image is not None
        assert image.shape == (1, 2, 3)
        assert (image == expected).all()


def test_another_series_place_or_shape_has_nothing_earlier():
    moved = replace(PLACE, origin_mm=(1.0, 0.0, 0.0))
    for other in (slice_(400, series="t"), slice_(400, place=moved), slice_(400, 0.0, 0.0, 0.0)):
        earlier = Earlier()
        earlier.exchange(slice_(150))
        assert earlier.exchange(other) is None
    earlier = Earlier()
    earlier.exchange(slice_(150))
    assert earlier.exchange(slice_(400, name="xz")) is None
    assert earlier.exchange(slice_(400)) is not None
    earlier.forget("xy")
    assert earlier.exchange(slice_(600)) is None
    earlier.clear()
    assert earlier.exchange(slice_(800, name="xz")) is None


def test_memory_is_bounded_however_often_slices_come():
    earlier = Earlier()
    for last in range(150, 2000):
        image = earlier.exchange(slice_(last))
        if last > 400:
            assert image is not None
            assert TURN <= last - image[0, 0, 0] <= TURN * (1 + 1.5 / KEPT)
        assert len(earlier._kept["xy"]) <= KEPT + 2


def test_only_slices_of_equal_noise_are_compared():
    """Where views are missing in one of the two its noise is stronger."""
    for first, second in ((True, False), (False, True), (False, False)):
        earlier = Earlier()
        earlier.exchange(replace(slice_(150), complete=first))
        assert (earlier.exchange(replace(slice_(301), complete=second)) is None) == (first != second)
