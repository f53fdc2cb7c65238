"""A script of Bluesky: devices as ophyd-async finds them, settings, commands, and a plan that takes pictures."""

from __future__ import annotations

import sys
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
from bluesky import RunEngine
from ophyd_async.core import init_devices
from ophyd_async.tango.core import TangoDevice

names = dict(name.split("=") for name in sys.argv[1:])
engine = RunEngine()
with init_devices():
    devices: dict[str, Any] = {member: TangoDevice(name, name=member) for member, name in names.items()}
    for device in devices.values():
        locals()[f"device_{device.name}"] = device  # it connects what it finds here
trainer, denoiser = devices["trainer"], devices["denoiser"]
events: list[dict[str, Any]] = []
engine.subscribe(lambda name, document: events.append(document["data"]), "event")


def plan() -> Any:
    yield from bps.abs_set(trainer.learning_rate, 0.0025, wait=True)
    assert (yield from bps.rd(trainer.learning_rate)) == 0.0025
    yield from bps.abs_set(trainer.sampling, "UNIFORM", wait=True)
    assert (yield from bps.rd(trainer.sampling)) == "UNIFORM"
    yield from bps.trigger(trainer.Pause, wait=True)
    yield from bps.trigger(trainer.Start, wait=True)
    yield from bp.count([denoiser.denoised_xy, denoiser.raw_xy, denoiser.frame_number_xy, denoiser.evidence], num=2)


engine(plan())
assert len(events) == 2
assert np.shape(events[0]["denoiser-denoised_xy"]) == np.shape(events[0]["denoiser-raw_xy"])
assert events[0]["denoiser-frame_number_xy"] > 0
print("bluesky: all right")
