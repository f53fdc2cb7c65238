"""What the noise of a stream is like: scanner, views, voxel, filter, dose. Weights that were good for one stream are
worth trying on those with a fingerprint near it.

A checkpoint can carry one, as a second entry of the metadata beside what `weights.py` writes there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from torch import Tensor

from tango_jit.geometry import Beam, ScanGeometry, SliceGeometry
from tango_jit.learn import noise2inverse
from tango_jit.learn.noise2inverse import Split

_KEY = "tango_jit_fingerprint"
# How much a doubling counts: what the look of the noise follows from in full, what only says which scanner it is less.
WEIGHTS: Mapping[str, float] = {
    "noise": 1.0,
    "views": 1.0,
    "pixel_mm": 1.0,
    "source_axis_mm": 0.25,
    "source_detector_mm": 0.25,
    "detector_pixel_mm": 0.25,
    "columns": 0.25,
}
OTHER = 1.0  # what another beam or another filter counts


@dataclass(frozen=True)
class Fingerprint:
    """Raises ValueError in words for what is none.

    Parameters
    ----------
    filter : the ramp filter of the projections; empty: not known.
    source_axis_mm, source_detector_mm : 0 for a parallel beam.
    detector_pixel_mm, columns : pitch and number of the detector's columns.
    views : of the turn that a slice is made from.
    pixel_mm : of the slices.
    noise : standard deviation of the noise of a whole slice, as part of its contrast: the dose.
    """

    beam: Beam
    filter: str
    source_axis_mm: float
    source_detector_mm: float
    detector_pixel_mm: float
    columns: int
    views: int
    pixel_mm: float
    noise: float

    def __post_init__(self) -> None:
        if self.beam not in ("cone", "parallel") or not isinstance(self.filter, str):
            raise ValueError(f"fingerprint: expected beam and filter as words, got {self.beam!r} and {self.filter!r}")
        for name in WEIGHTS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"fingerprint: {name}: expected a finite number from 0 on, got {value!r}")

    def distance(self, other: Self) -> float:
        """0 for the same; about 1 where one thing that matters is twice as much, or another filter or beam."""
        told = OTHER**2 * ((self.beam != other.beam) + (self.filter != other.filter))
        for name, weight in WEIGHTS.items():
            a, b = getattr(self, name), getattr(other, name)
            if min(a, b) > 0:  # 0 is no distance at all: that of a parallel beam
                told += (weight * math.log2(a / b)) ** 2
        return math.sqrt(told)

    def __str__(self) -> str:
        filtered = f" {self.filter}" if self.filter else ""
        return f"{self.beam} {self.views} views {self.pixel_mm:.3g} mm{filtered} noise {self.noise:.2g}"

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Of what `asdict` gave. Raises ValueError in words."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"fingerprint: expected the fields {sorted(names)}, got {str(values)[:80]}")
        return cls(**values)


def fingerprint(
    geometry: ScanGeometry,
    *,
    filter: str | None,
    views: int,
    places: Iterable[SliceGeometry],
    pairs: Tensor,
    split: Split,
) -> Fingerprint | None:
    """Of a stream with these new pairs (n, 2, ..., rows, cols) in mm^-1; None where they say nothing.

    `views`: of a turn; `places`: the slices, none: their pixels are as large as the voxels at the axis.
    """
    noise = relative_noise(pairs, split)
    if noise is None:
        return None
    source, detector = (np.array(vector) for vector in (geometry.source_mm, geometry.detector_mm))
    normal = np.cross(geometry.u_mm, geometry.v_mm)
    normal /= np.linalg.norm(normal)
    cone = geometry.beam == "cone"
    pixels = [place.pixel_mm[0] for place in places]
    return Fingerprint(
        beam=geometry.beam,
        filter=filter or "",
        source_axis_mm=float(abs(normal @ source)) if cone else 0.0,
        source_detector_mm=float(abs(normal @ (detector - source))) if cone else 0.0,
        detector_pixel_mm=float(np.linalg.norm(geometry.u_mm)),
        columns=geometry.cols,
        views=views,
        pixel_mm=float(np.median(pixels)) if pixels else geometry.voxel_mm,
        noise=noise,
    )


def relative_noise(pairs: Tensor, split: Split) -> float | None:
    """Standard deviation of the noise of whole slices as part of their contrast, from pairs (n, 2, ..., rows, cols).

    A half has half the views, and so twice the power of the noise. None: the pairs are equal, or show nothing.
    """
    good = pairs[noise2inverse.distinct(noise2inverse.samples(pairs))]
    scale = noise2inverse.robust_scale(good) if len(good) else 0.0
    if scale <= 0:
        return None
    power = (good[:, 0] - good[:, 1]).square().flatten(1).mean(1).median()  # what moves in some does not count
    noise = math.sqrt(float(power) / (4 if split == "halves" else 2)) / scale
    return noise if 0 < noise < math.inf else None


def stamped(checkpoint: bytes, found: Fingerprint) -> bytes:
    """The same checkpoint (a safetensors file), with its fingerprint."""
    header, tensors = _parts(checkpoint)
    header.setdefault("__metadata__", {})[_KEY] = json.dumps(asdict(found), allow_nan=False)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + tensors


def stamp(checkpoint: bytes) -> Fingerprint | None:
    """The fingerprint in a checkpoint, None where there is none. Raises ValueError for what is no checkpoint."""
    text = _parts(checkpoint)[0].get("__metadata__", {}).get(_KEY)
    return None if text is None else Fingerprint.from_dict(json.loads(text))


def _parts(checkpoint: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes of its tensors."""
    size = int.from_bytes(checkpoint[:8], "little")
    try:
        header = json.loads(checkpoint[8 : 8 + size])
    except ValueError as error:
        raise ValueError(f"fingerprint: expected a safetensors file, got {len(checkpoint)} bytes: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"fingerprint: expected a safetensors file, got {len(checkpoint)} bytes")
    return header, checkpoint[8 + size :]
