"""The trainer as a service: over real sockets, without Tango, by a clock that the tests move."""

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from tango_jit.geometry import SliceGeometry, default_slices
from tango_jit.learn import Trainer, noise2inverse
from tango_jit.learn.precision import predict
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import Window
from tango_jit.services.service import State
from tango_jit.services.trainer import FIELDS, TrainerService
from tango_jit.streams import Weights
from tests.services.scans import CONE, FAN, PARALLEL, VIEWS, Clock, Feed, Listener, look, see

PATCH = 16

Make = Callable[..., TrainerService]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed(FAN)
    yield feed
    feed.close()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    """Builds trainers of small patches that are closed at the end."""
    made: list[TrainerService] = []

    def build(feed: Feed | None = None, *, start: bool = True, patch_size: int = PATCH, **arguments: Any):
        service = TrainerService(lambda: feed and feed.endpoint, threads=1, clock=clock, **arguments)
        made.append(service)
        if feed is not None:
            service.write("patch_size", patch_size)
        if start:
            service.start()
            see(service, status=lambda text: "window filling" in text or "no new frames" in text)
        return service

    yield build
    for service in made:
        service.close()


@pytest.fixture
def trainer(make: Make, feed: Feed) -> TrainerService:
    """Has its header and waits for frames."""
    return make(feed)


class Rounds:
    """What passes between the service and its science: windows and poses of pairs, generations, steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.windows: list[Window] = []
        self.poses: list[np.ndarray] = []
        self.generations: list[int] = []
        self.held: list[int] = []  # pairs in the buffer after each addition, less those that were added
        self.apart: list[float] = []  # how far scores are from those of the network before it knew the pairs
        reconstruct, add, step = Reconstructor.reconstruct_pairs, Trainer.add, Trainer.step

        def spy_reconstruct(engine: Reconstructor, window: Window, poses: np.ndarray, *rest: Any) -> Any:
            self.windows.append(window)
            self.poses.append(poses)
            return reconstruct(engine, window, poses, *rest)

        def spy_add(trainer: Trainer, pairs: Any, generation: int = 0) -> Any:
            before = copy.deepcopy(trainer._average)
            scores = add(trainer, pairs, generation)
            self.log.append("add")
            self.generations.append(generation)
            self.held.append(trainer.pairs - len(pairs))
            self.apart.append(farthest(before, trainer, torch.as_tensor(pairs), scores))
            return scores

        def spy_step(trainer: Trainer) -> float:
            self.log.append("step")
            return step(trainer)

        monkeypatch.setattr(Reconstructor, "reconstruct_pairs", spy_reconstruct)
        monkeypatch.setattr(Trainer, "add", spy_add)
        monkeypatch.setattr(Trainer, "step", spy_step)


def farthest(network: Any, trainer: Trainer, pairs: Tensor, scores: np.ndarray) -> float:
    """The largest difference of a score to that of `network` in the one direction or the other."""
    assert trainer.scale is not None
    assert len(scores) == len(pairs)
    halo, scaled = trainer.settings.halo, pairs / trainer.scale
    with torch.inference_mode():
        both = []
        for u, v in ((scaled[:, :1], scaled[:, 1:]), (scaled[:, 1:], scaled[:, :1])):
            found = noise2inverse.errors(predict(network, u, trainer._bfloat16), u, v, halo)
            both.append(np.abs(found[:, 0] / found[:, 1] - scores))
    return float(np.minimum(*both).max())


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


def training(service: TrainerService, more: int = 8) -> dict[str, Any]:
    """Wait until it has done `more` steps from now on."""
    steps = look(service)["steps"]
    return dict(see(service, steps=lambda now: now >= steps + more))


def holds(service: TrainerService, turns: int = 4) -> None:
    """It does no step in its next turns."""
    steps = look(service)["steps"]
    assert {look(service)["steps"] for _ in range(turns)} == {steps}


def tensors(weights: Weights) -> dict[str, Tensor]:
    return load(bytes(weights.tensors))


def same(a: Weights, b: Weights) -> bool:
    x, y = tensors(a), tensors(b)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


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
    assert all(window.complete for window in rounds.windows)


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
    before = shown.projections[shown.slots[5]].copy()
    feed.frames([5], gain=100.0)
    feed.frames([VIEWS])
    see(trainer, frames_received=VIEWS + 1)
    training(trainer)
    now = rounds.windows[-1]
    assert 5 in now.frames
    np.testing.assert_array_equal(now.projections[now.slots[list(now.frames).index(5)]], before)


def test_frames_of_a_series_that_is_not_announced_are_left_out(trainer, feed):
    feed.series = "another"
    feed.frames()
    feed.series = "first"
    feed.frames(range(4))
    assert see(trainer, frames_received=lambda count: count > 0, fill=lambda fill: fill > 0)["frames_received"] <= 4


@pytest.mark.parametrize("full_turn", [False, True])
def test_the_window_spans_what_the_header_says(rounds, make, full_turn):
    feed = Feed(PARALLEL)
    try:
        feed.header("parallel", full_turn=full_turn)
        service = make(feed)
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


def test_pairs_lie_where_the_setting_says(rounds, make):
    slices = {name: geometry for name, geometry in default_slices(CONE).items() if name == "xy"}
    feed = Feed(CONE, slices)
    try:
        service = make(feed, patch_size=12)
        service.write("sampling", "NEAR_SLICES")
        feed.frames()
        training(service)
        for poses in rounds.poses:
            np.testing.assert_allclose(poses[:, :, 2], 0, atol=1e-9)
        service.write("sampling", "UNIFORM")
        seen = len(rounds.poses)
        training(service, 24)
        uniform = np.concatenate(rounds.poses[seen + 1 :])
        assert (np.abs(uniform[:, 1:, 2]).max(axis=1) > 1e-3).mean() > 0.9
        service.write("sampling", "MIXED")
        seen = len(rounds.poses)
        training(service, 40)
        mixed = np.concatenate(rounds.poses[seen + 1 :])
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


# ---- weights


def test_weights_come_every_publish_every_s(trainer, feed, clock):
    trainer.write("publish_every_s", 10.0)
    with Listener(trainer.values["weights_endpoint"]) as listener:
        feed.frames()
        first = listener.next()
        assert (first.version, first.scale) == (1, pytest.approx(look(trainer)["scale_per_mm"]))
        clock.now += 9
        feed.frames([VIEWS])
        see(trainer, frames_received=VIEWS + 1)
        training(trainer)
        assert look(trainer)["weights_version"] == 1
        assert listener.waiting() == []
        clock.now += 1.5
        second = listener.next()
        assert second.version == 2
        assert not same(first, second)
        training(trainer)
        assert look(trainer)["weights_version"] == 2


def test_weights_reach_who_comes_late(trainer, feed):
    feed.frames()
    version = see(trainer, weights_version=lambda version: version > 0)["weights_version"]
    trainer.pause()
    with Listener(trainer.values["weights_endpoint"]) as late:
        weights = late.next()
    assert weights.version == version
    assert weights.network["features"] == look(trainer)["features"]


def test_the_same_seed_and_frames_give_the_same_weights(make, feed):
    def first(seed: int) -> Weights:
        service = make(feed, seed=seed)
        with Listener(service.values["weights_endpoint"]) as listener:
            feed.header(f"seed {seed} {threading.get_ident()}")
            see(service, fill=0.0)
            feed.frames()
            weights = listener.next()
        service.close()
        return weights

    a, b, other = first(1), first(1), first(2)
    assert same(a, b)
    assert a.scale == b.scale
    assert not same(a, other)


# ---- pause and silence


def test_pause_holds_steps_and_start_goes_on(trainer, feed):
    feed.frames()
    training(trainer)
    trainer.pause()
    assert see(trainer, state=State.STANDBY)["status"] == "paused: Start goes on"
    feed.frames(range(VIEWS, VIEWS + 8))
    see(trainer, frames_received=VIEWS + 8)
    holds(trainer)
    trainer.start()
    assert training(trainer)["state"] is State.RUNNING


def test_silence_ends_the_steps_until_frames_come(trainer, feed, clock):
    feed.frames()
    training(trainer)
    clock.now += 10
    values = see(trainer, state=State.STANDBY)
    assert values["status"].startswith("no new frames")
    holds(trainer)
    feed.frames([VIEWS])
    see(trainer, frames_received=VIEWS + 1, state=State.RUNNING)
    training(trainer)


def test_a_slow_scan_is_not_silent(trainer, feed, clock):
    trainer.write("publish_every_s", 3600)
    feed.frames(range(VIEWS - 1))
    see(trainer, frames_received=VIEWS - 1)
    clock.now += 10
    feed.frames([VIEWS - 1])
    training(trainer)
    clock.now += 20
    assert training(trainer)["state"] is State.RUNNING
    clock.now += 20
    see(trainer, state=State.STANDBY)
    holds(trainer)


# ---- settings


def test_a_preset_sets_the_fields_and_an_edit_makes_it_custom(make):
    service = make(start=False)
    service.write("network", "PAPER")
    shown = {name: service.values[name] for name in ("patch_size", "batch_size", "learning_rate", "features")}
    assert shown == {"patch_size": 20, "batch_size": 32, "learning_rate": 1e-4, "features": 8}
    service.write("learning_rate", 3e-4)
    assert (service.values["network"], service.values["learning_rate"]) == ("CUSTOM", 3e-4)
    service.write("learning_rate", 1e-4)
    assert service.values["network"] == "PAPER"
    service.write("network", "PRODUCT")
    assert (service.values["patch_size"], service.values["learning_rate"]) == (48, 2e-3)
    with pytest.raises(ValueError, match="network: expected one of PRODUCT, PAPER, RELEASED; CUSTOM is shown"):
        service.write("network", "CUSTOM")
    assert service.values["network"] == "PRODUCT"


def test_another_shape_waits_for_reset_network(trainer, feed):
    feed.frames()
    see(trainer, weights_version=lambda version: version > 0)
    trainer.write("features", 4)
    status = see(trainer, state=State.ALARM)["status"]
    assert "ResetNetwork takes it" in status
    with Listener(trainer.values["weights_endpoint"]) as listener:
        assert listener.next().network["features"] == 8
        trainer.reset_network()
        assert listener.next().network["features"] == 4
    assert see(trainer, state=State.RUNNING)["parameters"] == 18 * 4 + 981 * 16
    training(trainer)


def test_the_text_of_the_settings_restores_them(make):
    first = make(start=False)
    first.write("network", "RELEASED")
    first.write("learning_rate", 5e-4)
    first.write("buffer_size", 100)
    first.write("region", [-1, -1, -1, 1, 1, 1])
    text = first.values["settings"]
    second = make(start=False, settings=text)
    for name in ("network", "parameters", "settings", *FIELDS):
        assert second.values[name] == first.values[name], name
    np.testing.assert_array_equal(second.values["region"], [-1, -1, -1, 1, 1, 1])


NONSENSE = ["nonsense", "[]", "3", "{}", '{"training": {}, "region": []}']


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_as_settings_is_refused_in_words(make, text):
    with pytest.raises(ValueError, match="Settings: expected what the attribute settings showed"):
        make(start=False, settings=text)


@pytest.mark.parametrize("region", ['"here"', "[[1, 2], [3]]"])
def test_a_nonsense_region_in_the_settings_is_refused_in_words(make, region):
    text = make(start=False).values["settings"].replace('"region": []', f'"region": {region}')
    with pytest.raises(ValueError, match="Settings: expected"):
        make(start=False, settings=text)


def test_an_absurd_buffer_is_refused_and_nothing_changes(trainer, feed):
    trainer.write("patch_size", 64)
    before = trainer.values["settings"]
    for name, value in (("buffer_size", 100_000), ("batch_size", 1024), ("patch_size", 11)):
        with pytest.raises(ValueError, match=r"expected"):
            trainer.write(name, value)
        assert trainer.values["settings"] == before
    trainer.write("patch_size", PATCH)
    feed.frames()
    assert training(trainer)["state"] is State.RUNNING


# ---- rollback, save, load, reset: each is published at once


def test_rollback_without_an_earlier_version_is_refused(trainer, feed):
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version"):
        trainer.rollback()
    trainer.write("publish_every_s", 3600)
    feed.frames()
    see(trainer, weights_version=1)
    with pytest.raises(RuntimeError, match="rollback: expected an earlier version"):
        trainer.rollback()


def test_saved_weights_come_back_and_every_change_is_published_at_once(trainer, feed, tmp_path: Path):
    trainer.write("publish_every_s", 3600)
    file = tmp_path / "weights.safetensors"
    feed.frames()
    training(trainer)
    trainer.pause()
    see(trainer, state=State.STANDBY)
    with Listener(trainer.values["weights_endpoint"]) as listener:
        first = listener.next()
        trainer.save(file)
        trainer.reset_network()
        fresh = listener.next(lambda weights: weights.version > first.version)
        trainer.load(file)
        loaded = listener.next(lambda weights: weights.version > fresh.version)
        trainer.rollback()
        back = listener.next(lambda weights: weights.version > loaded.version)
    saved = load(file.read_bytes())
    assert all(torch.equal(saved[name], tensor) for name, tensor in tensors(loaded).items())
    assert not same(fresh, loaded)
    assert same(back, fresh)
    assert look(trainer)["weights_version"] == back.version
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_cannot_be_saved_or_loaded_is_refused_in_words(trainer, feed, tmp_path: Path):
    with pytest.raises(RuntimeError, match="weights: expected a scale"):
        trainer.save(tmp_path / "early")
    feed.frames()
    before = see(trainer, weights_version=lambda version: version > 0)["settings"]
    with pytest.raises(ValueError, match="Save: expected a path in a folder that exists"):
        trainer.save(tmp_path / "missing" / "file")
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="checkpoint: expected a safetensors file"):
        trainer.load(nonsense)
    with pytest.raises(OSError, match="missing"):
        trainer.load(tmp_path / "missing")
    assert look(trainer)["settings"] == before
    training(trainer)


def test_a_file_of_another_network_brings_its_settings(make, feed, trainer, tmp_path: Path):
    file = tmp_path / "small"
    trainer.write("features", 4)
    trainer.reset_network()
    feed.frames()
    training(trainer)
    trainer.save(file)
    other = make(feed)
    other.load(file)
    assert other.values["features"] == 4
    feed.frames(range(VIEWS, 2 * VIEWS))
    assert training(other)["state"] is State.RUNNING


def test_slices_may_be_absent(rounds, make):
    feed = Feed(FAN, {})
    try:
        service = make(feed)
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
