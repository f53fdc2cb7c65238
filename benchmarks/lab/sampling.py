"""What it matters where patches lie, and how many pairs are kept.

    python -m benchmarks.lab.sampling [--experiments tablet-gel] [--ways MIXED "buffer 80"] [--seeds 0] [--steps 600]

Training runs of the preset PRODUCT as in `benchmarks.lab.learning`, on the same streams and compared with the same
references; they differ in one thing each. "In the container": patches whose centre lies in what `recon.container`
finds in the first window. "Few pairs": every pair is drawn eight times instead of once, as where reconstruction is
slow. Nothing depends on the clock. Runs that the report has already are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import torch

from benchmarks.lab import Experiment, Windows, load
from benchmarks.lab.learning import PAIRS, Judge, Learner, learned
from sim.report import machine
from tango_jit.learn import PRODUCT
from tango_jit.learn.patches import Sampling
from tango_jit.recon.container import found
from tango_jit.services.buffering import Buffering
from tango_jit.services.trainer_settings import deep_as

RESULT = Path(__file__).parents[1] / "results" / "lab_sampling.json"
EXPERIMENTS = ("tablet-gel", "htc-ta-180", "tablet-soap", "walnut-40", "dendrite-120")


@dataclass(frozen=True)
class Way:
    """`pairs`: new ones for every four steps of eight."""

    sampling: Sampling = "MIXED"
    contained: bool = False
    buffer_size: int = PRODUCT.buffer_size
    pairs: int = PAIRS
    buffer_auto: bool = False


WAYS: Mapping[str, Way] = {
    "MIXED": Way(),
    "MIXED, in the container": Way(contained=True),
    "UNIFORM": Way("UNIFORM"),
    "UNIFORM, in the container": Way("UNIFORM", contained=True),
    "NEAR_SLICES": Way("NEAR_SLICES"),
    "NEAR_SLICES, in the container": Way("NEAR_SLICES", contained=True),
    "buffer 80": Way(buffer_size=80),
    "buffer 1280": Way(buffer_size=1280),
    "buffer auto": Way(buffer_auto=True),
    "few pairs": Way(pairs=4),
    "few pairs, buffer 80": Way(pairs=4, buffer_size=80),
    "few pairs, buffer 1280": Way(pairs=4, buffer_size=1280),
    "few pairs, buffer auto": Way(pairs=4, buffer_auto=True),
}


def run(experiment: Experiment, judge: Judge, way: str, seed: int, steps: int) -> dict[str, Any]:
    """One training run; returns its row of the report."""
    wanted = WAYS[way]
    settings = deep_as(PRODUCT, experiment.geometry).edited(buffer_size=wanted.buffer_size)
    cylinder = None
    if wanted.contained:
        cylinder = found(Windows(experiment).at(experiment.views_a_turn + 1), experiment.geometry).cylinder
    learner = Learner(
        experiment,
        "turns",
        settings,
        seed,
        pairs=wanted.pairs,
        buffering=Buffering() if wanted.buffer_auto else None,
        sampling=wanted.sampling,
        container_mm=cylinder,
    )
    curve = learned(learner, experiment, judge, steps)
    row = {"experiment": experiment.name, "way": way, "seed": seed, "raw": judge.raw(), "curve": curve}
    row["buffer_size"] = learner.trainer.settings.buffer_size  # in the end
    return row if cylinder is None else {**row, "container_mm": [round(float(number), 2) for number in cylinder]}


def runs(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that `rows` lacks, seed by seed."""
    known = {
        (row["experiment"], row["way"], row["seed"]) for row in rows if row["curve"][-1]["steps"] >= arguments.steps
    }
    for seed in arguments.seeds:
        for name in arguments.experiments:
            wanted = [way for way in arguments.ways if (name, way, seed) not in known]
            if not wanted:
                continue
            experiment = load(name)
            judge = Judge(experiment)
            for way in wanted:
                started = time.perf_counter()
                row = run(experiment, judge, way, seed, arguments.steps)
                yield {**row, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=[*EXPERIMENTS])
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULT, help="the report (JSON), which is added to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    report = (
        json.loads(arguments.out.read_text()) if arguments.out.exists() else {"benchmark": "lab.sampling", "rows": []}
    )
    for row in runs(arguments, report["rows"]):
        report["rows"].append(row)
        report["machine"] = machine()
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        shown = {name: value["shown"] for name, value in row["curve"][-1].items() if isinstance(value, dict)}
        print(row["experiment"], row["way"], row["seed"], f"{row['seconds']:.0f} s", shown, flush=True)


if __name__ == "__main__":
    main()
