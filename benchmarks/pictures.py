"""Reconstruct the real scans and keep pictures of them: `python -m benchmarks.pictures [FOLDER]`.

Needs the real scans (see tests/shared_data.py). The folder is docs/images unless another one is named.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tests import real_scans
from tests.reconstructions import full_slice, whole_window


def grey(slice_: NDArray[np.float32], low: float = 0.5, high: float = 99.7) -> NDArray[np.uint8]:
    """8 bit between two percentiles."""
    bottom, top = np.percentile(slice_, (low, high))
    return (255 * np.clip((slice_ - bottom) / (top - bottom), 0, 1)).astype(np.uint8)


def save(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Side by side, with a white line between."""
    line = np.full((len(pictures[0]), 4), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, line)][:-1]
    Picture.fromarray(np.hstack(row)).save(path, optimize=True)
    print(f"{path} {path.stat().st_size // 1000} kB")


def savu_places(geometry: ScanGeometry, side: int) -> list[SliceGeometry]:
    """Through the pin: horizontal, two vertical and an oblique one."""
    pixel = 2 * geometry.radius_mm / side
    directions = [((1, 0, 0), (0, -1, 0)), ((1, 0, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, -1)), ((1, 1, 0), (1, -1, -2))]
    centres = [(0, 0, -25), (0, 0, 0), (0, 0, 0), (0, 0, 0)]
    return [
        SliceGeometry.centered(centre, u, v, pixel_mm=pixel, shape=(side, side))
        for centre, (u, v) in zip(centres, directions, strict=True)
    ]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)

        geometry, window = whole_window(real_scans.htc(scratch))
        side = 300
        place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=75.9 / side, shape=(side, side))
        whole = full_slice(geometry, window, place)
        geometry, window = whole_window(real_scans.htc_stream(scratch))
        save(folder / "htc_ta.png", [grey(whole), grey(full_slice(geometry, window, place))])

        geometry, window = whole_window(real_scans.walnut(scratch))
        save(folder / "walnut.png", [grey(full_slice(geometry, window, default_slices(geometry)["xy"]))])

        geometry, window = whole_window(real_scans.tooth(scratch))
        place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=1.5, shape=(380, 380))
        save(folder / "tooth.png", [grey(full_slice(geometry, window, place))])

        geometry, window = whole_window(real_scans.savu(scratch), edge_extend=True)
        slices = np.stack([full_slice(geometry, window, place) for place in savu_places(geometry, 200)])
        save(folder / "savu.png", list(grey(slices, high=97.5)))

        geometry, window = whole_window(real_scans.dendrite(scratch), filter="hann", edge_extend=True)
        place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=3.3, shape=(380, 380))
        save(folder / "dendrite.png", [grey(full_slice(geometry, window, place))])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "images")
