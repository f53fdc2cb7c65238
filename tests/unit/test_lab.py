"""Experiments with a known answer: the answer stays out of the stream, and the angles go on."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab import Experiment, Target, Windows, load, oracle
from benchmarks.lab.experiment import Image
from benchmarks.lab.real import Rotations, Scan, read, real
from benchmarks.lab.simulated import KEPT, prune, simulated
from benchmarks.lab.tv import best
from tango_jit.geometry import ScanGeometry, SliceGeometry


def scan(views: int = 24) -> Scan:
    """A ball beside the axis, seen by a parallel beam whose axis is not in the middle of the detector."""
    geometry = ScanGeometry.parallel(rows=1, cols=41, pixel_mm=1.0, axis_column=18.5)
    angles_rad = 3.0 + np.linspace(0, math.pi, views, endpoint=False)
    matrices = geometry.matrices(angles_rad)  # (views, 3, 4)
    centers = matrices[:, 0] @ (6.0, 3.0, 0.0, 1.0)
    lines = np.exp(-(((np.arange(41) - centers[:, None]) / 3) ** 2)).astype(np.float32)
    return Scan(geometry, lines[:, None, :], angles_rad)


def tiny(noise: float = 0.3) -> tuple[Experiment, Image]:
    """A square that rests, and a noisy picture of it."""
    whole = scan()
    truth = np.zeros((40, 40), np.float32)
    truth[12:28, 10:30] = 1.0
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.5, shape=(40, 40))
    target = Target(place, np.ones((40, 40), bool), {"truth": truth, "twice": 2 * truth})
    experiment = Experiment("tiny", whole.geometry, 12, 24, True, Rotations(whole, 2, [0, 1]), {"xy": target})
    noisy = truth + noise * np.random.default_rng(0).standard_normal((40, 40))
    return experiment, noisy.astype(np.float32)


def test_psnr_is_that_of_each_reference() -> None:
    experiment, _ = tiny()
    image = np.full((40, 40), 0.1, np.float32) + experiment.targets["xy"].reference()
    assert experiment.score("xy", image)["truth"] == pytest.approx(20.0, abs=1e-4)
    assert experiment.mse("xy", image) == pytest.approx(0.01)
    assert experiment.mse("xy", image, "twice") > 0.01
    assert experiment.targets["xy"].peak("twice") == pytest.approx(2.0)


def test_total_variation_that_knows_the_answer_beats_the_raw_slice() -> None:
    experiment, noisy = tiny()
    found = oracle(experiment, "xy", noisy)
    assert found.score > experiment.score("xy", noisy)["truth"] + 6
    assert found.score == experiment.score("xy", found.image)["truth"]
    assert 0.02 < found.weight < 1


def test_best_finds_what_lies_between_the_points_of_a_grid() -> None:
    assert best(lambda x: -((x - 0.4) ** 2), [-2.0, -1.0, 0.0, 1.0, 2.0]) == pytest.approx(0.4, abs=0.03)
    assert best(lambda x: x, [0.0, 1.0, 2.0]) == 2.0


def test_rotations_follow_each_other_with_ascending_angles() -> None:
    whole = scan()
    stream = Rotations(whole, 4, [0, 3])
    order = [float(whole.angles_rad[view]) for view in [*range(0, 24, 4), *range(3, 24, 4)]]
    expected = [order[k % 12] + math.pi * (k // 6) for k in range(30)]
    assert [stream.angle_rad(k) for k in range(30)] == pytest.approx(expected)
    assert (np.diff(expected) > 0).all()


def test_parallel_beam_sees_the_mirror_image_half_a_turn_later() -> None:
    """The picture of the ball stays where it is, whichever half turn it is made of."""
    whole = scan(48)
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=1.0, shape=(31, 31))
    target = Target(place, np.ones((31, 31), bool), {"none": np.zeros((31, 31), np.float32)})
    stream = Rotations(whole, 2, [0])
    windows = Windows(Experiment("ball", whole.geometry, 24, 24, True, stream, {"xy": target}))
    first, mixed, second = (windows.raw(k)["xy"] for k in (24, 36, 48))
    assert np.unravel_index(first.argmax(), first.shape) == (15 - 3, 15 + 6)
    assert mixed == pytest.approx(first, abs=1e-4)
    assert second == pytest.approx(first, abs=1e-4)


def test_window_does_not_depend_on_what_was_asked_for_before() -> None:
    experiment, _ = tiny()
    windows = Windows(experiment)
    forward = [windows.raw(k)["xy"] for k in (12, 13, 20, 31, 40)]
    again = [Windows(experiment).raw(k)["xy"] for k in (12, 13, 20, 31, 40)]
    assert all((a == b).all() for a, b in zip(forward, again))
    assert (windows.raw(20)["xy"] == again[2]).all()
    with pytest.raises(ValueError, match="cover a turn"):
        windows.at(8)


@pytest.mark.parametrize(
    ("name", "views_a_turn", "held"),
    [("htc-ta", 180, None), ("htc-ta", 60, (0, 5)), ("walnut", 40, None), ("dendrite", 90, (1,))],
)
def test_held_out_views_never_come(
    shared_data: Path, name: str, views_a_turn: int, held: tuple[int, ...] | None
) -> None:
    whole, experiment = read(name), real(name, views_a_turn, held)
    step = len(whole.views) // views_a_turn
    out = range(1, step, 2) if held is None else held
    frames = range(experiment.frames)
    # A parallel beam shows the mirror image in every other half turn.
    mirrored = name == "dendrite"
    come = {whole.view(n)[1].tobytes() for n in range(len(whole.views)) if n % step not in out}
    never = {whole.view(n, turns)[1].tobytes() for n in range(len(whole.views)) if n % step in out for turns in (0, 1)}
    streamed = {experiment.filtered(k).tobytes() for k in range(experiment.frames * (2 if mirrored else 1))}
    assert come <= streamed
    assert not streamed & never
    assert mirrored or streamed == come
    assert all((experiment.filtered(k) == experiment.filtered(k + 2 * len(frames))).all() for k in frames)
    angles = [experiment.angle_rad(k) for k in range(2 * experiment.frames + 2)]
    assert (np.diff(angles) > 0).all()
    turns = experiment.geometry.full_turn_rad * len(frames) / views_a_turn
    assert angles[len(frames)] - angles[0] == pytest.approx(turns)


def test_slice_of_a_real_scan_resembles_what_was_held_out(shared_data: Path) -> None:
    experiment = load("walnut-40")
    windows = Windows(experiment)
    for k in range(40, 2 * experiment.frames, 13):
        assert windows.at(k).nearly_complete
        assert 38 <= len(windows.at(k).frames) <= 41
        assert experiment.score("xy", windows.raw(k)["xy"])["held_out"] > 15
    assert windows.planes(80)["xy"].shape[1:] == (1, 320, 320)


def test_refuses_what_cannot_be_held_out(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="divisor of 120, got 50"):
        real("walnut", 50)
    for held in ((), (0, 1, 2), (3,)):
        with pytest.raises(ValueError, match="rotations 0 to 2, but not all"):
            real("walnut", 40, held)


def test_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="SCAN-VIEWS or one of tablet-soap, tablet-gel, got 'tablet'"):
        load("tablet")
    with pytest.raises(ValueError, match="htc-PHANTOM or one of walnut, dendrite, got 'tooth'"):
        load("tooth-90")


def test_simulated_experiment_is_made_once(tmp_path: Path) -> None:
    made = simulated("balls", turns=2, binning=4, cache=tmp_path)
    (path,) = tmp_path.glob("*.npy")
    beside = path.with_suffix(".npz")
    written = beside.stat().st_mtime_ns
    again = simulated("balls", turns=2, binning=4, cache=tmp_path)
    assert beside.stat().st_mtime_ns == written
    assert {*tmp_path.iterdir()} == {path, beside}
    assert [made.filtered(299).dtype, made.frames, [*made.places]] == [np.float16, 300, ["xy", "xz"]]
    assert made.angle_rad(151) - made.angle_rad(1) == pytest.approx(2 * math.pi)
    windows = Windows(again)
    early, last = windows.raw(151), windows.raw(300)
    for place, raw in last.items():
        assert raw.shape == (48, 48)
        scores = again.score(place, raw)
        assert scores["noise_free"] > scores["object"] > 15
        assert scores["noise_free"] > again.score(place, early[place])["noise_free"] + 1  # the balls have moved
    for k in (-1, 300):
        with pytest.raises(IndexError, match=f"from 0 to 299, got {k}"):
            made.filtered(k)


def test_other_settings_are_another_experiment(tmp_path: Path) -> None:
    plain, dim = (simulated("balls", turns=1, binning=8, photons=n, cache=tmp_path) for n in (2400, 300))
    assert len([*tmp_path.glob("*.npy")]) == 2
    psnr = [e.score("xy", Windows(e).raw(150)["xy"])["noise_free"] for e in (plain, dim)]
    assert psnr[0] > psnr[1] + 3


def test_cache_keeps_the_files_that_were_used_last(tmp_path: Path) -> None:
    for age in range(KEPT + 3):
        for suffix in (".npy", ".npz"):
            path = tmp_path / f"{age}{suffix}"
            path.touch()
            os.utime(path, (1e9 - age, 1e9 - age))
    prune(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.npy")} == {str(age) for age in range(KEPT)}
    assert {path.stem for path in tmp_path.glob("*.npz")} == {str(age) for age in range(KEPT)}
