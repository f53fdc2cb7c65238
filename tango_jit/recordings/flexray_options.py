"""What a FleX-ray folder cannot say of itself, and the calibration profiles of the scanner."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from tango_jit.recordings.hdf5 import RecordingError

COMPANION = "tango-jit.toml"
"""The small file in the folder that holds options, and what this project's writer knows exactly."""
SITE_VARIABLE = "TANGO_JIT_FLEXRAY_PROFILES"


@dataclass(frozen=True)
class FlexRayOptions:
    """How to read a FleX-ray folder; None is what is not given, and what is needed and not given is refused.

    A continuous series (many turns) needs `views_per_turn`, `direction` (+1: the scanner turns counter-clockwise about
    +z, seen from the sample, as the numbers grow; -1: the other way round), `phase_rad` (angle of frame 0),
    `frame_period_s` (from one frame to the next) and `profile`. A single turn whose settings give first and last angle
    and the number of projections needs nothing. `angles_rad`: explicit angles, one for each number from 0, instead.

    `profile`: name of a calibration, "none" for the motor positions as they are. `transpose`, `flip_rows`: images are
    flipped up-down, then transposed; by default (None) flipped, as the scanner stores row 0 at the top. `reverse`: the
    last file is the first frame. `roi_rows`: "up" where the rows of the region of interest count from the lowest (as
    flexDATA takes them, and by default), "down" where they count from the top. `restart`: the numbers begin again in
    each folder `scan_1`, `scan_2`, ... of a series without a pause. `linear`: the images are -log already.

    Raises ValueError that names the option.
    """

    views_per_turn: float | None = None
    direction: int | None = None
    phase_rad: float | None = None
    frame_period_s: float | None = None
    profile: str | None = None
    angles_rad: tuple[float, ...] | None = None
    transpose: bool | None = None
    flip_rows: bool | None = None
    reverse: bool | None = None
    roi_rows: str | None = None
    restart: bool | None = None
    linear: bool | None = None

    def __post_init__(self) -> None:
        for name in ("views_per_turn", "frame_period_s"):
            self._check(name, self._real(name) is None or (self._real(name) or 0) > 0, "a number above 0")
        self._check("direction", self.direction is None or self.direction in (1, -1), "1 or -1")
        self._check("phase_rad", self.phase_rad is None or self._real("phase_rad") is not None, "a number")
        self._check("profile", self.profile is None or isinstance(self.profile, str), "a name")
        self._check("roi_rows", self.roi_rows in (None, "up", "down"), "up or down")
        for name in ("transpose", "flip_rows", "reverse", "restart", "linear"):
            self._check(name, getattr(self, name) in (None, True, False), "true or false")
        if self.angles_rad is not None:
            good = isinstance(self.angles_rad, tuple | list) and all(_is_real(x) for x in self.angles_rad)
            self._check("angles_rad", good, "numbers")
            object.__setattr__(self, "angles_rad", tuple(float(x) for x in self.angles_rad))

    def _real(self, name: str) -> float | None:
        value = getattr(self, name)
        self._check(name, value is None or _is_real(value), "a number")
        return value

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def over(self, other: Self) -> Self:
        """These options; what is not given here is as in `other`."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(other, **given)

    def to_dict(self) -> dict[str, Any]:
        """Only what is given."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @classmethod
    def from_dict(cls, where: str, values: Mapping[str, Any]) -> Self:
        """Raises RecordingError that names the option that is unknown or wrong."""
        known = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise RecordingError(f"{where}: expected options among {', '.join(known)}, got {', '.join(unknown)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise RecordingError(f"{where}: {error}") from error


def _is_real(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Profile:
    """What a calibration adds to the positions of the settings file; mm and degrees."""

    src_tan_mm: float = 0.0
    src_ort_mm: float = 0.0
    det_tan_mm: float = 0.0
    det_ort_mm: float = 0.0
    axs_tan_mm: float = 0.0
    det_roll_deg: float = 0.0
    det_yaw_deg: float = 0.0
    det_pitch_deg: float = 0.0

    @classmethod
    def from_dict(cls, where: str, values: Any) -> Self:
        known = [f.name for f in fields(cls)]
        if not isinstance(values, dict) or any(name not in known for name in values):
            raise RecordingError(f"{where}: expected a calibration of {', '.join(known)}, got {values!r}")
        if not all(_is_real(value) for value in values.values()):
            raise RecordingError(f"{where}: expected numbers in mm and degrees, got {values!r}")
        return cls(**values)


def _profile(det_tan: float, src_ort: float, axs_tan: float, roll: float = 0.0) -> Profile:
    return Profile(src_ort_mm=src_ort, det_tan_mm=det_tan, axs_tan_mm=axs_tan, det_roll_deg=roll)


PROFILES: Mapping[str, Profile] = {
    "none": Profile(),
    "cwi-flexray-2019-04-24": _profile(24.0, -7.0, -0.5),
    "cwi-flexray-2020-03-26": _profile(24.300, -6.086, -0.524, -0.175),
    "cwi-flexray-2020-03-26-norotation": _profile(24.300, -6.086, -0.524),
    "cwi-flexray-2022-05-31": _profile(24.4203, -6.2281, -0.5010, -0.262),
    "cwi-flexray-2022-05-31-norotation": _profile(24.4203, -6.2281, -0.5010),
    "cwi-flexray-2022-10-28": _profile(24.0485, -5.7730, -0.5010),
    "cwi-flexray-2023-08-21": _profile(24.1215, -6.2917, -0.5405),
    "cwi-flexray-2024-07-25": _profile(24.0042, -6.2879, -0.5143),
}


def load(path: str) -> dict[str, Any]:
    """A TOML file. Raises RecordingError that names it."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: expected TOML, got {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error


def profiles(folder: Mapping[str, Any], where: str) -> dict[str, Profile]:
    """All calibrations by name: those above, those of the site, those of the folder (its table `profiles`).

    The site's are in the file that TANGO_JIT_FLEXRAY_PROFILES names, else in `flexray-profiles.toml` in the user's or
    the machine's configuration folder of tango-jit: one table for each name.
    """
    import platformdirs  # here: the science runs without it

    found = dict(PROFILES)
    configured = os.environ.get(SITE_VARIABLE)
    usual = [
        os.path.join(base, "flexray-profiles.toml")
        for base in (platformdirs.site_config_dir("tango-jit"), platformdirs.user_config_dir("tango-jit"))
    ]
    for path in [configured] if configured else [path for path in usual if os.path.isfile(path)]:
        found |= {name: Profile.from_dict(f"{path}: {name}", values) for name, values in load(path).items()}
    return found | {name: Profile.from_dict(f"{where}: profiles.{name}", values) for name, values in folder.items()}


def choose(name: str, known: Mapping[str, Profile], where: str) -> Profile:
    """Raises RecordingError that lists the calibrations there are."""
    if name not in known:
        raise RecordingError(f"{where}: profile: expected one of {', '.join(known)}, got {name!r}")
    return known[name]
