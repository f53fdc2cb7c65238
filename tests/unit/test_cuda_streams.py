"""Priorities where there is no CUDA device: nothing is different. With one: tests/gpu/test_streams.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tango_jit.cuda_streams import launching, on, stream, take


def test_elsewhere_work_is_just_done() -> None:
    made = torch.ones(3)
    assert on("samples", "cpu", lambda: made) is made
    take("live", "cpu")
    with launching("training", "cpu", made):
        made += 1
    assert made.tolist() == [2, 2, 2]


def enter(role: Any) -> None:
    with launching(role, "cpu"):
        pass


@pytest.mark.parametrize("use", [stream, enter, lambda role: take(role, "cpu"), lambda role: on(role, "cpu", int)])
def test_an_unknown_role_is_refused(use: Any) -> None:
    with pytest.raises(ValueError, match="role: expected one of live, samples, training, got 'idle'"):
        use("idle")
