"""FindCenter of a running reconstructor: an order that was taken is carried out, or it is said that it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from tango_jit.services.service import Listener
from tests.events import wait_until
from tests.services.conftest import FAN, VIEWS, Scan, pass_turns
from tests.services.test_reconstructor_service import filled


@pytest.fixture
def searching(bench, monkeypatch):
    """A reconstructor whose search has begun and gets no further."""
    bench = filled(bench(), Scan(FAN))
    search = bench.service._spare_time.search
    step = search.step

    def held(pipeline):
        return {"progress": 1.0} if search.busy else step(pipeline)

    monkeypatch.setattr(search, "step", held)
    bench.service.find_center()
    wait_until(lambda: search.busy, what="a search that has begun")
    yield bench, lambda: monkeypatch.setattr(search, "step", step)
    assert bench.values["state"].name != "FAULT"


def test_another_filter_searches_anew_in_the_new_window(searching):
    bench, go_on = searching
    scan = Scan(FAN)
    bench.service.write("filter", "HANN")
    bench.push(scan.image(VIEWS))
    wait_until(lambda: not bench.service._spare_time.busy, what="a search that was broken off")
    go_on()
    bench.frames(scan, *range(VIEWS + 1, 2 * VIEWS))
    wait_until(lambda: bench.values["progress"] == 100, 60, "the end of the search")


class Seen(Listener):
    def __init__(self) -> None:
        self.news: list[dict[str, Any]] = []

    def changed(self, values: Mapping[str, Any]) -> None:
        self.news.append(dict(values))


@pytest.mark.parametrize("method", ["OPPOSITE", "SHARPNESS", "AUTO"])
def test_a_search_that_has_answered_is_over(bench, method):
    """As a script does it: the centre is written as soon as it is found; nothing is searched again."""
    bench, seen = filled(bench(), Scan(FAN)), Seen()
    bench.service.listen(seen)
    bench.service.write("center_method", method)
    bench.service.find_center()
    wait_until(lambda: bench.values["progress"] == 100, 60, "the end of the search")
    assert not bench.service._spare_time.asked
    (end,) = (news for news in seen.news if news.get("progress") == 100)
    assert math.isfinite(end["center_confidence"])
    bench.service.write("center_offset_px", 0.25)
    bench.frames(Scan(FAN), *range(VIEWS, 2 * VIEWS))
    pass_turns(bench.service)
    assert not bench.service._spare_time.busy
    assert bench.values["progress"] == 0
    assert "given up" not in bench.values["last_error"]


def test_a_search_that_another_scan_ends_is_told(searching):
    bench, _ = searching
    bench.push(Scan(FAN, "another").header)
    wait_until(lambda: "FindCenter was given up" in bench.values["last_error"], what="the reason")
    assert bench.values["progress"] == 0


def test_a_search_that_stop_ends_is_told_and_none_is_taken_after_it(searching):
    bench, _ = searching
    bench.service.stop()
    wait_until(lambda: bench.values["status"].startswith("stopped"), what="the end of the worker")
    assert "FindCenter was given up" in bench.values["last_error"]
    assert bench.values["progress"] == 0
    for order in (bench.service.find_center, bench.service.make_preview):
        with pytest.raises(ValueError, match="expected a full window, got 0% of it"):
            order()
    assert bench.values["fill"] == 0


def test_a_fault_is_told_last(bench, monkeypatch):
    """Not what came of it."""
    bench = filled(bench(), Scan(FAN))

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the engine")

    monkeypatch.setattr(bench.service._spare_time.search, "step", broken)
    bench.service.find_center()
    wait_until(lambda: bench.values["state"].name == "FAULT", what="a fault")
    assert "ZeroDivisionError: of the engine" in bench.values["last_error"]
    assert "ZeroDivisionError: of the engine" in bench.values["status"]


def test_a_search_that_fails_is_at_its_end(bench, monkeypatch):
    bench = filled(bench(backend="reference"), Scan(FAN))

    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(bench.service._pipeline.window().projections, "copied", no_room)
    bench.service.find_center()
    wait_until(lambda: "FindCenter: no room" in bench.values["last_error"], what="the reason")
    wait_until(lambda: bench.values["progress"] == 0, what="no progress")
    assert not bench.service._spare_time.asked
