"""Pictures of slices as PNG, in colours; levels are those of all slices together, so that they can be compared."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Raster
from plotly.colors import get_colorscale, sample_colorscale

from devices.watch.pictures import Image, Picture
from tango_jit.view import reduced, textured
from tango_jit.view.display import bar_length, even_levels, following, levels

Levels = tuple[float, float]
Table = NDArray[np.uint8]

SCALES = {  # of Plotly; "": greys, evenly apart
    "attenuation": "",
    "probability": "",
    "difference": "RdBu_r",
    "uncertainty": "magma",
}
COMPRESSION = 1  # noise hardly gets smaller, and the processor is that of the servers


def levels_of(images: Iterable[Image], group: str, before: Levels | None) -> Levels | None:
    """Levels for all images of a group, those of `before` as long as they do; None: there are no images."""
    if group == "probability":
        return 0.0, 1.0
    return following(before, even_levels(images) if group == "difference" else levels(images))


@cache
def table(group: str) -> Table:
    """(256, 3): colours from the lower level to the upper."""
    if not SCALES[group]:
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours: Any = sample_colorscale(get_colorscale(SCALES[group]), 256, colortype="tuple")
    return np.rint(255 * np.array(colours)).astype(np.uint8)


def drawn(image: Image, group: str, between: Levels, longest: int) -> bytes:
    """PNG of an image (rows, cols), no side longer than `longest` pixels; without a value it is transparent."""
    small = reduced(image, longest)
    colours, known = textured(small, between, table(group), longest), np.isfinite(small)
    if not known.all():
        colours = np.dstack([colours, 255 * known.astype(np.uint8)])
    return png(colours)


def png(colours: NDArray[np.uint8]) -> bytes:
    """Of (height, width, 3 or 4)."""
    out = io.BytesIO()
    Raster.fromarray(colours).save(out, "PNG", compress_level=COMPRESSION)
    return out.getvalue()


def unmultiplied(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 4) as PNG has them, of colours that are multiplied with their opacity."""
    opacity = np.maximum(colours[..., 3:].astype(np.float32), 1)
    plain = np.minimum(255 * colours[..., :3].astype(np.float32) / opacity, 255)
    return np.concatenate([plain.astype(np.uint8), colours[..., 3:]], axis=2)


def scale_bar(picture: Picture) -> dict[str, float]:
    """`width_mm` of the picture and `bar_mm`, the length of a bar for it; empty where its place is not told."""
    if picture.place is None:
        return {}
    width = float(np.linalg.norm(picture.place.u_mm))
    return {"width_mm": width, "bar_mm": bar_length(width)}
