"""What there is to run: trainings of one network on one domain, and shifts from one domain to another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.paper.family import DOMAINS, Domain, Form, settings_of
from benchmarks.paper.judge import HELD_OUT, MOMENT, HeldOut, Slices
from benchmarks.paper.store import Store
from benchmarks.paper.training import train
from tango_jit.learn import TrainerSettings
from tango_jit.learn.weights import Weights, from_checkpoint

MARKS_S = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 225.0, 300.0)
BRIEF = MARKS_S[:6]  # a first look at a network of Fig. 8
SHORT = MARKS_S[:5]  # Fig. 7
PATCH = {"xy": (slice(90, 180), slice(80, 200)), "xz": (slice(40, 130), slice(80, 200))}  # of the pictures: 90 x 120
Found = tuple[dict[str, Any], Mapping[str, NDArray[Any]]]


class Run(Protocol):
    """One thing that is done as a whole or not at all."""

    @property
    def name(self) -> str: ...

    @property
    def figure(self) -> str:
        """Of the paper."""
        ...

    @property
    def cost_s(self) -> float:
        """Processor time that it takes on one core, about."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of runs that have to be done before."""
        ...

    def do(self, store: Store) -> Found:
        """The result and its pictures."""
        ...


@dataclass(frozen=True)
class Training:
    """One network of Table 1 trained on one domain; looked at after each of `marks_s` of processor time."""

    network: str
    form: Form
    domain: str
    marks_s: tuple[float, ...] = MARKS_S
    held_out: int = HELD_OUT
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        brief = f"-{self.marks_s[-1]:g}s" if self.marks_s == BRIEF else ""
        return f"{self.network}-{self.form}-{self.domain}{brief}"

    @property
    def figure(self) -> str:
        return "8, 9" if self.domain in ("A", "B") else "7"

    @property
    def settings(self) -> TrainerSettings:
        return settings_of(self.network, self.form)

    @property
    def cost_s(self) -> float:
        images = self.settings.network.images * (self.settings.patch_size / 20) ** 2
        return self.marks_s[-1] + 8 + 4 * len(self.marks_s) * images**0.7  # tests cost too

    @property
    def _seen(self) -> Domain:
        return DOMAINS[self.domain]

    def do(self, store: Store) -> Found:
        settings, domain = self.settings, self._seen
        held_out = HeldOut(domain, settings.network, settings.patch_size, self.held_out)
        pictured = domain.part.binning == 2 and self.domain in ("A", "B")
        slices = Slices(domain, settings.network, store.cache) if pictured else None
        last: dict[str, NDArray[Any]] = {}

        def look(weights: Weights) -> dict[str, Any]:
            found: dict[str, Any] = held_out.score(weights)
            if slices is not None:
                last.update(slices.images(weights))
                found["slices"] = slices.score(last)
            return found

        curve = train(domain, settings, self.marks_s, look, lambda mark: store.weights(self.name, mark))
        result: dict[str, Any] = {"network": settings.network.to_dict(), "patch_size": settings.patch_size}
        result |= {"domain": self.domain, "held_out": self.held_out, "curve": curve}
        if slices is None:
            return result, {}
        result |= {"raw": slices.score(slices.raw), "moment": MOMENT, "shown": settings.network.shown}
        shot = {"raw": slices.raw, "denoised": last, "truth": slices.truth}
        return result, {f"{kind}_{place}": shot[kind][place][PATCH[place]] for kind in shot for place in PATCH}


@dataclass(frozen=True)
class Shift:
    """A network that learned in one domain, on samples of another, beside one that learned there: Eq. 5."""

    title: str
    old: Training
    new: Training
    figure = "7"
    cost_s = 40.0

    @property
    def name(self) -> str:
        return f"shift-{self.title}"

    @property
    def needs(self) -> tuple[str, ...]:
        return self.old.name, self.new.name

    def do(self, store: Store) -> Found:
        """`error` = accuracy of the old network in the new domain - that of the new one."""
        settings = self.old.settings
        new = HeldOut(DOMAINS[self.new.domain], settings.network, settings.patch_size, self.new.held_out)
        learned = {
            run.name: {row["mark_s"]: row for row in store.result(run.name)["curve"]} for run in (self.old, self.new)
        }
        curve = []
        for mark in (mark for mark in self.old.marks_s if mark in self.new.marks_s):
            home, there = (learned[name][mark]["accuracy"] for name in self.needs)
            moved = new.score(from_checkpoint(store.weights(self.old.name, mark).read_bytes()))["accuracy"]
            row = {"mark_s": mark, "old_at_home": home, "old": moved, "new": there, "error": round(moved - there, 4)}
            curve.append(row)
        return {"old_domain": self.old.domain, "new_domain": self.new.domain, "curve": curve}, {}


def longest(store: Store, network: str, form: Form, domain: str) -> Training | None:
    """The training of Fig. 8 that was done, the whole one if it was."""
    both = (Training(network, form, domain, marks) for marks in (MARKS_S, BRIEF))
    return next((run for run in both if store.done(run.name)), None)


def perform(run: Run, store: Store, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Do it and keep what it found, with the processor time it took; `facts`: what else is to be told."""
    began = time.process_time()
    result, pictures = run.do(store)
    took = round(time.process_time() - began, 1)
    result = {"run": run.name, "figure": run.figure, "processor_s": took, **facts, **result}
    store.keep(run.name, result, pictures)
    return result
