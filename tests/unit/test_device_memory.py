"""What a scan needs on a device, and what happens where that is too much: arithmetic done by hand."""

from __future__ import annotations

import pytest

from tango_jit.recon.backproject import memory
from tango_jit.recon.backproject.memory import HALF, ring_bytes


def test_textures_are_rounded_up_to_their_blocks() -> None:
    assert ring_bytes(150, 647, 768) == 150 * 768 * 768 * 4  # blocks of 128 rows
    assert ring_bytes(150, 647, 768, HALF) == 150 * 768 * 768 * 2
    assert ring_bytes(1, 1, 1) == 64 * 8
    assert ring_bytes(1, 9, 17) == 2 * 64 * 16  # 68 bytes a row; blocks of 16 rows
    assert ring_bytes(1, 50, 16) == 64 * 64


def test_the_work_space_of_the_filter() -> None:
    """One frame of 10 x 100: in and out 8000 B, padded to 200: 8000 B, twice a spectrum of 101 complex: 16160 B."""
    assert memory.filter_bytes(1, 10, 100) == 8000 + 8000 + 16160
    assert memory.filter_bytes(3, 10, 100, 256) == 3 * (8000 + 10 * 4 * 256 + 2 * 10 * 8 * 129)


def test_slices_are_kept_and_made_anew() -> None:
    assert memory.slices_bytes(3, 512, 512) == 2 * 3 * 3 * 4 * 512**2


def test_refusals_name_both_sizes() -> None:
    memory.refuse("slices", 1000, 1000)
    with pytest.raises(MemoryError, match="slices: expected 2,000 MB of device memory, got 1,500 MB free"):
        memory.refuse("slices", 2_000_000_000, 1_500_000_000)
