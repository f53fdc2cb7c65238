"""The container of a live stream: found by itself, kept to, written by hand, remembered, and never in the way."""

import json

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry
from tango_jit.services.container import EVERY_TURNS
from tango_jit.services.service import State
from tests.services.scans import CONE, FAN, VIEWS, Feed, look, see
from tests.services.trainers import PATCH, training

HELD = 0.6 * FAN.radius_mm  # what the scans of these tests show: a cylinder on the axis


def middles(poses: np.ndarray) -> np.ndarray:
    """(n, 3) in mm."""
    return poses[:, 0] + (PATCH - 1) / 2 * poses[:, 1:].sum(axis=1)


def found(service, feed):
    """Its values once it has found a container."""
    service.write("container_auto", True)
    feed.frames()
    return see(service, container=lambda cylinder: len(cylinder) == 5)


def test_it_is_found_and_patches_keep_to_it(rounds, trainer, feed):
    values = found(trainer, feed)
    x, y, radius, bottom, top = values["container"]
    assert np.hypot(x, y) < 0.05 * FAN.radius_mm
    assert 0.97 * HELD < radius < 1.2 * HELD
    assert bottom < 0 < top
    assert values["container_found"].startswith("radius ")
    assert values["container_auto"] is True
    seen = len(rounds.poses)
    training(trainer, 40)
    middle = np.concatenate([middles(poses) for poses in rounds.poses[seen + 1 :]])
    assert np.hypot(middle[:, 0] - x, middle[:, 1] - y).max() <= radius + 1e-3


def test_it_is_looked_for_again(trainer, feed):
    first = found(trainer, feed)["container"]
    feed.frames(range(VIEWS, VIEWS * (EVERY_TURNS + 2)))
    again = see(trainer, container=lambda cylinder: cylinder is not first)["container"]
    np.testing.assert_allclose(again, first, atol=0.1)


def test_it_is_not_looked_for_unless_somebody_wishes_it(trainer, feed):
    assert trainer.values["container_auto"] is False
    feed.frames()
    values = training(trainer, 60)
    assert not len(values["container"])
    assert values["container_found"] == ""


def test_another_series_is_looked_at_anew(trainer, feed):
    found(trainer, feed)
    feed.header("second")
    values = see(trainer, container=lambda cylinder: not len(cylinder))
    assert values["container_found"] == "none: not looked for yet"
    feed.frames(range(100, 100 + 2 * VIEWS))
    see(trainer, container=lambda cylinder: len(cylinder) == 5)


def test_writing_it_ends_the_search_and_auto_begins_it_again(rounds, trainer, feed):
    found(trainer, feed)
    by_hand = [0.5, -0.5, 1.0, -1.0, 1.0]
    trainer.write("container", by_hand)
    assert trainer.values["container_auto"] is False
    seen = len(rounds.poses)
    feed.frames(range(VIEWS, VIEWS * (EVERY_TURNS + 2)))
    values = training(trainer, 40)
    np.testing.assert_array_equal(values["container"], by_hand)
    assert values["container_found"] == "set by hand"
    middle = np.concatenate([middles(poses) for poses in rounds.poses[seen + 1 :]])
    assert np.hypot(middle[:, 0] - 0.5, middle[:, 1] + 0.5).max() <= 1.0
    trainer.write("container", [])
    assert training(trainer)["container_auto"] is False
    assert not len(look(trainer)["container"])
    trainer.write("container_auto", True)
    assert len(see(trainer, container=lambda cylinder: len(cylinder) == 5)["container"]) == 5


def test_the_settings_remember_what_was_written_but_not_what_was_found(make_trainer, feed):
    service = make_trainer(feed)
    found(service, feed)
    service.write("learning_rate", 1e-3)
    kept = json.loads(service.values["settings"])
    assert (kept["container"], kept["container_auto"]) == ([], True)
    service.write("container", [0, 0, 2, -1, 1])
    text = service.values["settings"]
    again = make_trainer(start=False, settings=text)
    np.testing.assert_array_equal(again.values["container"], [0, 0, 2, -1, 1])
    assert (again.values["container_auto"], again.values["depth_auto"]) == (False, True)
    assert again.values["settings"] == text
    service.write("container_auto", True)
    assert make_trainer(start=False, settings=service.values["settings"]).values["container_auto"] is True
    del kept["container"], kept["container_auto"]  # a text of before there were containers
    old = make_trainer(start=False, settings=json.dumps(kept))
    assert (len(old.values["container"]), old.values["container_auto"]) == (0, False)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ([1, 2, 3], "container: expected 5 numbers in mm .* got"),
        ([0, 0, -1, 0, 1], "container: expected a radius above 0 mm, got -1"),
        ([0, 0, 1, 1, 0], "container: expected z from below z to, got 1 and 0 mm"),
        ([0, 0, float("nan"), 0, 1], "container: expected finite numbers"),
    ],
)
def test_nonsense_is_refused_and_nothing_changes(trainer, container, words):
    trainer.write("container", [0, 0, 2, -1, 1])
    before = trainer.values["settings"]
    with pytest.raises(ValueError, match=words):
        trainer.write("container", container)
    np.testing.assert_array_equal(trainer.values["container"], [0, 0, 2, -1, 1])
    assert trainer.values["settings"] == before


def test_nonsense_in_the_settings_is_refused_in_words(make_trainer):
    text = make_trainer(start=False).values["settings"].replace('"container": []', '"container": [1, 2]')
    with pytest.raises(ValueError, match=r"Settings: expected .* container: expected 5 numbers"):
        make_trainer(start=False, settings=text)


def test_without_room_what_was_found_is_left_out_and_what_was_written_is_told(make_trainer):
    """A slice that lies in air, and patches near slices: somebody wants to see that corner."""
    corner = 0.85 * FAN.radius_mm
    slices = {"air": SliceGeometry.centered((corner, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.01, shape=(40, 40))}
    feed = Feed(FAN, slices)
    try:
        service = make_trainer(feed)
        service.write("sampling", "NEAR_SLICES")
        service.write("container_auto", True)
        feed.frames()
        values = see(service, container_found=lambda text: "left out" in text)
        assert not len(values["container"])
        assert training(service)["state"] is State.RUNNING
        service.write("container", [0, 0, 1, -1, 1])
        assert "or container" in see(service, state=State.ALARM)["status"]
        service.write("container", [])
        assert see(service, state=State.RUNNING)["container_auto"] is False
    finally:
        feed.close()


def test_a_cone_has_a_container_with_a_height(make_trainer):
    feed = Feed(CONE)
    try:
        service = make_trainer(feed, patch_size=12)
        x, y, radius, bottom, top = found(service, feed)["container"]
        assert np.hypot(x, y) < 0.1 * CONE.radius_mm
        assert 0.9 * HELD < radius < 1.4 * HELD
        assert bottom < -0.5 < 0.5 < top
    finally:
        feed.close()
