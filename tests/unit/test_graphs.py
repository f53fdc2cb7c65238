"""What is recorded as a CUDA graph, and what goes on where that fails; for an interface of CUDA that does nothing."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tango_jit.learn.graphs import WARM_UPS, recorded


class Graph:
    """Replayed it says so."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is done at once."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("current_stream", "Stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: stream)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)


def test_work_is_recorded_once_and_replayed() -> None:
    done: list[int] = []
    run, why = recorded(lambda: done.append(1))
    assert (len(done), why) == (WARM_UPS + 1, "")
    run()
    assert len(done) == WARM_UPS + 1
    assert run.__self__.replayed == 1  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize("fails_at", [0, WARM_UPS])
def test_work_that_cannot_be_recorded_is_done_as_it_is_and_why_is_told(
    fails_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails on its own before, or only while it is recorded."""
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == fails_at + 1:
            raise RuntimeError("operation not permitted when stream is capturing")

    run, why = recorded(work)
    assert run is work
    assert why == "no CUDA graph: RuntimeError: operation not permitted when stream is capturing"
    assert why in caplog.text
    run()
    assert len(calls) == fails_at + 2
