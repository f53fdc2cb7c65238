"""Where frames come from: the one seam between replayed or live data and everything that sends them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from tango_jit.streams.messages import Dark, Flat, Header, Image


class FrameSource(Protocol):
    """A scan, frame by frame; one frame in memory at a time. For a scan that still runs `len` grows."""

    @property
    def header(self) -> Header:
        """The scan: stage "raw"."""
        ...

    @property
    def dark(self) -> Dark | None:
        """The mean frame without beam; None: there is none."""
        ...

    @property
    def flat(self) -> Flat | None:
        """The mean frame without a sample; None: there is none."""
        ...

    @property
    def frame_numbers(self) -> Sequence[int]:
        """The number of each frame, in the order of recording; gaps are frames that were lost or invalid."""
        ...

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def frame(self, index: int, /) -> Image:
        """Frame at position `index`, 0 to len - 1 (not by number); IndexError outside."""
        ...

    def close(self) -> None:
        """Give back files and sockets; twice is no error."""
        ...

    def __enter__(self) -> Self:
        """The source itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        ...
