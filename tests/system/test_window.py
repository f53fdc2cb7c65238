"""The operator window on a screen of its own (Xvfb), with the mouse, against real servers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tango

from tests.events import wait_until
from tests.system import screens
from tests.system.screens import answers, colours, drag, drag_on, find, has_drawn, settle, until, windows_of, xvfb

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed"),
    pytest.mark.filterwarnings("ignore:This function will be removed in future versions of pint:DeprecationWarning"),
]
SLICES = 96


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    with xvfb() as display:
        yield display


@pytest.fixture(scope="module")
def window(screen: str, system: Any, recording: Path) -> Iterator[Any]:
    """The window, with pictures in it. An error in its code fails the tests, it does not only stand in a log."""
    level = logging.getLogger().level  # Taurus has one of its own for everybody
    os.environ.update(DISPLAY=screen, QT_QPA_PLATFORM="xcb")
    try:
        from devices.gui.application import application
        from devices.gui.command import missing_library
        from devices.gui.window import Window
    except ImportError as error:
        pytest.skip(f"Qt cannot be loaded: {error}")
    if missing := missing_library():
        pytest.skip(missing)
    system.replay(recording, frame_period_s=0.03)
    for name in ("xy", "xz", "yz"):
        wait_until(lambda n=name: np.size(system.reconstructor.read_attribute(f"shape_{n}").value) == 2, what="a scan")
        system.reconstructor.write_attribute(f"shape_{name}", [SLICES, SLICES])
    application()
    errors: list[str] = []
    before, sys.excepthook = sys.excepthook, lambda *error: errors.append("".join(traceback.format_exception(*error)))
    found = Window({member: system.name(member) for member in system.deployment.devices}, remember=False)
    found.resize(1600, 1000)
    found.show()
    try:
        until(lambda: set(found.session.pictures) == {"xy", "xz", "yz"}, 120, "pictures of three slices")
        until(lambda: len(found.session.looks) == 6, 60, "an answer of every device")
        yield found
    finally:
        found.close()
        settle()
        sys.excepthook = before
        logging.getLogger().setLevel(level)
        logging.disable(logging.NOTSET)
    assert not errors, "\n".join(dict.fromkeys(errors))


def test_pictures_are_on_the_screen_as_they_were_read(window: Any, system: Any) -> None:
    until(lambda: window.grid.panes["xy", "denoised"].values is not None)
    pane = window.grid.panes["xy", "raw"]
    assert pane.values.dtype == np.float32
    assert pane.values.shape == (SLICES, SLICES)
    shown = colours(window.grid)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 150  # not two colours
    until(lambda: len(np.unique(colours(window.space).reshape(-1, 3), axis=0)) > 100, what="slices in space")
    number = window.session.pictures["xy"].figures["frame_number"]
    until(lambda: window.session.pictures["xy"].figures["frame_number"] > number, what="a newer picture")


def test_a_slice_is_dragged_and_its_picture_follows(window: Any, system: Any) -> None:
    from PyQt6.QtCore import Qt

    before = np.array(system.reconstructor.read_attribute("geometry_xy").value)
    until(lambda: window.session.pictures["xy"].place is not None)
    drag(window.space, find(window, "xy"), [(0, -4)] * 8, Qt.MouseButton.LeftButton)
    wanted = window.session.places["xy"].nine
    moved = wanted - before
    assert abs(moved[2]) > 0.02 * np.linalg.norm(before[3:6])  # along its normal, z
    assert np.abs(np.delete(moved, 2)).max() < 1e-6 * abs(moved[2])
    until(
        lambda: np.allclose(system.reconstructor.read_attribute("geometry_xy").value, wanted), what="the reconstructor"
    )
    until(lambda: np.allclose(window.session.pictures["xy"].place.nine, wanted), what="a picture of the new place")
    assert np.allclose(window.grid.panes["xy", "raw"].place.nine, wanted)
    assert window.session.undo() == ("xy",)
    until(lambda: np.allclose(system.reconstructor.read_attribute("geometry_xy").value, before), what="undone")


def test_a_slice_is_tilted_and_zoomed_by_mouse(window: Any, system: Any) -> None:
    from PyQt6.QtCore import QPoint, QPointF, Qt
    from PyQt6.QtGui import QWheelEvent
    from PyQt6.QtWidgets import QApplication

    before = window.session.places["xz"]
    drag(window.space, find(window, "xz"), [(6, 0)] * 6, Qt.MouseButton.RightButton)
    tilted = window.session.places["xz"]
    assert np.linalg.norm(tilted.u_mm) == pytest.approx(np.linalg.norm(before.u_mm))
    assert np.allclose(tilted.center_mm, before.center_mm, atol=1e-9)
    assert not np.allclose(tilted.nine, before.nine)
    at = find(window, "xz")
    wheel = QWheelEvent(
        at, QPointF(window.space.mapToGlobal(at.toPoint())), QPoint(), QPoint(0, 120),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.ControlModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(window.space, wheel)
    zoomed = window.session.places["xz"]
    assert np.linalg.norm(zoomed.u_mm) == pytest.approx(np.linalg.norm(tilted.u_mm) / 1.15)
    until(lambda: np.allclose(system.reconstructor.read_attribute("geometry_xz").value, zoomed.nine))
    for _ in range(2):
        window.session.undo()
    until(lambda: np.allclose(system.reconstructor.read_attribute("geometry_xz").value, before.nine), what="undone")


def test_a_click_puts_the_others_through_the_point(window: Any, system: Any) -> None:
    from PyQt6.QtCore import QPointF, Qt
    from PyQt6.QtTest import QTest

    mouse: Any = QTest  # its stubs know it for widgets without a viewport only
    pane = window.grid.panes["xy", "denoised"]
    width, height = pane.size_mm()
    spot = pane.view.mapViewToScene(QPointF(0.7 * width, 0.4 * height))
    area: Any = window.grid._area
    mouse.mouseClick(area.viewport(), Qt.MouseButton.LeftButton, pos=area.mapFromScene(spot))
    place = window.session.places["xy"]
    point = np.array(place.origin_mm) + 0.7 * np.array(place.u_mm) + 0.4 * np.array(place.v_mm)
    pixel = 2 * width / area.width()
    for name, axis in (("xz", 1), ("yz", 0)):
        until(lambda n=name: n in window.session.known.settling, 5, f"{name} is moved")
        assert window.session.places[name].center_mm[axis] == pytest.approx(point[axis], abs=4 * pixel)
        told = window.session.places[name].nine
        until(lambda n=name, t=told: np.allclose(system.reconstructor.read_attribute(f"geometry_{n}").value, t))
    for _ in range(2):
        window.session.undo()


def test_numbers_move_a_slice(window: Any, system: Any) -> None:
    window.numbers.choose("yz")
    window.numbers.fields["x_mm"].setValue(1.5)
    assert window.session.places["yz"].center_mm[0] == pytest.approx(1.5)
    until(lambda: abs(system.reconstructor.read_attribute("geometry_yz").value[0] - 1.5) < 1e-6)
    window.numbers.fields["roll_deg"].setValue(window.numbers.fields["roll_deg"].value() + 30)
    assert window.session.places["yz"].center_mm[0] == pytest.approx(1.5)
    turned = window.session.places["yz"].nine
    until(lambda: np.allclose(system.reconstructor.read_attribute("geometry_yz").value, turned), what="turned")
    while window.session.undo():
        pass
    until(lambda: abs(system.reconstructor.read_attribute("geometry_yz").value[0]) < 1e-6, what="undone")


def test_a_region_is_drawn(window: Any, system: Any) -> None:
    from PyQt6.QtCore import QPointF, Qt
    from PyQt6.QtTest import QTest

    mouse: Any = QTest  # its stubs know it for widgets without a viewport only
    until(lambda: window.grid.field_of_view() is not None, what="a preview volume")
    window.grid.region.setChecked(True)
    pane = window.grid.panes["xy", "raw"]
    width, height = pane.size_mm()
    area = window.grid._area
    ends = [area.mapFromScene(pane.view.mapViewToScene(QPointF(a * width, a * height))) for a in (0.3, 0.7)]
    viewport = area.viewport()
    mouse.mousePress(viewport, Qt.MouseButton.LeftButton, pos=ends[0])
    for step in range(1, 11):
        where = ends[0] + (ends[1] - ends[0]) * step / 10
        drag_on(viewport, where)
        settle(0.03)
    mouse.mouseRelease(viewport, Qt.MouseButton.LeftButton, pos=ends[1])
    until(lambda: np.size(system.trainer.read_attribute("region").value) == 6, what="a region")
    region = list(system.trainer.read_attribute("region").value)
    place = window.session.places["xy"]
    corner = np.array(place.origin_mm) + 0.3 * np.array(place.u_mm) + 0.3 * np.array(place.v_mm)
    assert region[0] == pytest.approx(corner[0], abs=0.05 * width)
    assert region[4] == pytest.approx(corner[1], abs=0.05 * width)
    around = window.grid.field_of_view()
    assert (region[2], region[5]) == pytest.approx((around[2], around[5]), rel=1e-6)
    assert not window.grid.region.isChecked()


def test_a_region_is_taken_away(window: Any, system: Any) -> None:
    window.session.orders.write("trainer", "region", [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    until(lambda: np.size(system.trainer.read_attribute("region").value) == 6, what="a region")
    from PyQt6.QtWidgets import QPushButton

    next(b for b in window.grid.findChildren(QPushButton) if b.text() == "whole region").click()
    invalid = tango.AttrQuality.ATTR_INVALID
    until(lambda: system.trainer.read_attribute("region").quality == invalid, what="no region")


def test_a_field_moves_the_slice_it_was_written_for(window: Any, system: Any) -> None:
    """Text in a field is no wish for the slice that is chosen next."""
    before = window.session.places["yz"].nine
    window.numbers.choose("xy")
    field = window.numbers.fields["x_mm"]
    field.setFocus()
    field.lineEdit().setText("3 mm")
    field.lineEdit().setModified(True)
    window.numbers.choose("yz")
    window.numbers.fields["y_mm"].setFocus()
    settle(0.1)
    assert np.array_equal(window.session.places["yz"].nine, before)
    assert field.value() == pytest.approx(window.session.places["yz"].center_mm[0], abs=1e-3)


def test_the_accuracy_has_its_band(window: Any, system: Any) -> None:
    import pyqtgraph as pg

    def drawn() -> bool:
        items = [item for plot in window.curves._plots for item in plot.items if isinstance(item, pg.FillBetweenItem)]
        return any(item.path().elementCount() > 8 for item in items)

    until(drawn, what="a band")


def test_settings_are_read_back_through_tango(window: Any, system: Any) -> None:
    """The buffer size, written in the form of the window."""
    window.settings.setCurrentIndex([window.settings.tabText(i) for i in range(5)].index("trainer"))
    for dock in window.findChildren(type(window.settings.parentWidget())):
        if dock.windowTitle() == "settings":
            dock.raise_()
    form = until(lambda: window.settings.forms.get("trainer"), what="a form of the trainer")
    items = {item.getModelName().rsplit("/", 1)[-1]: item for item in form.getItems()}
    writing = until(lambda: items["buffer_size"].writeWidget(), what="a field")
    until(lambda: str(writing.getValue()) not in ("None", ""), what="the present value")
    writing.setValue(128)
    form.apply() if hasattr(form, "apply") else writing.writeValue(forceApply=True)
    until(lambda: system.trainer.buffer_size == 128, what="the setting at the device")
    until(lambda: window.session.value("trainer", "buffer_size") == 128)


def test_buttons_ask_and_order(window: Any, system: Any) -> None:
    steps = until(lambda: window.session.value("trainer", "steps", 0) > 3 and window.session.value("trainer", "steps"))
    screens.press_enter()  # at the question, which that does not answer with yes
    window.controls.buttons["trainer", "ResetNetwork"].click()
    settle(0.5)
    assert system.trainer.steps >= steps  # nothing was reset
    window.controls.ask = lambda question: True
    window.controls.buttons["denoiser", "Freeze"].click()
    until(lambda: system.denoiser.frozen, what="frozen")
    until(lambda: window.controls.buttons["denoiser", "frozen=False"].isEnabled())
    window.controls.buttons["denoiser", "frozen=False"].click()
    until(lambda: not system.denoiser.frozen, what="thawed")
    said = answers(window)
    window.controls.prompt = lambda command, what: "Not A Name"
    window.controls.buttons["reconstructor", "AddSlice"].click()
    refused = until(lambda: [text for text, trouble in said if trouble], what="a refusal")
    assert "expected a letter" in refused[0]


def test_a_slice_comes_and_goes(window: Any, system: Any) -> None:
    window.controls.prompt = lambda command, what: "extra"
    window.controls.ask = lambda question: True
    window.controls.buttons["reconstructor", "AddSlice"].click()
    until(lambda: "extra" in window.session.names, what="a fourth slice")
    until(lambda: window.grid.panes["extra", "raw"].values is not None, what="its picture")
    window.controls.buttons["reconstructor", "RemoveSlice"].click()
    until(lambda: "extra" not in window.session.names, what="three slices again")
    assert ("extra", "raw") not in window.grid.panes


def test_one_slice_with_all_its_kinds(window: Any, system: Any) -> None:
    system.denoiser.uncertainty = True
    window.grid.choose("xy")
    for button in window.grid.kinds.values():
        button.setChecked(True)
    try:
        until(lambda: all(window.grid.panes["xy", k].values is not None for k in window.grid.kinds), what="all kinds")
        panes = window.grid.panes
        apart = panes["xy", "denoised"].values - panes["xy", "raw"].values  # shown in one go: of one moment
        assert np.array_equal(panes["xy", "difference"].values, apart)
        assert apart.dtype == np.float32
        panes["xy", "raw"].view.scaleBy((0.5, 0.5))
        settle()
        zoomed = [np.ravel(pane.view.viewRange()) for pane in panes.values()]
        assert np.allclose(zoomed, zoomed[0])  # zoomed together
    finally:
        system.denoiser.uncertainty = False
        for kind, button in window.grid.kinds.items():
            button.setChecked(kind in ("raw", "denoised"))
        window.grid.choose("all slices")


def test_servers_die_and_come_back_under_it(window: Any, system: Any) -> None:
    said = answers(window)
    system.kill("denoiser")
    until(lambda: window.session.looks["denoiser"].trouble, what="that it is gone")
    until(lambda: window.session.source == "reconstructor")
    assert "no answer" in window._pills["denoiser"].text()
    assert not window.controls.buttons["denoiser", "Freeze"].isEnabled()
    newest = window.session.pictures["xy"].figures.get("frame_number", 0)
    until(lambda: window.session.pictures["xy"].source == "reconstructor", what="pictures of the reconstructor")
    until(lambda: window.session.pictures["xy"].figures["frame_number"] > newest, what="newer ones")
    pane = window.grid.panes["xy", "denoised"]
    until(lambda: "does not answer" in pane._missing.toPlainText(), what="words in place of the picture")
    assert any("does not answer" in text for text, trouble in said if trouble)
    system.restart("denoiser")
    until(lambda: window.session.source == "denoiser", what="the denoiser again")
    until(lambda: window.session.pictures["xy"].source == "denoiser", what="its pictures")
    until(lambda: window.session.looks["denoiser"].events, what="its events")


def test_another_window_has_the_past_and_on_a_small_screen_large_pictures(window: Any, system: Any) -> None:
    from devices.gui.window import Window

    opened = time.time()
    small = Window(dict(window.session.devices), remember=False)
    small.resize(1024, 700)
    small.show()
    try:
        until(lambda: small.grid.width() > 580, what="room for pictures")
        assert small.height() <= 700
        until(lambda: small.grid.panes["xy", "denoised"].values is not None, 60, "a picture")
        for curve in (("trainer", "loss"), ("reconstructor", "frame_rate_hz"), ("detector", "lateness_ms")):
            until(lambda c=curve: small.curves.histories[c].array()[0, 0] < opened - 10, 10, f"the past of {curve}")
    finally:
        small.close()
        settle()


def test_what_it_shows_is_kept_as_a_picture(window: Any, system: Any, tmp_path: Path) -> None:
    """`tango-jit snapshot` in a process of its own, without a display."""
    out = tmp_path / "shown.png"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "QT_QPA_PLATFORM")}
    command = [sys.executable, "-m", "devices.cli", "snapshot", str(out), "--size", "1200", "800"]
    run = subprocess.run(
        command, env=environment | {"TANGO_HOST": system.host}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    from PIL import Image

    with Image.open(out) as image:
        assert image.size == (1200, 800)
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 300


def test_the_servers_did_not_wait_for_it(window: Any, system: Any) -> None:
    """A window that stands still holds nobody."""
    number = system.denoiser.read_attribute("frame_number_xy").value
    wait_until(lambda: system.denoiser.read_attribute("frame_number_xy").value > number + 200, 90, "pictures meanwhile")
    assert system.denoiser.State() in (tango.DevState.RUNNING, tango.DevState.ALARM)
    settle(0.5)
    newest = window.session.pictures["xy"].figures["frame_number"]
    until(lambda: window.session.pictures["xy"].figures["frame_number"] > newest, what="the newest picture")


def test_it_ends_though_a_server_hangs(window: Any, screen: str, system: Any, tmp_path: Path) -> None:
    """Pictures, forms and orders may all be waiting for it."""
    log = tmp_path / "window.log"
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "devices.cli", "gui"]
        environment = os.environ | {"DISPLAY": screen, "TANGO_HOST": system.host}
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_until(lambda: has_drawn(process.pid), 60, "a window")
        with system.stopped("trainer"), system.stopped("denoiser"):
            settle(3)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_demo_opens_it_and_ends_it(window: Any, screen: str, recording: Path) -> None:
    command = [sys.executable, "-m", "devices.cli", "demo", "--recording", str(recording), "--duration", "600"]
    demo = subprocess.Popen(command, env=os.environ | {"DISPLAY": screen}, stdout=subprocess.DEVNULL)
    try:
        windows = wait_until(lambda: windows_of(demo.pid), 120, "a window")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(90) == 0
        psutil.wait_procs(windows, timeout=30)
        assert not any(process.is_running() for process in windows)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
