"""How many slices a network sees by itself: what the scan offers and the computer can make."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tango_jit.cores import slice_pixels
from tango_jit.learn import PRODUCT
from tango_jit.services.trainer_settings import deep_as
from tests.services.scans import CONE


@pytest.mark.parametrize(
    ("rows", "cols", "cores", "depth"),
    [(647, 768, 2, 1), (324, 384, 2, 3), (647, 768, 8, 3), (647, 768, 4, 1), (1, 384, 8, 1), (2048, 2048, 16, 1)],
)
def test_neighbours_where_there_are_some_and_they_come_in_time(rows: int, cols: int, cores: int, depth: int):
    geometry = replace(CONE, rows=rows, cols=cols)
    assert deep_as(PRODUCT, geometry, slice_pixels(cores)).network.depth == depth
    assert deep_as(PRODUCT, geometry, math.inf).network.depth == (1 if rows == 1 else 3)
    kept = PRODUCT.edited(form="residual", depth=5)
    assert deep_as(kept, geometry, slice_pixels(cores)) == kept
