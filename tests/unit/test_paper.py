"""The runner of the paper's figures: real runs of tiny size, what is resumed, and what reaches the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.lab import Experiment
from benchmarks.lab.simulated import simulated
from benchmarks.paper import __main__ as command
from benchmarks.paper import family, film, page, plots, runs, story
from benchmarks.paper.family import FORMS, NAMES, Domain, settings_of
from benchmarks.paper.film import Film, Part, around, beside
from benchmarks.paper.judge import accuracies, quality
from benchmarks.paper.online import Online, OnlineTV, Stream, tv_accuracy
from benchmarks.paper.places import BOTTOM, SIDE_MM, TOP, Box
from benchmarks.paper.plan import plan
from benchmarks.paper.runs import Shift, Training, perform
from benchmarks.paper.statements import overtakes, table_rows
from benchmarks.paper.store import Store
from benchmarks.paper.story import Story
from sim.bench.networks import TABLE
from tango_jit.geometry import SliceGeometry
from tango_jit.learn import NetworkConfig, build, noise2inverse
from tango_jit.learn.weights import from_checkpoint, pack, unpack

BINNING, TURNS = 16, 5
PART = Part("tablet-soap", 0.0, 150 * TURNS, TURNS, BINNING)
COARSE_MM = 2.0
DOMAIN = Domain(PART, Box(-30, 15, pixel_mm=COARSE_MM), 400)
STACKS = [{}, {"depth": 3}, {"frames": 3}, {"frames": 3, "target": "last"}]
STORY = Story(
    parts=(PART,),
    start=330,
    jump=400,
    end=500,
    top=Box(-10, 20, pixel_mm=COARSE_MM),
    bottom=Box(-30, -10, pixel_mm=COARSE_MM),
    steps_s=20.0,
    every=50,
    side=32,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Five turns of 40 x 48 pixels."""
    return simulated(PART.name, turns=TURNS, binning=BINNING, cache=tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def small(made: Experiment) -> Film:
    return Film([made], [PART.until])


@pytest.fixture
def tiny(small: Film, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All domains and stories are those of the small film, patches are small, and few samples are held out."""
    for module in (family, film, story):
        monkeypatch.setattr(module, "film", lambda *_: small)
    coarse = {
        name: replace(DOMAIN, box=replace(domain.box, pixel_mm=COARSE_MM)) for name, domain in family.DOMAINS.items()
    }
    for module in (family, runs):
        monkeypatch.setattr(module, "DOMAINS", coarse)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


def training(domain: str, network: str = "Standard") -> Training:
    return Training(network, "released", domain, (0.05, 0.2), 16)


@pytest.mark.parametrize("seen", STACKS)
def test_pairs_are_those_of_windows_that_the_service_would_have(small: Film, seen):
    """Each image of a stack is the half of its own turn at its own place, and no view is in both halves."""
    network = NetworkConfig("CUSTOM", frame_interval=40, **seen)
    poses = Box(-30, 15, pixel_mm=COARSE_MM).draw(np.random.default_rng(0), 3, 8)
    pairs = small.pairs(network, 200, poses, (8, 8))
    stacked = pairs if network.images > 1 else pairs[:, :, None]
    assert stacked.shape == (3, 2, network.images, 8, 8)
    for image, step in enumerate(around(network)):
        window = small.window(200 + (40 * step if network.frames > 1 else 0))
        assert window.complete
        assert not (window.weights[0] * window.weights[1]).any()
        at = beside(poses, network)[:, image] if network.depth > 1 else poses
        expected = small.engine.reconstruct_pairs(window, at, (8, 8))
        np.testing.assert_allclose(stacked[:, :, image], expected, atol=1e-6)
    assert [*around(network)][network.shown] == 0


def test_neighbouring_slices_are_a_pixel_apart():
    place = SliceGeometry.centered((1, 2, 3), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(8, 8))
    stacked = beside(place.pose[None], NetworkConfig("CUSTOM", depth=3))[0]
    np.testing.assert_allclose(np.diff(stacked[:, 0], axis=0), [[0, 0, -0.5]] * 2, atol=1e-12)
    np.testing.assert_allclose(stacked[1], place.pose)


def test_parts_of_a_film_go_on_at_their_angle(made: Experiment, small: Film):
    whole = Film([made, made], [150, 300])
    assert whole.frames == 450
    np.testing.assert_allclose(whole.window(300).matrices, small.window(0).matrices, atol=1e-9)
    with pytest.raises(ValueError, match="film: expected tablet-soap to go on at the angle of frame 100"):
        Film([made, made], [100, 50])
    with pytest.raises(ValueError, match="window: expected a first frame from 0 to 600, got 601"):
        small.window(601)


@pytest.mark.parametrize("orientation", ["any", "horizontal", "vertical"])
def test_patches_lie_in_their_box(orientation):
    box = Box(-20, 5, orientation, 0.5)
    poses = box.draw(np.random.default_rng(1), 200, 11)
    corners = poses[:, :1] + 10 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) @ poses[:, 1:]  # (200, 4, 3)
    assert np.abs(corners[..., :2]).max() <= SIDE_MM + 1e-9
    assert corners[..., 2].min() >= -20 - 1e-9
    assert corners[..., 2].max() <= 5 + 1e-9
    np.testing.assert_allclose(np.linalg.norm(poses[:, 1:], axis=2), 0.5)
    across = np.cross(poses[:, 1], poses[:, 2])[:, 2]
    expected = {"horizontal": 0.25, "vertical": 0.0}
    if orientation in expected:
        np.testing.assert_allclose(np.abs(across), expected[orientation], atol=1e-12)


def test_pixels_in_a_box_are_those_where_patches_come_from():
    level = SliceGeometry.centered((0, 0, -5), (1, 0, 0), (0, -1, 0), pixel_mm=1.0, shape=(60, 60))
    assert Box(-20, 5).holds(level).sum() == 36 * 36
    assert not Box(-20, -6).holds(level).any()
    upright = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 0, -1), pixel_mm=1.0, shape=(60, 60))
    rows, cols = np.nonzero(Box(-20, 5).holds(upright))
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (25, 49, 12, 47)  # z falls from 29.5 with the rows


def test_samples_are_scored_at_the_image_that_is_put_out():
    """A network without its correction puts out its input there, and scores 1."""
    for target in ("middle", "last"):
        network = build(NetworkConfig("CUSTOM", form="residual", frames=3, target=target))
        torch.nn.init.zeros_(network.top.last.weight)
        weights = pack(network, version=1, scale=0.02, patch_accuracy=None, generation=0)
        pairs = 0.02 * torch.randn(16, 2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
        assert accuracies(weights, noise2inverse.samples(pairs)) == {"accuracy": 1.0, "ratio": 1.0}


def test_quality_counts_the_pixels_inside_against_the_range_of_the_whole_slice():
    reference = np.ones((20, 20), np.float32)
    reference[0] = 3.0
    inside = np.zeros((20, 20), bool)
    inside[5:15, 5:15] = True
    image = reference + np.float32(0.2)
    image[1] = 9.0
    found = quality(image, reference, inside)
    assert found["psnr_db"] == 20.0
    assert found["brightness"] == 1.2
    assert 0 < found["ssim"] < 1


def test_the_list_holds_the_whole_family_once():
    listed = plan()
    names = [run.name for run in listed]
    assert len(set(names)) == len(names)
    assert {f"{name}-{form}-{domain}" for name in NAMES for form in FORMS for domain in "AB"} < set(names)
    at = {name: number for number, name in enumerate(names)}
    assert all(at[need] < at[run.name] for run in listed for need in run.needs)
    assert all(run.cost_s > 0 for run in listed)
    assert [settings_of(one.name, "paper").network.features for one in TABLE][:3] == [8, 16, 32]
    assert settings_of("T3-last", "released").network.target == "last"


@pytest.mark.usefixtures("tiny")
def test_runs_are_done_once_and_a_lost_one_alone_again(store: Store, monkeypatch, capsys):
    old, new = training("top"), training("bottom")
    listed = [old, new, Shift("move", old, new)]
    command.run([], 10.0, False, store, [listed[2], *listed[:2]])  # the shift cannot be done before its trainings
    assert "shift-move: not yet, it needs" in capsys.readouterr().out
    assert [store.done(run.name) for run in listed] == [True, True, False]
    result = store.result(old.name)
    assert [row["mark_s"] for row in result["curve"]] == [0.05, 0.2]
    assert result["curve"][1]["steps"] > result["curve"][0]["steps"] >= 4
    assert 0 < result["curve"][1]["accuracy"] < 1e4
    assert result["machine"]
    command.run([], 10.0, False, store, listed)
    moved = store.result("shift-move")["curve"][-1]
    assert moved["error"] == pytest.approx(moved["old"] - moved["new"], abs=1e-4)
    assert moved["new"] == store.result(new.name)["curve"][-1]["accuracy"]

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    (store.results / f"{old.name}.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", broken)
        with pytest.raises(KeyboardInterrupt):
            command.run([], 10.0, False, store, listed)
    assert [store.done(run.name) for run in listed] == [False, True, True]
    written = (store.results / f"{new.name}.json").stat().st_mtime_ns
    command.run([], 10.0, False, store, listed)
    assert store.done(old.name)
    assert (store.results / f"{new.name}.json").stat().st_mtime_ns == written


@pytest.mark.usefixtures("tiny")
def test_what_does_not_fit_into_the_minutes_is_not_run(store: Store, capsys):
    command.run([], 0.01, False, store, [training("top")])
    assert "not run, it takes" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="expected names of the list, got nothing-like-it"):
        command.run(["nothing-like-it"], 1.0, False, store, [training("top")])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("network", ["T3", "T3-last", "Z3"])
def test_stacks_are_trained_and_their_weights_are_kept(store: Store, network):
    run = training("top", network)
    perform(run, store, {})
    weights = from_checkpoint(store.weights(run.name, 0.2).read_bytes())
    assert unpack(weights).config == run.settings.network


@pytest.mark.usefixtures("tiny")
def test_the_stream_jumps_and_nothing_of_the_future_is_learned(store: Store, small: Film, monkeypatch):
    seen: list[int] = []
    plain = small.pairs

    def noted(network, first, poses, shape):
        seen.append(first + small.views_a_turn + network.frame_interval * around(network)[-1])
        return plain(network, first, poses, shape)

    monkeypatch.setattr(small, "pairs", noted)
    run = Online(32, network="T3", story=STORY, samples=8)
    stream = Stream(STORY, run.settings, single=False)
    for frame in (350, 420):
        stream.go_on(frame)
        assert max(seen) <= frame
        assert stream.trainer.steps == int((frame - 330) * 0.024 * 20)
    single = Stream(STORY, run.settings, single=True)
    single.go_on(420)
    assert single.trainer.steps == int(90 * 0.024 * 9) + 1
    assert STORY.box(399) is STORY.top
    assert STORY.box(400) is STORY.bottom


@pytest.mark.usefixtures("tiny")
def test_online_runs_and_the_figures_that_are_drawn_of_them(store: Store, tmp_path: Path, monkeypatch):
    strategies = [Online(320, story=STORY, samples=8), Online(0, True, story=STORY, samples=8)]
    listed = [OnlineTV(story=STORY, samples=4, tried=(0.1, 0.3)), *strategies]
    for run in listed:
        result = perform(run, store, {})
        assert [row["frame"] for row in result["curve"]][-1] == STORY.moments[1]
        assert all(0 < row["accuracy"] < 1e4 and row["denoised"]["ssim"] <= 1 for row in result["curve"])
    assert store.result("online-TV")["weight"] in (0.1, 0.3)
    lengths = [store.result(run.name)["curve"][-1]["steps"] for run in strategies]
    assert lengths[1] >= strategies[1].steps >= lengths[0] > 0
    monkeypatch.setattr(plots, "online", lambda: listed)
    assert set(plots.strategies(store)) == {"N = 320", "pretrained", "total variation"}
    assert plots.fig10(store) is not None
    plots.plt.close("all")
    monkeypatch.setattr(page, "online", lambda: listed)
    assert f"| {strategies[0].name} | " in page.stream(store)


def test_total_variation_is_scored_as_networks_are():
    random = np.random.default_rng(0)
    pairs = (0.5 + 0.1 * random.standard_normal((8, 2, 20, 20))).astype(np.float32)
    assert tv_accuracy(pairs, 1e-6) == pytest.approx(1, abs=1e-3)
    samples = noise2inverse.samples(torch.from_numpy(pairs))
    u, v, counts = noise2inverse.directed(samples, torch.zeros(8, dtype=torch.int64))
    flat = torch.full_like(u, 0.5)
    assert tv_accuracy(pairs, 10.0) == pytest.approx(
        noise2inverse.accuracy(noise2inverse.errors(flat, u, v, counts)), abs=0.02
    )


def test_the_page_shows_what_was_run_and_says_what_was_not(store: Store, tmp_path: Path):
    row = {"mark_s": 300.0, "spent_s": 300.1, "steps": 1234, "accuracy": 0.4321, "ratio": 0.4, "error": 0.1}
    row |= {"slices": {"xz": {"psnr_db": 27.5, "ssim": 0.9, "brightness": 0.98}}}
    store.keep("Standard-paper-A", {"curve": [row], "raw": row["slices"], "processor_s": 306.0}, {})
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- accuracies -->\nold\n<!-- end -->\nafter\n<!-- runs -->\n<!-- end -->\n")
    page.write(store, path)
    text = path.read_text()
    assert "| Standard | 300 s, 1,234 | 0.432 | 0.400 | 27.5 dB, 0.900, 98% | not run |" in text
    assert "old" not in text
    assert "| `C32-paper-A` | 8, 9 | 6 | not run |" in text
    page.write(store, path)
    assert path.read_text() == text


def test_statements_are_judged_by_what_was_run(store: Store):
    def shifted(title: str, error: float) -> None:
        store.keep(f"shift-{title}", {"curve": [{"error": error}], "processor_s": 1.0}, {})

    assert {row[2] for row in table_rows(store)} == {"not run"}
    for title, error in {"reposition": 0.05, "tilt": 0.001, "zoom": 0.03, "next-12s": 0.002}.items():
        shifted(title, error)
    verdicts = {row[0] + row[1]: row[2:] for row in table_rows(store)}
    assert verdicts["7aa moved slice costs accuracy"] == ["error +0.050", "yes"]
    assert verdicts["7ba tilted slice costs accuracy"] == ["error +0.001", "**no**"]
    assert verdicts["7dthe next 12 s cost nothing"] == ["error +0.002", "yes"]
    assert verdicts["7of these three the zoom costs most"][1] == "**no**"
    assert verdicts["7fthe other experiment costs accuracy"] == ["not run", ""]


def test_when_a_network_overtakes_another_for_good(store: Store):
    def curve(name: str, accuracies: list[float]) -> None:
        rows = [{"frame": 1400 + 50 * n, "time_s": 1.2 * n, "accuracy": a} for n, a in enumerate(accuracies)]
        store.keep(name, {"curve": rows, "processor_s": 1.0}, {})

    curve(Online(320).name, [0.7, 0.5, 0.62, 0.55, 0.54])
    assert overtakes(store) is None
    curve(Online(0, True).name, [0.6] * 5)
    assert overtakes(store) == ("from 3.6 s of the replay on", True)
    curve(Online(0, True).name, [0.5] * 5)
    assert overtakes(store) == ("not within the stream", False)


def test_results_in_the_repository_are_those_of_the_list():
    known = {run.name for run in plan()}
    found = {path.stem for path in Store().results.glob("*.json")}
    assert found <= known
    for name in found:
        result = json.loads((Store().results / f"{name}.json").read_text())
        assert result["run"] == name
        assert result["processor_s"] > 0
        assert result["curve"]


def test_top_and_bottom_are_apart():
    assert TOP.low_mm == BOTTOM.high_mm
