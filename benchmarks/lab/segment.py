"""Phases told apart: simple thresholds, the threshold of a denoised slice, and a network that learns to segment.

    python -m benchmarks.lab.segment [--experiments tablet-soap tablet-gel] [--seeds 0 1] [--steps 1000] [--out FILE]

For each experiment and seed two networks learn from the same pairs of two turns, one to denoise and one to segment, and
see neighbouring slices as live ones do. After so many steps each slice of the last turn is cut into two phases: as it
is, after total variation, and after the network that denoises, all three at the threshold that the other network has
measured on the stream; and by that network, at a probability of one half. The truth is the object itself, the mean over
the turn, cut at the same threshold. Wrong pixels and the intersection over union of the rarer phase, among the pixels
in view.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lab import Experiment, Windows, load
from benchmarks.lab.catalogue import SIMULATED
from benchmarks.lab.experiment import Image
from benchmarks.lab.learning import PRODUCT, STEPS_A_BATCH, Learner
from sim.report import machine
from tango_jit.learn import Denoiser
from tango_jit.learn.tasks.segment import SMOOTHING, THRESHOLD, WEAK
from tango_jit.learn.total_variation import total_variation
from tango_jit.learn.weights import Weights, unpack
from tango_jit.services.trainer_settings import DEEP, deep_as

RESULT = Path(__file__).parents[1] / "results" / "lab_segment.json"
MARKS = (60, 100, 300, 600, 1000)
TASKS = ("DENOISE", "SEGMENT")
Labels = NDArray[np.bool_]


def figures(labels: Labels, truth: Labels, inside: Labels) -> dict[str, float]:
    """Wrong pixels as a part of those inside, and the intersection over union of the phase that is rarer there."""
    found, true = labels[inside], truth[inside]
    rare = true.mean() < 0.5
    one, other = found == rare, true == rare
    return {
        "wrong": round(float(np.mean(found != true)), 5),
        "iou": round(float((one & other).sum() / max(1, (one | other).sum())), 4),
    }


class Judge:
    """Cuts the slices of the last turn and compares them with the object."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, windows = experiment, Windows(experiment)
        self._before = windows.raw(experiment.frames - experiment.views_a_turn)
        self._planes = windows.planes(experiment.frames, 1 if experiment.geometry.rows == 1 else DEEP)

    def figures(self, weights: dict[str, Weights]) -> dict[str, Any]:
        """Of each slice and way; `weights` by task."""
        denoisers = {task: Denoiser(guard=False) for task in weights}
        for task, denoiser in denoisers.items():
            denoiser.load(weights[task])
        guarded = Denoiser()
        guarded.load(weights["SEGMENT"])
        network, scale = unpack(weights["SEGMENT"]), weights["SEGMENT"].scale
        threshold, smoothing = (float(getattr(network, name)) * scale for name in (THRESHOLD, SMOOTHING))
        found: dict[str, Any] = {}
        for place, target in self._experiment.targets.items():
            even, odd, *full = self._planes[place]
            slice_, before = (even, odd, full[0] if full else None), self._before[place]
            results = {task: denoiser(*slice_, before=before) for task, denoiser in denoisers.items()}
            raw, thing, inside = results["SEGMENT"].raw, target.reference("object"), target.inside
            truth = thing > threshold
            smooth = total_variation(torch.from_numpy(raw), smoothing / WEAK).numpy()  # at its best
            pictures: dict[str, Image] = {"raw": raw, "tv": smooth, "denoised": results["DENOISE"].image}
            row: dict[str, Any] = {"threshold_per_mm": float(f"{threshold:.4g}")}
            for name, picture in pictures.items():
                row[name] = figures(picture > threshold, truth, inside)
            row["segmented"] = figures(results["SEGMENT"].image > 0.5, truth, inside)
            row["accuracy"] = round(results["SEGMENT"].accuracy or np.nan, 4)
            row["guarded"] = guarded(*slice_, before=before).guarded
            found[place] = row
        return found


def run(experiment: Experiment, judge: Judge, seed: int, steps: int) -> dict[str, Any]:
    """Two training runs side by side; returns their row of the report."""
    settings = {task: deep_as(PRODUCT.edited(task=task), experiment.geometry) for task in TASKS}
    learners = {task: Learner(experiment, "turns", settings[task], seed) for task in TASKS}
    first, curve = 2 * experiment.views_a_turn + 4, []
    for done in range(0, steps, STEPS_A_BATCH):
        for learner in learners.values():
            learner.send(first + (experiment.frames - first) * done // steps)
            learner.learn()
        taken = done + STEPS_A_BATCH
        if taken >= steps or any(done < mark <= taken for mark in MARKS):
            weights = {task: learner.trainer.weights() for task, learner in learners.items()}
            curve.append({"steps": taken, **judge.figures(weights)})
    return {"experiment": experiment.name, "seed": seed, "curve": curve}


def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in arguments.experiments:
        experiment = load(name)
        judge = Judge(experiment)
        for seed in arguments.seeds:
            started = time.process_time()
            row = run(experiment, judge, seed, arguments.steps)
            yield {**row, "cpu_s": round(time.process_time() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", choices=SIMULATED, default=[*SIMULATED])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the report (JSON)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = []
    for row in runs(arguments):
        rows.append(row)
        print(json.dumps(row), flush=True)
        report = {"benchmark": "lab.segment", "machine": machine(), "rows": rows}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
