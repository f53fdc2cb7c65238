"""Parts of the operator window that need no screen."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from devices.gui.command import opened
from devices.watch.command import devices_to_show
from devices.watch.history import History
from devices.watch.look import Look, Seen
from devices.watch.plots import Curve, Followed
from devices.watch.worker import Newest
from tests.events import wait_until


def test_a_history_is_an_hour_long() -> None:
    history = History()
    for second in range(0, 8000, 10):
        history.add(float(second), second / 10)
    times, values = history.array()
    assert (times[0], times[-1]) == (4390, 7990)
    assert np.array_equal(values, times / 10)
    history.add(7990.0, 1.0)  # not newer
    assert history.array().shape[1] == len(times)


def test_what_a_device_remembers_comes_before_what_was_seen() -> None:
    history = History(length_s=100)
    history.add(1000.0, 1.0)
    history.before([(850.0, 8.0), (990.0, 3.0), (950.0, 2.0), (1000.0, 9.0), (1010.0, 9.0)])
    assert history.array().T.tolist() == [[950, 2], [990, 3], [1000, 1]]
    empty = History(length_s=100)
    empty.before([(500.0, 5.0), (300.0, 3.0)])
    assert empty.array().T.tolist() == [[500, 5]]


def test_curves_begin_with_the_hour_before_somebody_looked() -> None:
    """In the unit of their plot, of a computer whose clock is 50 s ahead; and only once."""
    past = {
        "accuracy": np.array([[100, 110, 120], [0.6, np.nan, 0.5]]),
        "accuracy_band": np.array([[0] * 3, [0.1] * 3]),
    }
    accuracy = Followed(Curve("denoiser", "accuracy", "", (0, 0, 0), "accuracy_band"), logarithmic=False)
    for now in (70.0, 71.0):
        accuracy.take(Seen("denoiser", "", now, values={"accuracy": 0.7, "accuracy_band": 0.2}, past=past))
    np.testing.assert_allclose(accuracy.history.array(), [[50, 60, 70, 71], [0.6, np.nan, 0.5, 0.7]])
    np.testing.assert_allclose(accuracy.low.array()[1], [0.5, np.nan, 0.4, 0.5])
    np.testing.assert_allclose(accuracy.high.array()[1], [0.7, np.nan, 0.6, 0.9])
    fill = Followed(Curve("trainer", "buffer_fill", "", (0, 0, 0), scale=100), logarithmic=True)
    fill.take(Seen("trainer", "", 60.0, trouble="gone"))
    fill.take(Seen("trainer", "", 70.0, values={}, past={"buffer_fill": np.array([[30, 40, 50], [0, 0.5, 1]])}))
    np.testing.assert_allclose(fill.history.array(), [[30, 40, 50, 60, 70], [np.nan, 50, 100, np.nan, np.nan]])


def test_a_worker_does_the_newest_of_each_kind() -> None:
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()
    failed: list[str] = []
    worker = Newest("test", failed.append)

    def wait() -> None:
        begun.set()
        go.wait(30)

    worker.put("broken", lambda: done.append(str(1 / 0)))
    worker.put("first", wait)
    assert begun.wait(30)
    for number in range(5):
        worker.put("a", lambda n=number: done.append(f"a{n}"))
        worker.put("b", lambda n=number: done.append(f"b{n}"))
    go.set()
    wait_until(lambda: len(done) == 2)
    worker.end()
    assert worker.join(30)
    assert done == ["a4", "b4"]
    assert "ZeroDivisionError" in failed[0]


def test_a_look_at_nobody_says_so_in_words() -> None:
    seen: list[Seen] = []
    look = Look("denoiser", "tango://127.0.0.1:1/jit/denoiser/1", seen.append, lambda member, name: None)
    try:
        wait_until(lambda: seen, 30)
    finally:
        look.end()
        assert look.join(30)
    assert "tango://127.0.0.1:1/jit/denoiser/1 does not answer, is its server running?" in seen[0].trouble
    assert (seen[0].state, dict(seen[0].values)) == ("", {})


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TANGO_HOST", "somewhere:10000")
    return monkeypatch


def test_devices_are_those_of_the_database(no_host: pytest.MonkeyPatch) -> None:
    devices = devices_to_show("beamline", "2", None, None)
    assert devices["denoiser"] == "tango://somewhere:10000/beamline/denoiser/2"
    assert list(devices) == ["detector", "reconstructor", "trainer", "denoiser", "recorder", "supervisor"]


def test_single_devices_may_be_others_or_none(no_host: pytest.MonkeyPatch) -> None:
    others = ["denoiser=tango://there:10000/a/b/c", "trainer=x/y/z", "detector="]
    devices = devices_to_show(None, None, None, others)
    assert devices["denoiser"] == "tango://there:10000/a/b/c"
    assert devices["trainer"] == "tango://somewhere:10000/x/y/z"
    assert "detector" not in devices


@pytest.mark.parametrize("text", ["denoiser", "cat=jit/cat/1"])
def test_nonsense_is_refused_in_words(text: str, no_host: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"--device: expected MEMBER=NAME, MEMBER one of detector, .* got"):
        devices_to_show(None, None, None, [text])


def test_without_a_display_a_demo_says_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with opened("127.0.0.1:1", tmp_path / "window.log") as why_not:
        assert why_not == "no operator window: there is no display"
