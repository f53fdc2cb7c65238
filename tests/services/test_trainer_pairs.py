"""What the trainer trains on: whole windows of one kind, patches where they are wanted, each scored once."""

from dataclasses import replace

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry, default_slices
from tango_jit.services.service import State
from tests.services.scans import CONE, FAN, PARALLEL, VIEWS, Feed, look, see
from tests.services.trainers import PATCH, holds, training

# ---- frames and windows


def test_trains_as_soon_as_a_turn_is_there(trainer, feed):
    feed.frames(range(VIEWS // 2))
    half = see(trainer, frames_received=VIEWS // 2)
    assert 0.4 < half["fill"] < 0.6
    assert half["status"] == f"window filling: {100 * half['fill']:.0f} %"
    holds(trainer)
    feed.frames(range(VIEWS // 2, VIEWS))
    values = training(trainer)
    assert (values["state"], values["fill"], values["frames_lost"]) == (State.RUNNING, 1.0, 0)
    assert 0 < values["buffer_fill"] <= 1
    assert 0.3 < values["patch_accuracy"] < 2
    assert values["scale_per_mm"] > 0
    assert values["loss"] > 0


@pytest.mark.parametrize(("series", "filter"), [("second", "cosine"), ("second", "hann"), ("first", "cosine")])
def test_another_series_or_filter_is_never_mixed_with_what_was_before(rounds, trainer, feed, series, filter):
    feed.frames()
    training(trainer)
    old = rounds.generations[-1]
    assert rounds.held[-1] > 0
    feed.header(series, filter)
    feed.frames(range(100, 100 + VIEWS // 2))
    half = see(trainer, frames_received=VIEWS // 2)
    assert half["fill"] < 0.6
    holds(trainer)
    made = len(rounds.log), len(rounds.windows)
    feed.frames(range(100 + VIEWS // 2, 100 + VIEWS))
    training(trainer)
    at = rounds.log[: made[0]].count("add")
    assert all(window.first_frame >= 100 for window in rounds.windows[made[1] :])
    assert set(rounds.generations[:at]) == {old}
    assert min(rounds.generations[at:]) > old
    assert rounds.held[at] == 0


def test_another_zoom_of_the_slices_empties_the_buffer_alone(rounds, trainer, feed):
    feed.frames()
    training(trainer)
    old = rounds.generations[-1]
    xy = default_slices(FAN)["xy"]
    finer = replace(xy, u_mm=tuple(0.5 * x for x in xy.u_mm), v_mm=tuple(0.5 * x for x in xy.v_mm))
    feed.view({"xy": replace(finer, origin_mm=tuple(0.5 * x for x in xy.origin_mm))})
    see(trainer, steps=lambda _: rounds.generations[-1] > old)
    at = next(n for n, generation in enumerate(rounds.generations) if generation > old)
    assert rounds.held[at] == 0
    assert look(trainer)["fill"] == 1
    np.testing.assert_allclose(np.linalg.norm(rounds.poses[-1][:, 1], axis=1), finer.pixel_mm[0])


def test_slices_that_move_or_a_header_that_comes_again_change_nothing(rounds, trainer, feed):
    feed.frames()
    training(trainer)
    received = trainer._subscriber.received
    feed.header("first")
    xy = default_slices(FAN)["xy"]
    feed.view({"xy": replace(xy, origin_mm=(xy.origin_mm[0] + 1.0, *xy.origin_mm[1:]))})
    see(trainer, steps=lambda _: trainer._subscriber.received >= received + 2)
    values = training(trainer)
    assert (values["fill"], values["frames_received"]) == (1.0, VIEWS)
    assert len(set(rounds.generations)) == 1


@pytest.mark.parametrize("missing", [range(10, 16), range(1, VIEWS, 2)], ids=["a gap", "the odd ones"])
def test_incomplete_windows_give_no_pairs(rounds, trainer, feed, missing):
    gaps = [number for number in range(VIEWS) if number not in missing]
    feed.frames(gaps)
    if missing[-1] == VIEWS - 1:
        feed.frames([VIEWS])
        gaps.append(VIEWS)
    values = see(trainer, frames_received=len(gaps), fill=1.0, state=State.ALARM)
    assert values["frames_lost"] == len(missing)
    assert "views are missing in the window: no pairs" in values["status"]
    holds(trainer)
    assert rounds.log == []
    feed.frames(range(VIEWS + 1, 3 * VIEWS))  # until no view of the gap is in the window any more
    assert training(trainer)["state"] is State.RUNNING
    assert all(window.nearly_complete for window in rounds.windows)


@pytest.mark.parametrize("missing", [[10], [10, 20], [10, 11], [9, 11]])
def test_single_missing_views_do_not_stop_the_training_but_are_never_scored(rounds, trainer, feed, missing):
    """Where one frame in a hundred is lost no window would ever be complete."""
    feed.frames(number for number in range(VIEWS) if number not in missing)
    values = training(trainer)
    assert values["steps"] > 0
    assert np.isnan(values["patch_accuracy"])
    assert not any(window.complete for window in rounds.windows)
    feed.frames(range(VIEWS, 3 * VIEWS))
    see(trainer, patch_accuracy=np.isfinite)


def test_repeated_frames_count_once_and_missing_ones_are_counted(trainer, feed):
    feed.frames(range(10))
    feed.frames(range(10))
    feed.frames(range(15, 20))
    values = see(trainer, frames_received=lambda count: count >= 15)
    assert (values["frames_received"], values["frames_lost"]) == (15, 5)
    feed.frames(range(10, 15), gain=2.0)  # they come late
    values = see(trainer, frames_received=20)
    assert values["frames_lost"] == 0


def test_a_repeated_frame_does_not_replace_the_first(rounds, trainer, feed):
    feed.frames()
    training(trainer)
    shown = rounds.windows[-1]
    before = shown.projections.read(shown.slots[5])
    feed.frames([5], gain=100.0)
    feed.frames([VIEWS])
    see(trainer, frames_received=VIEWS + 1)
    training(trainer)
    now = rounds.windows[-1]
    assert 5 in now.frames
    np.testing.assert_array_equal(now.projections.read(now.slots[list(now.frames).index(5)]), before)


def test_frames_of_a_series_that_is_not_announced_are_left_out(trainer, feed):
    feed.series = "another"
    feed.frames()
    feed.series = "first"
    feed.frames(range(4))
    assert see(trainer, frames_received=lambda count: count > 0, fill=lambda fill: fill > 0)["frames_received"] <= 4


@pytest.mark.parametrize("full_turn", [False, True])
def test_the_window_spans_what_the_header_says(rounds, make_trainer, full_turn):
    feed = Feed(PARALLEL)
    try:
        feed.header("parallel", full_turn=full_turn)
        service = make_trainer(feed)
        feed.frames(range(VIEWS // 2))
        see(service, frames_received=VIEWS // 2, fill=lambda fill: fill > 0.4)
        if full_turn:
            assert look(service)["fill"] < 0.6
            holds(service)
            feed.frames(range(VIEWS // 2, VIEWS))
        training(service)
        assert len(rounds.windows[-1].frames) == (VIEWS if full_turn else VIEWS // 2)
    finally:
        feed.close()


# ---- where pairs come from


def test_pairs_lie_where_the_setting_says(rounds, make_trainer):
    slices = {name: geometry for name, geometry in default_slices(CONE).items() if name == "xy"}
    feed = Feed(CONE, slices)
    try:
        service = make_trainer(feed, patch_size=12)
        service.write("sampling", "NEAR_SLICES")
        feed.frames()
        training(service)
        for poses in rounds.poses:  # three planes each, as deep as a cone allows
            np.testing.assert_allclose(poses[1::3, :, 2], 0, atol=1e-9)
        service.write("sampling", "UNIFORM")
        seen = len(rounds.poses)
        training(service, 24)
        uniform = np.concatenate(rounds.poses[seen + 1 :])[1::3]
        assert (np.abs(uniform[:, 1:, 2]).max(axis=1) > 1e-3).mean() > 0.9
        service.write("sampling", "MIXED")
        seen = len(rounds.poses)
        training(service, 40)
        mixed = np.concatenate(rounds.poses[seen + 1 :])[1::3]
        assert 0.1 < (np.abs(mixed[:, :, 2]).max(axis=1) < 1e-9).mean() < 0.9
    finally:
        feed.close()


def test_pairs_stay_in_the_region(rounds, trainer, feed):
    region = [0.0, -2.5, -1.0, 2.5, 2.5, 1.0]
    trainer.write("sampling", "UNIFORM")
    trainer.write("region", region)
    feed.frames()
    training(trainer)
    last = PATCH - 1
    for poses in rounds.poses:
        for corner in ((1, 0, 0), (1, last, 0), (1, 0, last), (1, last, last)):
            at = np.array(corner) @ poses
            assert (at[:, 0] >= -1e-9).all()
            assert (np.abs(at[:, :2]) <= 2.5 + 1e-9).all()


def test_a_region_that_is_no_box_is_refused(trainer):
    trainer.write("region", [-1, -1, -1, 1, 1, 1])
    for region, words in (
        ([1, -1, -1, -1, 1, 1], "region: expected from x, y, z below to x, y, z"),
        ([-1, 1, -1, 1, 1, 1], "region: expected from x, y, z below to x, y, z"),
        ([1, 2, 3], "region: expected 6 numbers .* got 3"),
        ([-1, -1, -1, 1, 1, float("nan")], "region: expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            trainer.write("region", region)
    np.testing.assert_array_equal(trainer.values["region"], [-1, -1, -1, 1, 1, 1])


@pytest.mark.parametrize(
    ("region", "words"),
    [([-0.1, -0.1, -1, 0.1, 0.1, 1], "patches: expected room for 16 x 16"), ([90, 90, 90, 91, 91, 91], "region: ")],
)
def test_a_region_without_room_is_told_and_training_goes_on_when_it_is_mended(trainer, feed, region, words):
    feed.frames()
    training(trainer)
    trainer.write("region", region)
    assert words in see(trainer, state=State.ALARM)["status"]
    trainer.write("region", [])
    see(trainer, state=State.RUNNING)
    assert training(trainer)["state"] is State.RUNNING


def test_pairs_are_scored_once_before_they_are_trained_on(rounds, trainer, feed):
    feed.frames()
    training(trainer, 24)
    assert rounds.log[:5] == ["add", "step", "step", "step", "step"]
    assert max(rounds.apart) < 1e-3


@pytest.mark.parametrize("wanted", [0.5, 1.0, 4.0])
def test_pairs_are_used_as_often_as_wanted(trainer, feed, wanted):
    trainer.write("reuse_wanted", wanted)
    feed.frames()
    assert training(trainer, 24)["reuse"] == pytest.approx(wanted, rel=0.2)


def test_slices_may_be_absent(rounds, make_trainer):
    feed = Feed(FAN, {})
    try:
        service = make_trainer(feed)
        feed.frames()
        training(service)
        np.testing.assert_allclose(np.linalg.norm(rounds.poses[0][:, 1], axis=1), FAN.voxel_mm)
    finally:
        feed.close()


def test_a_slice_smaller_than_a_patch_is_told_when_it_is_the_only_one(trainer, feed):
    small = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=0.1, shape=(10, 10))
    trainer.write("sampling", "NEAR_SLICES")
    feed.frames()
    training(trainer)
    feed.view({"small": small})
    assert "10 x 10" in see(trainer, state=State.ALARM)["status"]
    feed.view({"small": small, "xy": default_slices(FAN)["xy"]})
    see(trainer, state=State.RUNNING)
    training(trainer)
