"""Cameras of other control systems: their frames, numbers and angles, made into a scan of the raw stream."""

from tango_jit.cameras.angles import AngleSettings
from tango_jit.cameras.assembly import Assembly, CameraSettings
from tango_jit.cameras.exposure import (
    Angles,
    Camera,
    Event,
    Exposure,
    FieldMean,
    FirstNumber,
    Position,
    Refused,
    Role,
    RoleNow,
    role_of,
)
from tango_jit.cameras.scanner import Scanner

__all__ = [
    "AngleSettings",
    "Angles",
    "Assembly",
    "Camera",
    "CameraSettings",
    "Event",
    "Exposure",
    "FieldMean",
    "FirstNumber",
    "Position",
    "Refused",
    "Role",
    "RoleNow",
    "Scanner",
    "role_of",
]
