"""The figure of the last pairs, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from tango_jit.learn.scores import PAIRS, Scores


def errors(*accuracies: float, noise: float = 1.0) -> np.ndarray:
    return np.array([(accuracy * noise, noise) for accuracy in accuracies])


def test_nothing_is_known_at_first():
    scores = Scores()
    scores.add(np.empty((0, 2)))
    assert (len(scores), scores.accuracy, scores.ratio_of_means, scores.band) == (0, None, None, None)


def test_mean_of_ratios_and_ratio_of_means():
    scores = Scores()
    scores.add(errors(0.5, noise=1.0))
    scores.add(errors(1.0, noise=3.0))
    assert scores.accuracy == pytest.approx(0.75)
    assert scores.ratio_of_means == pytest.approx(3.5 / 4)


def test_only_the_newest_pairs_count():
    scores = Scores()
    for _ in range(PAIRS // 32 + 1):
        scores.add(errors(*[1.0] * 32))
    for _ in range(PAIRS // 32):
        scores.add(errors(*[0.5] * 32))
    assert len(scores) == PAIRS
    assert scores.accuracy == pytest.approx(0.5)
    scores.add(errors(*[0.9] * 2 * PAIRS))
    assert (len(scores), scores.accuracy) == (PAIRS, pytest.approx(0.9))
    scores.clear()
    assert scores.accuracy is None


def test_the_band_holds_the_truth_as_often_as_it_says():
    """Pairs of one batch share what is wrong with their window: a band from single pairs would be far too narrow."""
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        scores = Scores()
        for _ in range(16):
            scores.add(errors(*(0.6 + random.normal(0, 0.03) + random.normal(0, 0.02, 32))))
        assert scores.accuracy is not None
        assert scores.band is not None
        held += abs(scores.accuracy - 0.6) < scores.band
    assert 0.90 < held / 400 < 0.98


def test_one_batch_says_nothing_about_its_scatter():
    scores = Scores()
    scores.add(errors(0.5, 0.7))
    assert scores.band is None
