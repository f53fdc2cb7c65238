"""Faults of single frames: how many, which, the same again, and what a receiver counts of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sim.faults import HELD_BACK, KINDS, CorruptImage, Fractions, Injector, faulty, garbage
from tango_jit.streams import FrameCount, Image, MessageError, decode

N = 4000
MIXED = Fractions(0.03, 0.04, 0.05, 0.02, 0.06, 0.01, seed=5)


def frame(number: int, dtype: str = "uint16") -> Image:
    data = (np.arange(6).reshape(2, 3) + 100 * (number % 7)).astype(dtype)
    return Image("s", number, 0.1 * number, 0.0, data)


def run(fractions: Fractions, frames: int = N) -> tuple[list[Image], dict[str, int]]:
    counts = dict.fromkeys(KINDS, 0)
    return list(faulty(map(frame, range(frames)), lambda: fractions, counts)), counts


def count(messages: list[Image]) -> tuple[FrameCount, int]:
    """What a receiver counts: frames by their numbers, and what is no message."""
    seen, invalid = FrameCount(), 0
    for message in messages:
        try:
            image = decode(message.parts())
        except MessageError:
            invalid += 1
        else:
            assert isinstance(image, Image)
            seen.observe(image.frame)
    return seen, invalid


def test_without_faults_all_frames_pass_as_they_are():
    messages, counts = run(Fractions(), 50)
    assert [message.frame for message in messages] == list(range(50))
    assert messages == [frame(n) for n in range(50)]
    assert set(counts.values()) == {0}


def test_each_kind_has_its_fraction():
    messages, counts = run(MIXED)
    for kind in KINDS:
        expected = getattr(MIXED, kind) * N
        assert counts[kind] == pytest.approx(expected, abs=4 * math.sqrt(expected)), kind
    assert len(messages) == N - counts["drop"] + counts["duplicate"]


def test_what_was_injected_is_what_a_receiver_counts():
    messages, injected = run(MIXED)
    seen, invalid = count(messages)
    assert invalid == injected["corrupt"]
    assert seen.lost == injected["drop"] + injected["corrupt"]
    assert seen.duplicate == injected["duplicate"]
    assert seen.late == injected["reorder"] + injected["late"]
    assert seen.received == N - seen.lost


def test_the_same_seed_does_the_same_from_any_frame_on():
    faults = [MIXED.fault(n) for n in range(N)]
    assert [MIXED.fault(n) for n in range(1000, 1100)] == faults[1000:1100]
    assert run(MIXED, 300)[0] == run(MIXED, 300)[0]
    other = replace(MIXED, seed=6)
    assert [other.fault(n) for n in range(N)] != faults
    assert set(faults) == {"", *KINDS}


@pytest.mark.parametrize(("kind", "behind"), HELD_BACK.items())
def test_what_is_held_back_comes_after_those_that_overtake_it(kind, behind):
    injector = Injector()
    held, clean = replace(Fractions(), **{kind: 1.0}), Fractions()
    out = [image.frame for n in range(15) for image in injector.feed(frame(n), held if n == 2 else clean)]
    assert out == [0, 1, *range(3, 3 + behind), 2, *range(3 + behind, 15)]
    assert injector.counts[kind] == 1


def test_frames_held_to_the_end_come_last_and_have_not_been_overtaken():
    injector = Injector()
    assert [injector.feed(frame(n), Fractions(late=1.0)) for n in range(5)] == [[]] * 5
    assert [image.frame for image in injector.flush()] == [0, 1, 2, 3, 4]
    assert injector.counts["late"] == 0
    assert injector.flush() == []


def test_a_fraction_of_one_strikes_every_frame():
    assert run(Fractions(drop=1.0), 20) == ([], dict.fromkeys(KINDS, 0) | {"drop": 20})
    assert [image.frame for image in run(Fractions(duplicate=1.0), 3)[0]] == [0, 0, 1, 1, 2, 2]


def test_a_corrupt_frame_is_refused_for_its_payload():
    messages, _ = run(Fractions(corrupt=1.0), 1)
    assert isinstance(messages[0], CorruptImage)
    with pytest.raises(MessageError, match=r"payload: expected 12 bytes .* got 11"):
        decode(messages[0].parts())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_garbage_fits_its_header_and_shows_nothing(dtype):
    data = frame(3, dtype).data
    kinds = Counter()
    for number in range(60):
        spoilt = garbage(data, 1, number)
        assert (spoilt.dtype, spoilt.shape) == (data.dtype, data.shape)
        top = np.inf if dtype == "float32" else np.iinfo(dtype).max
        assert (spoilt == top).all() or (spoilt < top).all()
        assert not np.array_equal(spoilt, data)
        kinds["saturated" if spoilt[0, 0] == top else "noise"] += 1
        np.testing.assert_array_equal(spoilt, garbage(data, 1, number))
    assert min(kinds["saturated"], kinds["noise"]) > 10


def test_fractions_beyond_one_are_refused():
    with pytest.raises(ValueError, match=r"expected at most 1 together, got 1.1"):
        Fractions(drop=0.6, late=0.5)
    with pytest.raises(ValueError, match=r"fault_late: expected 0 to 1, got -0.1"):
        Fractions(late=-0.1)
    assert Fractions(drop=0.1, duplicate=0.2, reorder=0.7).total == pytest.approx(1)
