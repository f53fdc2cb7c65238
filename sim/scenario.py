"""Scenario files: what is simulated, as TOML. `docs/reference/scenarios.md` says what every key means."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from tango_jit.geometry import ScanGeometry

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Tilt = Annotated[float, Meta(ge=-0.8, le=0.8)]
Whole = Annotated[int, Meta(ge=0)]
Point = tuple[float, float, float]
Range = tuple[Positive, Positive]
AIR = "air"


class ScenarioError(ValueError):
    """No scenario. The text names the file and the key, what was expected and what came."""


class Scanner(Struct, frozen=True, forbid_unknown_fields=True):
    """Lengths in mm, angles in rad; None: in the middle of the detector."""

    rows: Annotated[int, Meta(ge=1, le=16384)]
    cols: Annotated[int, Meta(ge=1, le=16384)]
    pixel_mm: Positive
    views_a_turn: Annotated[int, Meta(ge=2)]
    frame_period_s: Positive
    beam: Literal["cone", "parallel"] = "cone"
    source_axis_mm: Positive | None = None
    source_detector_mm: Positive | None = None
    axis_column: float | None = None
    mid_row: float | None = None
    roll_rad: Tilt = 0.0
    pitch_rad: Tilt = 0.0
    yaw_rad: Tilt = 0.0
    open: Fraction = 1.0  # part of the frame period during which the shutter is open
    moments: Annotated[int, Meta(ge=1, le=64)] = 4  # over which an exposure is averaged

    @property
    def geometry(self) -> ScanGeometry:
        detector: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("rows", "cols", "pixel_mm", "axis_column", "mid_row", "roll_rad", "pitch_rad", "yaw_rad")
        }
        if self.beam == "parallel":
            return ScanGeometry.parallel(**detector)
        if self.source_axis_mm is None or self.source_detector_mm is None:
            raise ValueError("scanner: expected source_axis_mm and source_detector_mm for a cone beam, one is missing")
        return ScanGeometry.cone(
            source_axis_mm=self.source_axis_mm, source_detector_mm=self.source_detector_mm, **detector
        )

    def binned(self, factor: int) -> Scanner:
        """The same field of view on pixels that are `factor` times larger (what does not fill one is cut off)."""
        if not 1 <= factor <= min(self.rows, self.cols):
            raise ValueError(f"binning: expected 1 to {min(self.rows, self.cols)}, got {factor}")
        axis, mid = (None if x is None else (x + 0.5) / factor - 0.5 for x in (self.axis_column, self.mid_row))
        return msgspec.structs.replace(
            self,
            rows=self.rows // factor,
            cols=self.cols // factor,
            pixel_mm=self.pixel_mm * factor,
            axis_column=axis,
            mid_row=mid,
        )


class Beam(Struct, frozen=True, forbid_unknown_fields=True):
    """`photons` that reach a pixel in the middle of the open beam during a frame."""

    photons: Annotated[float, Meta(ge=1, le=1e6)]
    weights: tuple[Fraction, ...] = (1.0,)  # how much of the beam has each energy; sum 1
    flicker: NotNegative = 0.0  # relative standard deviation from frame to frame
    fall_off: Annotated[float, Meta(ge=0, le=0.9)] = 0.1  # how much weaker it is in the corners


class Camera(Struct, frozen=True, forbid_unknown_fields=True):
    counts_per_photon: Positive = 1.0
    offset: NotNegative = 100.0
    readout: NotNegative = 4.0  # counts, standard deviation
    spread: Annotated[float, Meta(ge=0, le=0.25)] = 0.1026  # light that goes to each neighbour: correlation 0.25
    pixel_gain: NotNegative = 0.01  # relative standard deviation from pixel to pixel
    drift: NotNegative = 0.0  # of that gain, relative standard deviation after a minute: makes rings
    dead: Whole = 0
    hot: Whole = 0
    darks: Annotated[int, Meta(ge=1)] = 32
    flats: Annotated[int, Meta(ge=1)] = 64


class _Solid(Struct, frozen=True, forbid_unknown_fields=True, tag_field="shape"):
    """`inside`: name of the solid that it stands in; None: air. At center + swing sin(2 pi (t / period + phase))."""

    name: str
    material: str
    inside: str | None = None
    center_mm: Point = (0.0, 0.0, 0.0)
    axis: Point = (0.0, 0.0, 1.0)
    swing_mm: Point = (0.0, 0.0, 0.0)
    period_s: Positive = 1.0
    phase: float = 0.0


class Cylinder(_Solid, frozen=True, tag="cylinder", kw_only=True):
    radius_mm: Positive
    height_mm: Positive
    growth_mm_s: NotNegative = 0.0  # its top rises


class Tablet(_Solid, frozen=True, tag="tablet", kw_only=True):
    radius_mm: Positive
    height_mm: Positive
    rim: Annotated[float, Meta(gt=0, lt=1)] = 0.7
    erosion_mm_s: NotNegative = 0.0  # its surface recedes; its foot stays where it is


class Ellipsoid(_Solid, frozen=True, tag="ellipsoid", kw_only=True):
    semi_axes_mm: tuple[Positive, Positive, Positive]


class Granules(Struct, frozen=True, forbid_unknown_fields=True):
    """Balls that lie still, packed at random between two heights."""

    material: str
    inside: str
    radius_mm: Range
    region_radius_mm: Positive
    bottom_mm: float
    top_mm: float
    clear_of: tuple[str, ...] = ()  # names of solids


class Bubbles(Struct, frozen=True, forbid_unknown_fields=True):
    """Bubbles that form at the bottom, rise in lanes, and join a foam on the surface (sim/bubbles.py)."""

    inside: str
    radius_mm: Range
    region_radius_mm: Positive
    bottom_mm: float
    surface_mm: float
    rise_mm_s: Range
    rate_hz: Positive
    material: str = AIR
    lanes: Annotated[int, Meta(ge=1, le=5000)] = 5000
    above: str | None = None  # a solid that stands on the bottom: lanes over it begin at its top
    narrow: Annotated[float, Meta(gt=0, le=1)] = 1.0
    growth_s: Positive = 1.0
    flatness: Annotated[float, Meta(ge=0.2, le=1)] = 1.0
    wobble_hz: NotNegative = 0.0
    foam_mm: NotNegative = 0.0
    foam_growth_mm_s: NotNegative = 0.0
    from_s: float = 0.0
    until_s: float = float("inf")


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment: scanner, beam, camera, sample. `loop_s`: after so long the sample is as it was (None: never)."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: str
    scanner: Scanner
    beam: Beam
    camera: Camera
    materials: dict[str, tuple[NotNegative, ...]]  # attenuation in 1/mm at each energy
    solid: tuple[Cylinder | Tablet | Ellipsoid, ...] = ()
    granules: tuple[Granules, ...] = ()
    bubbles: tuple[Bubbles, ...] = ()
    start_s: NotNegative = 0.0  # how long the experiment has been going on at the first frame
    loop_s: Positive | None = None
    seed: Annotated[int, Meta(ge=0, le=2**62)] = 0
    fast: bool = False  # approximate noise

    BUILT_IN: ClassVar[tuple[str, ...]] = ("tablet-soap", "tablet-gel", "balls")

    def attenuation(self, material: str) -> tuple[float, ...]:
        """1/mm at each energy."""
        return (0.0,) * len(self.beam.weights) if material == AIR else self.materials[material]

    def excess(self, material: str, inside: str | None) -> tuple[float, ...]:
        """1/mm at each energy, on top of the solid named `inside` (None: air)."""
        around = AIR if inside is None else next(s.material for s in self.solid if s.name == inside)
        return tuple(a - b for a, b in zip(self.attenuation(material), self.attenuation(around), strict=True))

    def with_(self, **changes: object) -> Scenario:
        """A changed copy; `photons`, `scanner` and top-level keys. Raises ScenarioError for what does not fit."""
        photons = changes.pop("photons", None)
        if photons is not None:
            changes["beam"] = msgspec.structs.replace(self.beam, photons=photons)
        return _checked(msgspec.structs.replace(self, **changes), self.name)

    def to_toml(self) -> str:
        """Its file: what a recording carries, so that the truth can be made again. `parse` gives the same back."""
        return msgspec.toml.encode(_plain(self)).decode()


def load(name: str) -> Scenario:
    """A built-in scenario by its name, or one from a file. Raises ScenarioError, FileNotFoundError."""
    if name in Scenario.BUILT_IN:
        return parse(resources.files("sim").joinpath("scenarios", f"{name}.toml").read_text(), name)
    if not Path(name).is_file():
        raise FileNotFoundError(f"scenario: expected one of {', '.join(Scenario.BUILT_IN)} or a TOML file, got {name}")
    try:
        return parse(Path(name).read_text(), name)
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{name}: expected a TOML file in UTF-8, got something else") from error


def parse(text: str, where: str = "scenario") -> Scenario:
    """Raises ScenarioError that names `where` and the key."""
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{where}: {error}") from error
    return _checked(scenario, where)


def _checked(scenario: Scenario, where: str) -> Scenario:
    """Raises ScenarioError for references that lead nowhere and numbers that contradict each other."""
    try:
        scenario = msgspec.convert(msgspec.to_builtins(scenario), Scenario)  # copies changed in place are checked too
        scenario.scanner.geometry  # noqa: B018
        for problem in _problems(scenario):
            raise ValueError(problem)
    except (ValueError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{where}: {error}") from error
    return scenario


def _problems(scenario: Scenario) -> list[str]:
    energies, names = len(scenario.beam.weights), [s.name for s in scenario.solid]
    found = [f"{key}: expected a finite number, got {value}" for key, value in _endless(scenario)]
    if found:
        return found
    if abs(sum(scenario.beam.weights) - 1) > 1e-6:
        found.append(f"beam.weights: expected a sum of 1, got {sum(scenario.beam.weights):g}")
    found += [
        f"solid {solid.name!r}.axis: expected a direction, got {solid.axis}"
        for solid in scenario.solid
        if not 1e-6 < math.hypot(*solid.axis) < 1e6
    ]
    found += [
        f"bubbles {number}.until_s: expected more than from_s, got {bubbles.until_s:g}"
        for number, bubbles in enumerate(scenario.bubbles, 1)
        if bubbles.until_s <= bubbles.from_s
    ]
    scanner = scenario.scanner
    bad, most = scenario.camera.dead + scenario.camera.hot, scanner.rows * scanner.cols // 10
    if bad > most:
        found.append(f"camera: expected at most {most} dead and hot pixels, a tenth of all, got {bad}")
    if scanner.geometry.radius_mm <= 0:
        found.append(f"scanner.axis_column: expected a column of the detector, got {scanner.axis_column}")
    found += _out_of_step(scenario)
    beam, camera = scenario.beam, scenario.camera
    most = beam.photons * (1 + 4 * beam.flicker) + 6 * beam.photons**0.5
    brightest = most * camera.counts_per_photon * (1 + 5 * camera.pixel_gain) + camera.offset
    if brightest > 65535:
        found.append(f"beam.photons: the open beam would give {brightest:.0f} counts, more than 65535 cannot be stored")
    for name, values in scenario.materials.items():
        if len(values) != energies:
            found.append(f"materials.{name}: expected {energies} values, as beam.weights has, got {len(values)}")
        if name == AIR:
            found.append(f"materials.{AIR}: expected no value, air has 0")
    found += [f"solid: expected different names, got {name!r} twice" for name in names if names.count(name) > 1]
    inside = {s.name: s.inside for s in scenario.solid}
    for name in names:
        chain = [name]
        while (outer := inside.get(chain[-1])) is not None and outer not in chain:
            chain.append(outer)
        if outer is not None:
            found.append(f"solid {name!r}.inside: expected no circle, got {' in '.join([*chain, outer])}")
    parts = [(f"solid {s.name!r}", s) for s in scenario.solid]
    parts += [(f"granules {i + 1}", g) for i, g in enumerate(scenario.granules)]
    parts += [(f"bubbles {i + 1}", b) for i, b in enumerate(scenario.bubbles)]
    for label, part in parts:
        if part.material not in (AIR, *scenario.materials):
            known = ", ".join((AIR, *scenario.materials))
            found.append(f"{label}.material: expected one of {known}, got {part.material!r}")
        wanted = [part.inside] if part.inside is not None else []
        wanted += [*part.clear_of] if isinstance(part, Granules) else []
        wanted += [part.above] if isinstance(part, Bubbles) and part.above else []
        found += [
            f"{label}: expected the name of a solid ({', '.join(names)}), got {name!r}"
            for name in wanted
            if name not in names
        ]
        if isinstance(part, Granules | Bubbles) and part.radius_mm[0] > part.radius_mm[1]:
            found.append(f"{label}.radius_mm: expected the smallest and the largest, got {part.radius_mm}")
    return found


def _endless(scenario: Scenario) -> list[tuple[str, float]]:
    """Numbers that are infinite or none at all, by their keys (TOML has both)."""
    found = []

    def look(key: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                look(f"{key}.{name}" if key else str(name), inner)
        elif isinstance(value, list | tuple):
            for number, inner in enumerate(value, 1):
                look(f"{key} {number}", inner)
        elif isinstance(value, float) and not math.isfinite(value) and not (key.endswith("until_s") and value > 0):
            found.append((key, value))

    look("", msgspec.to_builtins(scenario))
    return found


def _out_of_step(scenario: Scenario) -> list[str]:
    """What would make a loop jump."""
    scanner, loop, found = scenario.scanner, scenario.loop_s, list[str]()
    if loop is None:
        return found
    turns = loop / (scanner.views_a_turn * scanner.frame_period_s)
    if not math.isclose(turns, max(round(turns), 1), rel_tol=1e-6):
        found.append(f"loop_s: expected a whole number of turns, got {turns:g}")
    for number, bubbles in enumerate(scenario.bubbles, 1):
        for key in ("from_s", "until_s"):
            if scenario.start_s < getattr(bubbles, key) < scenario.start_s + loop:
                found.append(f"bubbles {number}.{key}: expected it before or after the loop, got a time within")
    return found


def _plain(scenario: Scenario) -> dict[str, object]:
    """What TOML can hold: no None, and no infinity where that is the default."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            kept = {key: clean(v) for key, v in value.items() if v is not None and v != float("inf")}
            return dict(sorted(kept.items(), key=lambda item: isinstance(item[1], dict)))  # tables after values
        return [clean(v) for v in value] if isinstance(value, list | tuple) else value

    result = clean(msgspec.to_builtins(scenario))
    assert isinstance(result, dict)
    return result
