"""Parts of the web page that need no browser."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from devices.watch.command import is_loopback, page_address
from devices.watch.history import History
from devices.watch.look import Seen
from devices.watch.looks import teller_of_places
from devices.watch.pictures import Picture, images_of, is_attenuation
from devices.watch.plots import accuracy_in_words
from devices.web import drawing
from tango_jit.learn.tasks import TASKS


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_without_a_value_nothing_is_painted() -> None:
    image = np.ones((8, 8), np.float32)
    image[:4] = 0
    image[0, 0], image[4:6, 4:6] = np.nan, np.nan
    whole = pixels(drawing.drawn(image, "uncertainty", (0.0, 1.0), 8))
    assert whole.shape == (8, 8, 4)
    assert np.array_equal(whole[..., 3] == 0, np.isnan(image))
    small = pixels(drawing.drawn(image, "uncertainty", (0.0, 1.0), 4))  # blocks of 2 x 2
    assert (small[..., 3] == 0).sum() == 1  # a part of the first block is known
    assert np.array_equal(small[0, 0, :3], drawing.table("uncertainty")[0])
    assert np.array_equal(small[3, 0, :3], drawing.table("uncertainty")[255])


def test_probabilities_have_levels_of_their_own() -> None:
    images = {"raw": np.zeros((2, 2), np.float32), "denoised": np.ones((2, 2), np.float32)}
    picture = Picture("xy", "denoiser", images, None, {}, 0.0)
    assert set(images_of(picture)) == {"raw", "denoised", "difference"}
    assert picture.group("denoised") == "attenuation"
    phases = replace(picture, probability=True)
    assert set(images_of(phases)) == {"raw", "denoised"}
    assert (phases.group("raw"), phases.group("denoised")) == ("attenuation", "probability")
    assert drawing.levels_of([], "probability", None) == (0.0, 1.0)
    assert drawing.levels_of([], "attenuation", None) is None


def test_what_the_denoiser_shows_decides_what_is_said() -> None:
    values = {"accuracy": 0.24, "accuracy_band": 0.01, "evidence": "TURNS"}
    for task, words in (("DENOISE", True), ("SEGMENT", False)):
        assert is_attenuation(TASKS[task].shows) == words
        assert ("streaks" in accuracy_in_words(values | {"shows": TASKS[task].shows})) == words
        one_moved = {"shows": TASKS["DENOISE"].shows, "shows_xy": TASKS[task].shows}
        assert ("streaks" in accuracy_in_words(values | one_moved)) == words
    assert is_attenuation("")
    assert is_attenuation(None)


def test_colours_are_divided_by_their_opacity() -> None:
    seen = np.zeros((1, 3, 4), np.uint8)
    seen[0] = [(100, 50, 0, 200), (0, 0, 0, 0), (255, 255, 255, 255)]
    plain = drawing.unmultiplied(seen)
    assert plain[0].tolist() == [[127, 63, 0, 200], [0, 0, 0, 0], [255, 255, 255, 255]]


def test_points_after_a_time() -> None:
    history = History()
    for at in range(10):
        history.add(float(at), at / 2)
    assert history.after(6.5) == ([7.0, 8.0, 9.0], [3.5, 4.0, 4.5])
    assert history.after(9.0) == ([], [])
    assert len(history.after(-1.0)[0]) == 10


def test_the_denoiser_tells_places_where_nobody_else_does() -> None:
    gone = Seen("reconstructor", "r", 0.0, trouble="gone")
    devices = {"reconstructor", "denoiser"}
    assert teller_of_places(devices, {}, False) == "reconstructor"
    assert teller_of_places(devices, {"reconstructor": gone}, False) == "denoiser"
    assert teller_of_places(devices, {"reconstructor": gone}, True) == "reconstructor"
    assert teller_of_places({"denoiser"}, {}, False) == "denoiser"


@pytest.mark.parametrize(
    ("address", "expected", "loopback"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/", True),
        ("::1", "http://[::1]:80/", True),
        ("192.0.2.1", "http://192.0.2.1:80/", False),
        ("localhost", "http://localhost:80/", True),
        ("beamline", "http://beamline:80/", False),
    ],
)
def test_addresses_are_as_a_browser_takes_them(address: str, expected: str, loopback: bool) -> None:
    assert page_address(address, 80) == expected
    assert is_loopback(address) == loopback
