"""What an operator sets at the reconstructor, and what its pipeline gets."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest

from tango_jit.recon.pipeline import Options
from tango_jit.recon.preprocess import FILTERS, Corrections
from tango_jit.services.reconstructor_settings import options
from tango_jit.services.reconstructor_signals import FILTER_NAMES, SETTINGS

DEFAULTS = {signal.name: signal.default for signal in SETTINGS}
PHASE = {"delta_beta": 100.0, "energy_kev": 20.0, "propagation_mm": 50.0}  # works together only
# Option, value of its setting, what the option is then.
REACHED = [
    *(("filter", name, filter) for name, filter in zip(FILTER_NAMES, FILTERS, strict=True)),
    ("center_offset_px", 1.5, 1.5),
    ("full_turn", True, True),
    ("edge_extend", True, True),
    ("saturation_counts", 4095.0, 4095.0),
    ("zinger_excess", 0.2, 0.2),
    ("ring_turns", 3.0, 3.0),
    ("air_region", "0, 3 1;2", (0, 3, 1, 2)),
    *((name, value, value) for name, value in PHASE.items()),
]


def flat(wanted: Options) -> dict[str, Any]:
    """All options by name, those of the corrections among them."""
    values = asdict(wanted)
    corrections = values.pop("corrections")
    return values | corrections


@pytest.mark.parametrize(("name", "value", "expected"), REACHED)
def test_every_setting_reaches_the_option_of_its_name_alone(name: str, value: Any, expected: Any) -> None:
    others = PHASE if name in PHASE else {}
    changed = flat(Options()) | others | {name: expected}
    assert flat(options(DEFAULTS | others | {name: value})) == changed


def test_no_option_is_left_out() -> None:
    names = {field.name for kind in (Options, Corrections) for field in fields(kind)} - {"corrections"}
    assert {name for name, *_ in REACHED} == names
    assert flat(options(DEFAULTS)) == flat(Options())
