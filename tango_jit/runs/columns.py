"""What a run keeps of every picture beside the picture itself: one column of numbers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tango_jit.streams.messages import Denoised

MODES = ("none", "halves", "full")
SHARES = 16  # room for so many bands
SHARE = "share_"
GROUP = "slice_"  # and its name: a slice may be called as something else in the entry is


class ColumnKind(NamedTuple):
    """One column: the type and shape of an entry, its unit, what it is, and its value for a picture."""

    dtype: str
    shape: tuple[int, ...]
    unit: str
    meaning: str
    value: Callable[[Denoised], Any]


class PictureError(ValueError):
    """A picture that cannot be described."""


def entries(picture: Denoised) -> dict[str, Any]:
    """The entry of each column. Raises PictureError."""
    try:
        return {name: np.array(kind.value(picture), kind.dtype) for name, kind in COLUMNS.items()}
    except Exception as error:  # what a picture says of how it was made may be anything
        raise PictureError(
            f"{picture.slice}: expected a picture as this version knows it, got {picture}: {error}"
        ) from error


def _shares(picture: Denoised) -> list[float]:
    return [picture.made.get(f"{SHARE}{band}", np.nan) for band in range(SHARES)]


def _place(picture: Denoised) -> np.ndarray:
    place = picture.geometry
    return np.array([*place.origin_mm, *place.u_mm, *place.v_mm])


COLUMNS: Mapping[str, ColumnKind] = {
    "first_frame": ColumnKind("i8", (), "", "number of the first frame in the picture", lambda p: p.first_frame),
    "last_frame": ColumnKind("i8", (), "", "number of the last frame in the picture", lambda p: p.last_frame),
    "timestamp": ColumnKind(
        "f8", (), "s", "when the last of its frames reached the reconstructor, since the epoch", lambda p: p.timestamp_s
    ),
    "geometry": ColumnKind("f8", (9,), "mm", "corner, edge along columns, edge along rows", _place),
    "generation": ColumnKind("i8", (), "", "counts changes of slices, filter, centre, flat", lambda p: p.generation),
    "complete": ColumnKind("u1", (), "", "1: neither half of the views has a gap", lambda p: p.complete),
    "accuracy": ColumnKind(
        "f8",
        (),
        "",
        "accuracy of the network on this picture; NaN: not known",
        lambda p: np.nan if p.accuracy is None else p.accuracy,
    ),
    "weights_version": ColumnKind("i8", (), "", "version of the weights; 0: none", lambda p: p.weights_version),
    "weights_sha256": ColumnKind(
        "S64", (), "", "SHA-256 of the weights' safetensors", lambda p: p.made.get("weights_sha256", "").encode()
    ),
    "mode": ColumnKind(
        "u1",
        (),
        "",
        "0: as reconstructed, 1: mean of both denoised halves, 2: denoised whole",
        lambda p: MODES.index(p.made.get("mode", "none")),
    ),
    "guarded": ColumnKind(
        "u1", (), "", "1: the guard showed the picture as reconstructed", lambda p: p.made.get("guarded", False)
    ),
    "shares": ColumnKind(
        "f8",
        (SHARES,),
        "",
        "part of the network's change that is shown, an octave each from the highest frequencies down; no number: all",
        _shares,
    ),
    "task": ColumnKind("S16", (), "", "what the network was trained for", lambda p: p.task.encode()),
    "shape": ColumnKind("i8", (2,), "", "rows and columns of the picture", lambda p: p.geometry.shape),
    # A name has at most 256 characters, of four bytes at most.
    "series": ColumnKind("S1024", (), "", "the series of frames", lambda p: p.series.encode()),
}
