"""The signals of a slice: they come and go with it, and are named for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry, SliceGeometry, default_slices
from tango_jit.services.service import ITEM_NAME
from tango_jit.signals import Signal

DEFAULTS = ("xy", "xz", "yz")  # the names that say where a slice lies
RESERVED = (
    "endpoint",
    "history",
    "ratio",
    "band",
    "version",
)  # denoised_endpoint, accuracy_history and such are other things
SMALLEST = 8  # pixels a side: what the network needs
MOST = 32
LARGEST = 4096  # pixels a side: the image attributes' limit


def image(name: str, description: str, unit: str = "1/mm") -> Signal:
    return Signal(name, "float", description, unit=unit, shape=(LARGEST, LARGEST), dtype="f4")


def frame_number(name: str) -> Signal:
    text = "Number of the newest frame in the picture; its event tells that a new picture can be read."
    return Signal(f"frame_number_{name}", "int", text, default=-1)


def reconstructor_signals(name: str) -> tuple[Signal, ...]:
    """Signals of one slice at the reconstructor."""
    geometry = "Corner (3), edge along columns (3) and edge along rows (3), in mm."
    return (
        image(f"slice_{name}", f"Slice {name}: attenuation."),
        Signal(f"geometry_{name}", "float", geometry, unit="mm", shape=(9,), writable=True),
        Signal(f"shape_{name}", "int", "Rows and columns of the slice.", unit="px", shape=(2,), writable=True),
        frame_number(name),
    )


def denoiser_signals(name: str) -> tuple[Signal, ...]:
    """Signals of one slice at the denoiser."""
    return (
        image(f"denoised_{name}", f"Slice {name}, denoised: attenuation; of other tasks what shows_{name} says."),
        Signal(f"shows_{name}", "str", f"What denoised_{name} is, with its unit.", level="expert"),
        image(f"raw_{name}", f"Slice {name} as reconstructed: attenuation."),
        frame_number(name),
        Signal(
            f"generation_{name}",
            "int",
            "Generation of the picture: which of the changes that the reconstructor's generation counts are in it.",
            default=-1,
            level="expert",
        ),
        Signal(f"accuracy_{name}", "float", "Accuracy of the network on this slice (1: no denoising, 0.5: perfect)."),
        Signal(
            f"quality_{name}", "float", "By so much at least the picture has less noise than the raw one.", unit="dB"
        ),
        Signal(
            f"geometry_{name}",
            "float",
            "Where the picture lies: corner (3), edge along columns (3) and edge along rows (3), in mm.",
            unit="mm",
            shape=(9,),
        ),
        image(
            f"uncertainty_{name}",
            f"Slice {name}, denoised: standard deviation of each pixel's error.",
        ),
        image(f"compared_{name}", f"Slice {name} by the weights of compared_version: attenuation."),
        Signal(f"comparison_{name}", "float", f"Quality of compared_{name}, see quality_{name}.", unit="dB"),
    )


def check_name(name: str, taken: Iterable[str]) -> str:
    """Raises ValueError for a name that no attribute can carry, or that is taken."""
    if not ITEM_NAME.fullmatch(name):
        raise ValueError(f"slice name: expected a letter and up to 15 of a-z, 0-9, _, got {name!r}")
    if name in RESERVED:
        raise ValueError(f"slice name: expected none of {', '.join(RESERVED)}, got {name!r}")
    if name in taken:
        raise ValueError(f"slice {name}: expected a new name, this one is taken")
    return name


class SliceTable:
    """The slices of a reconstructor: name -> geometry, or None for a default place that awaits the scan.

    A value: every change gives a new table. Slices that nobody placed follow the scan; those that somebody
    placed stay, and are what `to_json` keeps over a restart.
    """

    def __init__(
        self, placed: Mapping[str, SliceGeometry | None] | None = None, scan: ScanGeometry | None = None
    ) -> None:
        self._placed = dict(placed if placed is not None else dict.fromkeys(DEFAULTS))
        self._scan = scan
        defaults = default_slices(scan) if scan else {}
        self.geometries: dict[str, SliceGeometry] = {}
        for name, geometry in self._placed.items():
            found = geometry or defaults.get(name)
            if found is not None:
                self.geometries[name] = found

    @property
    def names(self) -> tuple[str, ...]:
        """Every slice; before the scan is known also those without a place yet."""
        return tuple(self.geometries) if self._scan else tuple(self._placed)

    def on(self, scan: ScanGeometry) -> SliceTable:
        """The same slices for another scanner."""
        return SliceTable(self._placed, scan)

    def add(self, name: str) -> SliceTable:
        """A new slice: at the default place of its name, else that of xy. Raises ValueError in words."""
        check_name(name, self.names)
        if len(self.names) >= MOST:
            raise ValueError(f"slice {name}: expected at most {MOST} slices, there are {len(self.names)}")
        if name in DEFAULTS and (self._scan is None or name in default_slices(self._scan)):
            return SliceTable({**self._placed, name: None}, self._scan)
        if name in DEFAULTS:
            raise ValueError(f"slice {name}: expected another name, a detector of one row sees the plane xy alone")
        if self._scan is None:
            raise ValueError(f"slice {name}: expected a scan to place it in, but no header has come yet")
        return self.place(name, default_slices(self._scan)["xy"])

    def place(self, name: str, geometry: SliceGeometry) -> SliceTable:
        """Put a slice somewhere. Raises ValueError for a place that this scan cannot show."""
        if not (min(geometry.shape) >= SMALLEST and max(geometry.shape) <= LARGEST):
            raise ValueError(f"slice {name}: expected {SMALLEST} to {LARGEST} pixels a side, got {geometry.shape}")
        return SliceTable({**self._placed, name: geometry}, self._scan)

    def edited(self, kind: str, name: str, value: NDArray[Any]) -> SliceGeometry:
        """The place of a slice after its geometry (9 numbers in mm) or shape (rows, columns) was written.

        Raises ValueError in words.
        """
        old = self.geometries.get(name) or SliceGeometry((-1, -1, 0), (2, 0, 0), (0, 2, 0), 256, 256)
        if kind == "geometry":
            return old.with_nine(value)
        if name not in self.geometries:
            raise ValueError(f"shape_{name}: expected a scan or a geometry before the shape, none has come yet")
        if value.shape != (2,):
            raise ValueError(f"shape_{name}: expected 2 numbers (rows, columns), got {value.shape[0]}")
        return SliceGeometry(old.origin_mm, old.u_mm, old.v_mm, int(value[0]), int(value[1]))

    def remove(self, name: str) -> SliceTable:
        """Raises KeyError for an unknown slice."""
        self.known(name)
        return SliceTable({n: g for n, g in self._placed.items() if n != name}, self._scan)

    def known(self, name: str) -> str:
        if name not in self.names:
            raise KeyError(f"slice {name!r}: expected one of {', '.join(self.names) or 'none'}")
        return name

    def values(self) -> dict[str, NDArray[Any]]:
        """Where the slices lie, as values of their signals; nothing of those that await the scan."""
        places: dict[str, NDArray[Any]] = {}
        for name, geometry in self.geometries.items():
            places |= {f"geometry_{name}": geometry.nine, f"shape_{name}": np.array(geometry.shape, np.int64)}
        return places

    def to_json(self) -> str:
        return json.dumps({n: g.to_dict() if g else None for n, g in self._placed.items()})

    @classmethod
    def from_json(cls, text: str) -> SliceTable:
        """Raises ValueError for text that `to_json` did not write."""
        placed = json.loads(text)
        if not isinstance(placed, dict):
            raise ValueError(f"slices: expected a JSON object, got {text[:60]!r}")
        for name in placed:
            check_name(name, ())
        return cls({n: SliceGeometry.from_dict(g) if g else None for n, g in placed.items()})
