"""How much sooner a network is good that begins from one that was trained on another sample.

    python -m benchmarks.warm_start [--seeds 0] [--steps 400] [--out FILE]

For each experiment of the lab a network is trained from nothing (cold), and from weights that were trained on another
one (warm): a like stream (another phantom, another tablet), and one of another scanner. The warm ones go through the
same contest on the first new pairs as in the trainer: `chosen` says who won it. Figures: steps, and seconds of the
processor for pairs and steps, from which on a slice of the last turn always has the PSNR that total variation reaches
when it is told the answer, less 0.1 dB (null: not within so many steps). Nothing depends on the clock but the seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import torch

from benchmarks.lab import Experiment, Windows, load, oracle
from benchmarks.lab.learning import STEPS_A_BATCH, Judge, Learner
from sim.report import machine
from tango_jit.learn import PRODUCT, Weights

RESULT = Path(__file__).parent / "results" / "warm_start.json"
PAIRINGS = {
    "htc-ta-90": (None, "htc-tb-90", "tablet-gel"),
    "tablet-soap": (None, "tablet-gel", "htc-tb-90"),
}
SHORT_DB = 0.1  # of what total variation reaches
OFTEN, LOOKED_AT = 24, 20  # steps; slices are looked at after every batch at first, then after each so many steps
TRAINED = 600  # steps of the weights that are offered
TURNS = 8  # that come during so many steps


class Run:
    """One training on an experiment, its frames coming as steps are done."""

    def __init__(self, experiment: Experiment, seed: int, steps: int) -> None:
        self.learner, self._steps = Learner(experiment, "turns", PRODUCT, seed), steps
        turn = experiment.views_a_turn
        self._first = 2 * turn + 4
        self._last = TURNS * turn if experiment.endless else experiment.frames
        self.cpu_s = 0.0

    def batches(self) -> Iterator[int]:
        """Train; after each batch the number of steps so far."""
        for done in range(0, self._steps, STEPS_A_BATCH):
            begun = time.process_time()
            self.learner.send(self._first + (self._last - self._first) * done // self._steps)
            self.learner.learn()
            self.cpu_s += time.process_time() - begun
            yield done + STEPS_A_BATCH


def weights_of(experiment: Experiment, seed: int) -> Weights:
    """What is known of this experiment."""
    run = Run(experiment, seed, TRAINED)
    for _ in run.batches():
        pass
    return run.learner.trainer.weights()


def targets_db(experiment: Experiment) -> dict[str, float]:
    """The PSNR to be exceeded, for each place."""
    raw = Windows(experiment).raw(experiment.frames)
    return {place: oracle(experiment, place, image).score - SHORT_DB for place, image in raw.items()}


def row_of(
    experiment: Experiment,
    judge: Judge,
    goals: dict[str, float],
    known: tuple[str, Weights] | None,
    seed: int,
    steps: int,
) -> dict[str, Any]:
    run = Run(experiment, seed, steps)
    trainer = run.learner.trainer
    if known is not None:
        trainer.regimes.offer(dict([known]))
        trainer.jumped()
    curve: list[dict[str, Any]] = []
    for taken in run.batches():
        if taken > OFTEN and taken % LOOKED_AT:
            continue
        figures = judge.figures(trainer.weights())
        psnr = {place: next(iter(figures[place]["network"].values())) for place in goals}
        assert trainer.patch_accuracy is not None
        accuracy = round(trainer.patch_accuracy, 4)
        curve.append({"steps": taken, "cpu_s": round(run.cpu_s, 2), "patch_accuracy": accuracy, **psnr})
    return {
        "experiment": experiment.name,
        "from": None if known is None else known[0],
        "chosen": trainer.regimes.chosen or "an untrained network",
        "seed": seed,
        "goal_db": {place: round(goal, 2) for place, goal in goals.items()},
        "reached": {place: reached(curve, place, goal) for place, goal in goals.items()},
        "curve": curve,
    }


def reached(curve: list[dict[str, Any]], place: str, goal: float) -> dict[str, Any] | None:
    """The look from which on all are above the goal; None: the last one is not."""
    above = len(list(itertools.takewhile(lambda look: look[place] > goal, reversed(curve))))
    return {name: curve[-above][name] for name in ("steps", "cpu_s")} if above else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", choices=[*PAIRINGS], default=[*PAIRINGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=400, help="of each run")
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the report (JSON)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    known: dict[str, Weights] = {}
    for name in arguments.experiments:
        experiment = load(name)
        judge, goals = Judge(experiment), targets_db(experiment)
        for source in PAIRINGS[name]:
            if source is not None and source not in known:
                known[source] = weights_of(load(source), seed=100)
            for seed in arguments.seeds:
                offered = None if source is None else (source, known[source])
                row = row_of(experiment, judge, goals, offered, seed, arguments.steps)
                rows.append(row)
                print(name, "from", source, "seed", seed, row["chosen"], row["reached"], flush=True)
                settings = {"steps": arguments.steps, "trained": TRAINED, "threads": 1}
                report = {"benchmark": "warm_start", "machine": machine(), "settings": settings, "rows": rows}
                arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
