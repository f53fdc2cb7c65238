"""Faults on demand: what a bad camera or network does to frames, the same again for the same seed.

Each frame suffers one fault at most. Which one depends on the seed and the number of the frame alone, not on
what was before it, so that a run can be repeated from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tango_jit.streams import Image

KINDS: tuple[str, ...] = ("drop", "duplicate", "reorder", "corrupt", "garble", "late")
HELD_BACK = {"reorder": 1, "late": 10}  # until so many frames have overtaken it
FAULTS_STREAM, DOSE_STREAM, FIELDS_STREAM = 1, 2, 3  # random streams of one seed
SATURATED = 0.5  # of the garbled frames; the others are noise


def random(seed: int, stream: int, frame: int) -> np.random.Generator:
    """The random numbers that belong to one frame: counter-based, so any frame has them without those before it."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, frame]))


@dataclass(frozen=True)
class Fractions:
    """Which part of the frames suffers what, 0 to 1 each; together at most 1 (ValueError)."""

    drop: float = 0.0  # never sent
    duplicate: float = 0.0  # sent twice
    reorder: float = 0.0  # sent after the next one
    corrupt: float = 0.0  # the payload is shorter than the header says: no receiver may take it
    garble: float = 0.0  # saturated all over, or noise, in a message that is as it should be
    late: float = 0.0  # sent after the ten that follow
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in KINDS:
            if not 0 <= getattr(self, kind) <= 1:
                raise ValueError(f"fault_{kind}: expected 0 to 1, got {getattr(self, kind)!r}")
        if self.total > 1 + 1e-9:
            raise ValueError(f"fault fractions: expected at most 1 together, got {self.total:g}")

    @property
    def total(self) -> float:
        return sum(getattr(self, kind) for kind in KINDS)

    def fault(self, frame: int) -> str:
        """What happens to this frame: one of KINDS; empty: nothing."""
        if not self.total:
            return ""
        drawn = random(self.seed, FAULTS_STREAM, frame).random()
        for kind in KINDS:
            drawn -= getattr(self, kind)
            if drawn < 0:
                return kind
        return ""


class CorruptImage(Image):
    """An image whose payload lacks its last byte."""

    htype = "image"

    def parts(self) -> list[bytes | memoryview]:
        header, payload = super().parts()
        return [header, payload[:-1]]


class Injector:
    """Frames of one series in, messages out. `counts` tells of each kind how often it has happened."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._held: list[tuple[int, str, Image]] = []  # frames to go, kind, frame; in the order in which they came
        self._highest = -1

    def feed(self, image: Image, fractions: Fractions) -> list[Image]:
        """What goes out at the place of this frame: nothing, itself, or itself and others."""
        kind = fractions.fault(image.frame)
        out = self._disturbed(image, kind, fractions.seed)
        due = [(left - 1, why, held) for left, why, held in self._held]
        self._held = [entry for entry in due if entry[0] > 0]
        if kind in HELD_BACK:
            self._held.append((HELD_BACK[kind], kind, image))
        return [*self._in_order(out), *self._overtaken(entry for entry in due if entry[0] <= 0)]

    def flush(self) -> list[Image]:
        """What is still held back, because no more frames follow, or because they do not go together."""
        held, self._held = self._held, []
        return self._overtaken(held)

    def _disturbed(self, image: Image, kind: str, seed: int) -> list[Image]:
        if kind in HELD_BACK:
            return []
        if kind:
            self.counts[kind] += 1
        match kind:
            case "drop":
                return []
            case "duplicate":
                return [image, image]
            case "corrupt":
                return [CorruptImage(**vars(image))]
            case "garble":
                return [replace(image, data=garbage(image.data, seed, image.frame))]
        return [image]

    def _in_order(self, images: list[Image]) -> list[Image]:
        seen = (image.frame for image in images if not isinstance(image, CorruptImage))  # by a receiver
        self._highest = max([self._highest, *seen])
        return images

    def _overtaken(self, held: Iterable[tuple[int, str, Image]]) -> list[Image]:
        """Held frames on their way; the fault has happened if one with a higher number was before them."""
        out = []
        for _, kind, image in held:
            self.counts[kind] += image.frame < self._highest
            out += self._in_order([image])
        return out


def garbage(data: Any, seed: int, frame: int) -> Any:
    """An array of this type and shape that shows nothing: half of them saturated (floats: infinite), half noise."""
    generator = random(seed, FAULTS_STREAM, frame)
    generator.random()  # that one chose the fault
    whole = data.dtype.kind == "u"
    top = np.iinfo(data.dtype).max if whole else np.inf
    if generator.random() < SATURATED:
        return np.full_like(data, top)
    if whole:
        return generator.integers(0, int(top), data.shape, data.dtype)  # below the top: not one pixel tells
    finite = data[np.isfinite(data)]
    return generator.random(data.shape, np.float32) * np.float32(np.abs(finite).max(initial=0) or 1)


def faulty(images: Iterable[Image], fractions: Callable[[], Fractions], counts: dict[str, int]) -> Iterator[Image]:
    """All messages that come of `images`; `fractions()` is asked at each, and `counts` follows what has happened."""
    injector = Injector()
    for image in images:
        yield from injector.feed(image, fractions())
        counts |= injector.counts
    yield from injector.flush()
    counts |= injector.counts


def settings_of(values: Mapping[str, Any]) -> Fractions:
    """The fractions among the values of a detector."""
    return Fractions(**{kind: values[f"fault_{kind}"] for kind in KINDS}, seed=values["fault_seed"])
