"""What is a jump of the experiment, and what is only another network."""

from __future__ import annotations

import numpy as np
import pytest

from tango_jit.geometry import SliceGeometry
from tango_jit.learn import NetworkConfig
from tango_jit.services.adaptation import Adaptation
from tango_jit.services.pairs import Pairs
from tango_jit.view import placing

BEFORE, AFTER = 200, 60  # rounds


@pytest.mark.parametrize("reset", [False, True])
def test_the_scores_of_a_network_that_was_reset_are_no_jump(reset: bool):
    adaptation, random = Adaptation(), np.random.default_rng(2)
    jumps = []
    for number in range(BEFORE + AFTER):
        images = random.normal(size=(32, 2, 12, 12)).astype(np.float32)
        late = number >= BEFORE
        scores = (0.9 if late else 0.55) + 0.05 * random.normal(size=32)
        steps = 4 * (number - BEFORE if reset and late else number)
        jumps.append(adaptation.jumped(Pairs(images, "turns", True), scores, 0.1 * number, NetworkConfig(), steps, ()))
    assert not any(jumps[:BEFORE])
    assert any(jumps) != reset
    assert adaptation.count == sum(jumps)


def test_a_slice_that_is_turned_or_moved_is_no_other_kind_of_pairs():
    """An operator turns slices all the time; turned ones differ in their last digits."""
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 0, 1), pixel_mm=0.2496594427244582, shape=(384, 384))
    adaptation, still = Adaptation(), {"xy": place, "xz": place}
    first = adaptation.kind(None, still)
    pitches = set()
    for step in range(100):
        place = placing.turned(place, (0.1, 0.2, 0.97), 0.1 + 0.01 * step)
        pitches.add(place.pixel_mm)
        assert adaptation.kind(None, {**still, "xz": placing.shifted(place, (1, 2, 3))}) == first
    assert len(pitches) > 10
    assert adaptation.kind(None, {**still, "xz": placing.zoomed(place, 0.8)}) == first + 1
    assert adaptation.kind(None, {**still, "xz": placing.zoomed(place, 0.8)}) == first + 1
    assert adaptation.kind(None, still) == first + 2
