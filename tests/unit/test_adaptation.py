"""What is a jump of the experiment, and what is only another network."""

from __future__ import annotations

import numpy as np
import pytest

from tango_jit.learn import NetworkConfig
from tango_jit.services.adaptation import Adaptation
from tango_jit.services.pairs import Pairs

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
