"""The trainer's settings as signals, and as the one text that remembers them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from tango_jit.learn.settings import SETTINGS, TrainerSettings
from tango_jit.learn.unet import NetworkConfig

FIELDS = ("features", "depth", "frames", "frame_interval", "learning_rate", "batch_size", "patch_size", "buffer_size")


def remembered(text: str) -> tuple[TrainerSettings, np.ndarray]:
    """Settings and region of a text that the signal `settings` showed. Raises ValueError in words."""
    if not text:
        return SETTINGS["PRODUCT"], np.zeros(0)
    try:
        fields = json.loads(text)
        training = fields["training"]
        network = NetworkConfig.from_dict(training.pop("network"))
        check_network(network)
        region = np.array(fields["region"], np.float64).reshape(-1)
        check_region(region)
        return TrainerSettings(network=network, **training), region
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Settings: expected what the attribute settings showed, got {text[:60]!r}: {error}"
        ) from error


def as_text(settings: TrainerSettings, region: np.ndarray) -> str:
    """What `remembered` reads."""
    return json.dumps({"training": asdict(settings), "region": list(region)})


def shown(settings: TrainerSettings) -> dict[str, Any]:
    """The settings as values of the signals."""
    network = settings.network
    fields = {"network": network.preset, "parameters": network.parameters}
    return fields | {n: getattr(settings, n) if hasattr(settings, n) else getattr(network, n) for n in FIELDS}


def edited(settings: TrainerSettings, name: str, value: Any) -> TrainerSettings:
    """The settings after a signal was written; the same where it is none of theirs. Raises ValueError in words."""
    if name == "network":
        if value not in SETTINGS:
            raise ValueError(f"network: expected one of {', '.join(SETTINGS)}; {value} is shown for edited fields")
        return SETTINGS[value]
    if name in FIELDS:
        settings = settings.edited(**{name: value})
        check_network(settings.network)
    return settings


def check_network(network: NetworkConfig) -> None:
    """Raises ValueError for a network that sees more than the services show it: one slice at one moment."""
    for name, what in (("depth", "a single slice"), ("frames", "a single point in time")):
        if getattr(network, name) != 1:
            raise ValueError(f"{name}: expected 1 (live, networks see {what} so far), got {getattr(network, name)}")


def check_region(box: np.ndarray) -> None:
    """Raises ValueError for what is no box: (x, y, z) from and to, or nothing for the whole field of view."""
    if len(box) not in (0, 6):
        raise ValueError(f"region: expected 6 numbers (from x, y, z; to x, y, z) or none, got {len(box)}")
    if len(box) and not (box[:3] < box[3:]).all():
        raise ValueError(
            f"region: expected from x, y, z below to x, y, z, got {box[:3].tolist()} and {box[3:].tolist()}"
        )
