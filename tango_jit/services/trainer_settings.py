"""The trainer's settings as signals, and as the one text that remembers them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from tango_jit.geometry import ScanGeometry
from tango_jit.learn.settings import SETTINGS, TrainerSettings
from tango_jit.learn.unet import NetworkConfig
from tango_jit.services.container import check as check_container
from tango_jit.services.slices import DEFAULTS

FIELDS = (
    "task",
    "features",
    "depth",
    "frames",
    "frame_interval",
    "target",
    "learning_rate",
    "batch_size",
    "patch_size",
    "buffer_size",
)
AUTOMATIC = MappingProxyType({"depth": "depth_auto", "container": "container_auto", "buffer_size": "buffer_auto"})
"""Settings that follow the stream while another one says so; writing them ends that."""
DEEP = 3  # slices that a guided network sees where it may (docs/decisions/0044)


def remembered(text: str) -> tuple[TrainerSettings, dict[str, Any]]:
    """Settings of network and training, and values of the other signals that a text of the signal `settings` remembers.

    Raises ValueError in words.
    """
    if not text:
        return SETTINGS["PRODUCT"], {}
    try:
        fields = json.loads(text)
        training = fields["training"]
        network = NetworkConfig.from_dict(training.pop("network"))
        values: dict[str, Any] = {name: bool(fields[name]) for name in AUTOMATIC.values() if name in fields}
        for name, check in BOXES.items():
            values[name] = np.array(fields[name] if name == "region" else fields.get(name, []), np.float64).reshape(-1)
            check(values[name])
        return TrainerSettings(network=network, **training), values
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Settings: expected what the attribute settings showed, got {text[:60]!r}: {error}"
        ) from error


def as_text(settings: TrainerSettings, values: Mapping[str, Any] = MappingProxyType({})) -> str:
    """What `remembered` reads: the settings, and of `values` those that belong to them.

    A container that was found is none of them: it is looked for again.
    """
    boxes = {name: list(values.get(name, ())) for name in BOXES}
    if values.get("container_auto", False):
        boxes["container"] = []
    automatic = {name: bool(values[name]) for name in AUTOMATIC.values() if name in values}
    return json.dumps({"training": asdict(settings), **boxes, **automatic})


def written(name: str, value: Any) -> dict[str, Any]:
    """What a signal that was written changes besides network and training: what is written is no longer automatic."""
    news = {name: value} | ({AUTOMATIC[name]: False} if name in AUTOMATIC else {})
    news |= {"depth_auto": False} if _moments(name, value) else {}
    news |= {"depth_auto": True} if name == "network" else {}  # as a preset is delivered
    return news | ({"container_found": "set by hand"} if name == "container" else {})


def _moments(name: str, value: Any) -> bool:
    """Is this signal what makes a network see several moments, and no neighbours?"""
    return name == "frames" and value > 1


def shown(settings: TrainerSettings) -> dict[str, Any]:
    """The settings as values of the signals."""
    network = settings.network
    fields = {"network": network.preset, "parameters": network.parameters}
    fields |= {n: getattr(settings, n) if hasattr(settings, n) else getattr(network, n) for n in FIELDS}
    return fields | {"target": network.target.upper()}


def edited(settings: TrainerSettings, name: str, value: Any, depth_auto: bool = False) -> TrainerSettings:
    """The settings after a signal was written; the same where it is none of theirs. `depth_auto`: the depth was found.

    Raises ValueError in words.
    """
    if name == "network":
        if value not in SETTINGS:
            raise ValueError(f"network: expected one of {', '.join(SETTINGS)}; {value} is shown for edited fields")
        return SETTINGS[value]
    if name in BOXES:
        BOXES[name](value)
    if name == "depth_auto" and value and settings.network.frames > 1:
        raise ValueError(f"depth_auto: expected frames 1 first, got {settings.network.frames}: neighbours or moments")
    if name not in FIELDS:
        return settings
    fields = {name: value.lower() if name == "target" else value}
    # A depth that nobody asked for is no reason to refuse moments.
    return settings.edited(**fields | ({"depth": 1} if depth_auto and _moments(name, value) else {}))


def trainable(wanted: TrainerSettings, present: TrainerSettings) -> TrainerSettings:
    """What to train with: as wanted, but a network of another shape waits for a reset, and so does what does not fit in
    memory with the present one."""
    if wanted.network.shape == present.network.shape:
        return wanted
    try:
        return replace(wanted, network=present.network)
    except ValueError:
        return present


def deep_as(settings: TrainerSettings, geometry: ScanGeometry, pixels: float = math.inf) -> TrainerSettings:
    """The settings for a scan: a guided network sees `DEEP` slices where there are neighbours, and where those of the
    three slices that an operator begins with have no more than so many pixels in all (docs/decisions/0049).

    Raises ValueError where that takes more memory than pairs may.
    """
    network = settings.network
    if network.form != "guided" or network.frames > 1 or network.target == "last":
        return settings
    deep = geometry.rows > 1 and len(DEFAULTS) * DEEP * geometry.cols**2 <= pixels
    return settings.edited(depth=DEEP if deep else 1)


def check_region(box: np.ndarray) -> None:
    """Raises ValueError for what is no box: (x, y, z) from and to, or nothing for the whole field of view."""
    if len(box) not in (0, 6):
        raise ValueError(f"region: expected 6 numbers (from x, y, z; to x, y, z) or none, got {len(box)}")
    if len(box) and not (box[:3] < box[3:]).all():
        raise ValueError(
            f"region: expected from x, y, z below to x, y, z, got {box[:3].tolist()} and {box[3:].tolist()}"
        )


BOXES: Mapping[str, Callable[[np.ndarray], None]] = MappingProxyType(
    {"region": check_region, "container": check_container}
)
