"""The networks of Table 1, each as the paper describes it and as its software ran it; and what learns from where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from benchmarks.paper.film import Film, Part, film
from benchmarks.paper.places import BOTTOM, TOP, WHOLE, Box
from sim.bench.networks import TABLE
from tango_jit.learn import TrainerSettings

Form = Literal["paper", "released"]
FORMS: tuple[Form, ...] = get_args(Form)
A, B = "tablet-soap", "tablet-gel"
LEARNED = 1000  # frames, 12 s: what is learned from; the rest of the film is held out
FRAMES = 1500  # of a film
BUFFER = 3200  # pairs that the optimiser may draw again
NEXT_S, LATER_S = 12.6, 1500.0  # 7 turns on (the paper: 12 s), and 25 minutes


@dataclass(frozen=True)
class Domain:
    """Where samples come from: the paper's data sets D and E."""

    part: Part
    box: Box = WHOLE
    learned: int = LEARNED  # frames

    @property
    def film(self) -> Film:
        return film(self.part)


_A = Part(A, 0.0, FRAMES)
DOMAINS = {
    "A": Domain(_A),
    "B": Domain(Part(B, 0.0, FRAMES)),
    "top": Domain(_A, TOP),
    "bottom": Domain(_A, BOTTOM),
    "horizontal": Domain(_A, Box(orientation="horizontal")),
    "vertical": Domain(_A, Box(orientation="vertical")),
    "zoomed": Domain(_A, Box(pixel_mm=0.125)),
    "next": Domain(Part(A, NEXT_S, FRAMES)),
    "later": Domain(Part(A, LATER_S, FRAMES)),
}


def settings_of(network: str, form: Form) -> TrainerSettings:
    """One of Table 1 or of `CAUSAL`, trained as in the paper: Adam at 1e-4, batches of 32, the whole patch counts."""
    name, _, target = network.partition("-")
    found = next(one.settings for one in TABLE if one.name == name)
    return replace(found, buffer_size=BUFFER).edited(form=form, target=target or "middle")


NAMES = tuple(one.name for one in TABLE)
CAUSAL = ("T3-last", "T5-last", "T7-last")
"""Not in the paper: the last moment is the target, and nothing lags behind."""
