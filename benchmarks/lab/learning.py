"""What ways of learning come to on the experiments of the lab, beside total variation that knows the answer.

    python -m benchmarks.lab.learning [--experiments htc-ta-90] [--variants product halves] [--seeds 0 1] [--steps 1500]

For each experiment, variant and seed one training run: frames come as steps are done (all frames of the experiment, or
eight turns of an endless one, within the run), pairs are made from the newest views, four steps a batch of 32 pairs.
After so many steps each slice of the last turn is denoised and compared with what no training has seen. Nothing depends
on the clock. Runs that the report has already are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.lab import NAMES, Experiment, Windows, load
from sim.report import machine
from tango_jit.learn import PRODUCT, Denoiser, PatchSampler, Trainer, TrainerSettings
from tango_jit.learn.noise2inverse import Split
from tango_jit.learn.weights import Weights
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow
from tango_jit.services.buffering import Buffering, resized
from tango_jit.services.trainer_settings import DEEP, deep_as
from tango_jit.stacks import stacked

RESULT = Path(__file__).parents[1] / "results" / "lab_learning.json"
MARKS = (50, 100, 300, 600, 1000, 1500, 2500, 4000)  # steps after which slices are looked at
TURNS, PAIRS, STEPS_A_BATCH = 8, 32, 4
NOT_GUIDED = PRODUCT.edited(form="residual")
VARIANTS: Mapping[str, tuple[Split, TrainerSettings]] = {
    "product": ("turns", PRODUCT),
    "one slice": ("turns", PRODUCT),
    "not guided": ("turns", NOT_GUIDED),
    "halves": ("halves", PRODUCT),
    "halves, not guided": ("halves", NOT_GUIDED),
}


DEEP_VARIANTS = ("product", "halves")
"""See neighbouring slices where there are any, as live networks do."""


class Learner:
    """Trains on the stream of an experiment.

    `pairs`: new ones for every four steps. `buffering`: what decides how many are kept, None: the settings do.
    `sampling`: where they lie, see `PatchSampler`.
    """

    def __init__(
        self,
        experiment: Experiment,
        split: Split,
        settings: TrainerSettings,
        seed: int,
        *,
        pairs: int = PAIRS,
        buffering: Buffering | None = None,
        **sampling: Any,
    ) -> None:
        self._experiment, self._pairs, self._buffering = experiment, pairs, buffering
        self._split: Split = split
        self.trainer = Trainer(settings, seed=seed)
        self._depth = settings.network.depth
        self._sampler = PatchSampler(experiment.geometry, settings.patch_size, seed=seed, depth=self._depth, **sampling)
        self._engine = Reconstructor(experiment.geometry)
        self._ring, self._sent = ProjectionWindow(experiment.geometry, spans=2), 0

    def send(self, until: int) -> None:
        """Let frames come until so many have come."""
        for k in range(self._sent, until):
            self._ring.add(k, self._experiment.angle_rad(k), self._experiment.filtered(k))
        self._sent = max(self._sent, until)

    def learn(self) -> None:
        """A batch of new pairs, and the steps that go with it. Raises ValueError before two turns have come."""
        now, before, size = self._ring.window(), self._ring.before(), self.trainer.settings.patch_size
        if now is None or before is None:
            raise ValueError(f"frames: expected two turns, got {self._sent}")
        poses = self._sampler.draw(self._pairs, self._experiment.places, now.matrices)
        if self._depth > 1:
            poses = stacked(poses, self._depth).reshape(-1, 3, 3)
        if self._split == "turns":
            pairs = self._engine.reconstruct_turns(now, before, poses, (size, size))
        else:
            pairs = self._engine.reconstruct_pairs(now, poses, (size, size))
        if self._depth > 1:
            pairs = np.asarray(pairs).reshape(self._pairs, self._depth, 2, size, size).swapaxes(1, 2)
        scores = self.trainer.add(pairs, split=self._split)
        if self._buffering is not None and (size := self._buffering.review(self.trainer, scores)) is not None:
            self.trainer.configure(resized(self.trainer.settings, size))
        for _ in range(STEPS_A_BATCH):
            if self.trainer.ready:
                self.trainer.step()


class Judge:
    """Denoises the slices of the last turn and compares them with the references."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        windows = Windows(experiment)
        self._before = windows.raw(experiment.frames - experiment.views_a_turn)
        self._planes = windows.planes(experiment.frames, 1 if experiment.geometry.rows == 1 else DEEP)

    def raw(self) -> dict[str, Any]:
        """PSNR in dB of each slice as it is."""
        return {name: self._scores(name, full_slice(planes)) for name, planes in self._planes.items()}

    def figures(self, weights: Weights) -> dict[str, Any]:
        """Of each slice, PSNR in dB of what the network makes of it and of what is shown; and all that is said of it
        without the truth. The accuracy between its halves too, whatever the network learned from."""
        guarded, without = Denoiser(), Denoiser(guard=False)
        for denoiser in (guarded, without):
            denoiser.load(weights)
        found: dict[str, Any] = {}
        for name, planes in self._planes.items():
            even, odd, *full = planes
            whole = full[0] if full else None
            shown = guarded(even, odd, whole, name=name, before=self._before[name])
            network = without(even, odd, whole, before=self._before[name])
            halves = without(even, odd, whole, mode="halves")
            found[name] = {
                "network": self._scores(name, network.image),
                "shown": self._scores(name, shown.image),
                "guarded": shown.guarded,
                "quality_db": _rounded(shown.quality_db),
                "share": _rounded(None if shown.blend is None else shown.blend.share),
                "accuracy": _rounded(shown.accuracy),
                "evidence": shown.evidence,
                "accuracy_of_halves": _rounded(halves.accuracy),
                "streaks": _rounded(shown.streaks),
            }
        return found

    def _scores(self, name: str, image: Any) -> dict[str, float]:
        return {reference: round(psnr, 3) for reference, psnr in self._experiment.score(name, image).items()}


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def run(experiment: Experiment, judge: Judge, variant: str, seed: int, steps: int) -> dict[str, Any]:
    """One training run; returns its row of the report."""
    split, settings = VARIANTS[variant]
    if variant in DEEP_VARIANTS:
        settings = deep_as(settings, experiment.geometry)
    curve = learned(Learner(experiment, split, settings, seed), experiment, judge, steps)
    return {"experiment": experiment.name, "variant": variant, "seed": seed, "raw": judge.raw(), "curve": curve}


def learned(learner: Learner, experiment: Experiment, judge: Judge, steps: int) -> list[dict[str, Any]]:
    """Let the whole stream come while so many steps are done; what there is to see at every mark, and at the end."""
    turn = experiment.views_a_turn
    first, last = 2 * turn + 4, (TURNS * turn if experiment.endless else experiment.frames)
    curve: list[dict[str, Any]] = []
    for done in range(0, steps, STEPS_A_BATCH):
        learner.send(first + (last - first) * done // steps)
        learner.learn()
        taken = done + STEPS_A_BATCH
        if taken >= steps or any(done < mark <= taken for mark in MARKS):
            trainer = learner.trainer
            scored = {"patch_accuracy": _rounded(trainer.patch_accuracy), "band": _rounded(trainer.scores.band)}
            curve.append({"steps": taken, **scored, **judge.figures(trainer.weights())})
    return curve


def runs(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that `rows` lacks."""
    known = {
        (row["experiment"], row["variant"], row["seed"], row["curve"][-1]["steps"] >= arguments.steps) for row in rows
    }
    for name in arguments.experiments:
        wanted = [
            (variant, seed)
            for seed in arguments.seeds
            for variant in arguments.variants
            if (name, variant, seed, True) not in known
        ]
        if not wanted:
            continue
        experiment = load(name, cache=None)
        judge = Judge(experiment)
        for variant, seed in wanted:
            started = time.perf_counter()
            row = run(experiment, judge, variant, seed, arguments.steps)
            yield {**row, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=[*NAMES])
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=RESULT, help="the report (JSON), which is added to")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    report = (
        json.loads(arguments.out.read_text()) if arguments.out.exists() else {"benchmark": "lab.learning", "rows": []}
    )
    for row in runs(arguments, report["rows"]):
        report["rows"].append(row)
        report["machine"] = machine()
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        last = {name: value for name, value in row["curve"][-1].items() if isinstance(value, dict)}
        print(row["experiment"], row["variant"], row["seed"], f"{row['seconds']:.0f} s", last, flush=True)


if __name__ == "__main__":
    main()
