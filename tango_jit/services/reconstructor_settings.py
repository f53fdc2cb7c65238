"""What the reconstructor's settings mean for its pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tango_jit.recon.pipeline import Options
from tango_jit.recon.preprocess import FILTERS
from tango_jit.services.reconstructor_signals import FILTER_NAMES


def options(values: Mapping[str, Any]) -> Options:
    """The options of a pipeline from the values of the signals."""
    return Options(
        filter=FILTERS[FILTER_NAMES.index(values["filter"])],
        center_offset_px=values["center_offset_px"],
        full_turn=values["full_turn"],
        edge_extend=values["edge_extend"],
        saturation_counts=values["saturation_counts"] or None,
    )
