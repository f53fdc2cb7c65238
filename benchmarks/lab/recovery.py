"""How long does a jump of the experiment show? Until the network is as good as one that was trained there.

    python -m benchmarks.lab.recovery [--steps 400] [--out FILE]

A network learns on one experiment, then the stream is another one. Compared are ours (the jump is announced: the buffer
is emptied, and the best of the networks there are goes on) and the paper's way (a buffer of 320 pairs, in which the old
ones fade, and training goes on), each with and without a guide. Then the stream jumps back: ours remembers. After some
steps each slice of the last turn is scored against that of the turn before;
the figure is the first step from which on the mean accuracy stays within 0.01 of that of a network trained there for
twice as long as the longest mark. Nothing depends on the clock; seconds are steps by the rate of a live trainer. What
the report has already is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.lab import Experiment, load
from benchmarks.lab.learning import NOT_GUIDED, PRODUCT, STEPS_A_BATCH, Judge, Learner
from sim.report import machine
from tango_jit.learn import Trainer, TrainerSettings

RESULT = Path(__file__).parents[1] / "results" / "lab_recovery.json"
JUMPS = (("tablet-soap", "tablet-gel"), ("htc-ta-90", "htc-01a-90"), ("htc-ta-90", "tablet-gel"))
MARKS = (0, 4, 20, 40, 80, 120, 200, 400)  # steps after the jump
CLOSE = 0.01
STEPS_PER_S = 24.0  # of a live trainer on two cores beside three slices of 512 x 512 pixels (bench.md)
WAYS: Mapping[str, tuple[TrainerSettings, bool]] = {
    "product": (PRODUCT, True),
    "product, old pairs fade": (PRODUCT, False),
    "not guided": (NOT_GUIDED, True),
    "not guided, old pairs fade": (NOT_GUIDED, False),
}
"""Settings, and whether the jump is told."""


class Stage:
    """One experiment, at the middle of its stream, for any trainer."""

    def __init__(self, name: str) -> None:
        self.experiment: Experiment = load(name)
        self.judge = Judge(self.experiment)

    def learner(self, settings: TrainerSettings, trainer: Trainer | None = None) -> Learner:
        """With a trainer that has learned elsewhere; None: a new one."""
        learner = Learner(self.experiment, "turns", settings, seed=0)  # one slice: scanners differ in rows
        learner.send(4 * self.experiment.views_a_turn)
        if trainer is not None:
            learner.trainer = trainer
        return learner

    def accuracy(self, trainer: Trainer) -> float:
        """Mean over the slices, of what the network makes."""
        seen = self.judge.figures(trainer.weights())
        return float(np.mean([figures["accuracy"] for figures in seen.values()]))


def learn(learner: Learner, steps: int) -> None:
    for _ in range(0, steps, STEPS_A_BATCH):
        learner.learn()


def curve(stage: Stage, learner: Learner, longest: int) -> list[tuple[int, float]]:
    """(steps since the jump, accuracy) at all marks up to the longest."""
    found, taken = [], 0
    for mark in (mark for mark in MARKS if mark <= longest):
        learn(learner, mark - taken)
        taken = mark
        if learner.trainer.scale is not None:
            found.append((mark, round(stage.accuracy(learner.trainer), 4)))
    return found


def back(found: list[tuple[int, float]], goal: float) -> int | None:
    """The first mark from which on the accuracy stays within `CLOSE` of the goal; None: never."""
    late = [number for number, (_, accuracy) in enumerate(found) if accuracy > goal + CLOSE]
    first = late[-1] + 1 if late else 0
    return found[first][0] if first < len(found) else None


def jump(
    stages: tuple[Stage, Stage], way: str, goals: dict[tuple[str, str], float], steps: int
) -> list[dict[str, Any]]:
    """From the first stage to the second and back; `goals` (experiment, way) -> accuracy, filled as needed."""
    settings, told = WAYS[way]
    here, there = stages
    learner = here.learner(settings)
    learn(learner, 2 * steps)
    rows = []
    for number, stage in enumerate((there, here), 1):
        kind = "product" if settings is PRODUCT else "not guided"
        key = stage.experiment.name, kind
        if key not in goals:
            trained = stage.learner(settings)
            learn(trained, 2 * steps)
            goals[key] = stage.accuracy(trained.trainer)
        trainer = learner.trainer
        learner = stage.learner(settings, trainer)
        if told:
            trainer.jumped()
        found = curve(stage, learner, steps)
        took = back(found, goals[key])
        rows.append(
            {
                "from": stages[number - 1].experiment.name,
                "to": stage.experiment.name,
                "way": way,
                "goal": round(goals[key], 4),
                "curve": found,
                "steps_until_back": took,
                "seconds_until_back": None if took is None else round(took / STEPS_PER_S, 1),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=MARKS[-1], help="watched after each jump")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    known = {(row["from"], row["to"], row["way"]) for row in rows}
    goals: dict[tuple[str, str], float] = {}
    for names in JUMPS:
        wanted = [way for way in WAYS if (*names, way) not in known]
        if not wanted:
            continue
        stages = Stage(names[0]), Stage(names[1])
        for way in wanted:
            for row in jump(stages, way, goals, arguments.steps):
                rows.append(row)
                print(row["from"], row["to"], way, row["goal"], row["steps_until_back"], row["curve"], flush=True)
            report = {"benchmark": "lab.recovery", "machine": machine(), "close": CLOSE, "rows": rows}
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
