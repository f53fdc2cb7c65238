"""Can what is said without the truth be believed? Compared with the truth on the runs of `benchmarks.lab.learning`.

    python -m benchmarks.lab.trust [--foreign htc-ta-90 tablet-gel walnut-40]

* Criteria: which figure knows the better network? For each run and slice the rank correlation (Spearman) of a criterion
  with the PSNR over the steps, and what is lost by keeping the network that the criterion likes best.
* Shown: what is shown against the better of the raw slice and the network's.
* Quality: the least gain that is promised against the gain there is.
* Foreign (with `--foreign`): networks that learned on one experiment and are asked for slices of the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from scipy.stats import rankdata

from benchmarks.lab import load
from benchmarks.lab.catalogue import SIMULATED
from benchmarks.lab.learning import PRODUCT, RESULT, STEPS_A_BATCH, Judge, Learner
from sim.report import machine

TRUST = RESULT.with_name("lab_trust.json")
EARLIEST = 100  # steps: before, everything falls and rises together
CRITERIA = ("accuracy", "accuracy_of_halves", "patch_accuracy")
FOREIGN_STEPS = 300

Row = dict[str, Any]


def trajectories(rows: list[Row]) -> Iterator[tuple[Row, str, list[Row], list[float]]]:
    """Every run and slice: the row, the name of the slice, its marks (patch_accuracy included) and their PSNR in dB
    against the main reference."""
    for row in rows:
        marks = [mark for mark in row["curve"] if mark["steps"] >= EARLIEST]
        for place in row["raw"]:
            found = [{**mark[place], "patch_accuracy": mark["patch_accuracy"]} for mark in marks]
            yield row, place, found, [_main(mark["network"]) for mark in found]


def _main(scores: dict[str, float]) -> float:
    return next(iter(scores.values()))


def _rank_correlation(one: Any, other: Any) -> float:
    """Spearman's."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def criteria(rows: list[Row]) -> list[Row]:
    """For each criterion and variant: rank correlation with the truth, and the regret in dB of choosing by it."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row, _, marks, psnr in trajectories(rows):
        for criterion in CRITERIA:
            values = [mark[criterion] for mark in marks]
            if any(value is None for value in values):
                continue
            correlation = _rank_correlation([-value for value in values], psnr)
            regret = max(psnr) - psnr[int(np.argmin(values))]
            found.setdefault((row["variant"], criterion), []).append((correlation, regret))
    report = []
    for (variant, criterion), pairs in sorted(found.items()):
        correlations, regrets = np.array(pairs).T
        report.append(
            {
                "variant": variant,
                "criterion": criterion,
                "trajectories": len(pairs),
                "rank_correlation_mean": round(float(np.nanmean(correlations)), 3),
                "rank_correlation_least": round(float(np.nanmin(correlations)), 3),
                "regret_db_mean": round(float(regrets.mean()), 3),
                "regret_db_most": round(float(regrets.max()), 3),
            }
        )
    return report


def shown(rows: list[Row]) -> list[Row]:
    """For each experiment and variant: what is shown minus the better of both, and minus the network's, in dB."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        for mark, place in itertools.product(row["curve"], row["raw"]):
            seen = mark[place]
            picture, network = _main(seen["shown"]), _main(seen["network"])
            better = max(network, _main(row["raw"][place]))
            found.setdefault((row["experiment"], row["variant"]), []).append((picture - better, picture - network))
    return [
        {
            "experiment": experiment,
            "variant": variant,
            "pictures": len(pairs),
            "above_better_db_least": round(min(above for above, _ in pairs), 3),
            "above_better_db_median": round(float(np.median([above for above, _ in pairs])), 3),
            "above_network_db_mean": round(float(np.mean([above for _, above in pairs])), 3),
        }
        for (experiment, variant), pairs in sorted(found.items())
    ]


def quality(rows: list[Row]) -> list[Row]:
    """For simulated and measured experiments, by evidence: does the promise hold, how much more is there?"""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        kind = "simulated" if row["experiment"].startswith(SIMULATED) else "measured"
        for mark, place in itertools.product(row["curve"], row["raw"]):
            seen = mark[place]
            if seen["quality_db"] is None or seen["guarded"]:
                continue
            gain = _main(seen["shown"]) - _main(row["raw"][place])
            found.setdefault((kind, row["variant"]), []).append((seen["quality_db"], gain))
    report = []
    for (kind, variant), pairs in sorted(found.items()):
        promised, gained = np.array(pairs).T
        report.append(
            {
                "experiments": kind,
                "variant": variant,
                "pictures": len(pairs),
                "kept": round(float(np.mean(gained >= promised)), 3),
                "more_than_promised_db_median": round(float(np.median(gained - promised)), 2),
                "less_than_promised_db_most": round(float(np.max(promised - gained)), 2),
                "rank_correlation": round(_rank_correlation(promised, gained), 3),
            }
        )
    return report


def foreign(names: list[str], steps: int = FOREIGN_STEPS) -> Iterator[Row]:
    """Networks of one experiment on the slices of the others."""
    learned, judges = {}, {}
    for name in names:
        experiment = load(name)
        learner, turn = Learner(experiment, "turns", PRODUCT, seed=0), experiment.views_a_turn
        learner.send(4 * turn)
        for _ in range(0, steps, STEPS_A_BATCH):
            learner.learn()
        learned[name], judges[name] = learner.trainer.weights(), Judge(experiment)
    for own, other in itertools.permutations(names, 2):
        raw = judges[other].raw()
        for place, seen in judges[other].figures(learned[own]).items():
            yield {
                "learned_on": own,
                "asked_for": other,
                "place": place,
                "raw_db": _main(raw[place]),
                "network_db": _main(seen["network"]),
                "shown_db": _main(seen["shown"]),
                **{name: seen[name] for name in ("guarded", "quality_db", "accuracy", "share")},
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RESULT, help="the report of benchmarks.lab.learning")
    parser.add_argument("--foreign", nargs="+", default=[], help="experiments to learn on and to ask for")
    parser.add_argument("--out", type=Path, default=TRUST)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = json.loads(arguments.runs.read_text())["rows"]
    old = json.loads(arguments.out.read_text()).get("foreign", []) if arguments.out.exists() else []
    report = {
        "benchmark": "lab.trust",
        "machine": machine(),
        "criteria": criteria(rows),
        "shown": shown(rows),
        "quality": quality(rows),
        "foreign": list(foreign(arguments.foreign)) if arguments.foreign else old,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for part in ("criteria", "shown", "quality", "foreign"):
        print(f"\n{part}")
        for line in report[part]:
            print("  ", *(f"{key} {value}" for key, value in line.items()), sep="  ")


if __name__ == "__main__":
    main()
