"""Random counts: known answers, distributions, correlations, and that every number belongs to its pixel and frame."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sim import counting

SHAPE, KEY = (300, 400), np.uint64(7)


def counts(
    mean: float, frame: int = 0, key: np.uint64 = KEY, rough: bool = False, workers: int = 2
) -> NDArray[np.float32]:
    out = np.empty(SHAPE, np.float32)
    make = counting.count_roughly if rough else counting.count
    make(workers, np.full(SHAPE, mean, np.float32), frame, key, out)
    return out


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**32 - 1, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_the_known_answers(counter: int, key: int, words: tuple[int, ...]) -> None:
    """Those of the authors' own test (Random123, kat_vectors, philox 4x32 10)."""
    assert counting.philox(counter, counter, counter, counter, np.uint64(key)) == words


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.99, 10.0, 37.0, 400.0, 999.0])
def test_counts_are_poisson(mean: float) -> None:
    """Kolmogorov and Smirnov: the largest distance from the distribution function, at a level of 1e-4."""
    found = counts(mean).ravel().astype(int)
    k = np.arange(found.max() + 1)
    distance = np.abs(np.cumsum(np.bincount(found)) / found.size - stats.poisson.cdf(k, mean)).max()
    assert distance * np.sqrt(found.size) < 2.2
    assert found.min() >= 0


def test_many_photons_follow_the_stated_approximation() -> None:
    """A thousand and more: mean, variance and skewness (1 / sqrt(mean)) of a Poisson distribution."""
    for mean in (1000.0, 20000.0):
        found = counts(mean).astype(np.float64)
        size = found.size
        assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / size))
        assert found.var() == pytest.approx(mean, rel=4 * np.sqrt(2 / size) + 1 / mean)
        assert stats.skew(found.ravel()) == pytest.approx(1 / np.sqrt(mean), abs=4 * np.sqrt(6 / size))
        assert (found == np.round(found)).all()


def test_rough_counts_have_the_right_mean_and_variance() -> None:
    for mean in (50.0, 3000.0):
        found = counts(mean, rough=True).astype(np.float64)
        assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / found.size))
        assert found.var() == pytest.approx(mean, rel=4 * np.sqrt(2 / found.size) + 1 / mean)
        assert found.min() >= 0


@pytest.mark.parametrize("rough", [False, True])
def test_numbers_depend_on_pixel_frame_and_seed_alone(rough: bool) -> None:
    first = counts(300.0, rough=rough)
    np.testing.assert_array_equal(first, counts(300.0, rough=rough, workers=1))
    for other in (counts(300.0, frame=1, rough=rough), counts(300.0, key=np.uint64(8), rough=rough)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(first.size)
    for axis in (0, 1):
        shifted = np.roll(first, 1, axis)
        assert abs(np.corrcoef(first.ravel(), shifted.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def read_out(light: NDArray[np.float32], *, spread: float, readout: float, rough: bool = False) -> NDArray[np.uint16]:
    out = np.empty(SHAPE, np.uint16)
    gain, offset = np.full(SHAPE, 8.0, np.float32), np.full(SHAPE, 100.0, np.float32)
    still, drift = np.zeros(SHAPE, np.float32), np.float32(0)
    noise = np.float32(readout), np.float32(spread)
    counting.read_out(2, light, gain, still, drift, offset, *noise, 0, KEY, rough, out)
    return out


@pytest.mark.parametrize("rough", [False, True])
def test_light_that_spreads_makes_neighbours_alike(rough: bool) -> None:
    """Spread s to either side leaves a correlation of 2 s (1 - 2 s) / ((1 - 2 s)^2 + 2 s^2): 0.25 for 0.1026."""
    stored = read_out(counts(400.0, rough=rough), spread=0.1026, readout=0.0, rough=rough).astype(np.float64)
    deviation = stored[2:-2, 2:-2] - stored[2:-2, 2:-2].mean()
    for one, two, expected in (
        (deviation[1:], deviation[:-1], 0.25),
        (deviation[:, 1:], deviation[:, :-1], 0.25),
        (deviation[1:, 1:], deviation[:-1, :-1], 0.0625),
    ):
        assert (one * two).mean() / deviation.var() == pytest.approx(expected, abs=4 / np.sqrt(deviation.size))
    assert stored.mean() == pytest.approx(100 + 8 * 400, rel=1e-3)
    alone = ((1 - 2 * 0.1026) ** 2 + 2 * 0.1026**2) ** 2  # what remains of the variance
    assert deviation.var() == pytest.approx(64 * 400 * alone, rel=0.03)


def test_electronic_noise_adds_to_the_variance() -> None:
    stored = read_out(np.zeros(SHAPE, np.float32), spread=0.1, readout=12.0)
    assert stored.mean() == pytest.approx(100, abs=0.2)
    assert stored.std() == pytest.approx(12, rel=0.01)


def test_sixteen_bits_clip() -> None:
    assert (read_out(np.full(SHAPE, 1e5, np.float32), spread=0.1, readout=0.0) == 65535).all()
    assert read_out(np.full(SHAPE, -50, np.float32), spread=0.0, readout=0.0).max() == 0
