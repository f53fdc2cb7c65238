"""The page in a real browser, from a real server in a process of its own, over real devices."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from tests.events import wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together
PROGRAM = [sys.executable, "-m", "devices.cli", "web", "--port", "0"]
PATIENCE_S = 90


@contextmanager
def served(system: Any, *arguments: str) -> Iterator[str]:
    """A server of the page; its address. It must end by itself at SIGTERM."""
    command = [*PROGRAM, "--dir", str(system.deployment.folder), *arguments]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert program.stdout
    try:
        address = program.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address + program.stdout.read()
        yield address
        program.terminate()
        assert program.wait(30) == 0
        assert program.stdout.read() == ""  # no complaint
    finally:
        program.kill()
        program.wait(10)
        program.stdout.close()


@pytest.fixture(scope="module")
def running(system, recording) -> Any:
    """The devices with pictures that are denoised."""
    system.replay(recording, frame_period_s=0.05)
    system.await_picture("denoiser", timeout_s=PATIENCE_S)
    wait_until(lambda: (system.denoiser.read_attribute("quality").value or 0) > 1, 180, "a network that helps")
    return system


@pytest.fixture(scope="module")
def address(running) -> Iterator[str]:
    with served(running) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(option)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def opened(browser: webdriver.Chrome, address: str) -> None:
    """The page anew, with its pictures and curves; nothing may have gone wrong in it."""
    browser.get("about:blank")  # else another key behind # would load nothing
    browser.get_log("browser")
    browser.get(address)
    wait_until(lambda: len(shown(browser)) == 6, PATIENCE_S, "six pictures on the page")
    wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, ".plot .scatterlayer"), PATIENCE_S, "curves")
    assert browser.get_log("browser") == []


def shown(browser: webdriver.Chrome) -> list[str]:
    """The slices whose pictures stand on the page."""
    script = "return [...document.querySelectorAll('.slice')].filter(f => f.querySelector('img').naturalWidth)"
    return browser.execute_script(f"{script}.map(f => f.dataset.name)")


def picture(browser: webdriver.Chrome, selector: str) -> np.ndarray:
    """What the browser shows of an element, (rows, cols, 3)."""
    found = browser.find_element(By.CSS_SELECTOR, selector)
    return np.asarray(Image.open(io.BytesIO(found.screenshot_as_png)).convert("RGB"), np.float32)


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    """What stands in all such elements at one moment: the page may make them anew at any time."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
    )


def connection(browser: webdriver.Chrome) -> str:
    """The line at the top."""
    return browser.find_element(By.ID, "connection").text


def fetched(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{address.partition('#')[0]}{path}", timeout=60) as answer:
        return answer.read()


def refused(address: str, path: str, **request: Any) -> tuple[int, str]:
    """Status and words of an answer that is none."""
    asked = urllib.request.Request(f"{address.partition('#')[0]}{path}", **request)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(asked, timeout=60)
    with error.value:
        return error.value.code, error.value.read().decode()


def test_slices_curves_and_states_are_on_the_page(browser, address, running):
    opened(browser, address)
    assert shown(browser) == [f"{name}/{kind}" for kind in ("raw", "denoised") for name in ("xy", "xz", "yz")]
    members = texts(browser, "#members li")
    assert members[:2] == ["detector RUNNING", "reconstructor RUNNING"]
    assert texts(browser, ".plot .gtitle") == ["accuracy", "loss", "rates (1/s)", "fill (%)", "latency (ms)"]
    assert re.fullmatch(r"accuracy [\d.]+ ± [\d.]+ .*\(.* .*\).*", connection(browser))
    bar = browser.find_element(By.CSS_SELECTOR, ".slice .bar i").rect["width"]
    frame = browser.find_element(By.CSS_SELECTOR, ".slice img").rect["width"]
    told = float(browser.find_element(By.CSS_SELECTOR, ".slice .bar b").text.removesuffix(" mm"))
    width = np.linalg.norm(running.denoiser.read_attribute("geometry_xy").value[3:6])
    assert bar / frame == pytest.approx(told / width, rel=0.1)


def test_pixels_are_those_of_the_device(address, running):
    """One picture is compared with the attribute of the same frame, by the levels that the page tells."""

    def told() -> tuple[int, list[float]]:
        state = json.loads(fetched(address, "state"))
        one = next(one for one in state["slices"] if one["name"] == "xy")
        return one.get("frame_number"), state["levels"]["attenuation"]

    def of_one_frame() -> tuple[np.ndarray, np.ndarray, list[float]] | None:
        before = told()
        colours = np.asarray(Image.open(io.BytesIO(fetched(address, "slices/xy/denoised.png?longest=4096"))))
        image = running.denoiser.read_attribute("denoised_xy").value
        number = running.denoiser.read_attribute("frame_number_xy").value
        return (colours, image, before[1]) if before == told() and before[0] == number else None

    running.detector.Pause()  # what is on its way still comes
    try:
        colours, image, (low, high) = wait_until(of_one_frame, PATIENCE_S, "a picture that stands still")
    finally:
        running.detector.Start()
    grey = 255 * np.clip((image - low) / (high - low), 0, 1)
    assert colours.shape == (*image.shape, 3)
    assert np.abs(colours - grey[..., None]).max() < 3
    assert colours.std() > 20


def test_new_pictures_come_by_themselves(browser, address):
    opened(browser, address)
    script = "return document.querySelector('.slice img').src"
    before = browser.execute_script(script)
    wait_until(lambda: browser.execute_script(script) != before, PATIENCE_S, "a new picture on the page")


def test_kinds_are_chosen(browser, address):
    opened(browser, address)
    browser.find_element(By.XPATH, "//button[text()='raw']").click()
    browser.find_element(By.XPATH, "//button[text()='difference']").click()
    expected = [f"{name}/{kind}" for kind in ("denoised", "difference") for name in ("xy", "xz", "yz")]
    wait_until(lambda: shown(browser) == expected, PATIENCE_S, "differences on the page")
    assert picture(browser, "[data-name='xy/difference'] img").std(axis=2).max() > 5  # in colours


def test_the_view_in_space_is_turned_by_dragging(browser, address):
    opened(browser, address)
    source = "return document.querySelector('#space img').dataset.shown || ''"
    wait_until(lambda: "azimuth=0.000" in browser.execute_script(source), PATIENCE_S, "the view in space")
    before = picture(browser, "#space img")
    assert before.max(axis=2).mean() > 20  # slices, not their shadows
    view = browser.find_element(By.CSS_SELECTOR, "#space img")
    ActionChains(browser).move_to_element(view).click_and_hold().move_by_offset(150, 30).release().perform()
    wait_until(lambda: "azimuth=-1.050" in browser.execute_script(source), PATIENCE_S, "the view from elsewhere")
    assert np.abs(picture(browser, "#space img") - before).mean() > 5


def test_it_fits_a_phone(browser, address):
    size = browser.get_window_size()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        opened(browser, address)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.set_window_size(size["width"], size["height"])


def test_it_only_shows(browser, address):
    opened(browser, address)
    assert not browser.find_element(By.ID, "orders").is_displayed()
    assert not any(row.is_displayed() for row in browser.find_elements(By.CSS_SELECTOR, ".move"))
    status, text = refused(address, "orders", data=b'{"order": "stop"}')
    assert (status, "this page only shows" in text) == (403, True)


def test_nonsense_is_refused_in_words(address):
    for path, status, words in (
        ("slices/nobody/raw.png", 404, "slice nobody: there is no picture raw yet"),
        ("slices/xy/pink.png", 404, "expected one of raw, denoised, difference, uncertainty, got pink"),
        ("slices/xy/raw.png?longest=1e9", 400, "longest: expected 16 to 4096 pixels, got 1e+09"),
        ("space.png?nearer=0", 400, "nearer: expected 0.05 to 50, got 0.0"),
        ("space.png?azimuth=nan", 400, "azimuth: expected a number, got nan"),
        ("state?since=yesterday", 400, "since: expected a number, got yesterday"),
        ("../../etc/passwd", 404, "Not Found"),
    ):
        assert refused(address, path)[0] == status, path
        assert words in refused(address, path)[1]


def test_a_page_elsewhere_cannot_read_under_a_name_of_its_own(address):
    for path in ("", "state", "slices/xy/raw.png"):
        status, text = refused(address, path, headers={"Host": "pictures.example:8420"})
        assert (status, "got pictures.example" in text) == (421, True)


def test_too_many_pictures_at_once_are_refused_and_the_page_goes_on(address):
    """A hundred phones: who comes late is told to try again, which a page does with the next picture."""

    def ask(number: int) -> int:
        try:
            with urllib.request.urlopen(f"{address}space.png?width=800&azimuth={number}", timeout=PATIENCE_S) as answer:
                return answer.status
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code

    with ThreadPoolExecutor(100) as phones:
        found = list(phones.map(ask, range(100)))
    assert set(found) == {200, 503}
    assert found.count(200) >= 24
    wait_until(lambda: ask(0) == 200, PATIENCE_S, "a picture for the next")


def test_a_dead_server_is_told_and_comes_back(browser, address, running):
    opened(browser, address)
    running.kill("denoiser")
    try:
        wait_until(
            lambda: "pictures are those of the reconstructor" in connection(browser), PATIENCE_S, "the other source"
        )
        members = browser.find_element(By.ID, "members").text
        assert "denoiser missing" in members
        assert "does not answer, is its server running?" in members
        wait_until(lambda: shown(browser) == ["xy/raw", "xz/raw", "yz/raw"], PATIENCE_S, "raw pictures alone")
    finally:
        running.restart("denoiser")
    wait_until(lambda: len(shown(browser)) == 6, PATIENCE_S, "denoised pictures again")


def test_curves_go_on_with_a_point_a_second(browser, address):
    opened(browser, address)
    wait_until(lambda: len(points(browser)) > 5, PATIENCE_S, "points of a curve")
    before = points(browser)
    wait_until(lambda: points(browser)[-1][0] > before[-1][0] + 3, PATIENCE_S, "newer points")
    now = points(browser)
    assert now[: len(before)] == before
    times = [at for at, _ in now]
    assert times == sorted(set(times))
    assert abs(times[-1] - time.time()) < 20
    assert max(rate for _, rate in now if rate) == pytest.approx(20, rel=0.5)  # frames a second, as they are sent


def points(browser: webdriver.Chrome) -> list[list[Any]]:
    """Of the rate of frames: times and values."""
    return browser.execute_script(
        "const [t, v] = curves.get('2/sent/points') || [[], []]; return t.map((x, i) => [x, v[i]])"
    )


def test_words_below_a_picture_are_those_of_that_picture(browser, address):
    opened(browser, address)
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/slices/*"]})
    try:
        caption = browser.find_element(By.CSS_SELECTOR, ".slice figcaption")
        script = "return state.slices[0].frame_number"
        text, number = caption.text, browser.execute_script(script)
        wait_until(lambda: browser.execute_script(script) > number, PATIENCE_S, "a newer picture at the server")
        assert re.findall(r"frame \d+", caption.text) == re.findall(r"frame \d+", text)
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        browser.get_log("browser")
    wait_until(lambda: caption.text != text, PATIENCE_S, "pictures go on")


def test_uncertainty_is_shown_when_it_is_switched_on(browser, address, running):
    opened(browser, address)
    browser.find_element(By.XPATH, "//button[text()='uncertainty']").click()
    running.denoiser.write_attribute("uncertainty", True)
    try:
        wait_until(lambda: "xy/uncertainty" in shown(browser), PATIENCE_S, "the map of uncertainty")
    finally:
        running.denoiser.write_attribute("uncertainty", False)
    wait_until(lambda: "xy/uncertainty" not in shown(browser), PATIENCE_S, "no map any more")


def test_a_page_without_its_server_says_so_until_that_is_back(browser, running):
    with served(running) as found:
        opened(browser, found)
        wait_until(lambda: len(points(browser)) > 5, PATIENCE_S, "points of a curve")
    lost = "the server does not answer: what is shown is"
    wait_until(lambda: lost in connection(browser), PATIENCE_S, "words")
    size = browser.get_window_size()
    browser.set_window_size(1300, 900)
    assert lost in connection(browser)  # another size is no answer
    browser.set_window_size(size["width"], size["height"])
    seen = points(browser)
    with served(running, "--port", found.rstrip("/").rpartition(":")[2]):
        wait_until(lambda: "accuracy" in connection(browser), PATIENCE_S, "the page at work")
        wait_until(lambda: len(points(browser)) > len(seen) + 3, PATIENCE_S, "newer points")
        now = points(browser)
    assert [point for point in now if point in seen] == seen
    assert any(value is None for at, value in now if at > seen[-1][0])  # a gap
    assert now == sorted(now, key=lambda point: point[0])  # with what the devices remember in between


def test_with_a_key_slices_are_moved_and_the_denoiser_frozen(browser, running):
    with served(running, "--operate") as found:
        assert "#key=" in found
        opened(browser, found)
        before = running.reconstructor.read_attribute("geometry_xy").value
        row = browser.find_element(By.CSS_SELECTOR, "[data-name='xy/raw'] .move")
        row.find_element(By.CSS_SELECTOR, "[data-pixels='10']").click()

        def moved() -> float:
            return running.reconstructor.read_attribute("geometry_xy").value[2] - before[2]

        pitch = np.linalg.norm(before[3:6]) / running.reconstructor.read_attribute("shape_xy").value[1]
        wait_until(lambda: moved() != 0, PATIENCE_S, "the slice elsewhere")
        assert moved() == pytest.approx(10 * pitch, rel=1e-6)
        browser.find_element(By.CSS_SELECTOR, "[data-order=freeze]").click()
        wait_until(lambda: running.denoiser.read_attribute("frozen").value, PATIENCE_S, "the frozen denoiser")
        thaw = browser.find_element(By.CSS_SELECTOR, "[data-order=thaw]")
        wait_until(thaw.is_enabled, PATIENCE_S, "a button to thaw")
        thaw.click()
        wait_until(lambda: not running.denoiser.read_attribute("frozen").value, PATIENCE_S, "the thawed denoiser")
        running.reconstructor.write_attribute("geometry_xy", before)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"order": "explode"}', 400, "order: expected one of start, stop, freeze, thaw, got explode"),
        (b'{"slice": "nobody", "pixels": 1}', 400, "got nobody"),
        (b'{"slice": "xy", "pixels": 1e9}', 400, "pixels: expected -10000 to 10000, got 1000000000.0"),
        (b'{"device": "sys/tg_test/1"}', 400, "unknown field"),
        (b"stop", 400, "order: "),
    ],
)
def test_orders_that_are_none_are_refused(operated, body, status, words):
    address, _, key = operated.partition("#key=")
    found, text = refused(address, "orders", data=body, headers={"X-Key": key})
    assert (found, words in text) == (status, True), text


def test_nobody_orders_without_the_key(operated):
    address = operated.partition("#")[0]
    for headers in ({}, {"X-Key": "guessed"}):
        assert refused(address, "orders", data=b'{"order": "stop"}', headers=headers)[0] == 403
    assert refused(address, "orders", data=b"x" * 20_000, headers={"X-Key": operated.partition("#key=")[2]})[0] == 413


@pytest.fixture(scope="module")
def operated(running) -> Iterator[str]:
    with served(running, "--operate") as found:
        wait_until(lambda: json.loads(fetched(found, "state"))["slices"], PATIENCE_S, "slices")
        yield found


def test_a_port_in_use_is_told(address, running):
    port = address.rstrip("/").rpartition(":")[2]
    command = [*PROGRAM, "--dir", str(running.deployment.folder), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"--port: expected a free one, cannot listen at 127.0.0.1:{port}" in done.stdout
