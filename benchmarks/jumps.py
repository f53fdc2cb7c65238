"""How rarely `tango_jit.learn.jumps` is wrong, and how soon right: `python -m benchmarks.jumps [--json FILE]`.

Made-up figures with known scatter and known steps, many seeds of each. All numbers are counts of observations, the
same on every machine; at 10 to 25 observations a second 60 of them are 2.4 to 6 s.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango_jit.learn.jumps import Jumps

Row = dict[str, Any]
Values = NDArray[np.float64]

USUAL = {"accuracy": 0.55, "noise": 3e-5, "level": 0.02}
STREAM, AFTER = 20_000, 1000
SOON = 60


@dataclass(frozen=True)
class Figure:
    """`scatter`: of the accuracy itself, the logarithm of the noise, the level as part of its mean."""

    name: str
    scatter: float
    shape: str = "Gaussian"
    alike: float = 0.0
    """Correlation of neighbours."""

    def stream(self, rng: np.random.Generator, course: Values) -> Values:
        """Observations about `course`: accuracies, or factors on the usual noise or level."""
        match self.shape:
            case "Gaussian":
                random = rng.normal(size=len(course))
            case "heavy tails":  # Student's t with 4 degrees of freedom
                random = rng.standard_t(4, len(course)) / np.sqrt(2)
            case _:  # skewed: log-normal of the same relative scatter
                width = np.sqrt(np.log1p(self.scatter**2))
                random = (np.exp(rng.normal(-(width**2) / 2, width, len(course))) - 1) / self.scatter
        if self.alike:
            random[1:] *= np.sqrt(1 - self.alike**2)
            for k in range(1, len(random)):
                random[k] += self.alike * random[k - 1]
        random *= self.scatter
        if self.name == "accuracy":
            return course + random
        factor = np.exp(random) if self.name == "noise" else 1 + random
        return USUAL[self.name] * course * factor

    def usual(self, count: int) -> Values:
        return np.full(count, USUAL["accuracy"] if self.name == "accuracy" else 1.0)

    def row(self, what: str) -> Row:
        row: Row = {"figure": self.name, "what": what, "scatter": self.scatter, "shape": self.shape}
        return row | ({"correlation_of_neighbours": self.alike} if self.alike else {})


def alarms(figure: str, values: Values) -> list[int]:
    """At which observations a jump is told, counted from 1."""
    jumps = Jumps()
    return [k + 1 for k, value in enumerate(values.tolist()) if jumps.watch(**{figure: value})]


def quiet(figure: Figure, what: str, course: Values, seeds: int) -> Row:
    """Nothing happens: every alarm is a false one."""
    counts = [len(alarms(figure.name, figure.stream(np.random.default_rng(seed), course))) for seed in range(seeds)]
    return figure.row(what) | {
        "streams": seeds,
        "observations_each": len(course),
        "false_alarms": sum(counts),
        "streams_with_one": sum(map(bool, counts)),
    }


def step(figure: Figure, size: float, at: int, seeds: int, ramp: int = 1) -> Row:
    """A step after `at` observations: `size` is added to the accuracy, the factor of noise or level is multiplied by
    it. Within `ramp` observations it is complete; delays count from its first one."""
    course = figure.usual(at + AFTER)
    rise = np.minimum(np.arange(1, AFTER + 1) / ramp, 1)
    course[at:] = course[at:] + rise * size if figure.name == "accuracy" else size**rise
    delays, early, again = [], 0, 0
    for seed in range(seeds):
        told = alarms(figure.name, figure.stream(np.random.default_rng(seed), course))
        after = [k - at for k in told if k > at]
        early += len(told) - len(after)
        again += max(len(after) - 1, 0)
        delays.append(after[0] if after else AFTER + 1)
    found = np.array(delays)
    median, most, nearly_all = (int(np.ceil(np.quantile(found, q))) for q in (0.5, 0.9, 0.99))
    row = figure.row(f"step of {size:+g}" if figure.name == "accuracy" else f"step by a factor of {size:.3g}")
    if ramp > 1:
        row["complete_within"] = ramp
    return row | {
        "after": at,
        "streams": seeds,
        "delay_median": median,
        "delay_90_percent": most,
        "delay_99_percent": nearly_all,
        "found_within_10": int((found <= 10).sum()),
        f"found_within_{SOON}": int((found <= SOON).sum()),
        "not_found": int((found > AFTER).sum()),
        "told_again": again,
        "false_alarms_before": early,
    }


def rest(seeds: int) -> list[Row]:
    """Streams without a jump."""
    figures = [Figure("accuracy", scatter) for scatter in (0.004, 0.02, 0.08)]
    figures += [Figure("noise", scatter) for scatter in (0.02, 0.1, 0.3)]
    figures += [Figure("level", 0.04), Figure("level", 0.2)]
    figures += [Figure("level", 0.2, shape) for shape in ("heavy tails", "skewed")]
    figures += [Figure("level", 0.2, alike=alike) for alike in (0.1, 0.3)]
    rows = [quiet(figure, "at rest", figure.usual(STREAM), seeds) for figure in figures]
    for scatter in (0.02, 0.03, 0.08):
        for span in (50, 200, 1000):
            course = 0.52 + 0.48 * np.exp(-4 * np.arange(4000) / span)
            rows.append(quiet(Figure("accuracy", scatter), f"learning within {span}", course, seeds))
    for scatter in (0.1, 0.3):
        for end in (2.0, 0.5):
            course = end ** (np.arange(10_000) / 10_000)
            rows.append(quiet(Figure("noise", scatter), f"slow drift by a factor of {end:g}", course, seeds))
    return rows


def steps(seeds: int) -> list[Row]:
    accuracy, noise, level = Figure("accuracy", 0.03), Figure("noise", 0.3), Figure("level", 0.2)
    rows = []
    for at in (3000, 400, 120):
        rows += [step(accuracy, size, at, seeds) for size in (0.05, 0.2)]
        rows += [step(noise, size, at, seeds) for size in (1.5, 1 / 1.5, 3.0, 1 / 3)]
        rows += [step(level, size, at, seeds) for size in (1.2, 0.8, 1.4, 0.6)]
    rows.append(step(Figure("accuracy", 0.08), 0.2, 3000, seeds))
    rows += [step(Figure("noise", 0.1), size, 3000, seeds) for size in (1.5, 1 / 1.5)]
    rows += [step(figure, size, 3000, seeds, 50) for figure, size in ((accuracy, 0.2), (noise, 3.0), (level, 1.6))]
    return rows


def show(row: Row) -> str:
    alike = f"{row['correlation_of_neighbours']:g} alike" if "correlation_of_neighbours" in row else row["shape"]
    head = f"{row['figure']:9s} {row['what']:30s} scatter {row['scatter']:<5g} {alike:11s}"
    if "false_alarms" in row:
        return f"{head} {row['false_alarms']} false alarms in {row['streams']} x {row['observations_each']}"
    delays = ", ".join(str(row[f"delay_{part}"]) for part in ("median", "90_percent", "99_percent"))
    missed = row["streams"] - row[f"found_within_{SOON}"]
    return f"{head} after {row['after']:4d}: {delays}; later than {SOON}: {missed} of {row['streams']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where to write the rows; default: nowhere")
    parser.add_argument("--seeds", type=int, default=200)
    arguments = parser.parse_args()
    rows: dict[str, list[Row]] = {}
    parts: dict[str, Callable[[int], list[Row]]] = {"no_jump": rest, "jump": steps}
    for name, part in parts.items():
        rows[name] = part(arguments.seeds)
        print(*map(show, rows[name]), sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
