"""Ground truth of simulated recordings: both references, where they may be compared, and how near a picture comes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from sim.experiment import Experiment
from sim.judgement import Checkpoint, judge
from sim.record import record
from sim.replay import Replay
from sim.scenario import Scenario, ScenarioError, load
from sim.truth import References, Truth, compared, in_view, scores
from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.recon.pipeline import Options, Pipeline, full_slice
from tango_jit.recordings import create_recording, open_recording
from tango_jit.streams import Denoised, Header


def scenario() -> Scenario:
    """An eighth of the detector, and a loop of two turns."""
    balls = load("balls")
    return balls.with_(scanner=balls.scanner.binned(4), loop_s=7.2)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "balls.nxs"
    record(scenario(), path, frames=300)
    return path


def reconstructed(path: Path, first: int) -> tuple[ScanGeometry, np.ndarray]:
    """The raw slice xy of a turn that begins at frame `first` of a recording."""
    with open_recording(path) as source:
        pipeline = Pipeline(source.header, source.dark, source.flat, Options(), "cpu")
        for index in range(first, first + 150):
            image = source.frame(index)
            pipeline.add(image, pipeline.filter(image))
        window, geometry = pipeline.window(), source.header.geometry
    assert window is not None
    return geometry, full_slice(pipeline.reconstruct(window, default_slices(geometry)["xy"]))


def test_references_are_what_the_frames_show_without_noise_and_the_object(recording: Path) -> None:
    geometry, raw = reconstructed(recording, 75)
    place = default_slices(geometry)["xy"]
    references = Truth(recording).references(range(75, 225), [place])[0]
    inside = in_view(geometry, place)
    free, real = ((raw - reference)[inside] for reference in references)
    assert abs(free.mean()) < 2e-4  # noise alone, against an attenuation of 0.02
    assert free.std() < real.std()
    np.testing.assert_allclose(references.object, Experiment(scenario()).mean_truth(place, range(75, 225)), atol=1e-7)
    assert np.corrcoef(references.noise_free[inside], references.object[inside])[0, 1] > 0.95


def test_the_noise_free_reference_is_made_as_the_slice_was(recording: Path) -> None:
    """Another filter, and a centre that is off, show in it; the object stays as it is."""
    place = default_slices(scenario().scanner.geometry)["xy"]
    truth = Truth(recording)
    plain, other = (
        truth.references(range(150), [place], options=options)[0]
        for options in (None, Options(filter="hann", center_offset_px=2.0))
    )
    assert np.abs(plain.noise_free - other.noise_free).max() > 0.005
    np.testing.assert_array_equal(plain.object, other.object)


def test_a_loop_has_its_truth_over_its_end(recording: Path) -> None:
    geometry = scenario().scanner.geometry
    place, truth = default_slices(geometry)["xz"], Truth(recording)
    over, through = truth.references([*range(250, 300), *range(100)], [place])[0], Experiment(scenario())
    pipeline = Pipeline(Header("t", "raw", geometry, True), None, None, Options(), "cpu")
    for image in through.noise_free_frames(range(250, 400)):
        pipeline.add(image, pipeline.filter(image))
    window = pipeline.window()
    assert window is not None
    np.testing.assert_allclose(over.noise_free, full_slice(pipeline.reconstruct(window, place)), atol=1e-5)


def test_truth_needs_a_simulated_recording_and_a_whole_turn(recording: Path, tmp_path: Path) -> None:
    with open_recording(recording) as source, create_recording(tmp_path / "other.nxs", source.header) as writer:
        writer.append(source.frame(0))
    with pytest.raises(ScenarioError, match=r"other\.nxs: expected a simulated recording"):
        Truth(tmp_path / "other.nxs")
    place = default_slices(scenario().scanner.geometry)["xy"]
    with pytest.raises(ValueError, match="expected frames that fill a window, got 100"):
        Truth(recording).references(range(100), [place])


def test_pixels_in_view_are_seen_by_every_view() -> None:
    geometry = ScanGeometry.cone(
        rows=31, cols=41, pixel_mm=3.0, source_axis_mm=200.0, source_detector_mm=350.0, mid_row=12.0, axis_column=18.0
    )
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for place in default_slices(geometry, (80, 80)).values():
        points = np.concatenate([place.points().reshape(-1, 3), np.ones((6400, 1))], axis=1)
        seen = np.ones(6400, bool)
        for matrix in geometry.matrices(angles):
            col, row, w = matrix @ points.T
            seen &= (col / w > -0.5) & (col / w < 40.5) & (row / w > -0.5) & (row / w < 30.5)
        inside = in_view(geometry, place).ravel()
        assert not (inside & ~seen).any()
        assert inside.sum() > 0.9 * seen.sum()


def test_scores_are_psnr_and_ssim() -> None:
    reference = np.tile(np.linspace(0, 0.04, 64, dtype=np.float32), (64, 1))
    inside = np.ones((64, 64), bool)
    assert scores(reference, reference, inside) == {"psnr_db": None, "ssim": 1.0}
    off = scores(reference + np.float32(0.004), reference, inside)
    assert off["psnr_db"] == pytest.approx(20.0, abs=0.02)
    noisy = reference + np.random.default_rng(0).normal(0, 0.01, reference.shape).astype(np.float32)
    found = scores(noisy, reference, inside)
    assert found["psnr_db"] == pytest.approx(10 * np.log10(16), abs=0.3)
    assert found["ssim"] is not None
    assert found["ssim"] < 0.5
    inside[:] = False
    assert scores(noisy, reference, inside) == {"psnr_db": None, "ssim": None}


def checkpoint(path: Path, raw: np.ndarray, denoised: np.ndarray, first: int, passes: list[list[int]]) -> Checkpoint:
    place = default_slices(scenario().scanner.geometry)["xy"]
    data = np.stack([denoised, raw])[:, None].astype(np.float32)
    picture = Denoised("xy", 1, place, "s", first, first + 149, 0.0, True, data, 3, None)
    return Checkpoint(4.0, picture, np.array(passes), str(path))


def test_pictures_are_judged_by_the_frames_they_came_from(recording: Path, tmp_path: Path) -> None:
    """Frame 1000 of a replay was frame 60 of the recording: its truth is that of frames 60 to 209."""
    _, raw = reconstructed(recording, 60)
    place = default_slices(scenario().scanner.geometry)["xy"]
    references = Truth(recording).references(range(60, 210), [place])[0]
    right = checkpoint(recording, raw, references.noise_free, 1000, [[0, 0], [900, 260], [940, 0]])
    seen: list[tuple[int, int]] = []
    judged = judge([right], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    (line,) = judged.curve
    assert (line["t_s"], line["slice"], line["first_frame"], line["last_frame"]) == (4.0, "xy", 1000, 1149)
    assert line["noise_free"]["denoised"] == {"psnr_db": None, "ssim": 1.0}
    inside = in_view(scenario().scanner.geometry, place)
    assert line["noise_free"]["raw"] == scores(raw, references.noise_free, inside)
    assert line["object"]["raw"]["psnr_db"] < line["noise_free"]["raw"]["psnr_db"]
    assert judged.last is not None
    np.testing.assert_array_equal(judged.last.object, references.object)
    shifted = judge([checkpoint(recording, raw, references.noise_free, 1000, [[900, 0]])])
    assert shifted.curve[0]["noise_free"]["denoised"]["psnr_db"] < 60  # those of other frames


def test_pictures_without_truth_are_left_out(recording: Path, tmp_path: Path) -> None:
    raw = np.zeros(default_slices(scenario().scanner.geometry)["xy"].shape)
    with open_recording(recording) as source, create_recording(tmp_path / "other.nxs", source.header) as writer:
        writer.append(source.frame(0))
    unknown = checkpoint(recording, raw, raw, 0, [[100, 0]])  # the beginning is forgotten
    foreign = checkpoint(tmp_path / "other.nxs", raw, raw, 0, [[0, 0]])
    judged = judge([foreign, unknown])
    assert judged.curve == []
    assert judged.last is None
    assert judge([checkpoint(recording, raw, raw, 0, [[0, 0]])], stopped=lambda: True).curve == []


def test_both_references_are_compared_with_both_pictures() -> None:
    picture = np.random.default_rng(0).normal(0.02, 0.01, (40, 40)).astype(np.float32)
    found = compared(picture, picture, References(picture + 0, picture + np.float32(0.001)), np.ones((40, 40), bool))
    assert set(found) == {"noise_free", "object"}
    assert all(set(part) == {"raw", "denoised"} for part in found.values())


def parallel() -> Scenario:
    scanner = msgspec.structs.replace(scenario().scanner, beam="parallel", pixel_mm=1.0)
    return scenario().with_(scanner=scanner, name="parallel")


@pytest.mark.parametrize(
    ("made", "frames", "left_out"),
    [(scenario(), 300, ()), (scenario(), 299, ()), (scenario(), 300, (160, 161)), (parallel(), 225, ())],
    ids=["whole turns", "a frame short", "frames missing", "one and a half turns, parallel"],
)
def test_live_pictures_of_a_looped_replay_are_near_their_reference(
    made: Scenario, frames: int, left_out: tuple[int, ...], tmp_path: Path
) -> None:
    """Wherever the window stands, over the end of a loop and over gaps: what is left is the noise, the same for all."""
    path = tmp_path / "scan.nxs"
    experiment = Experiment(made)
    with create_recording(
        path, experiment.header, experiment.dark(), experiment.flat(), scenario=made.to_toml()
    ) as writer:
        for image in experiment.frames(number for number in range(frames) if number not in left_out):
            writer.append(image)
    place = default_slices(made.scanner.geometry)["xy"]
    checkpoints = []
    with open_recording(path) as source:
        replay = Replay(source, "s", 0, -1, lambda: True)
        pipeline = Pipeline(source.header, source.dark, source.flat, Options(), "cpu")
        for count in range(2 * frames - 60):
            found = replay.peek()
            assert found is not None
            pipeline.add(found[1], pipeline.filter(found[1]))
            replay.take()
            window = pipeline.window()
            if window is None or count % 45:
                continue
            raw = full_slice(pipeline.reconstruct(window, place))
            data = np.stack([raw, raw])[:, None]
            span = int(window.first_frame), int(window.last_frame)
            picture = Denoised("xy", 1, place, "s", *span, 0.0, True, data, 3, None)
            checkpoints.append(Checkpoint(float(count), picture, replay.passes, str(path)))
    judged = judge(checkpoints)
    assert len(judged.curve) == len(checkpoints) > 4
    found_db = [line["noise_free"]["raw"]["psnr_db"] for line in judged.curve]
    assert max(found_db) - min(found_db) < 0.8, found_db


def test_a_picture_that_cannot_be_compared_costs_no_other(recording: Path) -> None:
    raw = np.zeros(default_slices(scenario().scanner.geometry)["xy"].shape)
    good = checkpoint(recording, raw, raw, 0, [[0, 0]])
    short = Denoised("xy", 1, good.picture.geometry, "s", 0, 99, 0.0, True, good.picture.data, 3, None)
    judged = judge([good._replace(picture=short), good])
    assert "expected frames that fill a window, got 100" in judged.curve[0]["error"]
    assert judged.curve[1]["noise_free"]["raw"]["psnr_db"] is not None
