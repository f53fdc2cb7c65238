"""The size of the buffer: what a review says, that it takes two, and that the same pairs give the same sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tango_jit.learn import PRODUCT, PairBuffer, Trainer, buffer_size
from tango_jit.learn.buffer_size import LEAST, MOST, BufferSize, surely
from tango_jit.services import buffering
from tango_jit.services.buffering import Buffering, resized

SETTINGS = PRODUCT.edited(form="residual", patch_size=16, halo=2, buffer_size=160, features=4)


def scores(mean: float, seed: int, n: int = 64) -> NDArray[np.float64]:
    return mean + 0.03 * np.random.default_rng(seed).normal(size=n)


ALIKE = scores(0.6, 0), scores(0.6, 1), scores(0.6, 2)
BY_HEART = scores(0.7, 0), scores(0.6, 1), scores(0.6, 2)
DRIFT = scores(0.7, 0), scores(0.6, 1), scores(0.68, 2)


def after(size: BufferSize, *reviews: tuple[NDArray[np.float64], ...], most: int = MOST) -> BufferSize:
    for fresh, newest, oldest in reviews:
        size = size.reviewed(fresh, newest, oldest, most)
    return size


def test_where_all_are_alike_nothing_changes() -> None:
    assert after(BufferSize(320), ALIKE, ALIKE, ALIKE) == BufferSize(320)


def test_drift_shortens_and_learning_by_heart_lengthens_once_two_reviews_agree() -> None:
    assert after(BufferSize(320), DRIFT).pairs == after(BufferSize(320), BY_HEART).pairs == 320
    assert after(BufferSize(320), DRIFT, DRIFT) == BufferSize(160)
    assert after(BufferSize(320), BY_HEART, BY_HEART) == BufferSize(640)
    assert after(BufferSize(320), DRIFT, BY_HEART, DRIFT, BY_HEART).pairs == 320
    assert after(BufferSize(320), BY_HEART, ALIKE, BY_HEART).pairs == 320


def test_drift_in_either_direction_counts() -> None:
    fresh, newest, oldest = DRIFT
    assert after(BufferSize(320), (fresh, oldest, newest), (fresh, oldest, newest)).pairs == 160


def test_it_is_bounded() -> None:
    assert after(BufferSize(320), *8 * [DRIFT]).pairs == LEAST
    assert after(BufferSize(320), *20 * [BY_HEART]).pairs == MOST
    assert after(BufferSize(320), *8 * [BY_HEART], most=500).pairs == 500
    assert after(BufferSize(40), *4 * [DRIFT]).pairs == 40  # a hand was there before
    assert after(BufferSize(5000), *4 * [BY_HEART]).pairs == 5000


def test_chance_and_what_does_not_matter_are_not_sure() -> None:
    assert not surely(scores(0.605, 1, 10_000), scores(0.6, 2, 10_000))
    assert not surely(scores(0.62, 1, 4), scores(0.6, 2, 4))
    assert surely(scores(0.65, 1), scores(0.6, 2))
    assert not surely(scores(0.9, 1, 1), scores(0.6, 2))


def test_pairs_by_age() -> None:
    buffer = PairBuffer(5, (2, 2))
    buffer.add(torch.arange(3.0)[:, None, None, None].expand(3, 2, 2, 2))
    assert buffer.aged(0, 2)[:, 0, 0, 0].tolist() == [0, 1]
    buffer.add(torch.arange(3.0, 9.0)[:, None, None, None].expand(6, 2, 2, 2))
    assert buffer.aged(0, 5)[:, 0, 0, 0].tolist() == [4, 5, 6, 7, 8]
    assert buffer.aged(3, 2)[:, 0, 0, 0].tolist() == [7, 8]
    for first, count in ((-1, 2), (4, 2)):
        with pytest.raises(ValueError, match="pairs: expected numbers from 0 to 5, got"):
            buffer.aged(first, count)


def pairs(number: int, bar: float, seed: int) -> NDArray[np.float32]:
    """(number, 2, 16, 16) of a bar in noise."""
    clean = np.zeros((16, 16), np.float32)
    clean[:, 4:12] = bar
    return clean + np.random.default_rng(seed).normal(size=(number, 2, 16, 16)).astype(np.float32)


def sizes(seed: int = 0) -> tuple[list[int], bytes]:
    """The sizes that a trainer is given, one step for every 16 pairs, and its weights in the end."""
    trainer, reviews, seen = Trainer(SETTINGS.edited(buffer_size=80), seed=seed), Buffering(), []
    for number in range(36):
        new = trainer.add(pairs(16, 1.0, number))
        if (size := reviews.review(trainer, new)) is not None:
            trainer.configure(resized(trainer.settings, size))
            seen.append(size)
        trainer.step()
    return seen, bytes(trainer.weights().tensors)


def test_the_same_pairs_give_the_same_sizes_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hardly anything has to be sure, so that there is much to decide."""
    monkeypatch.setattr(buffer_size, "SURE", 0.0)
    monkeypatch.setattr(buffer_size, "MATTERS", 0.0)
    monkeypatch.setattr(buffer_size, "AGREED", 1)
    monkeypatch.setattr(buffering, "LEAST_PAIRS", 32)
    monkeypatch.setattr(buffer_size, "LEAST", 20)
    first, second = sizes(), sizes()
    assert first[0]
    assert first == second


def test_known_pairs_are_scored_as_new_ones_are() -> None:
    """Those that were added last count as fresh: the newest known ones come before them."""
    trainer = Trainer(SETTINGS, seed=0)
    loud = pairs(16, 1.0, 1) * 4
    for part in (loud, pairs(16, 1.0, 2), pairs(16, 1.0, 3)):
        trainer.add(part)
    errors = trainer.known(16, 16)
    assert errors.shape == (32, 2)
    assert errors[16:, 1].mean() > 8 * errors[:16, 1].mean()  # the oldest are the loud ones
    with pytest.raises(ValueError, match="pairs: expected numbers from 0 to 48"):
        trainer.known(40, 16)


def test_a_size_that_settings_do_not_allow_changes_nothing() -> None:
    assert resized(SETTINGS, 2).buffer_size == SETTINGS.batch_size
    assert resized(SETTINGS, 100_001) is SETTINGS
    assert resized(PRODUCT, 640).network.preset == "PRODUCT"
