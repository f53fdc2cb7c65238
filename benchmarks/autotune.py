"""What AutoTune chooses for wanted rates, and whether the truth agrees.

    python -m benchmarks.autotune [--experiments htc-ta-90 tablet-soap] [--hz 5 10 30] [--out FILE]

For each experiment of the lab the preset PRODUCT and every network of the menu is timed on the slices and trained for
`--steps` steps on the same pairs; its slices of the last turn are then compared with what no training has seen: that is
the truth. AutoTune runs beside PRODUCT, which begins with it, on the same stream with the same timings, once for every
rate. `regret_db`: by that table, how far what is in service afterwards (chosen, or present) is behind the best of those
that are fast enough; the mean of the places. Experiments that the report has already are not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.lab import Experiment, Windows, load
from sim.report import machine
from tango_jit.learn import PRODUCT, Denoiser, Trainer
from tango_jit.learn.autotune import PASSES, AutoTune, as_seen
from tango_jit.learn.menu import MENU, Row
from tango_jit.recon.pipeline import full_slice
from tango_jit.services.pairs import PairSource, Where
from tango_jit.stacks import neighbours
from tango_jit.streams import Header, Image

RESULT = Path(__file__).parent / "results" / "autotune.json"
ROUND, PAIRS, TURNS, ROUNDS = 4, 32, 8, 240  # steps and pairs a round; turns that come in so many rounds


class Stream:
    """The pairs of an experiment, round by round: the same for everybody who asks with one depth."""

    def __init__(self, experiment: Experiment, depth: int) -> None:
        header = Header(experiment.name, "filtered", experiment.geometry, True, "ram-lak")
        self._source, self._sent, self._depth = PairSource(header, "cpu", seed=0), 0, depth
        self._experiment = experiment
        turn = experiment.views_a_turn
        self._first, self._last = 2 * turn + 4, TURNS * turn if experiment.endless else experiment.frames

    def pairs(self, number: int) -> torch.Tensor:
        """(n, 2, depth, rows, cols), without depth for 1; `number` of the round goes up."""
        until = self._first + (self._last - self._first) * min(number, ROUNDS) // ROUNDS
        for k in range(self._sent, until):
            place = self._experiment.angle_rad(k), 0.0, self._experiment.filtered(k)
            self._source.add(Image(self._experiment.name, k, *place))
        self._sent = max(self._sent, until)
        window = self._source.window.window()
        assert window is not None
        where = Where(PRODUCT.patch_size, self._depth, "MIXED")
        return torch.as_tensor(self._source.make(PAIRS, window, "turns", where, self._experiment.places).images)


def timed(experiment: Experiment, deepest: int) -> list[list[float]]:
    """Seconds of the passes of each network: PRODUCT, then those of the menu that can be."""
    tune = AutoTune(PRODUCT, 1e-6, _shapes(experiment), time.perf_counter, deepest=deepest)
    while not tune.training:
        tune.work()
    return [candidate.times_s for candidate in tune.candidates if candidate.times_s]


def tuned(experiment: Experiment, deepest: int, times_s: list[list[float]], wanted_hz: float) -> dict[str, Any]:
    """One run of AutoTune beside PRODUCT."""
    now = iter(np.repeat(np.cumsum([0.0, *(s for times in times_s for s in times)]), 2)[1:-1].tolist())
    tune = AutoTune(PRODUCT, wanted_hz, _shapes(experiment), lambda: next(now), deepest=deepest)
    present, stream, number = Trainer(PRODUCT, seed=0), Stream(experiment, deepest), 0
    started = time.perf_counter()
    while not tune.verdict:
        if tune.busy:
            tune.work()
            continue
        pairs = stream.pairs(number)
        scores = present.add(as_seen(pairs, 1), split="turns")
        for _ in range(ROUND):
            present.step()
        tune.add(pairs if pairs.ndim == 4 else as_seen(pairs, tune.depth), scores, ROUND, 0, split="turns")
        number += 1
    chosen = next((row.name for row in tune.rows if row.verdict == "chosen"), None)
    return {
        "wanted_hz": wanted_hz,
        "in_service": chosen or tune.rows[0].name,
        "chosen": chosen,
        "verdict": tune.verdict,
        "table": [_plain(row) for row in tune.rows],
        "seconds": rounded(time.perf_counter() - started, 1),
        "rounds": number,
    }


def truth(experiment: Experiment, deepest: int, steps: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Name of each network, and PSNR in dB of each place after so many steps."""
    windows = Windows(experiment)
    last = windows.at(experiment.frames)
    stacks = {
        name: np.concatenate(
            [windows.reconstructor.reconstruct(last, each) for each in neighbours(place, deepest)], axis=1
        )
        for name, place in experiment.places.items()
    }
    yield "raw", {name: _score(experiment, name, full_slice(stack)) for name, stack in stacks.items()}
    menu = [network for network in MENU if network.depth <= deepest and network.shape != PRODUCT.network.shape]
    for network in (PRODUCT.network, *menu):
        trainer, stream = Trainer(PRODUCT.edited(network=network), seed=0), Stream(experiment, deepest)
        for number in range(steps // ROUND):
            trainer.add(as_seen(stream.pairs(number), network.depth), split="turns")
            for _ in range(ROUND):
                trainer.step()
        denoiser = Denoiser(guard=False)
        denoiser.load(trainer.weights())
        name = AutoTune(trainer.settings, 1.0, _shapes(experiment), time.perf_counter).rows[0].name
        yield name, {at: _score(experiment, at, denoiser(*stack).image) for at, stack in stacks.items()}


def _score(experiment: Experiment, place: str, image: Any) -> float:
    return rounded(experiment.targets[place].psnr_db(image), 3)


def _shapes(experiment: Experiment) -> Sequence[tuple[int, int]]:
    return [place.shape for place in experiment.places.values()]


def _plain(row: Row) -> dict[str, Any]:
    return {
        name: (rounded(value, 4) if np.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in row._asdict().items()
    }


def rounded(value: float, digits: int) -> float:
    return round(float(value), digits)


def run(name: str, rates: Sequence[float], steps: int) -> dict[str, Any]:
    """All of one experiment."""
    experiment = load(name, cache=None)
    deepest = 1 if experiment.geometry.rows == 1 else max(network.depth for network in MENU)
    times_s = timed(experiment, deepest)
    psnr_db = dict(truth(experiment, deepest, steps))
    runs: list[dict[str, Any]] = []
    for wanted_hz in rates:
        found = tuned(experiment, deepest, times_s, wanted_hz)
        fast = [row["name"] for row in found["table"] if row["hz"] is not None and row["hz"] >= wanted_hz]
        means = {each: statistics.fmean(psnr_db[each].values()) for each in fast}
        if means:
            best = max(means, key=means.__getitem__)
            served = statistics.fmean(psnr_db[found["in_service"]].values())
            found |= {"best_by_truth": best, "regret_db": rounded(means[best] - served, 3)}
        runs.append(found)
        print(name, wanted_hz, "Hz:", found["verdict"], "best:", found.get("best_by_truth"), flush=True)
    seconds = [rounded(min(times[1:]), 5) for times in times_s]
    assert all(len(times) == PASSES for times in times_s)
    return {"experiment": name, "steps": steps, "psnr_db": psnr_db, "seconds_a_pass": seconds, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["htc-ta-90", "tablet-soap"])
    parser.add_argument("--hz", nargs="+", type=float, default=[5.0, 10.0, 30.0])
    parser.add_argument("--steps", type=int, default=448, help="of each network, for the truth")
    parser.add_argument("--out", type=Path, default=RESULT, help="the report (JSON), which is added to")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"benchmark": "autotune", "rows": []}
    known = {row["experiment"] for row in report["rows"]}
    for name in arguments.experiments:
        if name not in known:
            report["rows"].append(run(name, arguments.hz, arguments.steps))
            report |= {"machine": machine(), "threads": arguments.threads}
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
