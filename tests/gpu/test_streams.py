"""Priorities on a real device."""

from __future__ import annotations

import torch

from tango_jit.cuda_streams import ROLES, hand_over, launching, on, stream


def test_each_kind_of_work_has_a_stream_of_its_own() -> None:
    streams = [stream(role) for role in ROLES]
    assert len({made.cuda_stream for made in streams}) == 3
    assert stream("live") is streams[0]
    priorities = [made.priority for made in streams]
    assert priorities == sorted(priorities)
    assert priorities[0] < priorities[-1]


def test_work_is_launched_on_the_stream_of_its_role() -> None:
    before = torch.cuda.current_stream()
    with launching("training", "cuda"):
        assert torch.cuda.current_stream() == stream("training")
    assert torch.cuda.current_stream() == before


def test_live_work_goes_before_training() -> None:
    """Queued last, done first: of two queues of the same length the one with priority ends earlier."""
    matrix = torch.randn(4096, 4096, device="cuda")
    ends = {}
    torch.cuda.synchronize()
    for role in ("training", "live"):
        with torch.cuda.stream(stream(role)):
            for _ in range(40):
                matrix.mm(matrix)
            ends[role] = torch.cuda.Event()
            ends[role].record()
    ends["live"].synchronize()
    assert not ends["training"].query()
    torch.cuda.synchronize()


def test_what_is_handed_over_is_complete() -> None:
    for _ in range(10):
        with torch.cuda.stream(stream("samples")):
            large = torch.randn(4096, 4096, device="cuda")
            pairs = (large @ large).sum() * 0 + torch.ones(1 << 20, device="cuda")
            hand_over(pairs, stream("training"))
        with torch.cuda.stream(stream("training")):
            total = pairs.sum()
            del pairs
        with torch.cuda.stream(stream("samples")):
            torch.zeros(1 << 20, device="cuda")  # would take the memory of `pairs`
        assert total.item() == 1 << 20


def test_work_on_a_stream_is_ready_for_the_current_one() -> None:
    for _ in range(10):
        large = torch.randn(4096, 4096, device="cuda")
        torch.cuda.synchronize()
        made = on("samples", "cuda", lambda large=large: (large @ large).sum() * 0 + torch.ones(9, device="cuda"))
        assert torch.cuda.current_stream() != stream("samples")
        assert made.sum().item() == 9
