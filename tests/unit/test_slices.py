"""The table of slices: defaults that follow the scan, placed ones that stay."""

import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.services.slices import SliceTable

CONE = ScanGeometry.cone(rows=64, cols=96, pixel_mm=0.2, source_axis_mm=200, source_detector_mm=300)
FAN = ScanGeometry.cone(rows=1, cols=560, pixel_mm=0.2, source_axis_mm=410.66, source_detector_mm=553.74)
TILTED = SliceGeometry((-3, -3, 1), (6, 0, 1), (0, 6, 1), 32, 48)


def test_defaults_wait_for_the_scan_and_follow_it():
    table = SliceTable()
    assert table.names == ("xy", "xz", "yz")
    assert not table.geometries
    assert table.on(CONE).geometries["xy"].shape == (96, 96)
    assert table.on(FAN).names == ("xy",)
    assert table.on(FAN).on(CONE).names == ("xy", "xz", "yz")


def test_a_placed_slice_stays_where_it_was_put():
    table = SliceTable().on(CONE).place("xy", TILTED)
    assert table.on(FAN).geometries["xy"] == TILTED
    assert table.on(CONE).geometries["xz"].shape == (96, 96)


def test_the_table_comes_back_from_json():
    table = SliceTable().on(CONE).add("mine").place("yz", TILTED).remove("xz")
    again = SliceTable.from_json(table.to_json()).on(CONE)
    assert again.geometries == table.geometries
    assert again.names == ("xy", "yz", "mine")


@pytest.mark.parametrize("name", ["", "Mine", "1st", "a" * 17, "a-b", "ä"])
def test_names_that_no_attribute_can_carry_are_refused(name):
    with pytest.raises(ValueError, match="slice name: expected"):
        SliceTable().on(CONE).add(name)


def test_what_cannot_be_done_is_refused_in_words():
    table = SliceTable()
    with pytest.raises(ValueError, match="no header has come yet"):
        table.add("mine")
    table = table.on(CONE)
    with pytest.raises(ValueError, match="taken"):
        table.add("xy")
    with pytest.raises(KeyError, match="expected one of xy, xz, yz"):
        table.remove("mine")
    with pytest.raises(ValueError, match="8 to 4096 pixels"):
        table.place("xy", SliceGeometry((0, 0, 0), (1, 0, 0), (0, 1, 0), 5000, 10))
    with pytest.raises(ValueError, match="JSON object"):
        SliceTable.from_json("[]")
