"""Does the map of uncertainty hold what it says? How many pixels lie within 1.96 standard deviations.

    python -m benchmarks.lab.coverage [--experiments tablet-soap tablet-gel htc-ta-90] [--steps 300] [--out FILE]

For each experiment the preset PRODUCT learns, as deep as it is live (three slices, one of a detector of one row). Its
slices of the last turn are denoised, and counted are the pixels inside the object whose error is within 1.96 times the
map (95 of 100 if errors were normal and the map right): against the truth where it is known (simulated), and everywhere
against the raw slice of the turn before the last but one, which neither the slice nor the map has seen; there the noise
of that slice, the mean over the image, is added to the map.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.lab import Windows, load
from benchmarks.lab.catalogue import SIMULATED
from benchmarks.lab.learning import PRODUCT, STEPS_A_BATCH, Learner
from sim.report import machine
from tango_jit.learn import Denoiser
from tango_jit.learn.motion import still
from tango_jit.recon.pipeline import full_stack
from tango_jit.services.trainer_settings import deep_as

RESULT = Path(__file__).parents[1] / "results" / "lab_coverage.json"
SURE = 1.96


def rows_of(name: str, steps: int) -> Iterator[dict[str, Any]]:
    """One for each slice."""
    experiment = load(name)
    settings = deep_as(PRODUCT, experiment.geometry)
    learner, turn, depth = (
        Learner(experiment, "turns", settings, seed=0),
        experiment.views_a_turn,
        settings.network.depth,
    )
    learner.send(8 * turn if experiment.endless else experiment.frames)
    for _ in range(0, steps, STEPS_A_BATCH):
        learner.learn()
    denoiser, windows = Denoiser(guard=False), Windows(experiment)
    denoiser.load(learner.trainer.weights())
    unseen = windows.raw(experiment.frames - 2 * turn)
    earlier = windows.planes(experiment.frames - turn, depth)
    planes = windows.planes(experiment.frames, depth)
    for place, target in experiment.targets.items():
        even, odd, *full = planes[place]
        whole, before = full[0] if full else None, full_stack(earlier[place])
        result = denoiser(even, odd, whole, before=before, with_uncertainty=True)
        sigma = result.uncertainty
        assert sigma is not None
        quiet = still(*(torch.from_numpy(image)[None] for image in (result.raw, unseen[place])))[0].numpy() > 0
        known = target.inside & np.isfinite(sigma)
        noise = np.mean((result.raw - before[depth // 2])[known & quiet] ** 2) / 2
        apart = np.abs(result.image - unseen[place]) / np.sqrt(sigma**2 + noise)
        row = {
            "experiment": name,
            "place": place,
            "steps": steps,
            "depth": depth,
            "without_a_figure": round(float(np.mean(~np.isfinite(sigma[target.inside]))), 4),
            "unseen_turn": round(float(np.mean(apart[known & quiet] < SURE)), 4),
        }
        if name in SIMULATED:
            error = np.abs(result.image - target.reference())
            order = np.argsort(sigma[known])
            row["truth"] = round(float(np.mean(error[known] < SURE * sigma[known])), 4)
            # Of each fifth, from the surest to the least sure: true error over the map's, root mean squares.
            row["true_over_told"] = [
                round(float(np.sqrt(np.mean(error[known][part] ** 2) / np.mean(sigma[known][part] ** 2))), 2)
                for part in np.array_split(order, 5)
            ]
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["tablet-soap", "tablet-gel", "htc-ta-90"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = []
    for name in arguments.experiments:
        for row in rows_of(name, arguments.steps):
            rows.append(row)
            print(row, flush=True)
    report = {"benchmark": "lab.coverage", "machine": machine(), "rows": rows}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
