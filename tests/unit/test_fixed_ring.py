"""Views in 16 bits: what comes out is what went in, to the rounding that is promised."""

import numpy as np
import pytest

from tango_jit.recon.backproject.fixed import FixedRing


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("peak", [1e-3, 0.1, 0.499, 0.501, 1.0, 300.0, 6e4])
def test_views_of_any_size_are_kept_to_a_65534th_of_their_peak(dtype: type, peak: float) -> None:
    view = (np.random.default_rng(0).uniform(-1, 1, (9, 37)) * peak).astype(dtype)
    ring = FixedRing.empty(2, 9, 37)
    ring.put(1, view)
    largest = np.abs(view.astype(np.float64)).max()
    assert np.abs(ring.read(1) - view.astype(np.float64)).max() <= 1.01 * largest / 65534
