"""Which figures are shown as curves, and what they were over the last hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices.watch.history import History
from devices.watch.look import Seen
from devices.watch.pictures import is_attenuation

BLUE, ORANGE, GREEN, RED, GREY = (92, 150, 255), (235, 160, 60), (96, 200, 110), (232, 96, 88), (170, 170, 175)


class Curve(NamedTuple):
    """One figure: whose attribute it is, its name, its colour; `band` is an attribute that says how
    far it may be off. `scale` multiplies what is read."""

    member: str
    attribute: str
    title: str
    colour: tuple[int, int, int]
    band: str = ""
    scale: float = 1.0


class Plot(NamedTuple):
    title: str
    unit: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False


PLOTS = (
    Plot(
        "accuracy",
        "",
        (
            Curve("denoiser", "accuracy", "slices", BLUE, "accuracy_band"),
            Curve("trainer", "patch_accuracy", "patches", ORANGE, "patch_accuracy_band"),
        ),
    ),
    Plot("loss", "", (Curve("trainer", "loss", "loss", ORANGE),), True),
    Plot(
        "rates",
        "1/s",
        (
            Curve("detector", "actual_rate_hz", "sent", GREY),
            Curve("reconstructor", "frame_rate_hz", "received", RED),
            Curve("trainer", "steps_per_s", "steps", ORANGE),
            Curve("trainer", "samples_per_s", "pairs", GREEN),
            Curve("denoiser", "rate_hz", "pictures", BLUE),
        ),
        True,
    ),
    Plot(
        "fill",
        "%",
        (
            Curve("trainer", "buffer_fill", "buffer", ORANGE, scale=100),
            Curve("reconstructor", "fill", "window", RED, scale=100),
            Curve("denoiser", "share", "shown of the network", BLUE),
        ),
    ),
    Plot(
        "latency",
        "ms",
        (
            Curve("reconstructor", "latency_ms", "reconstructed", RED),
            Curve("denoiser", "latency_ms", "denoised", BLUE),
            Curve("detector", "lateness_ms", "detector late", GREY),
        ),
        True,
    ),
)


class Followed:
    """One curve as its device told it; `low` and `high` are the edges of its band, empty where it has none."""

    def __init__(self, curve: Curve, logarithmic: bool) -> None:
        self.curve = curve
        self.history, self.low, self.high = History(), History(), History()
        self._logarithmic = logarithmic
        self.remembered = False  # has its past been told

    def take(self, seen: Seen) -> None:
        """A look at the device of the curve; one that failed is a gap. The first that did not brings its past."""
        if not self.remembered and not seen.trouble:
            self._take_past(seen)
            self.remembered = True
        told, band = seen.values.get(self.curve.attribute), seen.values.get(self.curve.band)
        number = self._shown(np.array([np.nan if told is None else float(told)]))[0]
        self.history.add(seen.at_s, float(number))
        if self.curve.band:
            off = np.nan if band is None else float(band)
            self.low.add(seen.at_s, float(number) - off)
            self.high.add(seen.at_s, float(number) + off)

    def _take_past(self, seen: Seen) -> None:
        past = seen.past.get(self.curve.attribute)
        if past is None or not past.size:
            return
        at = past[0] - max(past[0, -1] - seen.at_s, 0)  # the clock of its computer may be ahead of ours
        values = self._shown(past[1])
        self.history.before(zip(at, values, strict=True))
        band = seen.past.get(self.curve.band)
        if band is not None:
            self.low.before(zip(at, values - band[1], strict=True))
            self.high.before(zip(at, values + band[1], strict=True))

    def _shown(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """In the unit of the plot; NaN where it has no place."""
        shown = self.curve.scale * values
        return np.where(shown > 0, shown, np.nan) if self._logarithmic else shown


def followed() -> Iterator[tuple[Plot, list[Followed]]]:
    """Each plot with its curves, still empty."""
    for plot in PLOTS:
        yield plot, [Followed(curve, plot.logarithmic) for curve in plot.curves]


def accuracy_in_words(values: Mapping[str, object]) -> str:
    """What the denoiser's accuracy is, how sure, and what it rests on; of the values of a look."""
    accuracy, band = values.get("accuracy"), values.get("accuracy_band")
    if not isinstance(accuracy, (int, float)) or not np.isfinite(accuracy):
        text = "not known"
    else:
        text = f"{accuracy:.3f}"
        text += f" ± {band:.3f}" if isinstance(band, (int, float)) and np.isfinite(band) else ""
        shown = [
            value for name, value in values.items() if name.startswith("shows")
        ]  # that of a moved slice may differ
        text += " · below 0.5: streaks or motion" if accuracy < 0.5 and all(map(is_attenuation, shown)) else ""
    evidence = {"TURNS": "against the turn before", "HALVES": "half against half"}
    guard = " · guard shows raw" if values.get("guard_active") else ""
    return f"accuracy {text} ({evidence.get(str(values.get('evidence')), 'no evidence')}){guard}"
