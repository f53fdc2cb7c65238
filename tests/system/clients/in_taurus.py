"""A script of Taurus: every attribute with its unit and limits, a setting, events instead of polling."""

from __future__ import annotations

import sys
import threading
from typing import Any

import taurus

names = dict(name.split("=") for name in sys.argv[1:])
for device in names.values():
    attributes = taurus.Device(device).get_attribute_list()
    for name in attributes:
        attribute = taurus.Attribute(f"{device}/{name}")
        reading = attribute.read()
        assert reading is not None, attribute
        for limits in (attribute.range, attribute.warnings, attribute.alarms):
            assert len(str(limits)) > 3  # with units that it understands
    print(f"{device}: {len(attributes)} read")

rate = taurus.Attribute(f"{names['trainer']}/learning_rate")
assert (rate.label, rate.range[1].magnitude) == ("Learning rate", 1.0)
rate.write(0.0015)
assert rate.read(cache=False).rvalue.magnitude == 0.0015
period = taurus.Attribute(f"{names['trainer']}/publish_every_s")
period.write(period.range[0] * 0 + 500 * period.range[0].units / 1000)
assert str(period.read(cache=False).rvalue.to("ms")) == "500.0 ms"

picture = taurus.Attribute(f"{names['denoiser']}/denoised_xy").read(cache=False).rvalue
assert picture.magnitude.dtype == "float32"
assert str(picture.units) == "1 / mm"

came = threading.Event()
seen: list[int] = []


def follow(source: Any, kind: Any, value: Any) -> None:
    if getattr(value, "rvalue", None) is not None:
        seen.append(int(value.rvalue.magnitude))
        if len(set(seen)) > 2:
            came.set()


number = taurus.Attribute(f"{names['denoiser']}/frame_number_xy")
number.addListener(follow)
assert came.wait(30), seen
assert not number.isPollingActive()
number.removeListener(follow)
print("taurus: all right")
