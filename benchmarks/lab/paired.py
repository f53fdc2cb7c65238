"""Is the network at least as good as total variation that knows the answer, on a real scan, beyond chance?

    python -m benchmarks.lab.paired [--scans htc-ta-180 htc-ta-90] [--steps 1000]

Each interleaved rotation of a scan is held out once: the others are the stream, from which alone the network learns and
the slice is made; the rotation held out is the reference. The weight of total variation is chosen by looking at that
reference, the network's never saw it. Both pictures are compared with the same reference, so that its noise falls out
of the difference of the squared errors, network less total variation, in parts of the latter. Below zero the network is
better. The interval holds the mean 95 times of 100 (Student); rotations share views in their streams, so that it is a
little too narrow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from scipy import stats

from benchmarks.lab.learning import PRODUCT, TURNS, Learner
from benchmarks.lab.real import read, real
from benchmarks.lab.tv import oracle
from benchmarks.lab.windows import Windows
from sim.report import machine
from tango_jit.learn import Denoiser
from tango_jit.learn.noise2inverse import Split
from tango_jit.recon.pipeline import full_slice

RESULT = Path(__file__).parents[1] / "results" / "lab_paired.json"
MARKS = (52, 300, 1000)  # steps


def row(scan: str, views: int, held: int, steps: int, split: Split = "turns") -> dict[str, Any]:
    """One rotation held out: squared errors in mm^-2 against it, of the raw slice, total variation, and the network."""
    experiment = real(scan, views, [held])
    windows = Windows(experiment)
    even, odd, *whole = windows.planes(experiment.frames, 1)["xy"]
    raw, before = full_slice(np.stack([even, odd, *whole])), windows.raw(experiment.frames - views)["xy"]
    smooth = oracle(experiment, "xy", raw)
    learner, denoiser = Learner(experiment, split, PRODUCT, held), Denoiser()
    first, taken, curve = 2 * views + 4, 0, []
    for mark in (mark for mark in MARKS if mark <= steps):
        while taken < mark:
            learner.send(first + (TURNS * views - first) * taken // steps)
            learner.learn()
            taken = learner.trainer.steps
        denoiser.load(learner.trainer.weights())
        shown = denoiser(even, odd, *whole, before=before).image
        curve.append({"steps": taken, "shown": experiment.mse("xy", shown)})
    return {
        "scan": f"{scan}-{views}",
        "held": held,
        "raw": experiment.mse("xy", raw),
        "total_variation": experiment.mse("xy", smooth.image),
        "weight": smooth.weight,
        "curve": curve,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of one scan: at each mark the mean difference in percent of total variation's squared error, and its interval."""
    found = []
    smooth = np.array([row["total_variation"] for row in rows])
    for at, mark in enumerate(rows[0]["curve"]):
        shown = np.array([row["curve"][at]["shown"] for row in rows])
        differences = 100 * (shown - smooth) / smooth.mean()
        mean, n = differences.mean(), len(differences)
        reach = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
        found.append(
            {
                "scan": rows[0]["scan"],
                "steps": mark["steps"],
                "rotations": n,
                "percent": round(float(mean), 2),
                "interval": [round(float(mean - reach), 2), round(float(mean + reach), 2)],
                "db": round(float(10 * np.log10(smooth.mean() / shown.mean())), 3),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", nargs="+", default=["htc-ta-180", "htc-ta-90"], help="SCAN-VIEWS")
    parser.add_argument("--steps", type=int, default=MARKS[-1])
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for name in arguments.scans:
        scan, _, views = name.rpartition("-")
        found = []
        for held in range(len(read(scan).views) // int(views)):
            found.append(row(scan, int(views), held, arguments.steps))
            print(found[-1], flush=True)
        rows += found
        verdicts += summary(found)
        print(*verdicts, sep="\n", flush=True)
        report = {"benchmark": "lab.paired", "machine": machine(), "verdicts": verdicts, "rows": rows}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
