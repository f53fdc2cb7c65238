"""Find the centre of rotation in a full window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.center.opposite import by_opposite_views, holds_whole_turns
from tango_jit.recon.center.plane import copied_band
from tango_jit.recon.center.search import AGREE_PX, TRUSTED, Search
from tango_jit.recon.center.sharpness import by_sharpness, sharpness
from tango_jit.recon.window import Window

__all__ = ["METHODS", "TRUSTED", "Search", "both", "find_center", "sharpness"]

METHODS = ("auto", "sharpness", "opposite")
_OPPOSITE_SHARE = 0.2  # of the time of both


def find_center(
    window: Window, scan: ScanGeometry, *, reach_px: float = 20.0, backend: str = "cpu", method: str = "auto"
) -> Iterator[Search]:
    """Search up to `reach_px` columns around the present centre, a fraction of a second for every item.

    Those rows of the window's views that show the mid-plane are copied, so the search may go on while the stream does.
    The last item is the answer; one of a confidence below `TRUSTED` is a guess.

    method : "sharpness" of the mid-plane slice, "opposite" views, or "auto": both, see `both`.

    Raises ValueError for another method.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    window, first_row = copied_band(window, scan)
    if method == "sharpness":
        return by_sharpness(window, scan, reach_px, backend)
    if method == "opposite":
        return by_opposite_views(window, scan, reach_px, first_row)
    return _by_both(window, scan, reach_px, first_row, backend)


def _by_both(window: Window, scan: ScanGeometry, reach_px: float, first_row: int, backend: str) -> Iterator[Search]:
    answers, whole_turn = [], holds_whole_turns(window)
    for search, start, share in (
        (by_opposite_views(window, scan, reach_px, first_row), 0.0, _OPPOSITE_SHARE),
        (by_sharpness(window, scan, reach_px, backend), _OPPOSITE_SHARE, 1 - _OPPOSITE_SHARE),
    ):
        item = Search(0.0, 0.0)
        for item in search:
            if item.progress < 1:
                yield replace(item, progress=start + share * item.progress)
        answers.append(item)
    yield both(*answers, whole_turn=whole_turn)


def both(opposite: Search, sharpest: Search, *, whole_turn: bool) -> Search:
    """One answer of two. If they agree it is the finer one: that of opposite views where the window holds them all
    around (`whole_turn`), else, with those at the ends alone, that of sharpness. Each may be wrong by chance, but
    hardly by the same. If they differ it is the one of higher confidence, from which the other's takes away."""
    better, worse = sorted((opposite, sharpest), key=lambda found: found.confidence, reverse=True)
    if abs(opposite.shift_px - sharpest.shift_px) <= AGREE_PX:
        finer = opposite if whole_turn else sharpest
        return replace(finer, confidence=1 - (1 - better.confidence) * (1 - worse.confidence))
    return replace(better, confidence=better.confidence * (1 - worse.confidence))
