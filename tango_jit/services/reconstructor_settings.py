"""What the reconstructor's settings mean for its pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tango_jit.geometry import ScanGeometry
from tango_jit.recon.pipeline import Options, check_center
from tango_jit.recon.preprocess import FILTERS, Corrections, Region
from tango_jit.services.reconstructor_signals import CORRECTIONS, FILTER_NAMES

_OF_CORRECTIONS = {signal.name for signal in CORRECTIONS}


def options(values: Mapping[str, Any]) -> Options:
    """The options of a pipeline from the values of the signals. Raises ValueError for corrections that cannot be."""
    return Options(
        filter=FILTERS[FILTER_NAMES.index(values["filter"])],
        center_offset_px=values["center_offset_px"],
        full_turn=values["full_turn"],
        edge_extend=values["edge_extend"],
        saturation_counts=values["saturation_counts"] or None,
        corrections=_corrections(values),
    )


def check(name: str, values: Mapping[str, Any], geometry: ScanGeometry | None) -> None:
    """Raises ValueError if the setting `name` among `values` cannot be, or not for this scan (None: no scan yet).

    What is needed for phase retrieval may come in any order: what is missing, the pipeline tells.
    """
    if name in _OF_CORRECTIONS:
        corrections = _corrections(values)
        if name == "air_region" and geometry is not None:
            corrections.check_region(geometry)
    if name == "center_offset_px" and geometry is not None:
        check_center(geometry, values[name])


def _corrections(values: Mapping[str, Any]) -> Corrections:
    phase = ("delta_beta", "energy_kev", "propagation_mm") if values["delta_beta"] else ()
    return Corrections(
        zinger_excess=values["zinger_excess"],
        ring_turns=values["ring_turns"],
        air_region=_region(values["air_region"]),
        **{name: values[name] for name in phase},
    )


def _region(text: str) -> Region | None:
    """First and last column, first and last row; None for an empty text. Raises ValueError for another one."""
    if not text.strip():
        return None
    words = re.split(r"[\s,;:]+", text.strip())
    if len(words) != 4 or not all(word.isdecimal() for word in words):
        raise ValueError(
            f"air_region: expected four pixel numbers (first column, last column, first row, last row), got {text!r}"
        )
    left, right, low, high = map(int, words)
    return left, right, low, high
