"""Attributes as metrics: names and base units of Prometheus."""

import pytest

from devices.metrics import COUNTERS, Figure, figure
from tools.device_reference import DOORS


@pytest.mark.parametrize(
    ("name", "unit", "value", "metric", "expected"),
    [
        ("latency_ms", "ms", 250.0, "latency_seconds", 0.25),
        ("memory_mb", "MB", 2.0, "memory_bytes", 2.0 * 2**20),
        ("weights_age_s", "s", 3.0, "weights_age_seconds", 3.0),
        ("progress", "%", 50.0, "progress_ratio", 0.5),
        ("pixels_replaced_percent", "%", 10.0, "pixels_replaced_ratio", 0.1),
        ("rate_hz", "Hz", 2.0, "rate_hertz", 2.0),
        ("steps_per_s", "Hz", 14.0, "steps_per_second", 14.0),
        ("quality", "dB", 3.0, "quality_decibels", 3.0),
        ("running", "", True, "running", 1.0),
    ],
)
def test_a_gauge_is_in_base_units(name: str, unit: str, value: float, metric: str, expected: float) -> None:
    assert figure(name, unit, "text", value) == Figure(metric, pytest.approx(expected), "text", False)  # type: ignore[arg-type]


def test_what_only_grows_is_a_counter() -> None:
    assert figure("frames_lost", "", "text", 3) == Figure("frames_lost", 3.0, "text", True)


def test_every_counter_is_an_attribute_of_a_device() -> None:
    known = {signal.name for door in DOORS if door.service_class for signal in door.service_class.table()}
    assert known >= COUNTERS
