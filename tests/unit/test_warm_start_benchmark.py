"""What the benchmark of warm starts calls reached."""

import pytest

from benchmarks.warm_start import reached


@pytest.mark.parametrize(
    ("psnr", "steps"), [([1, 1, 1], None), ([3, 1, 3], 12), ([1, 3, 3], 8), ([3, 3, 3], 4), ([3, 3, 1], None)]
)
def test_a_goal_is_reached_where_it_is_not_left_again(psnr, steps):
    curve = [{"steps": 4 * (n + 1), "cpu_s": 0.1 * n, "xy": value} for n, value in enumerate(psnr)]
    found = reached(curve, "xy", 2.0)
    assert (found and found["steps"]) == steps
