"""What a scan needs on a device, and what happens where that is too much: arithmetic done by hand."""

from __future__ import annotations

import pytest

from tango_jit.recon.backproject import memory
from tango_jit.recon.backproject.memory import EXACT, HALF, Plan, plan, ring_bytes


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


def test_slices_pairs_and_networks() -> None:
    assert memory.slices_bytes(3, 512, 512) == 2 * 3 * 3 * 4 * 512**2
    assert memory.pairs_bytes(320, 48, 8) == 328 * 2 * 4 * 48**2
    assert memory.network_bytes(1000, 200, 64**2, training=False, activation=2) == 4000 + 2 * 200 * 64**2
    assert memory.network_bytes(1000, 200, 64**2, training=True) == 5 * 4000 + 2 * 4 * 200 * 64**2


ROWS, COLS = 768, 1024
VIEW = 768 * 1024 * 4


@pytest.mark.parametrize(
    ("free", "views", "texel", "words"),
    [
        (200 * VIEW + 100, 200, EXACT, ""),
        (199 * VIEW, 150, EXACT, "expected 629 MB for 200 views, got 626 MB: 150 views are kept, none to spare"),
        (140 * VIEW, 200, HALF, "expected 629 MB for 200 views, got 440 MB: texels of 16 bits instead of 32"),
        (80 * VIEW + 100, 150, HALF, "got 252 MB: 150 views are kept, none to spare, texels of 16 bits instead of 32"),
    ],
)
def test_what_does_not_fit_is_reduced(free: int, views: int, texel: int, words: str) -> None:
    """First fewer spare views, then fewer bits, then both."""
    made = plan(200, 150, ROWS, COLS, free, {"pairs": 100})
    assert made[:2] == (views, texel)
    assert words in made.message
    assert bool(made.message) == bool(words)
    assert ring_bytes(made.views, ROWS, COLS, made.texel) + 100 <= free


def test_what_does_not_fit_at_all_is_refused_with_all_parts() -> None:
    with pytest.raises(
        MemoryError,
        match=r"device memory: expected 536 MB free \(150 views of 768 x 1024 pixels of 16 bits 236 MB, slices 200 MB, "
        r"pairs 100 MB\), got 500 MB: bin the frames or take smaller slices",
    ):
        plan(200, 150, ROWS, COLS, 500_000_000, {"slices": 200_000_000, "pairs": 100_000_000})


def test_a_ring_of_16_bits_stays_one() -> None:
    assert plan(200, 150, ROWS, COLS, 100 * VIEW, {}, HALF) == Plan(200, HALF, "")


def test_refusals_name_both_sizes() -> None:
    memory.refuse("slices", 1000, 1000)
    with pytest.raises(MemoryError, match="slices: expected 2,000 MB of device memory, got 1,500 MB free"):
        memory.refuse("slices", 2_000_000_000, 1_500_000_000)
