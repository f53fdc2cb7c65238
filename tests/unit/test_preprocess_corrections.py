"""Corrections that remember: zingers on a measured scan, rings on a simulated one, flicker of the beam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import tifffile
import torch
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.preprocess import Corrections, Preprocessor
from tango_jit.recon.preprocess.lines import Field
from tango_jit.recon.preprocess.median import median_in_line, median_of_nine
from tango_jit.recon.preprocess.rings import Rings, believable
from tango_jit.recon.preprocess.zingers import HostZingers, TensorZingers
from tango_jit.recon.window import ProjectionWindow
from tests.phantom import ball
from tests.reconstructions import full_slice

Counts = NDArray[np.uint16]
COLS, INSIDE = 192, slice(32, 160)


# --- zingers


@pytest.fixture(scope="module")
def cylinder(shared_data) -> tuple[Counts, Field]:
    """91 raw frames of 135 x 160, every 2 degrees, and their field."""
    folder = shared_data / "savu_24737_tiff"
    raw = np.stack([tifffile.imread(folder / f"raw_{view:05d}.tiff") for view in range(91)])
    dark, flat = (tifffile.imread(folder / f"{kind}_00001.tiff").astype(np.float32) for kind in ("dark", "flat"))
    light = np.where(flat - dark > 0.01 * np.percentile(flat - dark, 90), flat - dark, np.nan)
    return raw, Field(dark, (1 / light).astype(np.float32), None, 1e-4, np.inf)


def cleaned(frames: NDArray[Any], field: Field, excess: float) -> NDArray[Any]:
    clean = HostZingers(field, excess)
    return np.stack([clean(frame) for frame in frames])


@pytest.mark.parametrize(("excess", "rate"), [(0.1, 1e-4), (0.2, 5e-5), (0.5, 1e-5)])
def test_a_scan_without_zingers_is_left_alone(cylinder, excess: float, rate: float) -> None:
    """Of all pixels at most this part is changed, although edges move by pixels from frame to frame."""
    raw, field = cylinder
    assert (cleaned(raw, field, excess) != raw).mean() < rate


def test_injected_zingers_are_found_and_replaced(cylinder) -> None:
    raw, field = cylinder
    rng = np.random.default_rng(0)
    hit = rng.random(raw.shape) < 1e-3
    hit[0] = False  # there is no frame before the first one
    struck = raw.copy()
    struck[hit] = np.clip(raw[hit] + 20_000 * (1 + rng.random(hit.sum())), 0, 65534)
    clean = cleaned(struck, field, 0.2)
    found = clean != struck
    assert found[hit].mean() > 0.99
    assert found[~hit].mean() < 5e-5
    error = np.abs(clean[hit & found].astype(float) / raw[hit & found] - 1)
    assert np.median(error) < 0.02


def test_pure_noise_is_no_zinger() -> None:
    """Neither strong nor weak light: 8 standard deviations, 6 million pixels."""
    rng = np.random.default_rng(1)
    for light in (4.0, 100.0, 10_000.0):
        frames = rng.poisson(light, (8, 500, 500)).astype(np.uint16)
        field = Field(np.zeros((500, 500), np.float32), np.full((500, 500), 1 / light, np.float32), None, 1e-4, np.inf)
        assert (cleaned(frames, field, 0.05) != frames).sum() <= 1


def test_what_stays_bright_is_no_zinger() -> None:
    frames = np.full((3, 20, 20), 1000, np.uint16)
    frames += np.random.default_rng(0).poisson(10, frames.shape).astype(np.uint16)
    frames[1:, 7, 9] = 5000
    field = Field(np.zeros((20, 20), np.float32), np.full((20, 20), 1e-3, np.float32), None, 1e-4, np.inf)
    clean = cleaned(frames, field, 0.2)
    assert clean[1, 7, 9] < 1100
    assert clean[2, 7, 9] == 5000


@pytest.mark.parametrize("batch", [None, 1, 7], ids=["host", "tensors one by one", "tensors in batch"])
def test_a_frame_without_a_number_costs_only_itself(batch: int | None) -> None:
    """Neither the frame after it, which is compared with the one before, nor a later one; also as the first of all."""
    frames = 1000 + np.random.default_rng(0).normal(0, 10, (7, 20, 20)).astype(np.float32)
    frames[[0, 3, 4]] = [[[np.nan]], [[np.inf]], [[-np.inf]]]
    struck = frames.copy()
    struck[[2, 5, 6], 7, [9, 3, 12]] = 5000
    dark, per_flat = np.zeros((20, 20), np.float32), np.full((20, 20), 1e-3, np.float32)
    if batch is None:
        got = cleaned(struck, Field(dark, per_flat, None, 1e-4, np.inf), 0.2)
    else:
        clean = TensorZingers(Field(torch.from_numpy(dark), torch.from_numpy(per_flat), None, 1e-4, np.inf), 0.2)
        got = torch.cat([clean(some) for some in torch.from_numpy(struck).split(batch)]).numpy()
    np.testing.assert_array_equal(got != struck, (struck == 5000) | np.isnan(struck))
    np.testing.assert_allclose(got[struck == 5000], 1000, atol=30)


def test_the_median_of_nine() -> None:
    values = torch.rand(9, 1000)
    torch.testing.assert_close(median_of_nine(list(values)), values.median(0).values)


@pytest.mark.parametrize("axis", [-1, -2])
def test_the_median_of_nine_in_a_line(axis: int) -> None:
    values = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(0))
    size = [1, 1, 1]
    size[axis] = 9
    expected = scipy.ndimage.median_filter(values.numpy(), size, mode="nearest")
    np.testing.assert_array_equal(median_in_line(values, axis).numpy(), expected)


# --- rings


def turned(rings: Rings, frames: torch.Tensor, turn: int) -> torch.Tensor:
    """The frames (n, rows, cols) of a turn, corrected."""
    frames = frames.clone()
    for k, frame in enumerate(frames):
        rings(frame, 2 * math.pi * (turn + k / len(frames)))
    return frames


def ringed(seed: int, *, rings: float, noise: float, rows: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """A turn of 60 views of a moving blob in a centred thin wall, and the bias of the pixels that is in them."""
    random = torch.Generator().manual_seed(seed)
    column = torch.arange(COLS)
    wall = 0.5 * ((column - 25).abs() < 1.5) + 0.5 * ((column - 166).abs() < 1.5)
    angle = torch.arange(60) * (2 * math.pi / 60)
    blob = torch.exp(-((column - 95.5 - 30 * angle.sin()[:, None]) ** 2) / 500)
    bias = rings * torch.randn(rows, COLS, generator=torch.Generator().manual_seed(9))
    views = (wall + blob)[:, None, :] + bias + noise * torch.randn(60, rows, COLS, generator=random)
    return views, bias


def test_the_bias_of_pixels_is_learned_in_a_turn() -> None:
    rings = Rings((48, COLS), 4.0)
    views, bias = ringed(0, rings=0.02, noise=0.02)
    assert torch.equal(turned(rings, views, 0), views)  # nothing is known before
    after = turned(rings, views, 1) - (views - bias)
    assert after[:, 6:-6, INSIDE].std() < 0.45 * bias.std()
    for turn in range(2, 6):
        turned(rings, ringed(turn, rings=0.02, noise=0.02)[0], turn)
    assert float((rings.bias - bias)[6:-6, INSIDE].std()) < 0.42 * float(bias.std())


def test_a_stage_that_stands_teaches_no_more_than_one_frame() -> None:
    """A minute at 80 Hz before a turn of 150 frames, and a stop of 5 s in it, with an encoder that trembles: what is
    learned from views of fine structure is what it were without."""
    random = torch.Generator().manual_seed(0)
    views = 0.1 * torch.randn(150, 24, 32, generator=random) + 0.02 * torch.randn(24, 32, generator=random)
    steady, stopped = Rings((24, 32), 4.0), Rings((24, 32), 4.0)
    turned(steady, views, 0)
    for number, view in enumerate(views):
        for repeat in range({0: 80 * 60, 70: 80 * 5}.get(number, 1)):
            tremble_rad = (2e-3 if number else 1e-4) * math.sin(7.0 * repeat)  # of a step of 0.04
            stopped(view.clone(), 2 * math.pi * number / 150 + tremble_rad)
    assert steady.bias.std() > 0.01
    torch.testing.assert_close(stopped.bias, steady.bias)


@pytest.mark.parametrize("rows", [48, 1])
def test_a_wall_round_the_axis_is_kept(rows: int) -> None:
    """Its projection stands still, as a ring does: what is taken of it is no more than the noise makes believable."""
    rings = Rings((rows, COLS), 4.0)
    for turn in range(3):
        turned(rings, ringed(turn, rings=0.0, noise=0.02, rows=rows)[0], turn)
    assert rings.bias.abs().max() < 0.03  # of 0.5


def test_where_there_are_no_rings_hardly_anything_is_subtracted() -> None:
    rings = Rings((48, COLS), 10.0)
    for turn in range(5):
        turned(rings, ringed(turn, rings=0.0, noise=0.1)[0], turn)
    assert rings.bias[:, INSIDE].std() < 0.25 * 0.1 / math.sqrt(5 * 60)


def test_old_turns_fade() -> None:
    rings = Rings((48, COLS), 1.0)
    turned(rings, ringed(0, rings=0.05, noise=0.001)[0], 0)
    learned = rings.bias.std()
    for turn in range(1, 7):
        turned(rings, ringed(turn, rings=0.0, noise=0.001)[0], turn)
    assert rings.bias.std() < 0.02 * learned


def test_what_the_halves_do_not_share_is_not_believed() -> None:
    halves = torch.randn(2, 50, 50, generator=torch.Generator().manual_seed(0))
    assert believable(halves, 50.0).std() < 0.2
    same = halves[:1].expand(2, 50, 50)
    torch.testing.assert_close(believable(same, 50.0), same[0])


def test_rings_of_a_drifting_gain_fade_in_filtered_views() -> None:
    """Raw counts through the whole chain: against the same views of a detector that has not drifted."""
    scan = ScanGeometry.parallel(rows=24, cols=64, pixel_mm=1.0)
    rng = np.random.default_rng(4)
    gain = 1 + 0.03 * rng.standard_normal((24, 64))
    angles = 2 * math.pi * np.arange(4 * 60) / 60
    column = np.arange(64)
    lines = np.exp(-((column - 31.5 - 15 * np.sin(angles)[:, None]) ** 2) / 80)[:, None, :]
    light = 50_000 * np.exp(-lines) * np.ones((24, 1))
    flat = np.full((24, 64), 50_000.0)
    still, drifted = rng.poisson(light), rng.poisson(light * gain)
    options: dict[str, Any] = dict(flat=flat)
    ideal = Preprocessor(scan, **options)(still[-60:])
    plain = Preprocessor(scan, **options)(drifted)[-60:]
    learned = Preprocessor(scan, **options, corrections=Corrections(ring_turns=4.0))(drifted, angles)[-60:]
    before, after = ((views - ideal).mean(0)[:, 4:-4].std() for views in (plain, learned))
    assert after < 0.35 * before


# --- the beam


def test_flicker_goes_with_the_air() -> None:
    scan = ScanGeometry.cone(rows=8, cols=40, pixel_mm=0.5, source_axis_mm=60, source_detector_mm=90)
    rng = np.random.default_rng(0)
    lines = np.zeros((12, 8, 40))
    lines[:, :, 8:34] = rng.uniform(0, 2, (12, 8, 26))
    flicker = 1 + 0.1 * rng.standard_normal((12, 1, 1))
    dark, flat = np.full((8, 40), 100.0), np.full((8, 40), 40_100.0)
    counts = dark + (flat - dark) * flicker * np.exp(-lines)
    steady = Preprocessor(scan, linear=True)(lines)
    options: dict[str, Any] = dict(dark=dark, flat=flat, corrections=Corrections(air_region=(0, 5, 1, 6)))
    np.testing.assert_allclose(Preprocessor(scan, **options)(counts), steady, atol=2e-4)
    off = Preprocessor(scan, dark=dark, flat=flat)(counts)
    assert np.abs(off - steady).max() > 0.05


def test_bad_pixels_in_the_air_do_not_count() -> None:
    scan = ScanGeometry.parallel(rows=4, cols=30, pixel_mm=1.0)
    flat = np.full((4, 30), 1000.0)
    flat[1, 2] = 0
    counts = np.full((1, 4, 30), 500, np.uint16)
    counts[0, 2, 3] = 65535
    got = Preprocessor(scan, flat=flat, corrections=Corrections(air_region=(0, 4, 0, 3)))(counts)
    np.testing.assert_allclose(got, 0, atol=1e-6)


# --- truncated objects


def test_a_truncated_object_keeps_its_values_when_its_edges_are_extended() -> None:
    """A detector of half the width of the object, against one that sees all of it: errors in 1/mm, of 0.02."""
    angles = np.pi * np.arange(180) / 180
    wide, narrow = (ScanGeometry.parallel(rows=1, cols=cols, pixel_mm=1.0) for cols in (256, 128))
    balls = (
        ((0, 0, 0), 110.0, 0.02),
        ((20, 10, 0), 15.0, 0.02),
        ((-25, -20, 0), 10.0, -0.02),
        ((60, 50, 0), 12.0, 0.03),
    )
    views = np.sum([ball(wide, angles, *one) for one in balls], axis=0)
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=1.0, shape=(128, 128))

    def picture(scan: ScanGeometry, views: NDArray[np.float32], *, edge_extend: bool) -> NDArray[np.float32]:
        window = ProjectionWindow(scan)
        for k, view in enumerate(Preprocessor(scan, linear=True, edge_extend=edge_extend)(views)):
            window.add(k, float(angles[k]), view)
        full = window.window()
        assert full is not None
        return full_slice(scan, full, place)

    y, x = np.mgrid[:128, :128] - 63.5
    inside = np.hypot(x, y) < 62
    whole = picture(wide, views, edge_extend=False)
    abrupt, extended = (
        np.abs(picture(narrow, views[..., 64:192], edge_extend=which) - whole)[inside] for which in (False, True)
    )
    assert extended.max() < 0.003
    assert extended.mean() < 5e-4
    assert abrupt.mean() > 20 * extended.mean()
